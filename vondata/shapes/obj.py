"""Wavefront OBJ: positions and polygons straight from the bytes, and nothing else of what such a file may name.

Materials, textures, normals and groups are skipped unread, so a file cannot point the reader anywhere. Faces may
count vertices backwards, and lines of vertices and faces go on after a backslash, as the format allows.
"""

from __future__ import annotations

import numpy as np

from vondata.shapes.polygons import Polygons
from vondata.shapes.source_file import Limits, MeshFileError
from vondata.shapes.text import BAD_CORNER, BAD_NUMBER, TOO_MANY, as_lines, plain_text, read_obj
from vondata.types import Rejected

_ERRORS = {BAD_NUMBER: "a vertex without three numbers", BAD_CORNER: "a face with something that is no vertex number"}


def parse_obj(content: bytes, limits: Limits | None = None) -> Polygons:
    """Reads the positions and faces of an OBJ file.

    Memory: the text, and at most 24 bytes for each vertex and 32 for each triangle that the limits allow.

    Raises:
        MeshFileError: a line that cannot be understood, or a face with a vertex that does not exist.
        Rejected: too_large.
    """
    limits = limits or Limits()
    text = as_lines(plain_text(content))
    # No more than a text of this size can hold; pages that are never written cost nothing.
    vertices = np.empty((min(text.size // 7 + 1, limits.vertices), 3))
    faces = min(text.size // 4 + 1, limits.faces)
    corners = np.empty(min(text.size // 2 + 1, 3 * limits.faces), dtype=np.int64)
    starts = np.zeros(faces + 2, dtype=np.int64)
    error, line, vertex_count, face_count = read_obj(text, vertices, corners, starts, limits.faces)
    if error == TOO_MANY:
        raise Rejected("too_large", f"over {limits.faces:,} triangles, which is the limit, in line {line:,}")
    if error:
        raise MeshFileError(f"line {line}: {_ERRORS[error]}")
    starts = starts[: face_count + 1].copy()
    corners = corners[: starts[-1]].copy()
    if corners.size and not 0 <= corners.min() <= corners.max() < vertex_count:
        wrong = corners[(corners < 0) | (corners >= vertex_count)][0]
        raise MeshFileError(f"a face names vertex {wrong + 1}, and there are {vertex_count}")
    return Polygons(vertices[:vertex_count].copy(), corners, starts)
