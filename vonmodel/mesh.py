"""Surfaces and images as files: isosurfaces as GLB, OBJ and PLY, images and sketches as PNG."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from vondata.frames import object_to_gltf, voxel_to_object
from vondata.io.files import atomic_path

MeshFormat = Literal["glb", "obj", "ply", "stl"]
_CLEARANCE = 1e-3


@dataclass(frozen=True)
class SurfaceMesh:
    """A closed triangle mesh in the object frame.

    Attributes:
        vertices: (v, 3)
        faces: (f, 3) vertex indices, counterclockwise seen from outside.
        colours: (v, 3) sRGB; None for a mesh without.
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]
    colours: npt.NDArray[np.uint8] | None = None

    def normals(self) -> npt.NDArray[np.float64]:
        """(v, 3) unit normals of the vertices: those of the faces around, by their areas."""
        corners = self.vertices[self.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        summed = [
            np.bincount(self.faces.reshape(-1), np.repeat(across[:, axis], 3), minlength=len(self.vertices))
            for axis in range(3)
        ]
        normals = np.stack(summed, axis=1)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        # Where thin parts meet, faces may cancel out: any unit vector is as good as another.
        return np.where(length > 0, normals / np.where(length > 0, length, 1.0), [0.0, 0.0, 1.0])


def surface_mesh(volume: npt.NDArray[np.floating], level: float) -> SurfaceMesh:
    """The surface where a volume crosses a level, closed also where the object reaches the border of the grid.

    Args:
        volume: (N, N, N) [x, y, z] in the object frame, higher inside; taken as 0 outside the grid.
        level: above 0.

    Returns:
        A watertight mesh; without faces where the volume nowhere exceeds the level.
    """
    import open3d as o3d

    padded = np.pad(np.asarray(volume, dtype=np.float32), 1)
    # A value on the level would put a vertex on a grid point, where several triangles shrink to nothing.
    offset = padded - level
    padded = np.where(np.abs(offset) < _CLEARANCE, level + np.copysign(_CLEARANCE, offset), padded).astype(np.float32)
    if padded.max() <= level:
        return SurfaceMesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int64))
    mesh = o3d.t.geometry.TriangleMesh.create_isosurfaces(o3d.core.Tensor.from_numpy(padded), [level])
    # open3d's vertices are (k, j, i). Turned round they are indices; that mirrors the mesh, hence its faces as well.
    index = mesh.vertex.positions.numpy()[:, ::-1].astype(np.float64) - 1.0
    faces = mesh.triangle.indices.numpy()[:, ::-1].astype(np.int64)
    return SurfaceMesh(np.asarray(voxel_to_object(index, len(volume)), dtype=np.float64), faces)


