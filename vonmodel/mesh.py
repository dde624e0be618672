"""Meshes of volumes with texture or vertex colours, as GLB, OBJ, PLY, STL and USDZ; images and sketches as PNG."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from vondata.frames import object_to_gltf
from vondata.io.files import atomic_path
from vondata.shapes.implicit import isosurface


@dataclass(frozen=True, eq=False)
class TextureAtlas:
    """A mesh's UV layout and its texture.

    Attributes:
        source: (n,) for every texture vertex the vertex of the mesh; a vertex on a seam has several.
        faces: (f, 3) texture vertices of the mesh's faces, in their order.
        uvs: (n, 2) column and row in [0, 1] from the image's upper left corner.
        image: (s, s, 3) sRGB.
    """

    source: npt.NDArray[np.int64]
    faces: npt.NDArray[np.int64]
    uvs: npt.NDArray[np.float32]
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SurfaceMesh:
    """A closed triangle mesh in the object frame.

    Attributes:
        vertices: (v, 3)
        faces: (f, 3) vertex indices, counterclockwise seen from outside.
        colours: (v, 3) sRGB; None for a mesh without.
        atlas: its texture; None for a mesh without.
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]
    colours: npt.NDArray[np.uint8] | None = None
    atlas: TextureAtlas | None = None

    def normals(self) -> npt.NDArray[np.float64]:
        """(v, 3) unit vertex normals: the area-weighted mean of the adjacent faces' normals."""
        corners = self.vertices[self.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        summed = [
            np.bincount(self.faces.reshape(-1), np.repeat(across[:, axis], 3), minlength=len(self.vertices))
            for axis in range(3)
        ]
        normals = np.stack(summed, axis=1)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        # Where thin parts meet, the normals may cancel out: any unit vector will do.
        return np.where(length > 0, normals / np.where(length > 0, length, 1.0), [0.0, 0.0, 1.0])


def surface_mesh(volume: npt.NDArray[np.floating], level: float) -> SurfaceMesh:
    """The isosurface of a volume, closed also where the object reaches the border of the grid.

    Args:
        volume: (N, N, N) [x, y, z] in the object frame, higher inside; taken as 0 outside the grid.
        level: above 0.

    Returns:
        A watertight mesh; without faces if the volume nowhere exceeds the level.
    """
    return SurfaceMesh(*isosurface(volume, level, outside=0.0))


CRUMB = 0.002
"""A piece of a generated surface that encloses a smaller share of the largest piece's volume is a crumb."""


def mesh_statistics(mesh: SurfaceMesh) -> dict[str, int | float]:
    """Numbers of vertices, faces and connected parts, area and volume (cube edge 2), largest part's area share."""
    areas, volumes = _areas_and_volumes(mesh)
    parts, labels = _connected_parts(mesh)
    by_part = np.bincount(labels, areas, minlength=max(1, parts))
    area = float(areas.sum())
    return {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "area": round(area, 6),
        "volume": round(float(volumes.sum()), 6),
        "parts": parts,
        "largest_part": round(float(by_part.max() / area), 6) if area > 0 else 0.0,
    }


def without_crumbs(mesh: SurfaceMesh, share: float = CRUMB) -> SurfaceMesh:
    """The mesh without its crumbs: pieces, and hollows within it, that enclose next to nothing.

    Args:
        mesh: closed, without a texture.
        share: of the largest piece's volume, below which a piece or a hollow is removed.
    """
    parts, labels = _connected_parts(mesh)
    if parts < 2:
        return mesh
    enclosed = np.abs(np.bincount(labels, _areas_and_volumes(mesh)[1], minlength=parts))
    keep = enclosed >= share * enclosed.max()
    if keep.all():
        return mesh
    faces = mesh.faces[keep[labels]]
    used, renumbered = np.unique(faces, return_inverse=True)
    colours = None if mesh.colours is None else mesh.colours[used]
    return SurfaceMesh(mesh.vertices[used], renumbered.reshape(faces.shape).astype(np.int64), colours)


def _areas_and_volumes(mesh: SurfaceMesh) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(f,) areas of the faces, and signed volumes between them and the origin, whose sum is the enclosed volume."""
    corners = mesh.vertices[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return 0.5 * np.linalg.norm(across, axis=1), (corners[:, 0] * across).sum(axis=1) / 6.0


def _connected_parts(mesh: SurfaceMesh) -> tuple[int, npt.NDArray[np.int32]]:
    """The number of connected parts, and for every face (f,) the part it belongs to."""
    from scipy import sparse

    pairs = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    count = len(mesh.vertices)
    graph = sparse.coo_matrix((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    parts, labels = sparse.csgraph.connected_components(graph, directed=False)
    return int(parts), labels[mesh.faces[:, 0]]


# --- files of surfaces

MeshFormat = Literal["glb", "obj", "ply", "stl", "usdz"]
UpAxis = Literal["y", "z"]
Floats = npt.NDArray[np.floating]
_JPEG_QUALITY = 95


def mesh_bytes(
    mesh: SurfaceMesh,
    format: MeshFormat,
    *,
    up: UpAxis = "y",
    name: str = "shape",
    extras: Mapping[str, Any] | None = None,
) -> bytes:
    """A mesh as the content of one file, in object units (the cube's edge is 2) unless it was scaled.

    GLB and USDZ hold the texture where the mesh has one; an OBJ names it (see `write_mesh`), PLY has the colours of
    the vertices, STL none.

    Args:
        mesh: the mesh, in the object frame.
        format: of the file.
        up: y has the front towards +z, z towards -y, as Blender's front view. A GLB is always y up, as glTF requires.
        name: of the object in the file.
        extras: JSON values kept in a GLB's `asset.extras`, such as its provenance.
    """
    match format:
        case "glb":
            return glb_bytes(mesh, name, extras)
        case "usdz":
            return _usdz_bytes(mesh, up, name)
        case "obj":
            return _obj_text(mesh, up, name).encode()
        case "ply" | "stl":
            import trimesh

            colours = None if format == "stl" else mesh.colours
            turned = _turned(mesh.vertices, up)
            shape = trimesh.Trimesh(turned, mesh.faces, vertex_colors=colours, process=False, validate=False)
            return bytes(shape.export(file_type=format))
        case _:
            assert_never(format)


def write_mesh(
    path: Path,
    mesh: SurfaceMesh,
    extras: Mapping[str, Any] | None = None,
    *,
    up: UpAxis = "y",
    name: str = "shape",
) -> None:
    """Writes a mesh in the format of the path's suffix, see `mesh_bytes`; beside an OBJ its .mtl and .jpg.

    To prepare such a file as a shape, give y as its up axis and z as its front.

    Raises:
        ValueError: the path has another suffix.
    """
    format = next((each for each in get_args(MeshFormat) if path.suffix == f".{each}"), None)
    if format is None:
        raise ValueError(f"{path}: meshes are written as .{', .'.join(get_args(MeshFormat))}")
    if format == "obj" and mesh.atlas is not None:
        material = f"newmtl painted\nKd 1 1 1\nKs 0 0 0\nmap_Kd {path.stem}.jpg\n"
        for suffix, content in ((".jpg", jpeg_bytes(mesh.atlas.image)), (".mtl", material.encode())):
            with atomic_path(path.with_suffix(suffix)) as temporary:
                temporary.write_bytes(content)
        name = path.stem  # the OBJ refers to its material by it
    with atomic_path(path) as temporary:
        temporary.write_bytes(mesh_bytes(mesh, format, up=up, name=name, extras=extras))


def jpeg_bytes(image: npt.NDArray[np.uint8]) -> bytes:
    """A texture as JPEG, a tenth the size of its PNG, without chroma subsampling."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def _turned(points: Floats, up: UpAxis) -> Floats:
    """Points of the object frame with y up and the front towards +z, or with z up and the front towards -y."""
    return object_to_gltf(points) if up == "y" else points * np.array([-1.0, -1.0, 1.0])


def _obj_text(mesh: SurfaceMesh, up: UpAxis, name: str) -> str:
    """The OBJ file: positions with vertex colours, or texture coordinates and the material's name if textured."""
    positions, normals = _turned(mesh.vertices, up), _turned(mesh.normals(), up)
    rows = positions if mesh.colours is None or mesh.atlas else np.hstack([positions, mesh.colours / 255.0])
    parts = [_lines("v", rows), _lines("vn", normals)]
    corners = [mesh.faces + 1, mesh.faces + 1]
    pattern = "f {}//{} {}//{} {}//{}"
    if mesh.atlas is not None:
        flipped = mesh.atlas.uvs * [1.0, -1.0] + [0.0, 1.0]
        parts = [f"mtllib {name}.mtl", *parts, _lines("vt", flipped), "usemtl painted"]
        corners.insert(1, mesh.atlas.faces + 1)
        pattern = "f {}/{}/{} {}/{}/{} {}/{}/{}"
    faces = np.stack(corners, axis=-1).reshape(len(mesh.faces), -1)
    return "\n".join([f"o {name}", *parts, *(pattern.format(*row) for row in faces.tolist())]) + "\n"


def _lines(keyword: str, rows: Floats) -> str:
    return "\n".join(f"{keyword} {' '.join(f'{number:.6g}' for number in row)}" for row in rows.tolist())


_MAGIC, _VERSION, _JSON, _BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED_INT = 5126, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP = 9729, 9987, 33071
_CLAY = (0.73, 0.72, 0.70, 1.0)
_ROUGHNESS = 0.9


def glb_bytes(mesh: SurfaceMesh, name: str = "shape", extras: Mapping[str, Any] | None = None) -> bytes:
    """A mesh as binary glTF, y up and the front towards +z, in its texture or else in the colours of its vertices.

    Args:
        mesh: the mesh.
        name: of the node and the mesh.
        extras: JSON values for `asset.extras`.
    """
    atlas = mesh.atlas
    chosen = slice(None) if atlas is None else atlas.source
    arrays: dict[str, npt.NDArray[Any]] = {
        "POSITION": np.ascontiguousarray(object_to_gltf(mesh.vertices)[chosen], dtype="<f4"),
        "NORMAL": np.ascontiguousarray(object_to_gltf(mesh.normals())[chosen], dtype="<f4"),
    }
    if atlas is not None:
        arrays["TEXCOORD_0"] = np.ascontiguousarray(atlas.uvs, dtype="<f4")
    elif mesh.colours is not None:
        arrays["COLOR_0"] = np.ascontiguousarray(linear_of_srgb(mesh.colours), dtype="<f4")
    faces = mesh.faces if atlas is None else atlas.faces
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
    plain = mesh.colours is None and atlas is None
    surface: dict[str, Any] = {"baseColorFactor": _CLAY if plain else (1.0, 1.0, 1.0, 1.0)}
    surface |= {"metallicFactor": 0.0, "roughnessFactor": _ROUGHNESS}
    picture = b"" if atlas is None else jpeg_bytes(atlas.image)
    textured: dict[str, Any] = {}
    if atlas is not None:
        surface["baseColorTexture"] = {"index": 0}
        views.append({"buffer": 0, "byteOffset": at, "byteLength": len(picture)})
        edges = {"wrapS": _CLAMP, "wrapT": _CLAMP}
        textured = {
            "images": [{"bufferView": len(views) - 1, "mimeType": "image/jpeg", "name": "base colour"}],
            "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, **edges}],
            "textures": [{"source": 0, "sampler": 0}],
        }
    primitive = {"attributes": attributes, "indices": names.index("indices"), "material": 0}
    document = {
        "asset": {"version": "2.0", "generator": "VON"} | ({"extras": dict(extras)} if extras else {}),
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [{"name": "clay" if plain else "painted", "pbrMetallicRoughness": surface}],
        **textured,
        "buffers": [{"byteLength": at + len(picture)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    binary = b"".join(array.tobytes() for array in arrays.values()) + picture
    return _container(json.dumps(document).encode(), binary)


def write_glb(path: Path, mesh: SurfaceMesh, name: str = "shape", extras: Mapping[str, Any] | None = None) -> None:
    """Writes a mesh as binary glTF, see `glb_bytes`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(glb_bytes(mesh, name, extras))


def linear_of_srgb(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Linear intensities in [0, 1] of 8-bit sRGB values."""
    value = colours / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _accessor(view: int, name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    if name == "indices":
        return {"bufferView": view, "componentType": _UNSIGNED_INT, "count": len(array), "type": "SCALAR"}
    kind = "VEC2" if name == "TEXCOORD_0" else "VEC3"
    accessor = {"bufferView": view, "componentType": _FLOAT, "count": len(array), "type": kind}
    if name == "POSITION":  # glTF requires its bounds
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


_USDZ_ALIGNMENT = 64
_DOS_DATE = (1 << 5) | 1  # 1980-01-01


def _usdz_bytes(mesh: SurfaceMesh, up: UpAxis, name: str) -> bytes:
    """A USDZ package: a scene as text and its texture, stored without compression at multiples of 64 bytes."""
    files = [(f"{name}.usda", _usda_text(mesh, up).encode())]
    if mesh.atlas is not None:
        files.append(("textures/base_colour.jpg", jpeg_bytes(mesh.atlas.image)))
    return _aligned_zip(files)


def _usda_text(mesh: SurfaceMesh, up: UpAxis) -> str:
    """A scene in USD's text format: one mesh, its normals and texture coordinates, and a UsdPreviewSurface."""
    positions, normals = _turned(mesh.vertices, up), _turned(mesh.normals(), up)
    bounds = np.stack([positions.min(axis=0), positions.max(axis=0)])
    painted, texture = "", ""
    colour = f"color3f inputs:diffuseColor = {_tuple(_CLAY[:3])}"
    if mesh.atlas is not None:
        uvs = (mesh.atlas.uvs * [1.0, -1.0] + [0.0, 1.0])[mesh.atlas.faces.reshape(-1)]
        painted = _usda_array("texCoord2f[] primvars:st", uvs, "faceVarying")
        colour = "color3f inputs:diffuseColor.connect = </Shape/Material/Texture.outputs:rgb>"
        texture = _USDA_TEXTURE
    elif mesh.colours is not None:
        painted = _usda_array("color3f[] primvars:displayColor", linear_of_srgb(mesh.colours), "vertex")
        colour = "color3f inputs:diffuseColor.connect = </Shape/Material/Colours.outputs:result>"
        texture = _USDA_VERTEX_COLOURS
    return (
        f'#usda 1.0\n(\n    defaultPrim = "Shape"\n    metersPerUnit = 1\n    upAxis = "{up.upper()}"\n)\n\n'
        'def Xform "Shape" (\n    kind = "component"\n)\n{\n'
        '    def Mesh "Surface" (\n        prepend apiSchemas = ["MaterialBindingAPI"]\n    )\n    {\n'
        f"        float3[] extent = [{_tuples(bounds)}]\n"
        f"        int[] faceVertexCounts = [{', '.join(['3'] * len(mesh.faces))}]\n"
        f"        int[] faceVertexIndices = [{', '.join(map(str, mesh.faces.reshape(-1).tolist()))}]\n"
        f"        point3f[] points = [{_tuples(positions)}]\n"
        f"{_usda_array('normal3f[] normals', normals, 'vertex')}"
        f"{painted}"
        '        uniform token subdivisionScheme = "none"\n'
        "        rel material:binding = </Shape/Material>\n    }\n\n"
        '    def Material "Material"\n    {\n'
        "        token outputs:surface.connect = </Shape/Material/Preview.outputs:surface>\n\n"
        '        def Shader "Preview"\n        {\n'
        '            uniform token info:id = "UsdPreviewSurface"\n'
        f"            {colour}\n"
        f"            float inputs:roughness = {_ROUGHNESS}\n            float inputs:metallic = 0\n"
        f"            token outputs:surface\n        }}\n{texture}    }}\n}}\n"
    )


def _usda_array(name: str, rows: Floats, interpolation: str) -> str:
    return f'        {name} = [{_tuples(rows)}] (\n            interpolation = "{interpolation}"\n        )\n'


_USDA_TEXTURE = """
        def Shader "Texture"
        {
            uniform token info:id = "UsdUVTexture"
            asset inputs:file = @textures/base_colour.jpg@
            float2 inputs:st.connect = </Shape/Material/Coordinates.outputs:result>
            token inputs:sourceColorSpace = "sRGB"
            token inputs:wrapS = "clamp"
            token inputs:wrapT = "clamp"
            float3 outputs:rgb
        }

        def Shader "Coordinates"
        {
            uniform token info:id = "UsdPrimvarReader_float2"
            string inputs:varname = "st"
            float2 outputs:result
        }
"""
_USDA_VERTEX_COLOURS = """
        def Shader "Colours"
        {
            uniform token info:id = "UsdPrimvarReader_float3"
            string inputs:varname = "displayColor"
            float3 outputs:result
        }
"""


def _tuple(numbers: Sequence[float]) -> str:
    return f"({', '.join(f'{number:.6g}' for number in numbers)})"


def _tuples(rows: Floats) -> str:
    return ", ".join(_tuple(row) for row in rows.tolist())


def _aligned_zip(files: Sequence[tuple[str, bytes]]) -> bytes:
    """A zip archive of stored files whose contents begin at multiples of 64 bytes, as USDZ requires."""
    archive, directory = bytearray(), bytearray()
    for name, content in files:
        encoded, start = name.encode(), len(archive)
        # An extra field fills up to the multiple; it has a header of four bytes.
        padding = -(start + 30 + len(encoded) + 4) % _USDZ_ALIGNMENT
        extra = struct.pack("<HH", 0x1986, padding) + b"\0" * padding
        facts = struct.pack(
            "<HHHHHIIIH", 10, 0, 0, 0, _DOS_DATE, zlib.crc32(content), len(content), len(content), len(encoded)
        )
        archive += b"PK\3\4" + facts + struct.pack("<H", len(extra)) + encoded + extra + content
        directory += b"PK\1\2" + struct.pack("<H", 10) + facts
        directory += struct.pack("<HHHHII", 0, 0, 0, 0, 0, start) + encoded
    counts = (0, 0, len(files), len(files), len(directory), len(archive), 0)
    return bytes(archive + directory + b"PK\5\6" + struct.pack("<HHHHIIH", *counts))


# --- images


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
    """Values in [-1, 1] rounded to 0..255; values outside are clipped."""
    levels = (images.detach().cpu().double() + 1.0) * 127.5
    return levels.clamp(0.0, 255.0).round().numpy().astype(np.uint8)


def cut_out_pixels(image: Float[Tensor, "3 h w"], silhouette: Float[Tensor, "1 h w"]) -> npt.NDArray[np.uint8]:
    """An image on white as transparent pixels (h, w, 4) that give the same image when composed on white.

    Args:
        image: in [-1, 1], the object on white: I = a C + (1 - a).
        silhouette: opacity a in [0, 1]; raised where I is too dark for it.
    """
    shown = image.detach().cpu().double().clamp(-1.0, 1.0).numpy()
    darkest = (1.0 - shown.min(axis=0, keepdims=True)) / 2.0
    opacity = np.maximum(silhouette.detach().cpu().double().clamp(0.0, 1.0).numpy(), darkest)
    opacity = np.ceil(opacity * 255.0) / 255.0  # the opacity that is stored decides the colours
    levels = np.empty((4, *shown.shape[1:]))
    levels[:3] = 127.5 * (1.0 + np.where(opacity > 0.0, (shown - (1.0 - opacity)) / np.maximum(opacity, 1e-9), 1.0))
    levels[3:] = 255.0 * opacity
    return levels.clip(0.0, 255.0).round().astype(np.uint8).transpose(1, 2, 0)


def write_png(path: Path, pixels: npt.NDArray[np.uint8], text: Mapping[str, str] | None = None) -> None:
    """Writes pixels (h, w[, 3 or 4]) as PNG, with text chunks by keyword.

    Neither atomic nor flushed to disk: for folders that are put in place whole (`album.replaced_folder`), or within
    `atomic_path`.
    """
    path.write_bytes(png_bytes(pixels, text))


def png_bytes(pixels: npt.NDArray[np.uint8], text: Mapping[str, str] | None = None, *, fast: bool = False) -> bytes:
    """Pixels (h, w[, 3 or 4]) as the content of a PNG file, with text chunks by keyword."""
    chunks = PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_itxt(keyword, value)
    file = io.BytesIO()
    options: dict[str, Any] = {"compress_level": 1 if fast else 6}
    Image.fromarray(pixels).save(file, "PNG", pnginfo=chunks, **options)
    return file.getvalue()
