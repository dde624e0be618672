"""Rendered collections: a folder of views and a transforms.json per model, and a pix3d.json for all of them.

`<class>/renders/<id>.json` is written last: if it exists, all views of the model exist, too, in `<id>/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from vondata.classes import load_class
from vondata.dataset.manifest import dataset_classes, output_folder, prepared, read_manifest
from vondata.io.files import atomic_path
from vondata.io.fs import is_url
from vondata.render.caster import Caster
from vondata.render.mesh import RenderMesh, Singles
from vondata.render.textured_mesh import load_render_mesh, material_files
from vondata.render.views import (
    MeshView,
    RenderSettings,
    camera_at,
    pix3d_camera,
    render_views,
    transforms_json,
    viewpoints_of,
)
from vondata.shapes.source_file import Limits
from vondata.types import Item

Map = Literal["mask", "depth", "normals", "position"]
ALL_MAPS: tuple[Map, ...] = ("mask", "depth", "normals", "position")
PIX3D_FILE = "pix3d.json"
DEPTH_UNIT = 1e-4
"""Step of a 16-bit depth image, in diagonals of the object's box; larger for distant cameras."""


@dataclass(frozen=True)
class RenderedCollection:
    """Settings of a rendered collection.

    Attributes:
        views: settings of the views.
        maps: maps to write beside the image.
        max_file_mb: larger mesh files are rejected.
        max_faces: meshes with more triangles are rejected.
    """

    views: RenderSettings = field(default_factory=RenderSettings)
    maps: tuple[Map, ...] = ALL_MAPS
    max_file_mb: int = 512
    max_faces: int = 4_000_000


def items_with_materials(items: Iterable[Item]) -> Iterator[Item]:
    """The items with their material and texture files among the inputs; a changed texture is rendered again.

    Args:
        items: of `shapenet_items` or `mesh_folder_items`; the files of a URL are left as they are.
    """
    for item in items:
        if not item.inputs or is_url(item.inputs[0]):
            yield item
        else:
            path = Path(item.inputs[0])
            yield replace(item, inputs=(*item.inputs, *material_files(path, _material_root(path))))


def _material_root(path: Path) -> Path:
    """The folder that a mesh's textures may be in; ShapeNet keeps them in ../images, beside the mesh's folder."""
    return path.parent.parent if path.parent.name == "models" else path.parent


def render_item(item: Item, settings: RenderedCollection, output: Path) -> dict[str, Any]:
    """Renders one model of a collection.

    Args:
        item: one of `shapenet_items` or `mesh_folder_items`.
        settings: of the collection.
        output: the JSON file, written after all views.

    Returns:
        the values of the row's columns.

    Raises:
        Rejected: the mesh cannot be used.
    """
    path = Path(item.inputs[0])
    root = _material_root(path)
    limits = Limits(settings.max_file_mb, settings.max_faces)
    mesh = load_render_mesh(path, item.fields["up"], item.fields["front"], root=root, limits=limits)
    folder = output.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
    folder.mkdir(parents=True)
    viewpoints = viewpoints_of(settings.views, load_class(item.class_name))
    unit = _depth_unit(settings.views)
    views, files = [], []
    for number, view in enumerate(render_views(Caster(mesh), viewpoints, settings.views)):
        files.append(_write_view(view, folder, f"{number:03d}", settings.maps, unit))
        views.append(_summary(view))
    described = transforms_json([view for view, _ in views], files)
    for frame, (_, facts) in zip(described["frames"], views, strict=True):
        frame.update(facts)
    described |= {"depth_unit_scale_factor": unit, "class": item.class_name, "id": item.id, "source": item.source}
    with atomic_path(output) as temporary:
        temporary.write_text(json.dumps(described, indent=1) + "\n", "utf-8")
    return _row(mesh, settings)


def _depth_unit(settings: RenderSettings) -> float:
    farthest = float(np.linalg.norm(camera_at(0.0, 0.0, settings).position)) + 0.5
    return max(DEPTH_UNIT, farthest / 65_000)


def _row(mesh: RenderMesh, settings: RenderedCollection) -> dict[str, Any]:
    return {
        "views": settings.views.views,
        "size_px": settings.views.size,
        "faces": len(mesh.corners),
        "materials": len(mesh.materials),
        "textures": sum(each.texture is not None for each in mesh.materials),
    }


