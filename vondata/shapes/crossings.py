"""Where lines of voxel centres cross a mesh.

A direction is three steps of 0, 1 or -1 whose first step that is not 0 is 1. Slanted lines become lines along an axis
by shearing the mesh, so that every direction runs exactly through voxel centres.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Direction = tuple[int, int, int]

AXES: tuple[Direction, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
FACE_DIAGONALS: tuple[Direction, ...] = ((1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1))
BODY_DIAGONALS: tuple[Direction, ...] = ((1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1))


def find_crossings(vertices: Floats, faces: Integers, direction: Direction, resolution: int) -> Words:
    """Packed (N, N, N) voxels that a line enters after an odd number of crossings since the voxel before.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers; the lower number of an edge's two vertices decides its rounding, so that
            neighbours agree on every line and a closed mesh is crossed an even number of times everywhere.
        direction: the lines' direction.
        resolution: N.
    """
    depth = direction.index(1)
    u, v = ((depth + 1) % 3, (depth + 2) % 3)
    sheared = np.empty((len(vertices), 3))
    sheared[:, 0] = vertices[:, depth]
    sheared[:, 1] = vertices[:, u] - direction[u] * vertices[:, depth]
    sheared[:, 2] = vertices[:, v] - direction[v] * vertices[:, depth]
    words = np.zeros((resolution, resolution, -(-resolution // 64)), dtype=np.uint64)
    _toggle_crossings(sheared, faces, (depth, direction[u], direction[v]), words, resolution)
    return words


@kernel
def _toggle_crossings(points: Floats, faces: Integers, steps: tuple[int, int, int], words: Words, size: int) -> None:
    """Scans each triangle's shadow row by row; bounds are half open, so that a line through an edge counts once."""
    depth, u_step, v_step = steps
    cell = np.empty(3, np.int64)
    for face in range(faces.shape[0]):
        a, b, c = points[faces[face, 0]], points[faces[face, 1]], points[faces[face, 2]]
        slope_u, slope_v, usable = _slopes(a, b, c)
        nearest, farthest = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        first = np.int64(np.ceil(min(a[2], b[2], c[2])))
        last = np.int64(np.floor(max(a[2], b[2], c[2])))
        for v in range(first, last + 1):
            low, high = _row_of_triangle(points, faces[face], float(v))
            for u in range(np.int64(np.ceil(low)), np.int64(np.ceil(high))):
                distance = a[0]
                if usable:
                    distance += slope_u * (u - a[1]) + slope_v * (v - a[2])
                d = np.int64(np.floor(min(max(distance, nearest), farthest))) + 1
                cell[depth] = d
                cell[(depth + 1) % 3] = u + u_step * d
                cell[(depth + 2) % 3] = v + v_step * d
                x, y, z = cell[0], cell[1], cell[2]
                if x >= 0 and y >= 0 and z >= 0 and x < size and y < size and z < size:
                    words[x, y, z >> 6] ^= np.uint64(1) << np.uint64(z & 63)


@kernel
def _slopes(a: Floats, b: Floats, c: Floats) -> tuple[float, float, bool]:
    """How a triangle's plane rises along its second and third coordinate; unusable if it stands upright."""
    up = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
    if up == 0.0:
        return 0.0, 0.0, False
    rise_u = (b[0] - a[0]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[0] - a[0])
    rise_v = (b[1] - a[1]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[1] - a[1])
    return rise_u / up, rise_v / up, True


@kernel
def _row_of_triangle(points: Floats, face: Integers, v: float) -> tuple[float, float]:
    """Where the two edges that reach over height v meet it."""
    low, high = np.inf, -np.inf
    for corner in range(3):
        start, end = face[corner], face[(corner + 1) % 3]
        p, q = points[min(start, end)], points[max(start, end)]
        if (p[2] > v) != (q[2] > v):
            meeting = p[1] + (v - p[2]) * (q[1] - p[1]) / (q[2] - p[2])
            low, high = min(low, meeting), max(high, meeting)
    return low, high
