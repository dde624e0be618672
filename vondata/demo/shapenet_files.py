"""Writes an object as ShapeNetCore v2 does: <synset>/<id>/models/model_normalized.obj, .mtl and ../images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vondata.demo.collection import DemoObject
from vondata.demo.mesh import corner_normals
from vondata.demo.textures import Material
from vondata.frames import object_to_shapenet

MODEL_NAME = "model_normalized"
JPEG_QUALITY = 92


def write_model(item: DemoObject, synset_folder: Path) -> Path:
    """Writes mesh, materials and textures.

    Args:
        item: the object.
        synset_folder: the class's folder.

    Returns:
        The path of the OBJ file.
    """
    models = synset_folder / item.id / "models"
    models.mkdir(parents=True)
    textures = _write_textures(item, models.parent / "images")
    (models / f"{MODEL_NAME}.mtl").write_text(
        "".join(_mtl_entry(name, each, textures.get(name)) for name, each in item.materials.items()), "utf-8"
    )
    path = models / f"{MODEL_NAME}.obj"
    path.write_text(_obj_text(item), "utf-8")
    return path


def _write_textures(item: DemoObject, images: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    for name, material in item.materials.items():
        if material.texture is None:
            continue
        images.mkdir(exist_ok=True)
        names[name] = f"texture{len(names)}.jpg"
        done, data = cv2.imencode(".jpg", material.texture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done
        (images / names[name]).write_bytes(data.tobytes())
    return names


def _mtl_entry(name: str, material: Material, texture: str | None) -> str:
    red, green, blue = (1.0, 1.0, 1.0) if texture else material.colour
    lines = [
        f"newmtl {name}",
        f"Ns {10 + 190 * material.gloss:.1f}",
        "Ka 0.0 0.0 0.0",
        f"Kd {red:.4f} {green:.4f} {blue:.4f}",
        f"Ks {material.gloss:.4f} {material.gloss:.4f} {material.gloss:.4f}",
        "d 1.0",
        "illum 2",
    ]
    if texture:
        lines.append(f"map_Kd ../images/{texture}")
    return "\n".join(lines) + "\n\n"


def _obj_text(item: DemoObject) -> str:
    blocks = [f"# {item.class_name}, {item.family}: a procedural object of the VON demo\nmtllib {MODEL_NAME}.mtl\n"]
    starts = np.ones(3, dtype=np.int64)
    for number, part in enumerate(item.parts):
        vertices, faces = _unique(object_to_shapenet(part.vertices[part.faces]))
        normals, normal_faces = _unique(object_to_shapenet(corner_normals(part)))
        uvs, uv_faces = _unique(part.uvs / item.materials[part.material].tile_m)
        corners = np.stack([faces, uv_faces, normal_faces], axis=-1) + starts
        starts += [len(vertices), len(uvs), len(normals)]
        blocks += [
            f"g part{number}\nusemtl {part.material}\n",
            _lines("v", vertices),
            _lines("vt", uvs),
            _lines("vn", normals),
            ("f %d/%d/%d %d/%d/%d %d/%d/%d\n" * len(corners)) % tuple(corners.reshape(-1).tolist()),
        ]
    return "".join(blocks)


def _unique(corners: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Rows of corners (f, 3, d) without repetition, and the (f, 3) index of each corner's row."""
    rows, inverse = np.unique(corners.reshape(-1, corners.shape[-1]).round(6) + 0.0, axis=0, return_inverse=True)
    return rows, inverse.reshape(corners.shape[:2])


def _lines(key: str, rows: npt.NDArray[np.float64]) -> str:
    return (f"{key}{' %.6f' * rows.shape[1]}\n" * len(rows)) % tuple(rows.reshape(-1).tolist())
