"""Bit-packed voxel grids: 64 voxels of a z row in a word, with flood fill and morphology on whole words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel

Bools = npt.NDArray[np.bool_]
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
    """The cells and everything they enclose: the complement of a 6-connected flood from the border.

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
    """Spreads bits to higher ones through cells, doubling the reach in each of six steps."""
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

    Fewer than three filled neighbours empty a voxel, five or more fill it, which removes specks, streaks and pits.
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
