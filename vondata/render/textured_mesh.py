"""Loading of mesh files with materials for rendering: textures of OBJ and glTF, vertex colours, or plain grey.

Geometry is read twice: by the readers of the preparation, which validate it, and by trimesh, which reads materials.
If the two do not agree on the surface, the mesh of the former is rendered in grey.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vondata.frames import Axis, axes_to_object, object_to_shapenet
from vondata.render.mesh import Floats, Material, PartMesh, RenderMesh, corner_normals, linear_colour
from vondata.shapes.polygons import TriangleSoup
from vondata.shapes.reading import files_beside, read_triangles
from vondata.shapes.source_file import Limits, read_bytes
from vondata.types import Rejected

GREY = Material((0.62, 0.62, 0.62), gloss=0.15)
MAX_TEXTURE_PX = 512
"""Textures are averaged down to this edge: views of up to 1024 px need no more, and averages do not alias."""
MAX_TEXTURE_BYTES = 64 << 20
MAX_TEXTURE_PIXELS = 1 << 26
MAX_SMOOTH_FACES = 200_000
"""Larger meshes are shaded flat, which looks as smooth for them."""
BOX_TOLERANCE, AREA_TOLERANCE = 1e-3, 0.02
"""Relative differences up to which the readers agree: non-planar quads may be triangulated either way."""

logger = logging.getLogger(__name__)


def load_render_mesh(
    path: Path, up: Axis = "y", front: Axis = "-z", *, root: Path | None = None, limits: Limits | None = None
) -> RenderMesh:
    """Reads a mesh with its materials, normalised like ShapeNet: bounding box centred, with diagonal 1.

    Args:
        path: an OBJ, OFF, PLY, STL, glTF or GLB file.
        up: the axis of the file that points up.
        front: the axis of the file that the object's front faces.
        root: the folder that material and texture files may be in; None for the mesh's own.
        limits: of the file and the mesh.

    Raises:
        Rejected: see `read_triangles`; empty_mesh for a mesh without area.
    """
    limits = limits or Limits()
    content = read_bytes(path, limits)
    soup = read_triangles(content, path, limits)
    corners = np.asarray(soup.vertices[soup.faces], dtype=np.float64)
    if not len(corners) or not _area(corners) > 0.0:
        raise Rejected("empty_mesh", "the mesh has no surface to render")
    mesh = _with_materials(content, path, root or path.parent) or _plain(soup)
    if not _same_surface(mesh.corners, corners):
        logger.warning("%s: materials could not be matched with its surface; it is rendered in grey", path)
        mesh = _plain(soup)
    return _normalised(mesh, corners, object_to_shapenet(axes_to_object(up, front).T).T)


def grey_render_mesh(vertices: Floats, faces: npt.NDArray[np.int64]) -> RenderMesh:
    """Converts a mesh of the object frame without materials to the model frame, centred, with box diagonal 1."""
    soup = TriangleSoup(np.asarray(object_to_shapenet(vertices), dtype=np.float64), faces)
    return _normalised(_plain(soup), soup.vertices[soup.faces], np.eye(3))


def _normalised(mesh: RenderMesh, corners: Floats, rotation: npt.NDArray[np.floating]) -> RenderMesh:
    """The mesh in the model frame (y up, front -z), centred, with box diagonal 1."""
    turned = corners.reshape(-1, 3) @ rotation.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    scale = 1.0 / np.linalg.norm(high - low)
    placed = (mesh.corners @ rotation.T - (low + high) / 2.0) * scale
    return replace(mesh, corners=placed, normals=mesh.normals @ rotation.T)


def _plain(soup: TriangleSoup) -> RenderMesh:
    faces = np.asarray(soup.faces, dtype=np.int64)
    vertices = np.asarray(soup.vertices, dtype=np.float64)
    count = len(faces)
    return RenderMesh(
        vertices[faces],
        _corner_normals(vertices, faces),
        np.zeros((count, 3, 2)),
        np.zeros(count, dtype=np.int64),
        (GREY,),
    )


def _with_materials(content: bytes, path: Path, root: Path) -> RenderMesh | None:
    """The mesh as read by trimesh; None if it cannot be read, or has neither materials nor colours."""
    import trimesh

    try:
        loaded = trimesh.load_scene(
            io.BytesIO(content), file_type=path.suffix.lower(), resolver=_Files(path.parent, root), process=False
        )
        parts = [part for part in loaded.dump() if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    except Exception as error:  # noqa: BLE001  # parsers may raise anything: fall back to grey
        logger.warning("%s: materials cannot be read: %s", path, error)
        return None
    if not parts:
        return None
    meshes = [_part(part) for part in parts]
    coloured = any(mesh.colours is not None for mesh in meshes)
    starts = np.cumsum([0] + [len(mesh.materials) for mesh in meshes[:-1]])
    colours = [np.ones((len(mesh.corners), 3, 3)) if mesh.colours is None else mesh.colours for mesh in meshes]
    return RenderMesh(
        np.concatenate([mesh.corners for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uvs for mesh in meshes]),
        np.concatenate([mesh.material + start for mesh, start in zip(meshes, starts, strict=True)]),
        tuple(material for mesh in meshes for material in mesh.materials),
        np.concatenate(colours) if coloured else None,
    )


def _part(part: Any) -> RenderMesh:
    """One part of a scene, with one material or with colours at its vertices or faces."""
    faces, vertices = np.asarray(part.faces, dtype=np.int64), np.asarray(part.vertices, dtype=np.float64)
    uvs, colours, material = np.zeros((len(faces), 3, 2)), None, GREY
    if part.visual.kind == "texture":
        material = _material(part.visual.material)
        if part.visual.uv is not None and len(part.visual.uv) == len(vertices):
            uvs = np.asarray(part.visual.uv, dtype=np.float64)[faces]
            uvs[..., 1] = 1.0 - uvs[..., 1]  # files count rows from below
        elif material.texture is not None:
            material = replace(material, texture=None)
    elif part.visual.kind == "vertex":
        colours = linear_colour(np.asarray(part.visual.vertex_colors, dtype=np.float64)[:, :3] / 255.0)[faces]
    elif part.visual.kind == "face":
        flat = linear_colour(np.asarray(part.visual.face_colors, dtype=np.float64)[:, :3] / 255.0)
        colours = np.repeat(flat[:, None], 3, axis=1)
    if colours is not None:
        material = Material((1.0, 1.0, 1.0), gloss=GREY.gloss)
    return RenderMesh(
        vertices[faces],
        _corner_normals(vertices, faces),
        uvs,
        np.zeros(len(faces), dtype=np.int64),
        (material,),
        None if colours is None else np.asarray(colours, dtype=np.float64),
    )


def _material(described: Any) -> Material:
    """Colour, texture and gloss of one of trimesh's materials."""
    from trimesh.visual.material import PBRMaterial

    if isinstance(described, PBRMaterial):
        image, gloss = described.baseColorTexture, 0.5 * (1.0 - float(described.roughnessFactor or 0.8))
        tint = np.ones(3) if described.baseColorFactor is None else _unit(described.baseColorFactor)
    else:
        # Exporters write arbitrary diffuse colours beside a texture, so they are ignored.
        image, gloss = described.image, 0.15
        tint = np.ones(3) if image is not None else _unit(described.diffuse)
    texture = None if image is None else _texture(image, tint)
    colour = tint if texture is None else texture.reshape(-1, 3).mean(axis=0) / 255.0
    return Material((float(colour[0]), float(colour[1]), float(colour[2])), texture, gloss=gloss)


