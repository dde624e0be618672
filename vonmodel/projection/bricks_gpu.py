"""Bricks of voxels that hold nothing, found on the GPU: Triton kernels with the result of `bricks_cpu`.

Every kernel is a plain pass without atomics: one marks the bricks with opacity, and one, run along each axis in turn,
spreads how far away they are. Distances as a king moves come apart into axes: the nearest brick is
min_i max(|i|, min_j max(|j|, min_k max(|k|, there (i, j, k)))).
"""

from __future__ import annotations

import triton
import triton.language as tl

from vonmodel.projection.sampling_gpu import LEAST_OPACITY

BRICK = tl.constexpr(4)
# Stands for bricks that are farther away than a ray may jump at once.
FAR = tl.constexpr(8)


@triton.jit
def _occupied(values):
    """1 where there is opacity, 0 elsewhere; written so that NaN counts as occupied."""
    return tl.where(values.to(tl.float32) <= LEAST_OPACITY, 0, 1)


@triton.jit
def mark_bricks(volumes, distance, n, bricks, LANES: tl.constexpr):
    """Writes 0 for the occupied bricks and FAR for the others of a line along z; volumes (n, N^3), bricks (n, B^3).

    A brick of four cells touches the voxels 4 b - 1 to 4 b + 3 of every axis.
    """
    line = tl.program_id(0).to(tl.int64)
    item, column = line // (bricks * bricks), (line % (bricks * bricks)).to(tl.int32)
    brick = tl.arange(0, LANES)
    own, before = brick[:, None] * BRICK + tl.arange(0, BRICK)[None, :], brick * BRICK - 1
    found, found_before = tl.zeros((LANES, BRICK), tl.int32), tl.zeros((LANES,), tl.int32)
    first_x, first_y = column // bricks * BRICK - 1, column % bricks * BRICK - 1
    for x in range(first_x, first_x + BRICK + 1):
        for y in range(first_y, first_y + BRICK + 1):
            inside = (x >= 0) & (x < n) & (y >= 0) & (y < n)
            row = volumes + item * n * n * n + (x * n + y) * n
            found |= _occupied(tl.load(row + own, mask=inside & (own < n), other=0.0))
            found_before |= _occupied(tl.load(row + before, mask=inside & (before >= 0) & (before < n), other=0.0))
    occupied = tl.maximum(tl.max(found, axis=1), found_before)
    tl.store(distance + line * bricks + brick, tl.where(occupied > 0, 0, FAR).to(tl.uint8), mask=brick < bricks)


@triton.jit
def spread_along_axis(source, target, count, bricks, stride, LANES: tl.constexpr):
    """Writes to each of `count` bricks min_i max(|i|, source i bricks away) along the axis with this stride."""
    brick = tl.program_id(0) * LANES + tl.arange(0, LANES)
    place = brick // stride % bricks
    nearest = tl.full((LANES,), FAR, tl.int32)
    for shift in range(1 - FAR, FAR):
        there = (brick < count) & (place + shift >= 0) & (place + shift < bricks)
        distance = tl.load(source + brick + shift * stride, mask=there, other=FAR).to(tl.int32)
        nearest = tl.minimum(nearest, tl.maximum(distance, tl.abs(shift)))
    tl.store(target + brick, nearest.to(tl.uint8), mask=brick < count)
