"""Surface voxels: every voxel whose cell some triangle touches, by separating axes along scanlines.

Positions are in voxels: voxel i is centred at i and its cell reaches from i - 1/2 to i + 1/2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vondata.frames import object_to_voxel
from vondata.kernels import kernel

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_ROUNDING = 1e-6  # of a quotient that only proposes cells


def to_voxels(vertices: Floats, resolution: int) -> Floats:
    """Vertices (v, 3) of the object frame in voxels of an N^3 grid."""
    return np.ascontiguousarray(object_to_voxel(vertices, resolution), dtype=np.float64)


def surface_voxels(vertices: Floats, faces: Integers, resolution: int) -> Bools:
    """Marks the voxels that a mesh's surface touches.

    A triangle and a cell touch unless one of thirteen axes separates them: three of the grid, the triangle's normal,
    and nine products of their edges, which are the edge normals of the triangle's shadows on the three planes.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers.
        resolution: voxels along an edge of the grid.

    Returns:
        (N, N, N) indexed [x, y, z]; what lies outside the grid is left out.
    """
    grid = np.zeros((resolution,) * 3, dtype=np.bool_)
    _mark_surface(vertices, faces, grid)
    return grid


@kernel
def _mark_surface(vertices: Floats, faces: Integers, grid: Bools) -> None:
    size = grid.shape[0]
    corners, shadows = np.empty((3, 3)), np.empty((3, 3, 3))
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    normal = np.empty(3)
    for face in range(faces.shape[0]):
        many = 0
        for axis in range(3):
            for corner in range(3):
                corners[corner, axis] = vertices[faces[face, corner], axis]
            smallest = min(corners[0, axis], corners[1, axis], corners[2, axis])
            largest = max(corners[0, axis], corners[1, axis], corners[2, axis])
            low[axis] = max(int(np.ceil(smallest - 0.5)), 0)
            high[axis] = min(int(np.floor(largest + 0.5)), size - 1)
            many += high[axis] > low[axis]
        if many <= 1:  # one row of cells: the triangle reaches from its first to its last
            for x in range(low[0], high[0] + 1):
                for y in range(low[1], high[1] + 1):
                    for z in range(low[2], high[2] + 1):
                        grid[x, y, z] = True
        else:
            _shadow_edges(corners, shadows, normal)
            _mark_triangle(corners, shadows, normal, low, high, grid)


@kernel
def _shadow_edges(corners: Floats, shadows: Floats, normal: Floats) -> None:
    """For the shadow along each axis, the lines a u + b v + c >= 0 around the centres of the squares it touches."""
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        normal[axis] = (corners[1, u] - corners[0, u]) * (corners[2, v] - corners[0, v])
        normal[axis] -= (corners[1, v] - corners[0, v]) * (corners[2, u] - corners[0, u])
        sign = 1.0 if normal[axis] >= 0 else -1.0
        for corner in range(3):
            here, there = corners[corner], corners[(corner + 1) % 3]
            a, b = -sign * (there[v] - here[v]), sign * (there[u] - here[u])
            shadows[axis, corner, 0], shadows[axis, corner, 1] = a, b
            shadows[axis, corner, 2] = -(a * here[u] + b * here[v]) + 0.5 * (abs(a) + abs(b))


@kernel
def _in_shadow(lines: Floats, u: int, v: int) -> bool:
    first = lines[0, 0] * u + lines[0, 1] * v + lines[0, 2]
    second = lines[1, 0] * u + lines[1, 1] * v + lines[1, 2]
    third = lines[2, 0] * u + lines[2, 1] * v + lines[2, 2]
    return bool(first >= 0 and second >= 0 and third >= 0)


@kernel
def _mark_triangle(
    corners: Floats, shadows: Floats, normal: Floats, low: Integers, high: Integers, grid: Bools
) -> None:
    """Goes over the columns along the normal's largest axis, and in each over the few cells near the plane."""
    depth = 0
    for axis in (1, 2):
        if abs(normal[axis]) > abs(normal[depth]):
            depth = axis
    u_axis, v_axis = (depth + 1) % 3, (depth + 2) % 3
    reach = 0.5 * (abs(normal[0]) + abs(normal[1]) + abs(normal[2]))
    cell = np.empty(3, np.int64)
    for u in range(low[u_axis], high[u_axis] + 1):
        for v in range(low[v_axis], high[v_axis] + 1):
            if not _in_shadow(shadows[depth], u, v):
                continue
            across = normal[u_axis] * (u - corners[0, u_axis]) + normal[v_axis] * (v - corners[0, v_axis])
            first, last = low[depth], high[depth]
            if normal[depth] != 0.0:
                middle, half = corners[0, depth] - across / normal[depth], reach / abs(normal[depth])
                first = max(first, int(np.ceil(middle - half - _ROUNDING)))
                last = min(last, int(np.floor(middle + half + _ROUNDING)))
            cell[u_axis], cell[v_axis] = u, v
            for d in range(first, last + 1):
                cell[depth] = d
                if abs(across + normal[depth] * (d - corners[0, depth])) > reach:
                    continue
                if _in_shadow(shadows[u_axis], v, d) and _in_shadow(shadows[v_axis], d, u):
                    grid[cell[0], cell[1], cell[2]] = True
