"""PLY parser: ASCII and binary of both byte orders, any elements and property types, polygons and triangle strips.

Rows are read as the header describes them, property by property. Counts are checked against the bytes of the file
before memory is allocated, and every announced row must be present. ASCII rows may be broken into lines anywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel
from vondata.shapes.polygons import Polygons
from vondata.shapes.source_file import Limits, MeshFileError, check_no_lost_block
from vondata.shapes.text import (
    BAD_COUNT,
    CORNERS,
    ENDS_EARLY,
    LIST,
    NO_ERROR,
    SCALAR,
    TOO_MANY,
    as_lines,
    plain_text,
    read_ply_text,
    text_encoding,
)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_SIZES = {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8}
_SIZES |= {"float32": 4, "float64": 8}
_TYPES = tuple(_SIZES)  # the index of a type is its code in the kernels
_OTHER_NAMES = {"char": "int8", "uchar": "uint8", "short": "int16", "ushort": "uint16", "int": "int32"}
_OTHER_NAMES |= {"uint": "uint32", "float": "float32", "double": "float64", "long": "int64", "ulong": "uint64"}
_FLOAT32, _FLOAT64 = _TYPES.index("float32"), _TYPES.index("float64")
_AXES = {"x": 0, "y": 1, "z": 2}
_CORNER_LISTS = ("vertex_indices", "vertex_index")
_FACES, _NO_FACES = ("face", "tristrips"), ("vertex", "edge", "range_grid")
_MAX_HEADER = 1 << 20
_END = re.compile(rb"(?:^|[\r\n])[ \t]*end_header[ \t]*(\r\n|\n|\r)")


@dataclass(frozen=True)
class _Property:
    """A property: its name, its type's code and, for a list, the code of its count's type."""

    name: str
    type: int
    count_type: int | None = None


@dataclass(frozen=True)
class _Element:
    """An element: its name, the number of its rows, and their properties."""

    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)

    @property
    def corner_list(self) -> str | None:
        """The name of the list of a face's or strip's vertices: a known name, or the only list of the element."""
        lists = [each.name for each in self.properties if each.count_type is not None]
        named = [name for name in lists if name in _CORNER_LISTS]
        candidates = named or lists
        return candidates[0] if named or len(lists) == 1 else None

    @property
    def has_faces(self) -> bool:
        """Whether its rows are faces or strips: by its name, or as any element with vertex lists but a range grid."""
        lists = {each.name for each in self.properties if each.count_type is not None}
        return self.name in _FACES or (self.name not in _NO_FACES and not lists.isdisjoint(_CORNER_LISTS))

    def kinds(self) -> Integers:
        """(properties,) the role of each property: an axis, SCALAR, CORNERS or LIST."""
        wanted = self.corner_list if self.has_faces else None
        kinds = []
        for each in self.properties:
            if each.count_type is not None:
                kinds.append(CORNERS if each.name == wanted else LIST)
            else:
                kinds.append(_AXES.get(each.name, SCALAR) if self.name == "vertex" else SCALAR)
        return np.array(kinds, dtype=np.int64)

    def layout(self) -> Integers:
        """(properties, 3) the role of each property, its type's code, and its count's type's code or -1."""
        types = [(each.type, -1 if each.count_type is None else each.count_type) for each in self.properties]
        rows = [(kind, *codes) for kind, codes in zip(self.kinds(), types, strict=True)]
        return np.array(rows, dtype=np.int64).reshape(-1, 3)

    def min_bytes(self, is_text: bool) -> int:
        """Size in bytes of a row whose lists are empty."""
        types = [each.type if each.count_type is None else each.count_type for each in self.properties]
        return 2 * len(types) if is_text else sum(_SIZES[_TYPES[code]] for code in types)


@dataclass
class _Found:
    """Vertices and polygons read from the elements so far."""

    vertices: Floats = field(default_factory=lambda: np.empty((0, 3)))
    corners: list[Integers] = field(default_factory=list)
    starts: list[Integers] = field(default_factory=list)


def parse_ply(content: bytes, limits: Limits) -> Polygons:
    """Reads the positions, faces and triangle strips of a PLY file.

    Memory: the file, and 24 bytes for each vertex and 64 for each triangle that the limits allow.

    Raises:
        MeshFileError: a header that cannot be understood, fewer or more rows than announced, a token that is not a
            number, or a face with a vertex that does not exist.
        Rejected: too_large.
    """
    if text_encoding(content):
        content = plain_text(content)
    form, elements, start = _read_header(content)
    if form != "ascii":
        check_no_lost_block(content, start, len(content))
        return _read_body(np.frombuffer(content, dtype=np.uint8), start, form, elements, limits)
    text = as_lines(plain_text(content[start:]))
    try:  # most programs write one line per row, some with more values than the header lists
        return _read_body(text, 0, "lines", elements, limits)
    except MeshFileError:
        return _read_body(text, 0, "ascii", elements, limits)


