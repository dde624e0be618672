"""Refines nearly exact distances to exact ones at every voxel, in double precision.

Positions are in voxels. Blocks of voxels are cut down to a few voxels a side, and each keeps of its parent's
triangles those that may be nearest to one of its voxels: where D is known at the centre of a block of radius r, they
lie within D + 2 r of it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vondata.kernels import contracted_kernel as kernel
from vondata.shapes.nearest import LANES, closest_points, distances, mark_band, triangle_table
from vondata.shapes.sweeps import spread

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]

_LEAF_BITS = 2  # the smallest blocks have 4^3 voxels
_TOLERANCE = 1e-3  # in voxels, far above rounding


def product_table(vertices: Doubles, faces: Integers) -> Doubles:
    """(f, 12) first corner, edges u and v from it to the other two, and the products uu, uv, vv."""
    table = np.empty((len(faces), 12))
    first, u, v = table[:, 0:3], table[:, 3:6], table[:, 6:9]
    first[:] = vertices[faces[:, 0]]
    u[:], v[:] = vertices[faces[:, 1]] - first, vertices[faces[:, 2]] - first
    for column, (one, other) in enumerate(((u, u), (u, v), (v, v)), start=9):
        table[:, column] = np.einsum("ij,ij->i", one, other)
    return table


@kernel
def nearest_point(triangles: Doubles, face: int, x: float, y: float, z: float) -> tuple[float, float, float]:
    """The point of a triangle nearest to (x, y, z), by the region of its plane in which the point lies (Ericson)."""
    ax, ay, az = triangles[face, 0], triangles[face, 1], triangles[face, 2]
    ux, uy, uz = triangles[face, 3], triangles[face, 4], triangles[face, 5]
    vx, vy, vz = triangles[face, 6], triangles[face, 7], triangles[face, 8]
    px, py, pz = x - ax, y - ay, z - az
    uu, uv, vv = triangles[face, 9], triangles[face, 10], triangles[face, 11]
    pu, pv = ux * px + uy * py + uz * pz, vx * px + vy * py + vz * pz
    ru, rv, su, sv = pu - uu, pv - uv, pu - uv, pv - vv  # the same products from the second and the third corner
    s, t = 0.0, 0.0  # how far along u and v the nearest point lies
    if pu <= 0 and pv <= 0:
        pass
    elif ru >= 0 and rv <= ru:
        s = 1.0
    elif sv >= 0 and su <= sv:
        t = 1.0
    else:
        third, second, first = pu * rv - ru * pv, su * pv - pu * sv, ru * sv - su * rv
        if third <= 0 and pu >= 0 and ru <= 0:
            s = pu / uu
        elif second <= 0 and pv >= 0 and sv <= 0:
            t = pv / vv
        elif first <= 0 and rv >= ru and su >= sv:
            t = (rv - ru) / ((rv - ru) + (su - sv))
            s = 1.0 - t
        else:
            whole = first + second + third
            s, t = second / whole, third / whole
    return ax + s * ux + t * vx, ay + s * uy + t * vy, az + s * uz + t * vz


@kernel
def squared_distance(triangles: Doubles, face: int, x: float, y: float, z: float) -> float:
    """The squared distance from (x, y, z) to a triangle."""
    qx, qy, qz = nearest_point(triangles, face, x, y, z)
    return (x - qx) ** 2 + (y - qy) ** 2 + (z - qz) ** 2


def refine(vertices: Doubles, faces: Integers, distance: Singles) -> None:
    """Puts the smallest distance of all triangles in the place of each.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers.
        distance: (N, N, N) in cube edges, each the distance to some triangle; changed in place.
    """
    triangles = product_table(vertices, faces)
    levels = max(int(distance.shape[0] - 1).bit_length() - _LEAF_BITS, 0)
    middle = triangles[:, 0:3] + (triangles[:, 3:6] + triangles[:, 6:9]) / 3
    corners = triangles[:, 0:3], triangles[:, 0:3] + triangles[:, 3:6], triangles[:, 0:3] + triangles[:, 6:9]
    radius = np.sqrt(np.max([np.square(corner - middle).sum(axis=1) for corner in corners], axis=0))
    lists = np.empty((levels + 1, len(triangles)), dtype=np.int32)
    lists[0] = np.arange(len(triangles))
    _refine(triangles, np.column_stack([middle, radius]), lists, np.empty((len(triangles), 4)), distance)


@kernel
def _refine(triangles: Doubles, spheres: Doubles, lists: Ids, near: Doubles, distance: Singles) -> None:
    """Visits leaf blocks depth first, and shortens the candidate lists on the way."""
    levels, size = lists.shape[0] - 1, distance.shape[0]
    per_voxel, lengths = 1.0 / (size - 1), np.zeros(levels + 1, np.int64)
    lengths[0] = lists.shape[1]
    for block in range(8**levels):
        x, y, z = 0, 0, 0
        for bit in range(levels):
            x |= (block >> (3 * bit + 2) & 1) << (bit + _LEAF_BITS)
            y |= (block >> (3 * bit + 1) & 1) << (bit + _LEAF_BITS)
            z |= (block >> (3 * bit) & 1) << (bit + _LEAF_BITS)
        if x >= size or y >= size or z >= size:
            continue
        for level in range(1, levels + 1):
            if block % 8 ** (levels - level) == 0:
                half = (2 ** (levels - level + _LEAF_BITS) - 1) / 2.0
                at = min(x + int(half), size - 1), min(y + int(half), size - 1), min(z + int(half), size - 1)
                known = distance[at] / per_voxel
                reach = _reach(known, at, (x + half, y + half, z + half), half)
                candidates = lists[level - 1, : lengths[level - 1]]
                lengths[level] = _keep(candidates, spheres, (x + half, y + half, z + half), reach, lists[level])
        _refine_block(triangles, lists[levels, : lengths[levels]], near, (x, y, z), distance)


@kernel
def _reach(known: float, at: tuple[int, int, int], centre: tuple[float, float, float], half: float) -> float:
    """D + 2 r of a block, from the distance known at the voxel next to its centre."""
    off = (at[0] - centre[0]) ** 2 + (at[1] - centre[1]) ** 2 + (at[2] - centre[2]) ** 2
    return float(known + np.sqrt(off) + 2.0 * half * np.sqrt(3.0) + _TOLERANCE)


@kernel
def _keep(candidates: Ids, spheres: Doubles, centre: tuple[float, float, float], reach: float, kept: Ids) -> int:
    """Copies the candidates whose bounding sphere comes within reach; how many these are."""
    count = 0
    for k in range(candidates.size):
        sphere = spheres[candidates[k]]
        squared = (sphere[0] - centre[0]) ** 2 + (sphere[1] - centre[1]) ** 2 + (sphere[2] - centre[2]) ** 2
        if squared <= (reach + sphere[3]) ** 2:
            kept[count] = candidates[k]
            count += 1
    return count


@kernel
def _refine_block(
    triangles: Doubles, candidates: Ids, near: Doubles, first: tuple[int, int, int], distance: Singles
) -> None:
    """Compares the voxels of a leaf block with the candidates that pass a lower bound.

    As a triangle is convex, it lies behind the plane upright on the way from the centre to its nearest point, so a
    voxel is at least as far from it as from that plane.
    """
    size, half = distance.shape[0], (2**_LEAF_BITS - 1) / 2.0
    per_voxel, centre = 1.0 / (size - 1), (first[0] + half, first[1] + half, first[2] + half)
    for c in range(candidates.size):
        point = nearest_point(triangles, candidates[c], centre[0], centre[1], centre[2])
        away = 0.0
        for axis in range(3):
            near[c, axis] = point[axis] - centre[axis]
            away += near[c, axis] ** 2
        near[c, 3] = np.sqrt(away)
        for axis in range(3):
            near[c, axis] /= max(near[c, 3], 1e-12)
    for i in range(first[0], min(first[0] + 2**_LEAF_BITS, size)):
        for j in range(first[1], min(first[1] + 2**_LEAF_BITS, size)):
            for k in range(first[2], min(first[2] + 2**_LEAF_BITS, size)):
                best = distance[i, j, k] / per_voxel + _TOLERANCE
                x, y, z = i - centre[0], j - centre[1], k - centre[2]
                for c in range(candidates.size):
                    if near[c, 3] - near[c, 0] * x - near[c, 1] * y - near[c, 2] * z < best:
                        squared = squared_distance(triangles, candidates[c], float(i), float(j), float(k))
                        best = min(best, np.sqrt(squared))
                distance[i, j, k] = best * per_voxel


Floats = npt.NDArray[np.float64]
Method = Literal["fast", "exact"]

BAND_VOXELS = 3.0


def distance_field(vertices: Floats, faces: Integers, resolution: int, method: Method = "fast") -> Singles:
    """The distance of every voxel centre to the surface.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers, at least one.
        resolution: N, 2 to 256.
        method: fast is exact up to three voxels from the surface and errs by less than a thousandth of a voxel on
            average elsewhere; exact is so everywhere, by holding every voxel also against all other triangles that
            could be nearer, which takes some fifteen times as long.

    Returns:
        (N, N, N) float32, indexed [x, y, z], in cube edges (one voxel is 1 / (N - 1)).
    """
    table = triangle_table(vertices, faces)
    shape = (resolution, resolution, -(-resolution // LANES) * LANES)
    squared = np.full(shape, BAND_VOXELS**2, dtype=np.float32)
    nearest = np.full(shape, -1, dtype=np.int32)
    mark_band(table, BAND_VOXELS, squared, nearest)
    voxels = np.flatnonzero(nearest >= 0)
    points = np.empty((len(voxels), 3), dtype=np.float32)
    closest_points(table, voxels, nearest, points)
    spread(nearest, voxels, points)
    distance = np.empty((resolution,) * 3, dtype=np.float32)
    distances(table, nearest, distance)
    if method == "exact":
        refine(vertices, faces, distance)
    return distance
