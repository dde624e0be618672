"""Mesh file reading: format detection by content, size limits, no access outside the file's folder."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import numpy as np

from vondata.shapes.gltf import read_gltf
from vondata.shapes.gltf_data import linked_uris
from vondata.shapes.obj_stl import KEYWORD as OFF_KEYWORD
from vondata.shapes.obj_stl import (
    announced_facets,
    facets_with_room,
    parse_obj,
    parse_off,
    parse_stl_binary,
    parse_stl_text,
)
from vondata.shapes.ply import parse_ply
from vondata.shapes.polygons import Polygons, TriangleSoup, cut_polygons
from vondata.shapes.source_file import Limits, read_bytes
from vondata.shapes.text import plain_text, text_encoding
from vondata.types import Rejected, printable

Format = Literal["obj", "off", "ply", "stl", "glb", "gltf", "binvox"]

# What readers raise on malformed input.
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
_OBJ_VERTEX = re.compile(rb"(?:^|[\r\n])[ \t]*[vV][ \t]")
_COMMENTS = re.compile(rb"(?:\s|#(?!binvox)[^\n]*\n)*")
_COUNTS = re.compile(rb"\d+[ \t]+\d+")
_STRANGERS = {  # signatures of other files found in place of meshes
    b"version https://git-lfs": "a pointer of Git LFS, whose content is still to be fetched",
    b"\x1f\x8b": "packed by gzip; unpack it",
    b"pk\x03\x04": "a ZIP archive, as 3MF and USDZ are, which is not read; unpack it",
    b"bzh": "packed by bzip2; unpack it",
    b"\xfd7zxz": "packed by xz; unpack it",
    b"(\xb5/\xfd": "packed by zstd; unpack it",
    b"<!doctype html": "a web page, as a failed download leaves it",
    b"<html": "a web page, as a failed download leaves it",
    b"kaydara fbx": "an FBX file, which is not read",
    **dict.fromkeys((b"blender-v", b"blender_v", b"blender17-"), "a Blender file, which is not read"),
    b"<?xml": "XML, such as COLLADA, which is not read",
}
_START = 1 << 16  # bytes inspected to recognise a text format, long comments included


def read_triangles(content: bytes, path: Path, limits: Limits) -> TriangleSoup:
    """Reads a mesh of any known format; the transforms of a glTF scene are applied.

    Args:
        content: the bytes of the file.
        path: its path: a glTF may refer to files of the same folder, and the suffix is a hint.
        limits: of the file and the mesh.

    Raises:
        Rejected: format_unknown, file_corrupt, too_large, outside_root (a part of the file lies elsewhere).
    """
    form = detect_format(content, path)
    if form == "binvox":
        raise Rejected("format_unknown", "a .binvox grid where a mesh was expected")
    try:
        with np.errstate(all="ignore"):  # infinite and NaN vertices are rejected later, by `clean_mesh`
            soup = _read_soup(content, form, path, limits)
    except PARSE_ERRORS as error:
        named = printable(str(error)) or type(error).__name__
        named += " is missing" if isinstance(error, KeyError) else ""
        raise Rejected("file_corrupt", f"as {form.upper()}: {named[:300]}") from error
    limits.check_mesh(len(soup.vertices), len(soup.faces))
    return soup


def detect_format(content: bytes, path: Path) -> Format:
    """Detects the format from the content, not from the name.

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
        "stl": word.lower() in (b"solid", b"facet") and b"\0" not in start,
    }
    for form, seen in signs.items():
        if seen:
            return form
    if _has_obj_lines(content):
        return "obj"
    if path.suffix.lower() == ".off" and _COUNTS.match(start):
        return "off"
    if what := _known_stranger(content):
        raise Rejected("format_unknown", f"the file is {what}")
    if (path.suffix.lower() == ".stl" or word.lower() == b"solid") and len(content) >= 84:
        detail = f"{announced_facets(content):,} triangles announced, bytes for {facets_with_room(content):,}"
        raise Rejected("file_corrupt", f"as STL: {detail}")
    raise Rejected("format_unknown", f"the file begins with {content[:16]!r}")


def _known_stranger(content: bytes) -> str | None:
    """What a file is whose signature is that of another kind than meshes."""
    start = content[:_START].lstrip().lower()
    return next((what for begins, what in _STRANGERS.items() if start.startswith(begins)), None)


def _is_binary_stl(content: bytes, path: Path) -> bool:
    """Whether the size matches the triangle count; trailing bytes need the suffix .stl or a header with "solid"."""
    count, room = announced_facets(content), facets_with_room(content)
    if len(content) == 84 + 50 * count and len(content) >= 84:
        return True
    return 0 < count <= room and (path.suffix.lower() == ".stl" or content[:5].lower() == b"solid")


def _start_of_text(content: bytes) -> bytes:
    """The start of a text after its leading comments."""
    start = plain_text(content[:_START]).lstrip()
    found = _COMMENTS.match(start)
    return start[found.end() :] if found else start


def _has_obj_lines(content: bytes) -> bool:
    """Whether the content has a vertex line, and no zero bytes before it, which text does not contain."""
    text = plain_text(content) if text_encoding(content) else content
    zero = text[:_START].rstrip(b"\0\x1a").find(b"\0")
    return _OBJ_VERTEX.search(text if zero < 0 else text[:zero]) is not None


def _read_soup(content: bytes, form: Format, path: Path, limits: Limits) -> TriangleSoup:
    match form:
        case "glb" | "gltf":
            return read_gltf(content, _OwnFolder(path.parent, limits).read, limits)
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


@dataclass(frozen=True)
class _OwnFolder:
    """The files in a mesh's folder, by relative URI; any other path is refused."""

    folder: Path
    limits: Limits

    def read(self, uri: str) -> bytes:
        """The content of a file of the folder."""
        target = _within(self.folder, uri)
        if target is None:
            raise Rejected("outside_root", f"the file refers to {uri[:200]!r}, which is not in its folder")
        return read_bytes(target, self.limits)


def _within(folder: Path, uri: str) -> Path | None:
    """The file of a folder that a relative URI names; None for a path outside of it."""
    top = os.path.realpath(folder)
    target = os.path.realpath(os.path.join(top, unquote(uri)))
    return Path(target) if not urlsplit(uri).scheme and Path(target).is_relative_to(top) else None


def files_beside(path: Path, kind: Literal["buffers", "images"] = "buffers") -> tuple[str, ...]:
    """The existing external data files, or images, of a glTF; empty for other formats and damaged files."""
    if path.suffix.lower() not in (".gltf", ".glb"):
        return ()
    try:
        found = [_within(path.parent, uri) for uri in linked_uris(path, kind)]
        return tuple(str(each) for each in dict.fromkeys(found) if each is not None and each.is_file())
    except (*PARSE_ERRORS, Rejected):
        return ()
