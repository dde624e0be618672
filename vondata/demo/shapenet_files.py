"""Writes an object as ShapeNetCore v2 does: <synset>/<id>/models/model_normalized.obj, .mtl and ../images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vondata.demo.collection import DemoObject
from vondata.render.mesh import distinct_rows
from vondata.render.textures import Material
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
    parts = item.parts
    corners = [object_to_shapenet(part.vertices[part.faces]).reshape(-1, 3) for part in parts]
    uvs = [(part.uvs / item.materials[part.material].tile_m).reshape(-1, 2) for part in parts]
    vertices, vertex = distinct_rows(np.concatenate(corners))
    coordinates, coordinate = distinct_rows(np.concatenate(uvs), decimals=4)
    normals, normal = distinct_rows(object_to_shapenet(item.normals).reshape(-1, 3), decimals=3)
    index = np.stack([vertex, coordinate, normal], axis=1).reshape(-1, 9) + 1
    blocks = [
        f"# {item.class_name}, {item.family}: a procedural object of the VON demo\nmtllib {MODEL_NAME}.mtl\n",
        _lines("v %.6f %.6f %.6f\n", vertices),
        _lines("vt %.4f %.4f\n", coordinates),
        _lines("vn %.3f %.3f %.3f\n", normals),
    ]
    start = 0
    for number, part in enumerate(parts):
        stop = start + len(part.faces)
        blocks.append(f"g part{number}\nusemtl {part.material}\n")
        blocks.append(_lines("f %d/%d/%d %d/%d/%d %d/%d/%d\n", index[start:stop]))
        start = stop
    return "".join(blocks)


def _lines(pattern: str, rows: npt.NDArray[np.generic]) -> str:
    return (pattern * len(rows)) % tuple(rows.reshape(-1).tolist())