def mesh_statistics(mesh: SurfaceMesh) -> dict[str, int | float]:
    """Vertices, faces, area and volume (of a cube of edge 2), connected parts and the share of the largest."""
    from scipy import sparse

    corners = mesh.vertices[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    pairs = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    count = len(mesh.vertices)
    graph = sparse.coo_matrix((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    parts, labels = sparse.csgraph.connected_components(graph, directed=False)
    areas = 0.5 * np.linalg.norm(across, axis=1)
    by_part = np.bincount(labels[mesh.faces[:, 0]], areas, minlength=max(1, parts)) if count else np.zeros(1)
    area = float(areas.sum())
    return {
        "vertices": count,
        "faces": len(mesh.faces),
        "area": round(area, 6),
        "volume": round(float((corners[:, 0] * across).sum() / 6.0), 6),
        "parts": int(parts),
        "largest_part": round(float(by_part.max() / area), 6) if area > 0 else 0.0,
    }


def glb_bytes(mesh: SurfaceMesh, name: str = "shape", extras: Mapping[str, Any] | None = None) -> bytes:
    """A mesh as binary glTF: y up, front towards +z, in object units (the cube's edge is 2).

    Args:
        mesh: the mesh.
        name: of its node and mesh.
        extras: JSON values kept in the file's `asset.extras`, such as its provenance.
    """
    vertices, normals = object_to_gltf(mesh.vertices), object_to_gltf(mesh.normals())
    return encode_glb(vertices, mesh.faces, normals, mesh.colours, name=name, extras=extras)


def write_glb(path: Path, mesh: SurfaceMesh, name: str = "shape", extras: Mapping[str, Any] | None = None) -> None:
    """Writes a mesh as binary glTF, see `glb_bytes`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(glb_bytes(mesh, name, extras))


def mesh_bytes(mesh: SurfaceMesh, format: MeshFormat) -> bytes:
    """A mesh as the content of a file, in glTF's frame; colours at the vertices, but for STL, which has none."""
    if format == "glb":
        return glb_bytes(mesh)
    import trimesh

    colours = None if format == "stl" else mesh.colours
    shape = trimesh.Trimesh(
        object_to_gltf(mesh.vertices), mesh.faces, vertex_colors=colours, process=False, validate=False
    )
    content = shape.export(file_type=format)
    return content.encode() if isinstance(content, str) else bytes(content)


def write_mesh(path: Path, mesh: SurfaceMesh, extras: Mapping[str, Any] | None = None) -> None:
    """Writes a mesh as .glb, .obj, .ply or .stl, whichever the path ends in, see `mesh_bytes`.

    `extras` are kept in a .glb file only.

    Prepared again as a mesh whose up is y and whose front is z.

    Raises:
        ValueError: the path ends otherwise.
    """
    format = next((each for each in get_args(MeshFormat) if path.suffix == f".{each}"), None)
    if format is None:
        raise ValueError(f"{path}: meshes are written as .glb, .obj, .ply or .stl")
    with atomic_path(path) as temporary:
        temporary.write_bytes(glb_bytes(mesh, extras=extras) if format == "glb" else mesh_bytes(mesh, format))


def write_image(
    path: Path,
    image: Float[Tensor, "3 h w"],
    text: Mapping[str, str] | None = None,
    silhouette: Float[Tensor, "1 h w"] | None = None,
) -> None:
    """Writes an image with values in [-1, 1] as an 8-bit PNG, with text chunks by keyword.

    With the silhouette of an object on white the picture is transparent around it, see `cut_out_pixels`.
    """
    pixels = to_pixels(image).transpose(1, 2, 0) if silhouette is None else cut_out_pixels(image, silhouette)
    write_png(path, pixels, text)


def write_grey(path: Path, values: Float[Tensor, "h w"], text: Mapping[str, str] | None = None) -> None:
    """Writes values in [0, 1] as an 8-bit grey PNG, 1 white, with text chunks by keyword."""
    write_png(path, to_pixels(2.0 * values - 1.0), text)


def to_pixels(images: Float[Tensor, "*any"]) -> npt.NDArray[np.uint8]:
    """Values in [-1, 1] to the nearest of 0..255; what lies beyond is clipped."""
    levels = (images.detach().cpu().double() + 1.0) * 127.5
    return levels.clamp(0.0, 255.0).round().numpy().astype(np.uint8)


def cut_out_pixels(image: Float[Tensor, "3 h w"], silhouette: Float[Tensor, "1 h w"]) -> npt.NDArray[np.uint8]:
    """An image on white as transparent pixels (h, w, 4), which give the image again when laid on white.

    Args:
        image: in [-1, 1], the object on white: I = a C + (1 - a).
        silhouette: opacity a in [0, 1]; raised where I is too dark for it.
    """
    shown = image.detach().cpu().double().clamp(-1.0, 1.0)
    darkest = (1.0 - shown.amin(dim=0, keepdim=True)) / 2.0
    opacity = torch.maximum(silhouette.detach().cpu().double().clamp(0.0, 1.0), darkest)
    opacity = (opacity * 255.0).ceil() / 255.0  # the opacity that is stored decides the colours
    colours = torch.where(opacity > 0.0, (shown - (1.0 - opacity)) / opacity.clamp(min=1e-9), torch.ones_like(shown))
    return to_pixels(torch.cat([colours, 2.0 * opacity - 1.0])).transpose(1, 2, 0)


def write_png(path: Path, pixels: npt.NDArray[np.uint8], text: Mapping[str, str] | None = None) -> None:
    """Writes pixels (h, w[, 3 or 4]) as PNG, with text chunks by keyword."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(png_bytes(pixels, text))


def png_bytes(pixels: npt.NDArray[np.uint8], text: Mapping[str, str] | None = None, *, fast: bool = False) -> bytes:
    """Pixels (h, w[, 3 or 4]) as the content of a PNG file, with text chunks by keyword."""
    chunks = PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_itxt(keyword, value)
    file = io.BytesIO()
    options: dict[str, Any] = {"compress_level": 1} if fast else {"optimize": True}
    Image.fromarray(pixels).save(file, "PNG", pnginfo=chunks, **options)
    return file.getvalue()


_MAGIC, _VERSION, _JSON, _BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED_INT = 5126, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_CLAY = (0.73, 0.72, 0.70, 1.0)


def encode_glb(
    vertices: npt.NDArray[np.floating],
    faces: npt.NDArray[np.integer],
    normals: npt.NDArray[np.floating],
    colours: npt.NDArray[np.uint8] | None = None,
    *,
    name: str = "shape",
    extras: Mapping[str, Any] | None = None,
) -> bytes:
    """A mesh as the content of a .glb file.

    Args:
        vertices: (v, 3) in glTF's frame, y up and the front towards +z.
        faces: (f, 3) vertex indices, counterclockwise seen from outside.
        normals: (v, 3) unit vectors.
        colours: (v, 3) sRGB; glTF wants them linear, and gets them so.
        name: of the node and the mesh.
        extras: JSON values for `asset.extras`.
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        "POSITION": np.ascontiguousarray(vertices, dtype="<f4"),
        "NORMAL": np.ascontiguousarray(normals, dtype="<f4"),
    }
    if colours is not None:
        arrays["COLOR_0"] = np.ascontiguousarray(linear_of_srgb(colours), dtype="<f4")
    arrays["indices"] = np.ascontiguousarray(faces, dtype="<u4").reshape(-1)
    views: list[dict[str, int]] = []
    accessors: list[dict[str, Any]] = []
    at = 0
    for key, array in arrays.items():
        target = _ELEMENT_ARRAY_BUFFER if key == "indices" else _ARRAY_BUFFER
        views.append({"buffer": 0, "byteOffset": at, "byteLength": array.nbytes, "target": target})
        accessors.append(_accessor(len(accessors), key, array))
        at += array.nbytes
    names = list(arrays)
    attributes = {key: index for index, key in enumerate(names) if key != "indices"}
    white = (1.0, 1.0, 1.0, 1.0)
    material = {
        "name": "clay" if colours is None else "painted",
        "pbrMetallicRoughness": {
            "baseColorFactor": _CLAY if colours is None else white,
            "metallicFactor": 0.0,
            "roughnessFactor": 0.9,
        },
    }
    primitive = {"attributes": attributes, "indices": names.index("indices"), "material": 0}
    document = {
        "asset": {"version": "2.0", "generator": "VON"} | ({"extras": dict(extras)} if extras else {}),
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [material],
        "buffers": [{"byteLength": at}],
        "bufferViews": views,
        "accessors": accessors,
    }
    return _container(json.dumps(document).encode(), b"".join(array.tobytes() for array in arrays.values()))


def linear_of_srgb(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Linear intensities in [0, 1] of 8-bit sRGB values."""
    value = colours / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _accessor(view: int, name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    if name == "indices":
        return {"bufferView": view, "componentType": _UNSIGNED_INT, "count": len(array), "type": "SCALAR"}
    accessor = {"bufferView": view, "componentType": _FLOAT, "count": len(array), "type": "VEC3"}
    if name == "POSITION":  # which must say its bounds
        accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
    return accessor


def _container(document: bytes, binary: bytes) -> bytes:
    document += b" " * (-len(document) % 4)
    binary += b"\0" * (-len(binary) % 4)
    size = 12 + 8 + len(document) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<III", _MAGIC, _VERSION, size),
            struct.pack("<II", len(document), _JSON),
            document,
            struct.pack("<II", len(binary), _BINARY),
            binary,
        ]
    )
