"""Triangles as rows of numbers: the plane and the three edges of each, as directions and lengths."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

NORMAL, EDGE_01, EDGE_02, EDGE_12, COLUMNS = 3, 6, 13, 20, 32  # of the table
ALONG, LENGTH, FROM_INWARD, FROM_ALONG = 3, 6, 7, 8  # of an edge, after its inward direction
OUT_OF_REACH = 1e9


def triangle_table(vertices: Floats, faces: Integers) -> Singles:
    """(f, 32) the first corner, the normal, and the edges from corner 0 to 1, 0 to 2 and 1 to 2.

    Of an edge: the inward and along directions and the length; of the last one also where it begins, seen from the
    first corner, inward and along. Triangles without area lie out of reach.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers.
    """
    table = np.zeros((len(faces), COLUMNS), dtype=np.float32)
    _fill_table(vertices, faces, table)
    return table


@kernel
def _fill_table(vertices: Floats, faces: Integers, table: Singles) -> None:
    normal = np.empty(3)
    for face in range(faces.shape[0]):
        a, b, c = vertices[faces[face, 0]], vertices[faces[face, 1]], vertices[faces[face, 2]]
        row, doubled_area = table[face], 0.0
        for axis in range(3):
            v, w = (axis + 1) % 3, (axis + 2) % 3
            normal[axis] = (b[v] - a[v]) * (c[w] - a[w]) - (b[w] - a[w]) * (c[v] - a[v])
            doubled_area += normal[axis] ** 2
        doubled_area = np.sqrt(doubled_area)
        for axis in range(3):
            normal[axis] /= max(doubled_area, 1e-300)
            row[axis] = a[axis] if doubled_area > 0.0 else OUT_OF_REACH
            row[NORMAL + axis] = normal[axis]
        _fill_edge(a, b, normal, 1.0, row[EDGE_01:])
        _fill_edge(a, c, normal, -1.0, row[EDGE_02:])
        _fill_edge(b, c, normal, 1.0, row[EDGE_12:])
        for axis in range(3):
            row[EDGE_12 + FROM_INWARD] += row[EDGE_12 + axis] * (b[axis] - a[axis])
            row[EDGE_12 + FROM_ALONG] += row[EDGE_12 + ALONG + axis] * (b[axis] - a[axis])


@kernel
def _fill_edge(start: Floats, end: Floats, normal: Floats, side: float, edge: Singles) -> None:
    length = np.sqrt((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2 + (end[2] - start[2]) ** 2)
    per_length = 1.0 / max(length, 1e-300)
    for axis in range(3):
        v, w = (axis + 1) % 3, (axis + 2) % 3
        edge[axis] = side * per_length * (normal[v] * (end[w] - start[w]) - normal[w] * (end[v] - start[v]))
        edge[ALONG + axis] = per_length * (end[axis] - start[axis])
    edge[LENGTH] = length
