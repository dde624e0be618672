"""Mesh files into triangles: the format told by content, limits kept, nothing read outside the file's own folder."""

from __future__ import annotations

import json
import os
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np

from vondata.shapes.obj import parse_obj
from vondata.shapes.off import KEYWORD as OFF_KEYWORD
from vondata.shapes.off import parse_off
from vondata.shapes.ply import parse_ply
from vondata.shapes.polygons import Polygons, TriangleSoup, cut_polygons
from vondata.shapes.source_file import Limits, read_bytes
from vondata.shapes.stl import announced_facets, facets_with_room, parse_stl_binary, parse_stl_text
from vondata.shapes.text import plain_text, text_encoding
from vondata.types import Rejected, printable

Format = Literal["obj", "off", "ply", "stl", "glb", "gltf", "binvox"]

# What parsers of other people's formats raise when the bytes make no sense to them.
PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
_OBJ_VERTEX = re.compile(rb"(?:^|[\r\n])[ \t]*v[ \t]")
_COMMENTS = re.compile(rb"(?:\s|#(?!binvox)[^\n]*\n)*")
_COUNTS = re.compile(rb"\d+[ \t]+\d+")
_START = 1 << 16  # bytes by which a text is told, long comments included


def read_triangles(content: bytes, path: Path, limits: Limits) -> TriangleSoup:
    """Reads a mesh of any known format; a scene's parts are put where the scene puts them.

    Args:
        content: the bytes of the file.
        path: where they come from: the folder in which the parts of a glTF may lie, and its name as a hint.
        limits: what the mesh may ask for.

    Raises:
        Rejected: format_unknown, file_corrupt, too_large, outside_root (a part of the file lies elsewhere).
    """
    form = detect_format(content, path)
    if form == "binvox":
        raise Rejected("format_unknown", "a .binvox grid where a mesh was expected")
    try:
        soup = _read_soup(content, form, path, limits)
    except PARSE_ERRORS as error:
        named = printable(str(error)) or type(error).__name__
        raise Rejected("file_corrupt", f"as {form.upper()}: {named[:300]}") from error
    limits.check_mesh(len(soup.vertices), len(soup.faces))
    return soup


def detect_format(content: bytes, path: Path) -> Format:
    """The format that the bytes show, whatever the file is called.

    Raises:
        Rejected: format_unknown, or file_corrupt for a binary STL that is cut off.
    """
    if content.startswith(b"glTF"):
        return "glb"
    if _is_binary_stl(content, path):
        return "stl"
    start = _start_of_text(content)
    word = start.split(maxsplit=1)[0] if start.strip() else b""
    signs: dict[Format, bool] = {
        "ply": word == b"ply",
        "binvox": word == b"#binvox",
        "gltf": start.startswith(b"{"),
        "off": OFF_KEYWORD.match(word) is not None,
        "stl": word.lower() == b"solid" and b"\0" not in start,
    }
    for form, seen in signs.items():
        if seen:
            return form
    if _has_obj_lines(content):
        return "obj"
    if path.suffix.lower() == ".off" and _COUNTS.match(start):
        return "off"
    if (path.suffix.lower() == ".stl" or word.lower() == b"solid") and len(content) >= 84:
        detail = f"{announced_facets(content):,} triangles announced, bytes for {facets_with_room(content):,}"
        raise Rejected("file_corrupt", f"as STL: {detail}")
    raise Rejected("format_unknown", f"the file begins with {content[:16]!r}")


def _is_binary_stl(content: bytes, path: Path) -> bool:
    """Whether there are as many bytes as the triangles announced need; more only where else it looks like an STL."""
    count, room = announced_facets(content), facets_with_room(content)
    if len(content) == 84 + 50 * count and len(content) >= 84:
        return True
    return 0 < count <= room and (path.suffix.lower() == ".stl" or content[:5].lower() == b"solid")


