"""STL, text and binary: the facets of all solids in the file.

A binary file announces its triangles behind a header of 80 bytes, which may begin with "solid" as a text does; bytes
behind the last triangle are passed over, as some programs append what they like.
"""

from __future__ import annotations

import numpy as np

from vondata.shapes.polygons import Polygons
from vondata.shapes.source_file import Limits, MeshFileError
from vondata.shapes.text import BAD_NUMBER, ENDS_EARLY, TOO_MANY, as_lines, plain_text, read_stl_text
from vondata.types import Rejected

_HEADER_BYTES, _FACET_BYTES = 84, 50
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_LEAST_TEXT_FACET = 40  # bytes of the shortest facet that a text can hold


def announced_facets(content: bytes) -> int:
    """How many triangles a binary STL announces; 0 where there is no room for the number."""
    return int.from_bytes(content[80:_HEADER_BYTES], "little") if len(content) >= _HEADER_BYTES else 0


def facets_with_room(content: bytes) -> int:
    """How many triangles a binary STL has bytes for."""
    return max(len(content) - _HEADER_BYTES, 0) // _FACET_BYTES


def parse_stl_binary(content: bytes, limits: Limits) -> Polygons:
    """Reads a binary STL.

    Memory: the file, and 96 bytes for each triangle that the limits allow.

    Raises:
        MeshFileError: more triangles announced than there are bytes for, or none although there are bytes.
        Rejected: too_large.
    """
    count, room = announced_facets(content), facets_with_room(content)
    if count > room or (count == 0 and len(content) != _HEADER_BYTES):
        raise MeshFileError(f"{count:,} triangles announced, bytes for {room:,}")
    limits.check_mesh(3 * count, count)
    facets = np.frombuffer(content, dtype=_FACET, count=count, offset=_HEADER_BYTES)
    vertices = facets["corners"].reshape(-1, 3).astype(np.float64)
    return Polygons(vertices, np.arange(3 * count, dtype=np.int64), np.arange(0, 3 * count + 1, 3, dtype=np.int64))


def parse_stl_text(content: bytes, limits: Limits) -> Polygons:
    """Reads an STL text: any number of solids, their ends missing or not.

    Memory: the text, and 112 bytes for each triangle that the limits allow.

    Raises:
        MeshFileError: a facet without end, or a word that has no place where it stands; says in which line.
        Rejected: too_large.
    """
    text = as_lines(plain_text(content))
    most = min(text.size // _LEAST_TEXT_FACET + 1, limits.faces)
    vertices = np.empty((min(text.size // _LEAST_TEXT_FACET * 3 + 3, limits.vertices), 3))
    starts = np.zeros(most + 2, dtype=np.int64)
    error, line, count = read_stl_text(text, vertices, starts)
    if error == TOO_MANY:
        raise Rejected("too_large", f"over {limits.faces:,} triangles, which is the limit, in line {line:,}")
    if error == ENDS_EARLY:
        raise MeshFileError(f"line {line:,}: a facet without end")
    if error:
        words = "a vertex without three numbers" if error == BAD_NUMBER else "a word that has no place here"
        raise MeshFileError(f"line {line:,}: {words}")
    starts = starts[: count + 1].copy()
    return Polygons(vertices[: starts[-1]].copy(), np.arange(starts[-1]), starts)