def _read_body(body: Bytes, at: int, form: str, elements: list[_Element], limits: Limits) -> Polygons:
    """Reads all elements; text as `lines`, one row per line, or as `ascii`, with line breaks anywhere."""
    found, is_text = _Found(), form in ("lines", "ascii")
    for element in elements:
        if element.count * element.min_bytes(is_text) > body.size - at + 2 * is_text:
            raise MeshFileError(f"{element.count:,} x {element.name} announced, {body.size - at:,} bytes left")
        at = _read_element(element, body, at, form, found, limits)
    if is_text and body[at:].tobytes().strip():
        raise MeshFileError(f"{body.size - at:,} bytes after the last announced row")
    if not is_text and (more := _rows_behind(elements, body, at, form, len(found.vertices))):
        element = elements[-1]
        raise MeshFileError(f"{element.count:,} x {element.name} announced, {element.count + more:,} there")
    corners = np.concatenate([np.empty(0, dtype=np.int64), *found.corners])
    polygons = Polygons(found.vertices, corners, np.concatenate([np.zeros(1, dtype=np.int64), *found.starts]))
    polygons.check_corners()
    return polygons


def _read_header(content: bytes) -> tuple[str, list[_Element], int]:
    """The format, the elements, and the offset of their rows."""
    end = _END.search(content[:_MAX_HEADER])
    if end is None:
        raise MeshFileError("the header does not end")
    start = end.end()
    # A lone return ends the header only if it ends the other lines, too; else the next byte belongs to the first row.
    if end[1] == b"\r\n" and content.startswith(b"ply\r") and not content.startswith(b"ply\r\n"):
        start -= 1
    form, elements = "", list[_Element]()
    for number, line in enumerate(plain_text(content[:start]).decode("latin-1").split("\n")[1:], start=2):
        words = line.split()
        match words:
            case ["format", "ascii" | "binary_little_endian" | "binary_big_endian" as form, *_]:
                continue
            case ["element", name, count] if count.isdecimal():
                elements.append(_Element(name.lower(), int(count)))
            case ["property", "list", count_type, type, name] if elements:
                elements[-1].properties.append(_Property(name, _type_code(type), _type_code(count_type)))
            case ["property", type, name] if elements:
                elements[-1].properties.append(_Property(name.lower(), _type_code(type)))
            case ["format" | "element" | "property", *_]:
                raise MeshFileError(f"line {number} of the header: {line[:100]!r}")
            case _:  # comments, obj_info, and continuation lines of comments
                continue
    if not form:
        raise MeshFileError("the header does not say whether the file is text or binary")
    return form, elements, start


def _type_code(name: str) -> int:
    plain = _OTHER_NAMES.get(name.lower(), name.lower())
    if plain not in _SIZES:
        raise MeshFileError(f"a property of type {name[:40]!r}")
    return _TYPES.index(plain)


def _read_element(element: _Element, body: Bytes, at: int, form: str, found: _Found, limits: Limits) -> int:
    """Reads the rows of an element; returns where they end."""
    kinds = element.kinds()
    is_vertex, has_corners = element.name == "vertex", bool((kinds == CORNERS).any())
    if is_vertex:
        limits.check_mesh(element.count, 0)
        if not {0, 1, 2} <= set(kinds.tolist()):
            raise MeshFileError("vertices without x, y and z")
    elif element.name in _FACES and element.count:
        if not has_corners:
            raise MeshFileError(f"{element.name} without a list of vertices")
        limits.check_mesh(0, element.count)
    vertices = np.empty((element.count if is_vertex else 0, 3))
    most = min(body.size - at, 3 * limits.faces) if has_corners else 0
    corners = np.empty(most, dtype=np.int64)
    starts = np.zeros(element.count + 1 if has_corners else 1, dtype=np.int64)
    if form in ("lines", "ascii"):
        is_by_line = form == "lines"
        error, row, at = read_ply_text(body, at, is_by_line, kinds, element.count, vertices, corners, starts)
    else:
        is_big = form == "binary_big_endian"
        error, row, at = _read_rows(body, at, element.layout(), is_big, element.count, vertices, corners, starts)
    if error == TOO_MANY:
        limits.check_mesh(0, limits.faces + 1)
    if error != NO_ERROR:
        raise MeshFileError(_describe(error, element, row))
    if is_vertex:
        found.vertices = vertices
    elif has_corners:
        _add_faces(element, corners[: starts[-1]].copy(), starts, found, limits)
    return at