def _texture(image: Image.Image, tint: Floats) -> npt.NDArray[np.uint8] | None:
    if image.width * image.height > MAX_TEXTURE_PIXELS:
        return None
    shrink = max(image.size) / MAX_TEXTURE_PX
    plain = image.convert("RGB")
    if shrink > 1.0:
        size = (max(1, round(plain.width / shrink)), max(1, round(plain.height / shrink)))
        plain = plain.resize(size, Image.Resampling.BOX)
    return np.asarray(np.rint(np.asarray(plain) * tint), dtype=np.uint8)


def _unit(colour: Any) -> Floats:
    """(3,) colour in [0, 1] from trimesh's 8-bit or fractional values."""
    values = np.asarray(colour)[:3]
    scaled = values / 255.0 if np.issubdtype(values.dtype, np.integer) else values
    return np.clip(np.asarray(scaled, dtype=np.float64), 0.0, 1.0)


_LIBRARY = re.compile(rb"^[ \t]*mtllib[ \t]+([^\r\n]+)", re.MULTILINE)
_MAP = re.compile(rb"^[ \t]*(?:map_\w+|bump|norm|disp|decal|refl)[ \t]+([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
_SEARCHED_BYTES = 2**20  # of an OBJ or MTL file that is searched for the files that it names


def material_files(path: Path, root: Path) -> tuple[str, ...]:
    """The material and texture files of an OBJ or glTF that are there, inside `root`."""
    if path.suffix.lower() in (".gltf", ".glb"):
        return files_beside(path, "images")
    if path.suffix.lower() != ".obj":
        return ()
    libraries = _named_files(path, _LIBRARY, root)
    return tuple(dict.fromkeys(str(each) for file in libraries for each in (file, *_named_files(file, _MAP, root))))


def _named_files(path: Path, names: re.Pattern[bytes], root: Path) -> list[Path]:
    """The files that lines of a text name, as the whole rest of the line or as its last word."""
    try:
        with open(path, "rb") as file:
            text = file.read(_SEARCHED_BYTES)
        top, found = Path(os.path.realpath(root)), dict[Path, None]()
        rests = dict.fromkeys(names.findall(text))
        for name in dict.fromkeys(name for rest in rests for name in (rest.strip(), *rest.split()[-1:])):
            target = Path(os.path.realpath(path.parent / os.fsdecode(name)))
            if name and target.is_relative_to(top) and target.is_file():
                found[target] = None
    except (OSError, ValueError):  # ValueError: a NUL in a name
        return []
    return list(found)


class _Files:
    """trimesh resolver of material and texture files: only regular files inside a folder, of limited size."""

    def __init__(self, beside: Path, root: Path) -> None:
        self._beside, self._root = beside, Path(os.path.realpath(root))

    def get(self, name: str) -> bytes:
        """The content of a file named relative to the mesh."""
        target = Path(os.path.realpath(self._beside / name.strip()))
        if not target.is_relative_to(self._root) or not target.is_file():
            raise FileNotFoundError(f"{name} is not a file beside the mesh")
        if target.stat().st_size > MAX_TEXTURE_BYTES:
            raise ValueError(f"{name} has over {MAX_TEXTURE_BYTES >> 20} MiB")
        return target.read_bytes()

    def __getitem__(self, name: str) -> bytes:
        return self.get(name)

    def get_base(self) -> str:
        """The folder of the mesh."""
        return str(self._beside)

    def namespaced(self, namespace: str) -> _Files:
        """The files of a subfolder."""
        return _Files(self._beside / namespace, self._root)

    def keys(self) -> Iterator[str]:
        """Empty: files are not listed."""
        return iter(())


def _corner_normals(vertices: Floats, faces: npt.NDArray[np.int64]) -> Floats:
    if len(faces) > MAX_SMOOTH_FACES:
        corners = vertices[faces]
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
        return np.repeat(flat[:, None], 3, axis=1)
    scale = max(float(np.ptp(vertices, axis=0).max()), 1e-30)
    return corner_normals(PartMesh(vertices / scale, faces, np.zeros((len(faces), 3, 2))))


def _same_surface(first: Floats, second: Floats) -> bool:
    ours, theirs = first.reshape(-1, 3), second.reshape(-1, 3)
    size = np.linalg.norm(np.ptp(theirs, axis=0))
    boxes = np.abs(np.stack([ours.min(0) - theirs.min(0), ours.max(0) - theirs.max(0)])).max()
    area = _area(second)
    return bool(boxes <= BOX_TOLERANCE * size and abs(_area(first) - area) <= AREA_TOLERANCE * area)


def _area(corners: Floats) -> float:
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(np.linalg.norm(sides, axis=1).sum() / 2.0)
