"""Surface voxelisation by separating axes, and bit-packed voxel grids with flood fill and morphology."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vondata.frames import object_to_voxel
from vondata.kernels import kernel

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_ROUNDING = 1e-6  # margin of a quotient that only selects candidate cells


def to_voxels(vertices: Floats, resolution: int) -> Floats:
    """Vertices (v, 3) of the object frame in voxels of an N^3 grid."""
    return np.ascontiguousarray(object_to_voxel(vertices, resolution), dtype=np.float64)


def surface_voxels(vertices: Floats, faces: Integers, resolution: int) -> Bools:
    """Marks the voxels that a mesh's surface touches.

    A triangle and a cell touch unless one of thirteen axes separates them: three of the grid, the triangle's normal,
    and nine cross products of their edges, which are the edge normals of the triangle's projections on the three
    coordinate planes.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers.
        resolution: voxels along an edge of the grid.

    Returns:
        (N, N, N) indexed [x, y, z]; surface outside the grid is ignored.
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
        if many <= 1:  # one row of cells: the triangle touches them all
            for x in range(low[0], high[0] + 1):
                for y in range(low[1], high[1] + 1):
                    for z in range(low[2], high[2] + 1):
                        grid[x, y, z] = True
        else:
            _shadow_edges(corners, shadows, normal)
            _mark_triangle(corners, shadows, normal, low, high, grid)


@kernel
def _shadow_edges(corners: Floats, shadows: Floats, normal: Floats) -> None:
    """For the projection along each axis, the lines a u + b v + c >= 0 around the centres of touched squares."""
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
    """Visits the columns along the normal's largest axis, and in each the few cells near the plane."""
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


Words = npt.NDArray[np.uint64]

_ONE = np.uint64(1)
_TWO = np.uint64(2)
_LAST = np.uint64(63)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


