"""Voxel grids as bits, 64 voxels of a z row in a word, so that a whole row is filled or counted at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vondata.shapes.kernels import kernel

Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

_ONE = np.uint64(1)
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


@kernel
def shifted(words: Words, x: int, y: int, w: int, by: int) -> np.uint64:
    """A word of a row whose voxels are moved one up (by = 1), one down (-1) or not at all (0)."""
    word = np.uint64(words[x, y, w])
    if by > 0:
        return (word << _ONE) | (words[x, y, w - 1] >> _LAST if w > 0 else np.uint64(0))
    if by < 0:
        return (word >> _ONE) | (words[x, y, w + 1] << _LAST if w + 1 < words.shape[2] else np.uint64(0))
    return word


def flooded_complement(cells: Words, size: int) -> Words:
    """The cells together with all that they enclose: what a flood from outside cannot reach through faces.

    Args:
        cells: packed (N, N, N) cells that stop the flood.
        size: N.
    """
    return ~flood(~cells, size)


@kernel
def flood(open_cells: Words, size: int) -> Words:
    """The open cells that are connected to the outside of the grid through faces of open cells.

    Args:
        open_cells: packed (N, N, N) cells that can be entered.
        size: N.
    """
    reached = np.zeros_like(open_cells)
    nothing, last = np.zeros_like(open_cells[0, 0]), size - 1
    changed = True
    while changed:
        changed = False
        for x in range(size):
            for y in range(size):
                outside = x in (0, last) or y in (0, last)
                before, above = reached[x - 1, y] if x > 0 else nothing, reached[x, y - 1] if y > 0 else nothing
                changed |= _flood_row(open_cells[x, y], reached[x, y], before, above, outside, size)
        for x in range(last, -1, -1):
            for y in range(last, -1, -1):
                after, below = reached[x + 1, y] if x < last else nothing, reached[x, y + 1] if y < last else nothing
                changed |= _flood_row(open_cells[x, y], reached[x, y], after, below, False, size)
    return reached


@kernel
def _flood_row(cells: Words, row: Words, side: Words, other_side: Words, outside: bool, size: int) -> bool:
    """Enters a row from two neighbours (and from everywhere, at the border) and fills it; whether that was new."""
    seeds = np.uint64(0)
    for w in range(row.size):
        entered = row[w] | side[w] | other_side[w]
        if outside:
            entered = _ALL
        if w == 0:
            entered |= _ONE
        if w == row.size - 1:
            entered |= _ONE << np.uint64((size - 1) & 63)
        entered &= cells[w]
        seeds |= entered & ~row[w]
        row[w] |= entered
    if seeds == 0:
        return False
    carry = np.uint64(0)
    for w in range(row.size):
        row[w] = _fill_up(row[w] | (carry & cells[w]), cells[w])
        carry = row[w] >> _LAST
    carry = np.uint64(0)
    for w in range(row.size - 1, -1, -1):
        row[w] = _fill_down(row[w] | ((carry << _LAST) & cells[w]), cells[w])
        carry = row[w] & _ONE
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


@kernel
def settle(voted: Words, enclosed: Words) -> Words:
    """What is enclosed or voted in, after each voxel heard its six neighbours.

    Fewer than three filled ones empty it, five or more fill it, so that single specks, streaks and pits go.
    """
    filled = voted | enclosed
    settled = filled.copy()
    size = filled.shape[0]
    for x in range(1, size - 1):
        for y in range(1, size - 1):
            for w in range(filled.shape[2]):
                one, two, four = np.uint64(0), np.uint64(0), np.uint64(0)
                for neighbour in range(6):
                    if neighbour == 0:
                        word = filled[x - 1, y, w]
                    elif neighbour == 1:
                        word = filled[x + 1, y, w]
                    elif neighbour == 2:
                        word = filled[x, y - 1, w]
                    elif neighbour == 3:
                        word = filled[x, y + 1, w]
                    else:
                        word = shifted(filled, x, y, w, 1 if neighbour == 4 else -1)
                    carry = one & word
                    one ^= word
                    four |= two & carry
                    two ^= carry
                at_least_three = four | (two & one)
                at_least_five = four & (one | two)
                settled[x, y, w] = enclosed[x, y, w] | (voted[x, y, w] & at_least_three) | at_least_five
    return settled
