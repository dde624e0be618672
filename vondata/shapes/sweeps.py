"""Propagates nearest surface points from a band around the surface over the whole grid, in two passes.

A voxel far from the surface has nearly the same nearest point as the voxels between it and the surface. The straight
line from the point to the voxel moves by at most one voxel along the other axes while it moves one along its longest,
so a point reaches a voxel by such single steps. One pass goes up over the planes across x, one down: every voxel is
compared with five voxels in the plane before; within the plane, rows are visited up and down, and every voxel is
compared with three of the row before; then the plane is transposed and the same is done along its other axis. The
voxels of a row are processed side by side in vector registers, which steps along the row would not allow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vondata.kernels import contracted_kernel as kernel

Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Single = np.float32

MAX_EDGE = 256  # voxels along an edge
MAX_FACES = 2**24  # whole numbers that single precision, in which they travel, holds exactly
_NOWHERE = np.float32(1e9)  # coordinates of a point that is farther than any other
_ZERO = np.float32(0.0)
# A plane is one row of numbers, with distances in it that the compiler knows, so that it can tell what overlaps: for
# each row of voxels, padded by one, four lines of x, of the coordinates across and along the rows, and of the face.
# Places in it are unsigned, which spares the question whether they count from the end.
_TILE = 8
_FIRST, _LINE, _ROW = np.uint64(16), np.uint64(MAX_EDGE + 32), np.uint64(4 * (MAX_EDGE + 32))
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)


def spread(nearest: Ids, voxels: Integers, points: Singles) -> None:
    """Propagates nearest triangles from the band to all voxels.

    Args:
        nearest: (N, N, W) the triangle nearest to a voxel in the band, -1 elsewhere; filled in as far as N.
        voxels: (m,) the places of the voxels of the band in the flat volume, ascending; at least one.
        points: (m, 3) the point nearest to each.

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
    """A plane without points, at an address where loads of eight numbers are not split."""
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
    """Goes up and down. A plane leaves turned against how it came, and so is the next one when it comes."""
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
    """The points of the band in a plane; planes of odd x come turned."""
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
    """Tries for each voxel of a row the points of five voxels in the plane before and of three in the row before."""
    for k in range(size):
        at, along = start + _FIRST + np.uint64(k), np.float32(k)
        px, py, pz, face = plane[at], plane[at + _LINE], plane[at + _TWO * _LINE], plane[at + _THREE * _LINE]
        dx, dy, dz = x - px, across - py, along - pz
        best = dx * dx + dy * dy + dz * dz
        for row in range(4):  # three of the plane before, without the corners, and the row before in this one
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
            # The sum with zero keeps the compiler from choosing between addresses and gathering what it chose.
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
    """Makes eight rows columns, and exchanges the coordinates across and along the rows."""
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
    """Keeps a plane without its padding, or brings it back."""
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