def _rows_behind(elements: list[_Element], body: Bytes, at: int, form: str, vertices: int) -> int:
    """How many faces follow the announced ones in a binary file; 0 if the trailing bytes are something else."""
    element = elements[-1] if elements else None
    if element is None or not element.has_faces or at == body.size:
        return 0
    corners = np.empty(body.size - at, dtype=np.int64)
    rows = (body.size - at) // max(element.min_bytes(False), 1) + 1
    starts = np.zeros(rows + 1, dtype=np.int64)
    is_big = form == "binary_big_endian"
    _, whole, end = _read_rows(body, at, element.layout(), is_big, rows, np.empty((0, 3)), corners, starts)
    found = corners[: starts[whole]]
    is_row = end == body.size and found.size > 0 and -1 <= found.min() <= found.max() < vertices
    return whole if is_row else 0


def _describe(error: int, element: _Element, row: int) -> str:
    if error == ENDS_EARLY:
        return f"{element.count:,} x {element.name} announced, {row:,} there"
    what = "a list of impossible length" if error == BAD_COUNT else "a value that is not a number"
    return f"{element.name} {row + 1:,}: {what}"


def _add_faces(element: _Element, corners: Integers, starts: Integers, found: _Found, limits: Limits) -> None:
    if element.name == "tristrips":
        corners = _cut_strips(corners, starts)
        starts = np.arange(0, len(corners) + 1, 3)
    before = sum(len(each) for each in found.corners)
    limits.check_mesh(0, int(np.maximum(np.diff(starts) - 2, 0).sum()))
    found.corners.append(corners)
    found.starts.append(starts[1:] + before)


def _cut_strips(corners: Integers, starts: Integers) -> Integers:
    """Triangle strips as three corners per triangle; a strip ends at a -1 or with its row."""
    if len(corners) < 3:
        return corners[:0]
    triples = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
    row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    whole = (triples != -1).all(axis=1) & (row[:-2] == row[2:])
    return np.asarray(triples[whole].reshape(-1))


@kernel
def _read_rows(
    data: Bytes,
    at: int,
    layout: Integers,
    is_big: bool,
    count: int,
    vertices: Floats,
    corners: Integers,
    starts: Integers,
) -> tuple[int, int, int]:
    """Reads the rows of one element of a binary file.

    Args:
        data: the file.
        at: where the element begins.
        layout: (properties, 3) from `_Element.layout`.
        is_big: whether the file is big-endian.
        count: number of rows.
        vertices: (rows, 3), filled if the element has axes.
        corners: filled if the element has a vertex list.
        starts: (rows + 1,) filled with the start of each row's corners.

    Returns:
        an error code, its row, and the offset at which the element ends.
    """
    corner = 0
    bits = np.empty(1, np.uint64)
    for row in range(count):
        for number in range(layout.shape[0]):
            kind, code, many = layout[number, 0], layout[number, 1], 1
            if kind > SCALAR:
                length = _size(layout[number, 2])
                if at + length > data.size:
                    return ENDS_EARLY, row, at
                announced = _value(data, at, layout[number, 2], is_big, bits)
                at += length
                if not 0 <= announced <= data.size:
                    return BAD_COUNT, row, at
                many = int(announced)
            size = _size(code)
            if at + many * size > data.size:
                return ENDS_EARLY, row, at
            if kind < SCALAR:
                vertices[row, kind] = _value(data, at, code, is_big, bits)
            elif kind == CORNERS:
                if corner + many > corners.size:
                    return TOO_MANY, row, at
                for k in range(many):
                    value = _value(data, at + k * size, code, is_big, bits)
                    corners[corner] = int(value) if abs(value) < 2.0**40 and value == np.floor(value) else -2
                    corner += 1
            at += many * size
        if starts.size > 1:
            starts[row + 1] = corner
    return NO_ERROR, 0, at


@kernel
def _size(code: int) -> int:
    """Bytes of a value of the type with this code."""
    if code >= _FLOAT32:
        return 4 if code == _FLOAT32 else 8
    return 1 << (code // 2)


@kernel
def _value(data: Bytes, at: int, code: int, is_big: bool, bits: npt.NDArray[np.uint64]) -> float:
    """A value of any type as a float; whole numbers up to 2^53 are exact."""
    size, word = _size(code), np.uint64(0)
    for k in range(size):
        byte = np.uint64(data[at + k] if is_big else data[at + size - 1 - k])
        word = (word << np.uint64(8)) | byte
    if code >= _FLOAT32:
        bits[0] = word
        return float(bits.view(np.float32)[0]) if code == _FLOAT32 else float(bits.view(np.float64)[0])
    if code % 2 == 0 and word >> np.uint64(8 * size - 1):  # negative
        return -float((~word & (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * size))) + np.uint64(1))
    return float(word)
