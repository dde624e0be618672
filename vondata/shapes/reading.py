"""Mesh files into triangles: the format told by content, limits kept, nothing read outside the file's own folder."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from vondata.shapes.obj import Polygons, parse_obj
from vondata.shapes.off import WORDS as OFF_WORDS
from vondata.shapes.off import parse_off
from vondata.shapes.polygons import triangulate
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
_MEGABYTE = 2**20
_OBJ_VERTEX = re.compile(rb"^[ \t]*v[ \t]", re.MULTILINE)
_PLY_ELEMENT = re.compile(rb"^element[ \t]+(\w+)[ \t]+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Limits:
    """What one file may ask for, so that a run's memory is bounded.

    Attributes:
        file_mb: size of the file, in MiB.
        faces: triangles of the mesh; vertices may be three times as many.
    """

    file_mb: int = 512
    faces: int = 4_000_000

    def check_mesh(self, vertices: int, faces: int) -> None:
        """Raises Rejected (too_large) for more than that."""
        if faces > self.faces or vertices > 3 * self.faces:
            raise Rejected(
                "too_large", f"{vertices:,} vertices and {faces:,} triangles; the limit is {self.faces:,} triangles"
            )


@dataclass(frozen=True, eq=False)
class TriangleSoup:
    """Triangles as they stand in a file.

    Attributes:
        vertices: (v, 3) positions in source coordinates.
        faces: (f, 3) vertex numbers.
        broken_faces: faces of the file with fewer than three corners, which are not among `faces`.
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]
    broken_faces: int = 0


def read_bytes(path: Path, limits: Limits) -> bytes:
    """The content of a regular file.

    Raises:
        Rejected: source_missing, source_unreadable, too_large or file_corrupt (no bytes at all).
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Rejected("source_unreadable", "not a regular file")
            if status.st_size > limits.file_mb * _MEGABYTE:
                size = status.st_size / _MEGABYTE
                raise Rejected("too_large", f"the file has {size:,.0f} MiB; the limit is {limits.file_mb} MiB")
            content = file.read(limits.file_mb * _MEGABYTE + 1)
    except FileNotFoundError as error:
        raise Rejected("source_missing", printable(str(error))) from error
    except OSError as error:
        raise Rejected("source_unreadable", printable(str(error))) from error
    if not content:
        raise Rejected("file_corrupt", "the file is empty")
    return content


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
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    word = start.split(maxsplit=1)[0] if start.strip() else b""
    signs: dict[Format, bool] = {
        "glb": content.startswith(b"glTF"),
        "ply": word == b"ply",
        "binvox": word == b"#binvox",
        "gltf": start.startswith(b"{"),
        "off": word.startswith(OFF_WORDS),
        "stl": _is_binary_stl(content) or (word.lower() == b"solid" and b"facet" in content[:4096].lower()),
    }
    for form, seen in signs.items():
        if seen:
            return form
    if _has_obj_lines(content):
        return "obj"
    if path.suffix.lower() == ".stl" and len(content) >= 84:
        count = int.from_bytes(content[80:84], "little")
        raise Rejected(
            "file_corrupt", f"as STL: {count:,} triangles announced, bytes for {(len(content) - 84) // 50:,}"
        )
    raise Rejected("format_unknown", f"the file begins with {content[:16]!r}")


def _is_binary_stl(content: bytes) -> bool:
    return len(content) >= 84 and len(content) == 84 + 50 * int.from_bytes(content[80:84], "little")


def _has_obj_lines(content: bytes) -> bool:
    """Whether there are lines that give a vertex, and no bytes that text does not have."""
    return b"\0" not in content[:65536] and _OBJ_VERTEX.search(content) is not None


def _read_soup(content: bytes, form: Format, path: Path, limits: Limits) -> TriangleSoup:
    match form:
        case "obj":
            return _cut(parse_obj(content), limits)
        case "off":
            _check_announced(content, form, limits)
            return _cut(parse_off(content), limits)
    return _read_scene(content, form, path, limits)


def _cut(polygons: Polygons, limits: Limits) -> TriangleSoup:
    limits.check_mesh(len(polygons.vertices), int(np.maximum(np.diff(polygons.starts) - 2, 0).sum()))
    faces, broken = triangulate(polygons)
    return TriangleSoup(polygons.vertices, faces, broken)


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
    counts: list[int] = []
    if form == "ply":
        header, end, _ = content.partition(b"end_header")
        if not end:
            raise ValueError("the header does not end")
        counts = [int(count) for _, count in _PLY_ELEMENT.findall(header)]
    elif form == "off":
        numbers = re.findall(rb"-?\d+", re.sub(rb"#[^\n]*", b"", content[:65536]).split(b"OFF", 1)[-1])[:2]
        counts = [int(number) for number in numbers]
    elif form in ("glb", "gltf"):
        if form == "glb" and int.from_bytes(content[8:12], "little") > len(content):
            raise ValueError(f"{int.from_bytes(content[8:12], 'little'):,} bytes announced, {len(content):,} there")
        header = content[20 : 20 + int.from_bytes(content[12:16], "little")] if form == "glb" else content
        accessors = json.loads(header).get("accessors", [])
        largest = max((int(accessor["count"]) for accessor in accessors), default=0)
        limits.check_mesh(largest // 3, largest // 3)
    if any(count > len(content) for count in counts):
        raise ValueError(f"{max(counts):,} elements announced in {len(content):,} bytes")
    limits.check_mesh(max(counts, default=0) // 3, max(counts, default=0) // 3)


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