def _start_of_text(content: bytes) -> bytes:
    """The first words of a text behind its comments."""
    start = plain_text(content[:_START]).lstrip()
    found = _COMMENTS.match(start)
    return start[found.end() :] if found else start


def _has_obj_lines(content: bytes) -> bool:
    """Whether there are lines that give a vertex, and no bytes that text does not have."""
    text = plain_text(content) if text_encoding(content) else content
    return b"\0" not in text[:_START] and _OBJ_VERTEX.search(text) is not None


def _read_soup(content: bytes, form: Format, path: Path, limits: Limits) -> TriangleSoup:
    match form:
        case "glb" | "gltf":
            return _read_scene(content, form, path, limits)
        case "stl":
            polygons = _read_stl(content, path, limits)
        case "ply":
            polygons = parse_ply(content, limits)
        case "off":
            polygons = parse_off(content, limits)
        case _:
            polygons = parse_obj(content, limits)
    return cut_polygons(polygons, limits)


def _read_stl(content: bytes, path: Path, limits: Limits) -> Polygons:
    return parse_stl_binary(content, limits) if _is_binary_stl(content, path) else parse_stl_text(content, limits)


def _read_scene(content: bytes, form: Format, path: Path, limits: Limits) -> TriangleSoup:
    """Reads through trimesh, which gets no file to open but what `_OwnFolder` hands out."""
    import trimesh

    _check_announced(content, form, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene = trimesh.load_scene(
            BytesIO(content),
            file_type=form,
            resolver=_OwnFolder(path.parent, limits),
            process=False,
            skip_materials=True,
        )
        return _merge_scene(scene, limits)


def _check_announced(content: bytes, form: Format, limits: Limits) -> None:
    """Holds the counts in a file's header against its size and the limits, before memory is taken for them.

    Raises:
        Rejected: too_large.
        ValueError: a header that promises more than the file can hold.
    """
    if form == "glb" and int.from_bytes(content[8:12], "little") > len(content):
        raise ValueError(f"{int.from_bytes(content[8:12], 'little'):,} bytes announced, {len(content):,} there")
    header = content[20 : 20 + int.from_bytes(content[12:16], "little")] if form == "glb" else content
    accessors = json.loads(header).get("accessors", [])
    largest = max((int(accessor["count"]) for accessor in accessors), default=0)
    limits.check_mesh(largest // 3, largest // 3)


def _merge_scene(scene: Any, limits: Limits) -> TriangleSoup:
    """All meshes of a trimesh scene in the scene's coordinates; points and lines are left out."""
    import trimesh

    parts = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        if isinstance(scene.geometry[name], trimesh.Trimesh):
            parts.append((np.asarray(transform, dtype=np.float64), scene.geometry[name]))
    limits.check_mesh(sum(len(mesh.vertices) for _, mesh in parts), sum(len(mesh.faces) for _, mesh in parts))
    vertices, faces, offset = [np.empty((0, 3))], [np.empty((0, 3), dtype=np.int64)], 0
    for transform, mesh in parts:
        positions = np.asarray(mesh.vertices, dtype=np.float64)
        own = np.asarray(mesh.faces, dtype=np.int64)
        if own.size and not 0 <= own.min() <= own.max() < len(positions):
            raise ValueError(f"a face names vertex {own.max()} of {len(positions)}")
        vertices.append(positions @ transform[:3, :3].T + transform[:3, 3])
        faces.append(own + offset)
        offset += len(positions)
    return TriangleSoup(np.concatenate(vertices), np.concatenate(faces))


class _OwnFolder(Mapping[str, bytes]):
    """The files beside a mesh, by relative URI; whatever lies elsewhere is refused."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits

    def __getitem__(self, uri: str) -> bytes:
        folder = os.path.realpath(self._folder)
        target = os.path.realpath(os.path.join(folder, unquote(uri)))
        if urlsplit(uri).scheme or not Path(target).is_relative_to(folder):
            raise Rejected("outside_root", f"the file wants {uri[:200]!r}, which is not in its folder")
        return read_bytes(Path(target), self._limits)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
