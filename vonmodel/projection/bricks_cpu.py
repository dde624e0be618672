"""Bricks of voxels that hold nothing, so that rays can jump over them; compiled by numba at first use.

Cell c = 0..N of an axis lies between voxels c - 1 and c (the outermost ones reach half out of the grid); a brick is
4 x 4 x 4 cells. It is free when no voxel that its cells touch is over the least opacity.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vondata.kernels import fast_kernel as kernel

MIN_OPACITY = np.float32(1e-4)
BRICK_BITS = 2
# How many bricks a ray may jump over at once.
MAX_JUMP = 8

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]


def bricks_along(resolution: int) -> int:
    """Bricks along an axis of N + 1 cells, with room for a position rounded up to N + 1."""
    return (resolution + 1) // (1 << BRICK_BITS) + 1


@kernel
def mark_occupied(volumes: Floats, occupied: Bytes, first: int, stride: int) -> None:
    """Marks the bricks of every `stride`-th layer.

    Args:
        volumes: (n, N, N, N).
        occupied: (n, B + 2, B + 2, B + 2), zeros; B bricks along an axis with an empty layer around them.
        first: the first of n B layers of bricks to look at.
        stride: steps from layer to layer.
    """
    n, count = volumes.shape[1], occupied.shape[1] - 2
    line = np.empty(n, np.uint8)
    for layer in range(first, len(volumes) * count, stride):
        item, bx = layer // count, layer % count
        for by in range(count):
            line[:] = 0
            # A voxel belongs to the cell before it and the cell after it.
            for x in range(max(0, (bx << BRICK_BITS) - 1), min(n, (bx + 1) << BRICK_BITS)):
                for y in range(max(0, (by << BRICK_BITS) - 1), min(n, (by + 1) << BRICK_BITS)):
                    row = volumes[item, x, y]
                    for z in range(n):
                        # Written so that NaN counts as occupied.
                        line[z] |= np.uint8(not (row[z] <= MIN_OPACITY))
            for z in range(n):
                if line[z]:
                    occupied[item, bx + 1, by + 1, (z >> BRICK_BITS) + 1] = 1
                    occupied[item, bx + 1, by + 1, ((z + 1) >> BRICK_BITS) + 1] = 1


def occupied_bounds(clearance: Bytes) -> Doubles:
    """First and last side, in cells, of the occupied bricks along each axis; 0 after 4 B when there are none.

    Args:
        clearance: (B, B, B), 0 where occupied.

    Returns:
        (3, 2).
    """
    bounds = np.empty((3, 2))
    for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
        places = np.flatnonzero((clearance == 0).any(others))
        bounds[axis] = (places[0], places[-1] + 1) if len(places) else (len(clearance), 0)
    return bounds * (1 << BRICK_BITS)


@kernel
def measure_clearance(occupied: Bytes, clearance: Bytes) -> None:
    """Says how far bricks are from occupied ones.

    Args:
        occupied: (B + 2, B + 2, B + 2), the outer layer empty.
        clearance: (B, B, B), overwritten: bricks to the nearest occupied one, as a king moves, at most 8; 0 where
            occupied.
    """
    count = len(clearance)
    clearance[:] = 0
    for _ in range(MAX_JUMP):
        for x in range(count):
            for y in range(count):
                for z in range(count):
                    clearance[x, y, z] += np.uint8(1) - occupied[x + 1, y + 1, z + 1]
        occupied = _widened(occupied)


@kernel
def _widened(occupied: Bytes) -> Bytes:
    """Occupied or touching an occupied one, corners included; the outer layer stays empty."""
    last = len(occupied) - 1
    along_z, along_y, wide = np.zeros_like(occupied), np.zeros_like(occupied), np.zeros_like(occupied)
    for x in range(1, last):
        for y in range(1, last):
            for z in range(1, last):
                along_z[x, y, z] = occupied[x, y, z - 1] | occupied[x, y, z] | occupied[x, y, z + 1]
    for x in range(1, last):
        for y in range(1, last):
            for z in range(1, last):
                along_y[x, y, z] = along_z[x, y - 1, z] | along_z[x, y, z] | along_z[x, y + 1, z]
    for x in range(1, last):
        for y in range(1, last):
            for z in range(1, last):
                wide[x, y, z] = along_y[x - 1, y, z] | along_y[x, y, z] | along_y[x + 1, y, z]
    return wide