def _summary(view: MeshView) -> tuple[MeshView, dict[str, Any]]:
    """The view without its arrays, and its annotation: the object's box in the picture and the camera."""
    rows, columns = np.nonzero(view.coverage >= 0.5)
    box = [int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())] if len(rows) else None
    nothing = np.zeros((0, 0), dtype=np.float32)
    bare = MeshView(
        np.zeros((0, 0, 3), dtype=np.uint8),
        nothing,
        nothing,
        nothing,
        nothing,
        view.camera,
        view.azimuth_deg,
        view.elevation_deg,
    )
    return bare, {"bbox": box, **pix3d_camera(view.camera)}


def _write_view(view: MeshView, folder: Path, name: str, maps: Sequence[Map], unit: float) -> dict[str, str]:
    """Writes the files of a view; returns their paths, relative to transforms.json, by its field names."""
    pictures: dict[str, np.ndarray[Any, Any]] = {"file_path": _opencv_colours(view.image)}
    for each in maps:
        match each:
            case "mask":
                pictures["mask_path"] = np.asarray(np.rint(255.0 * view.coverage), dtype=np.uint8)
            case "depth":
                pictures["depth_file_path"] = np.asarray(np.rint(view.depth / unit), dtype=np.uint16)
            case "normals":
                pictures["normal_file_path"] = _opencv_colours(_unit_range(view.normals, view.depth))
            case "position":
                pictures["position_file_path"] = _opencv_colours(_unit_range(2.0 * view.position, view.depth))
    kinds = {"file_path": "rgb", "mask_path": "mask", "depth_file_path": "depth"}
    kinds |= {"normal_file_path": "normals", "position_file_path": "position"}
    files = {}
    for key, pixels in pictures.items():
        target = folder / kinds[key] / f"{name}.png"
        target.parent.mkdir(exist_ok=True)
        encoded, content = cv2.imencode(".png", pixels)
        assert encoded
        target.write_bytes(content.tobytes())
        files[key] = f"{folder.name}/{kinds[key]}/{name}.png"
    return files


def _unit_range(values: Singles, depth: Singles) -> np.ndarray[Any, Any]:
    """(h, w, 3) vectors in [-1, 1] as 16-bit integers, 0 for background."""
    scaled = np.rint((np.clip(values, -1.0, 1.0) + 1.0) * 32767.5)
    return np.asarray(scaled * (depth > 0.0)[..., None], dtype=np.uint16)


def _opencv_colours(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return np.ascontiguousarray(pixels[..., order])


def write_pix3d(root: Path) -> Path:
    """Writes pix3d.json for all rendered models below a folder, so that it can be prepared like Pix3D.

    Returns:
        the file.
    """
    entries = [entry for name in dataset_classes(root, "renders") for entry in _annotations(root, name)]
    target = root / PIX3D_FILE
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(entries) + "\n", "utf-8")
    return target


def _annotations(root: Path, class_name: str) -> Iterator[dict[str, Any]]:
    category = load_class(class_name).pix3d_category
    folder = output_folder(root, class_name, "renders")
    for id in prepared(read_manifest(root, class_name, "renders"))["id"]:
        described = json.loads((folder / f"{id}.json").read_text("utf-8"))
        for frame in described["frames"]:
            if frame["bbox"] is None or "mask_path" not in frame:
                continue
            left, top, right, bottom = frame["bbox"]
            width, height = described["w"], described["h"]
            yield {
                "img": f"{class_name}/renders/{frame['file_path']}",
                "mask": f"{class_name}/renders/{frame['mask_path']}",
                "category": category,
                "img_size": [width, height],
                "img_source": "render",
                "model": described["source"],
                "model_source": "render",
                "bbox": frame["bbox"],
                "truncated": left == 0 or top == 0 or right == width - 1 or bottom == height - 1,
                "occluded": False,
                "slightly_occluded": False,
                **{key: frame[key] for key in ("rot_mat", "trans_mat", "focal_length", "cam_position")},
                "inplane_rotation": frame["inplane_rotation"],
            }
