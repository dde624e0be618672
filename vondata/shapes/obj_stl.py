"""OBJ, OFF and STL parsers: vertex positions and polygons only.

A binary STL file has its triangle count after a header of 80 bytes, which may begin with "solid" like an ASCII STL.
Bytes after the last triangle are ignored, because some programs append data of their own, unless they are more
triangles. Of an ASCII STL the facets of all solids are read.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from vondata.shapes.polygons import Polygons
from vondata.shapes.source_file import Limits, MeshFileError, check_no_lost_block
from vondata.shapes.text import (
    BAD_CORNER,
    BAD_COUNT,
    BAD_NUMBER,
    BAD_WORD,
    ENDS_EARLY,
    FOREIGN,
    FREE_FORM,
    NO_ERROR,
    OTHER_FILE,
    TOO_MANY,
    as_lines,
    plain_text,
    read_obj,
    read_off,
    read_stl_text,
)
from vondata.types import Rejected

_HEADER_BYTES, _FACET_BYTES = 84, 50
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_MAX_SOLIDS = 1000  # of a binary file
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), 1e30  # of a coordinate that is not zero
_MIN_ODD_FACETS, _MIN_ODD_SHARE = 4, 0.002
_MIN_TEXT_FACET = 40  # bytes of the shortest facet that a text can hold
_FACET_CORNERS = (3, 4)
# The first facet on the line of a solid's name or of the end of the solid before.
_FACET_BEHIND_NAME = re.compile(
    rb"(?<=[^\s])[ \t]{1,100}(facet[ \t]{1,100}normal[ \t]{1,100}(?:[-+.]?\d|-?nan))", re.IGNORECASE
)


def announced_facets(content: bytes | memoryview) -> int:
    """The triangle count of a binary STL; 0 for a file too short to have one."""
    return int.from_bytes(content[80:_HEADER_BYTES], "little") if len(content) >= _HEADER_BYTES else 0


def facets_with_room(content: bytes | memoryview) -> int:
    """How many triangles a binary STL has bytes for."""
    return max(len(content) - _HEADER_BYTES, 0) // _FACET_BYTES


def parse_stl_binary(content: bytes, limits: Limits) -> Polygons:
    """Reads a binary STL, or several concatenated ones.

    Memory: the file, and 146 bytes for each triangle that the limits allow.

    Raises:
        MeshFileError: more triangles are announced than there are bytes for, none although there are bytes, or fewer
            than there are.
        Rejected: too_large.
    """
    solids, rest, count = list[npt.NDArray[np.void]](), memoryview(content), 0
    while not solids or (_is_whole(rest) and len(solids) < _MAX_SOLIDS):
        own, room = announced_facets(rest), facets_with_room(rest)
        if own > room or (own == 0 and len(rest) != _HEADER_BYTES):
            raise MeshFileError(f"{own:,} triangles announced, bytes for {room:,}")
        count += own
        limits.check_mesh(3 * count, count)
        solids.append(np.frombuffer(rest, dtype=_FACET, count=own, offset=_HEADER_BYTES))
        rest = rest[_HEADER_BYTES + _FACET_BYTES * own :]
    check_no_lost_block(content, _HEADER_BYTES, len(content) - len(rest))
    with np.errstate(invalid="ignore"):  # signalling NaN
        vertices = np.concatenate(solids)["corners"].reshape(-1, 3).astype(np.float64)
    _check_alignment(vertices)
    if _are_facets(rest, vertices):
        raise MeshFileError(f"{count:,} triangles announced, {count + len(rest) // _FACET_BYTES:,} there")
    return Polygons(vertices, np.arange(3 * count, dtype=np.int64), np.arange(0, 3 * count + 1, 3, dtype=np.int64))


def _check_alignment(vertices: npt.NDArray[np.float64]) -> None:
    """Checks that the corners are not bytes of neighbouring numbers, as behind a lost or added byte.

    The exponents of such numbers are random: many are beyond single precision's normal range, as no coordinate is.
    """
    size = np.abs(vertices).reshape(-1, 9)
    odd = int(np.count_nonzero(((size > _LARGEST) | ((size < _SMALLEST) & (size > 0))).any(axis=1)))
    if odd >= max(_MIN_ODD_FACETS, _MIN_ODD_SHARE * len(size)):
        raise MeshFileError(
            f"{odd:,} of {len(size):,} triangles have impossible coordinates: bytes are lost or added"
        )


def _is_whole(rest: memoryview) -> bool:
    """Whether the bytes after a solid begin with another one, as in concatenated files."""
    return 0 < announced_facets(rest) <= facets_with_room(rest)


def _are_facets(rest: memoryview, vertices: npt.NDArray[np.float64]) -> bool:
    """Whether the bytes after the last triangle are more triangles.

    They are whole, with normals of unit length or zero, or with corners in the bounding box of the other vertices.
    """
    if len(rest) < _FACET_BYTES or len(rest) % _FACET_BYTES:
        return False
    facets = np.frombuffer(rest, dtype=_FACET)
    with np.errstate(all="ignore"):
        length = np.linalg.norm(facets["normal"].astype(np.float64), axis=1)
        is_normal = (length == 0) | (np.abs(length - 1) < 0.01)
        is_finite = np.isfinite(facets["corners"]).all()
        low, high = vertices.min(axis=0, initial=np.inf), vertices.max(axis=0, initial=-np.inf)
        is_within = ((facets["corners"] >= low) & (facets["corners"] <= high)).all()
    has_extent = (facets["corners"][:, 0] != facets["corners"][:, 1]).any(axis=1)
    return bool(is_finite and has_extent.all() and (is_normal.all() or is_within))


def parse_stl_text(content: bytes, limits: Limits) -> Polygons:
    """Reads an ASCII STL: any number of solids, with or without `endsolid`.

    Memory: the text, and 112 bytes for each triangle that the limits allow.

    Raises:
        MeshFileError: a facet without end or with a number of vertices other than three (or four, as some programs
            write), or an unexpected word; says in which line.
        Rejected: too_large.
    """
    text = as_lines(_without_names_before_facets(plain_text(content)))
    most = min(text.size // _MIN_TEXT_FACET + 1, limits.faces)
    vertices = np.empty((min(text.size // _MIN_TEXT_FACET * 3 + 3, limits.vertices), 3))
    starts = np.zeros(most + 2, dtype=np.int64)
    error, line, count = read_stl_text(text, vertices, starts)
    if error == TOO_MANY:
        raise Rejected("too_large", f"over {limits.faces:,} triangles, which is the limit, in line {line:,}")
    if error == ENDS_EARLY:
        raise MeshFileError(f"line {line:,}: a facet without end")
    if error:
        words = "a vertex without three numbers" if error == BAD_NUMBER else "an unexpected word"
        raise MeshFileError(f"line {line:,}: {words}")
    starts = starts[: count + 1].copy()
    odd = np.flatnonzero(~np.isin(np.diff(starts), _FACET_CORNERS))
    if odd.size:
        raise MeshFileError(f"facet {odd[0] + 1:,} has {starts[odd[0] + 1] - starts[odd[0]]:,} vertices")
    return Polygons(vertices[: starts[-1]].copy(), np.arange(starts[-1]), starts)


def _without_names_before_facets(text: bytes) -> bytes:
    """The text, its facets on lines of their own if one stands behind the name of a solid."""
    lowered, place = text.lower(), 0
    while (place := lowered.find(b"solid", place)) >= 0:
        end = lowered.find(b"\n", place)
        end = len(text) if end < 0 else end
        if lowered.find(b"facet", place, end) >= 0:
            return _FACET_BEHIND_NAME.sub(rb"\n\1", text)
        place = end
    return text


_ERRORS = {
    BAD_NUMBER: "a vertex without three numbers",
    BAD_CORNER: "a face with something that is not a vertex number",
    BAD_WORD: "a number where a statement should begin; a line is continued by a backslash at its end",
    FOREIGN: "not a statement, but what a web page, a merge or another file leaves in its place",
}


def parse_obj(content: bytes, limits: Limits | None = None) -> Polygons:
    """Reads the positions and faces of an OBJ file.

    Memory: the text, and at most 24 bytes for each vertex and 32 for each triangle that the limits allow.

    Raises:
        MeshFileError: a line that cannot be understood, or a face with a vertex that does not exist.
        Rejected: too_large, extension_unsupported (free-form surfaces), outside_root (a part in another file).
    """
    limits = limits or Limits()
    plain = plain_text(content)
    if (zero := plain.find(b"\0")) >= 0:
        raise MeshFileError(f"zeros at byte {zero:,} of the text, where a disk or a transfer lost its content")
    text = as_lines(plain)
    # Upper bounds for a text of this size; pages that are never written cost nothing.
    vertices = np.empty((min(text.size // 7 + 1, limits.vertices), 3))
    faces = min(text.size // 4 + 1, limits.faces)
    corners = np.empty(min(text.size // 2 + 1, 3 * limits.faces), dtype=np.int64)
    starts = np.zeros(faces + 2, dtype=np.int64)
    error, line, vertex_count, face_count = read_obj(text, vertices, corners, starts, limits.faces)
    if error == TOO_MANY:
        raise Rejected("too_large", f"over {limits.faces:,} triangles, which is the limit, in line {line:,}")
    if error == FREE_FORM:
        raise Rejected("extension_unsupported", f"a free-form surface in line {line:,}, which is not read")
    if error == OTHER_FILE:
        raise Rejected("outside_root", f"line {line:,} calls another file, which holds a part of the model")
    if error:
        raise MeshFileError(f"line {line}: {_ERRORS[error]}")
    starts = starts[: face_count + 1].copy()
    corners = corners[: starts[-1]].copy()
    if face_count and starts[-1] - starts[-2] < 3 and _ends_in_face(plain):
        raise MeshFileError(f"line {line}: the file ends within a face")
    if corners.size and not 0 <= corners.min() <= corners.max() < vertex_count:
        wrong = corners[(corners < 0) | (corners >= vertex_count)][0]
        raise MeshFileError(f"a face names vertex {wrong + 1}, and there are {vertex_count}")
    return Polygons(vertices[:vertex_count].copy(), corners, starts)


def _ends_in_face(text: bytes) -> bool:
    """Whether the last line is a face without a newline at its end."""
    return re.match(rb"[ \t]*f", text[text.rfind(b"\n") + 1 :], re.IGNORECASE) is not None


# The keyword with its prefixes: texture coordinates, colours, normals, four and n dimensions.
KEYWORD = re.compile(rb"(?:ST)?C?N?4?n?OFF|c?n?off")
_COUNTS = rb"[^\s#]+[ \t]+[^\s#]+(?:[ \t]+[-+]?\d+(?![^\s#]))?"  # vertices, faces and usually edges
_HEADER = re.compile(
    rb"(?:\s|#[^\n]*)*(?:(?P<word>%b)(?P<binary>[ \t]+BINARY)?)?(?:\s|#[^\n]*)*(?P<counts>%b)?"
    % (KEYWORD.pattern, _COUNTS)
)
# After comments: the row of a face, or the keyword of another file.
_ROW = re.compile(rb"(?:\s|#[^\n]*)*(?:\d+[ \t]+\d|(?:%b)(?![^\s#]))" % KEYWORD.pattern)


def parse_off(content: bytes, limits: Limits | None = None) -> Polygons:
    """Reads the positions and faces of an OFF file.

    Memory: the text, and at most 24 bytes for each vertex and 32 for each triangle that the limits allow.

    Raises:
        MeshFileError: fewer or more positions, faces or corners than announced, a token that is not a number, or a
            face with a vertex that does not exist.
        Rejected: too_large, format_unknown (binary, or more than three dimensions).
    """
    limits = limits or Limits()
    text = plain_text(content)
    vertex_count, face_count, at = _read_header(text, limits)
    lines = as_lines(text)
    vertices = np.empty((vertex_count, 3))
    corners = np.empty(min(lines.size // 2 + 1, 3 * limits.faces), dtype=np.int64)
    starts = np.zeros(face_count + 1, dtype=np.int64)
    error, *where, end = read_off(lines, at, True, vertices, corners, starts, limits.faces)
    if error not in (NO_ERROR, TOO_MANY):  # rows that do not end with their lines
        free = read_off(lines, at, False, vertices, corners, starts, limits.faces)
        if free[0] == NO_ERROR and not text[free[-1] :].strip():
            error, end = NO_ERROR, free[-1]
    if error == TOO_MANY:
        raise Rejected("too_large", f"over {limits.faces:,} triangles, which is the limit")
    if error:
        raise MeshFileError(_describe(error, *where, counts=(vertex_count, face_count)))
    if _ROW.match(text, end):
        raise MeshFileError(f"{vertex_count:,} vertices and {face_count:,} faces announced, and more are there")
    polygons = Polygons(vertices, corners[: starts[-1]].copy(), starts)
    polygons.check_corners()
    return polygons


def _read_header(text: bytes, limits: Limits) -> tuple[int, int, int]:
    """The numbers of vertices and faces, and the offset of the first vertex."""
    header = _HEADER.match(text)
    assert header is not None  # every part of it may be missing
    word = header["word"] or b"OFF"
    if header["binary"] or b"4" in word or word.endswith(b"nOFF"):
        raise Rejected("format_unknown", "binary OFF, or OFF with other than three dimensions, which is not read")
    words = (header["counts"] or b"").split()[:2]
    try:
        counts = [int(each) for each in words]
    except ValueError:
        counts = []
    if len(counts) < 2 or min(counts) < 0:
        raise MeshFileError("the header does not say how many vertices and faces there are")
    vertices, faces = counts
    if vertices > len(text) or faces > len(text):
        raise MeshFileError(f"{max(counts):,} elements announced in {len(text):,} bytes")
    limits.check_mesh(vertices, faces)
    return vertices, faces, header.end()


def _describe(error: int, row: int, announced: int, named: int, *, counts: tuple[int, int]) -> str:
    vertices, faces = counts
    face = row - vertices
    if face < 0:
        if error == ENDS_EARLY:
            return f"{vertices:,} vertices announced, {row:,} there"
        lacks = "other than as many values in its line as the first" if error == BAD_COUNT else "no three numbers"
        return f"vertex {row + 1:,} has {lacks}"
    if error == ENDS_EARLY:
        return f"{faces:,} faces announced, {face:,} there"
    if error == BAD_COUNT:
        return f"face {face + 1:,} announces {announced:,} corners"
    if error == BAD_WORD:
        return f"face {face + 1:,} has a corner that is not a number"
    return f"face {face + 1:,} announces {announced:,} corners and names {named:,}"