def pack(grid: Bools) -> Words:
    """(X, Y, Z) voxels as (X, Y, ceil(Z / 64)) words; bit k of word w is voxel 64 w + k."""
    words = -(-grid.shape[2] // 64)
    packed = np.zeros((*grid.shape[:2], words * 8), dtype=np.uint8)
    rows = np.packbits(grid, axis=2, bitorder="little")
    packed[..., : rows.shape[2]] = rows
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack(words: Words, size: int) -> Bools:
    """The (X, Y, size) voxels of packed rows; inverse of `pack`."""
    rows = words.astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(rows, axis=2, count=size, bitorder="little").view(np.bool_)


def flooded_complement(cells: Words, size: int) -> Words:
    """The cells and everything they enclose: the complement of a 6-connected flood fill from the border.

    Args:
        cells: packed (N, N, N) cells that stop the flood.
        size: N.
    """
    reached = np.zeros_like(cells)
    _flood(~cells, reached, size)
    return ~reached


@kernel
def _flood(open_cells: Words, reached: Words, size: int) -> None:
    """Floods open cells from the border in alternating sweeps until nothing changes."""
    changed = True
    while changed:
        changed = False
        for x in range(size):
            for y in range(size):
                changed |= _flood_row(open_cells, reached, x, y, -1, size)
        for x in range(size - 1, -1, -1):
            for y in range(size - 1, -1, -1):
                changed |= _flood_row(open_cells, reached, x, y, 1, size)


@kernel
def _flood_row(open_cells: Words, reached: Words, x: int, y: int, way: int, size: int) -> bool:
    """Floods one row from its neighbours, or from all sides at the border; returns whether a cell was added."""
    width, last = reached.shape[2], size - 1
    side, other_side = 0 <= x + way <= last, 0 <= y + way <= last
    border = min(x, y) == 0 or max(x, y) == last
    new = np.uint64(0)
    for w in range(width):
        entered = _ALL if border else np.uint64(0)
        if side:
            entered |= reached[x + way, y, w]
        if other_side:
            entered |= reached[x, y + way, w]
        if w == 0:
            entered |= _ONE
        if w == width - 1:
            entered |= _ONE << np.uint64(last & 63)
        entered &= open_cells[x, y, w] & ~reached[x, y, w]
        new |= entered
        reached[x, y, w] |= entered
    if new == 0:
        return False
    carry = np.uint64(0)
    for w in range(width):
        reached[x, y, w] = _fill_up(reached[x, y, w] | (carry & open_cells[x, y, w]), open_cells[x, y, w])
        carry = reached[x, y, w] >> _LAST
    carry = np.uint64(0)
    for w in range(width - 1, -1, -1):
        reached[x, y, w] = _fill_down(reached[x, y, w] | (carry & open_cells[x, y, w]), open_cells[x, y, w])
        carry = reached[x, y, w] << _LAST
    return True


@kernel
def _fill_up(seeds: np.uint64, cells: np.uint64) -> np.uint64:
    """Spreads seed bits to higher bits through set cells, doubling the reach in each of six steps."""
    for step in (1, 2, 4, 8, 16, 32):
        seeds |= cells & (seeds << np.uint64(step))
        cells &= cells << np.uint64(step)
    return seeds


@kernel
def _fill_down(seeds: np.uint64, cells: np.uint64) -> np.uint64:
    for step in (1, 2, 4, 8, 16, 32):
        seeds |= cells & (seeds >> np.uint64(step))
        cells &= cells >> np.uint64(step)
    return seeds


def opened(cells: Words) -> Words:
    """Morphological opening with a cross five voxels long; voxels outside the grid count as cells."""
    eroded, opened = np.empty_like(cells), np.empty_like(cells)
    _dilate(~cells, eroded)
    _dilate(~eroded, opened)
    return opened


@kernel
def _dilate(cells: Words, out: Words) -> None:
    """Dilates by two voxels along each axis."""
    size_x, size_y, width = cells.shape
    for x in range(size_x):
        for y in range(size_y):
            for w in range(width):
                word = cells[x, y, w]
                below = cells[x, y, w - 1] if w > 0 else np.uint64(0)
                above = cells[x, y, w + 1] if w + 1 < width else np.uint64(0)
                near = (word << _ONE) | (below >> _LAST) | (word >> _ONE) | (above << _LAST)
                near |= (word << _TWO) | (below >> (_LAST - _ONE)) | (word >> _TWO) | (above << (_LAST - _ONE))
                for step in (-2, -1, 1, 2):
                    if x + step >= 0 and x + step < size_x:
                        near |= cells[x + step, y, w]
                    if y + step >= 0 and y + step < size_y:
                        near |= cells[x, y + step, w]
                out[x, y, w] = word | near


def settle(voted: Words, enclosed: Words) -> Words:
    """One round of a majority filter over the six neighbours, with enclosed voxels fixed.

    A voxel with fewer than three filled neighbours is emptied, one with five or more is filled, which removes specks,
    streaks and pits.
    """
    filled = voted | enclosed
    one, two, four = (np.zeros_like(filled) for _ in range(3))  # the bits of the count, for 64 voxels at a time
    for neighbours in _neighbours(filled):
        carry = one & neighbours
        one ^= neighbours
        four |= two & carry
        two ^= carry
    at_least_three, at_least_five = four | (two & one), four & (one | two)
    settled: Words = np.asarray(enclosed | (voted & at_least_three) | at_least_five, dtype=np.uint64)
    return settled


def _neighbours(words: Words) -> Iterator[Words]:
    """The grid shifted by one voxel in each of the six directions, empty outside the grid."""
    for axis in (0, 1):
        for way in (1, -1):
            moved = np.roll(words, way, axis)
            moved[(slice(None),) * axis + (0 if way > 0 else -1,)] = 0
            yield moved
    up, down = words << _ONE, words >> _ONE
    up[..., 1:] |= words[..., :-1] >> _LAST
    down[..., :-1] |= words[..., 1:] << _LAST
    yield up
    yield down
