"""Unsigned distance fields of meshes: nearest triangles propagated from a band by sweeping, optionally refined.

A voxel far from the surface has nearly the same nearest point as the voxels between it and the surface. The straight
line from the point to the voxel moves by at most one voxel along the other axes while it moves one along its longest,
so a point reaches a voxel by such single steps. One pass goes up over the planes of constant x, one down: every voxel
is compared with five voxels in the previous plane; within the plane, rows are visited up and down, and every voxel is
compared with three of the previous row; then the plane is transposed and the same is done along its other axis. The
voxels of a row are processed side by side in vector registers, which steps along the row would not allow.

Swept distances are nearly exact. To make them exact, blocks are subdivided to a few voxels a side, and each keeps
those of its parent's triangles that may be nearest to one of its voxels: if D is the distance at the centre of a
block of radius r, these lie within D + 2 r of the centre. Among them the distance is computed in double precision.
Positions are in voxels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vondata.kernels import contracted_kernel as kernel
from vondata.shapes.nearest import LANES, closest_points, distances, mark_band, triangle_table

Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Single = np.float32

MAX_EDGE = 256  # voxels along an edge
MAX_FACES = 2**24  # float32, in which face indices are propagated, is exact up to here
_NOWHERE = np.float32(1e9)  # coordinates of a placeholder farther away than any point
_ZERO = np.float32(0.0)
# A plane is a flat array with strides known at compile time, so that the compiler can rule out overlaps: for each
# row of voxels, padded by one, four lines of x, of the coordinates across and along the rows, and of the face.
# Indices are unsigned, which saves the check for negative ones.
_TILE = 8
_FIRST, _LINE, _ROW = np.uint64(16), np.uint64(MAX_EDGE + 32), np.uint64(4 * (MAX_EDGE + 32))
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)


def spread(nearest: Ids, voxels: Integers, points: Singles) -> None:
    """Propagates nearest triangles from the band to all voxels.

    Args:
        nearest: (N, N, W) the triangle nearest to a voxel in the band, -1 elsewhere; filled in up to column N.
        voxels: (m,) flat indices of the voxels of the band, ascending; at least one.
        points: (m, 3) the surface point nearest to each.

    Raises:
        ValueError: the grid is larger than MAX_EDGE, or a triangle's number is not below MAX_FACES.
    """
    size = nearest.shape[0]
    if size > MAX_EDGE:
        raise ValueError(f"distances are found on grids of at most {MAX_EDGE} voxels along an edge, not {size}")
    if nearest.reshape(-1)[voxels].max() >= MAX_FACES:
        raise ValueError(f"distances are found for meshes of at most {MAX_FACES} triangles")
    starts = np.searchsorted(voxels, np.arange(size + 1) * nearest[0].size)
    known = np.empty((size, size, 4, size), dtype=np.float32)
    _spread(nearest, (voxels, points, starts), known, _plane(size), _plane(size), _plane(size))


def _plane(size: int) -> Singles:
    """A plane without points, aligned for vector loads."""
    length, alignment = (size + 2 + _TILE) * int(_ROW), int(_FIRST)
    room = np.full(length + alignment, _NOWHERE)
    start = -room.ctypes.data // room.itemsize % alignment
    return room[start : start + length]


@kernel
def _spread(
    nearest: Ids,
    seeds: tuple[Integers, Singles, Integers],
    known: Singles,
    plane: Singles,
    turned: Singles,
    behind: Singles,
) -> None:
    """Sweeps up, then down. Each sweep transposes its plane, so every second plane is loaded transposed."""
    size = nearest.shape[0]
    for x in range(size):
        _place_seeds(nearest[x], seeds, x, plane)
        _sweep_plane(plane, turned, behind, np.float32(x), size)
        _copy(turned, known[x], False)
        turned, behind = behind, turned
    behind[:] = _NOWHERE
    for x in range(size - 1, -1, -1):
        _copy(plane, known[x], True)
        _sweep_plane(plane, turned, behind, np.float32(x), size)
        _write_faces(turned, nearest[x], x % 2 == 1)
        turned, behind = behind, turned


@kernel
def _place_seeds(nearest: Ids, seeds: tuple[Integers, Singles, Integers], x: int, plane: Singles) -> None:
    """Writes the points of the band into a plane, transposed for odd x."""
    (voxels, points, starts), (size, width) = seeds, nearest.shape
    for row in range(size):
        start = np.uint64(row + 1) * _ROW
        for k in range(4 * (MAX_EDGE + 32)):
            plane[start + np.uint64(k)] = _NOWHERE
    for m in range(starts[x], starts[x + 1]):
        y, z = voxels[m] // width % size, voxels[m] % width
        if z < size:
            row, column = (z, y) if x % 2 == 1 else (y, z)
            at = np.uint64(row + 1) * _ROW + _FIRST + np.uint64(column)
            plane[at], plane[at + _LINE], plane[at + _TWO * _LINE] = points[m, 0], points[m, 1], points[m, 2]
            if x % 2 == 1:
                plane[at + _LINE], plane[at + _TWO * _LINE] = points[m, 2], points[m, 1]
            plane[at + _THREE * _LINE] = nearest[y, z]


@kernel
def _sweep_plane(plane: Singles, turned: Singles, behind: Singles, x: Single, size: int) -> None:
    for row in range(size):
        _try_both(plane, behind, np.uint64(row + 1) * _ROW, x, np.float32(row), size)
    for row in range(size - 1, -1, -1):
        _try_row(plane, np.uint64(row + 1) * _ROW, np.uint64(row + 2) * _ROW, x, np.float32(row), size)
        if row % _TILE == 0:
            _turn(plane, turned, row, size)
    for row in range(size):
        _try_row(turned, np.uint64(row + 1) * _ROW, np.uint64(row) * _ROW, x, np.float32(row), size)
    for row in range(size - 1, -1, -1):
        _try_row(turned, np.uint64(row + 1) * _ROW, np.uint64(row + 2) * _ROW, x, np.float32(row), size)


@kernel
def _try_both(plane: Singles, behind: Singles, start: np.uint64, x: Single, across: Single, size: int) -> None:
    """Tries for each voxel of a row the points of five voxels of the previous plane and three of the previous row."""
    for k in range(size):
        at, along = start + _FIRST + np.uint64(k), np.float32(k)
        px, py, pz, face = plane[at], plane[at + _LINE], plane[at + _TWO * _LINE], plane[at + _THREE * _LINE]
        dx, dy, dz = x - px, across - py, along - pz
        best = dx * dx + dy * dy + dz * dz
        for row in range(4):  # three rows of the previous plane, without corners, and the previous row of this one
            for shift in range(3):
                if row % 2 == 0 and shift != 1:
                    continue
                other = behind if row < 3 else plane
                tried = at - _ROW - _ONE + np.uint64(shift) + np.uint64(row % 3) * _ROW
                qx, qy, qz = other[tried], other[tried + _LINE], other[tried + _TWO * _LINE]
                other_face = other[tried + _THREE * _LINE] + _ZERO
                dx, dy, dz = x - qx, across - qy, along - qz
                squared = dx * dx + dy * dy + dz * dz
                is_nearer = squared < best
                px, py, pz = qx if is_nearer else px, qy if is_nearer else py, qz if is_nearer else pz
                face = other_face if is_nearer else face
                best = squared if is_nearer else best
        plane[at], plane[at + _LINE], plane[at + _TWO * _LINE], plane[at + _THREE * _LINE] = px, py, pz, face


@kernel
def _try_row(plane: Singles, own: np.uint64, other: np.uint64, x: Single, across: Single, size: int) -> None:
    """Tries for each voxel of a row the points of the three voxels nearest to it in another row."""
    for k in range(size):
        at, along = own + _FIRST + np.uint64(k), np.float32(k)
        px, py, pz, face = plane[at], plane[at + _LINE], plane[at + _TWO * _LINE], plane[at + _THREE * _LINE]
        dx, dy, dz = x - px, across - py, along - pz
        best = dx * dx + dy * dy + dz * dz
        for shift in range(3):
            tried = other + _FIRST - _ONE + np.uint64(k) + np.uint64(shift)
            qx, qy, qz = plane[tried], plane[tried + _LINE], plane[tried + _TWO * _LINE]
            # Adding zero keeps the compiler from selecting addresses instead of values, which would need gathers.
            other_face = plane[tried + _THREE * _LINE] + _ZERO
            dx, dy, dz = x - qx, across - qy, along - qz
            squared = dx * dx + dy * dy + dz * dz
            is_nearer = squared < best
            px, py, pz = qx if is_nearer else px, qy if is_nearer else py, qz if is_nearer else pz
            face = other_face if is_nearer else face
            best = squared if is_nearer else best
        plane[at], plane[at + _LINE], plane[at + _TWO * _LINE], plane[at + _THREE * _LINE] = px, py, pz, face


@kernel
def _turn(plane: Singles, turned: Singles, row: int, size: int) -> None:
    """Transposes eight rows, and swaps the coordinates across and along the rows."""
    for line in range(4):
        to_line = (0, 2, 1, 3)[line]
        start = np.uint64(row + 1) * _ROW + np.uint64(line) * _LINE + _FIRST
        to = _ROW + np.uint64(to_line) * _LINE + _FIRST + np.uint64(row)
        for _ in range(size):
            for k in range(_TILE):
                turned[to + np.uint64(k)] = plane[start + np.uint64(k) * _ROW]
            start += _ONE
            to += _ROW


@kernel
def _copy(plane: Singles, known: Singles, back: bool) -> None:
    """Stores a plane without its padding, or loads it back."""
    size, flat = known.shape[0], known.reshape(-1)
    for row in range(size):
        for line in range(4):
            at, to = np.uint64(row + 1) * _ROW + np.uint64(line) * _LINE + _FIRST, np.uint64((row * 4 + line) * size)
            if back:
                for k in range(size):
                    plane[at + np.uint64(k)] = flat[to + np.uint64(k)]
            else:
                for k in range(size):
                    flat[to + np.uint64(k)] = plane[at + np.uint64(k)]


@kernel
def _write_faces(plane: Singles, nearest: Ids, is_turned: bool) -> None:
    size = nearest.shape[0]
    for row in range(size):
        at = np.uint64(row + 1) * _ROW + _THREE * _LINE + _FIRST
        for k in range(size):
            if is_turned:
                nearest[k, row] = int(plane[at + np.uint64(k)])
            else:
                nearest[row, k] = int(plane[at + np.uint64(k)])


Doubles = npt.NDArray[np.float64]

_LEAF_BITS = 2  # the smallest blocks have 4^3 voxels
_TOLERANCE = 1e-3  # in voxels, far above rounding


def product_table(vertices: Doubles, faces: Integers) -> Doubles:
    """(f, 12) first corner, edges u and v from it to the other two, and the dot products uu, uv, vv."""
    table = np.empty((len(faces), 12))
    first, u, v = table[:, 0:3], table[:, 3:6], table[:, 6:9]
    first[:] = vertices[faces[:, 0]]
    u[:], v[:] = vertices[faces[:, 1]] - first, vertices[faces[:, 2]] - first
    for column, (one, other) in enumerate(((u, u), (u, v), (v, v)), start=9):
        table[:, column] = np.einsum("ij,ij->i", one, other)
    return table


@kernel
def nearest_point(triangles: Doubles, face: int, x: float, y: float, z: float) -> tuple[float, float, float]:
    """The point of a triangle nearest to (x, y, z), by Voronoi regions (Ericson, Real-Time Collision Detection)."""
    ax, ay, az = triangles[face, 0], triangles[face, 1], triangles[face, 2]
    ux, uy, uz = triangles[face, 3], triangles[face, 4], triangles[face, 5]
    vx, vy, vz = triangles[face, 6], triangles[face, 7], triangles[face, 8]
    px, py, pz = x - ax, y - ay, z - az
    uu, uv, vv = triangles[face, 9], triangles[face, 10], triangles[face, 11]
    pu, pv = ux * px + uy * py + uz * pz, vx * px + vy * py + vz * pz
    ru, rv, su, sv = pu - uu, pv - uv, pu - uv, pv - vv  # the same dot products from the second and the third corner
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
    """Replaces each distance by the exact distance to the mesh.

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
    """Copies the candidates whose bounding sphere comes within reach; returns their number."""
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

    A triangle is convex, so it lies behind the plane through its point nearest to the block's centre that is
    perpendicular to the line between the two: a voxel is at least as far from the triangle as from that plane.
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
            average elsewhere; exact is exact everywhere, by comparing every voxel with all triangles that could be
            nearer, which takes some fifteen times as long.

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
