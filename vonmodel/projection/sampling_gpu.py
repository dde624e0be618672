"""Triton functions of the GPU projection: sample positions, trilinear interpolation, and bricks of empty voxels."""

from __future__ import annotations

import triton
import triton.language as tl

MIN_OPACITY = tl.constexpr(1e-4)
MAX_OPACITY = tl.constexpr(1.0 - 1e-4)
BRICK_BITS = tl.constexpr(2)
# No ray that meets a volume starts farther from it, in voxels.
SOMEWHERE = tl.constexpr(1e9)
# In place of the infinite samples per voxel of a ray parallel to a plane.
ENDLESS = tl.constexpr(1e9)


@triton.jit
def tile_of_rays(image_size, tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Item, rows and columns of a program's rays; rows vary fastest, as voxels along z share cache lines."""
    program = tl.program_id(0)
    across = tl.cdiv(image_size, COLUMNS)
    item, tile = program // tiles, program % tiles
    lane = tl.arange(0, ROWS * COLUMNS)
    return item, tile // across * ROWS + lane % ROWS, tile % across * COLUMNS + lane // ROWS


@triton.jit
def along_axis(rotation, axis: tl.constexpr, left, up, n, samples, distance):
    """Position of the first sample on one axis, and the step to the next."""
    scale = (n - 1) * 0.5
    ahead = tl.load(rotation + 3 * axis).to(tl.float32)
    slope = ahead + left * tl.load(rotation + 3 * axis + 1) + up * tl.load(rotation + 3 * axis + 2)
    start = (slope * (distance - 1.0) - ahead * distance + 1.0) * scale + 1.0
    return start, slope * scale * 2.0 / samples


@triton.jit
def samples_per_voxel(step):
    """Samples per voxel."""
    return tl.where(tl.abs(step) * ENDLESS > 1.0, 1.0 / tl.where(step == 0.0, 1.0, step), ENDLESS)


@triton.jit
def _span(start, per, n):
    """First and last sample, fractional, on one axis within 0 < u < N + 1."""
    one, other = -start * per, (n + 1.0 - start) * per
    return tl.minimum(one, other), tl.maximum(one, other)


@triton.jit
def samples_inside(x, y, z, per_x, per_y, per_z, n, samples):
    """The samples [first, end) within the grid; none for a ray that misses it or is not finite."""
    low_x, high_x = _span(x, per_x, n)
    low_y, high_y = _span(y, per_y, n)
    low_z, high_z = _span(z, per_z, n)
    low = tl.maximum(tl.maximum(low_x, low_y), tl.maximum(low_z, 0.0))
    high = tl.minimum(tl.minimum(high_x, high_y), tl.minimum(high_z, samples - 1.0))
    # Viewpoints that are not finite would have samples anywhere in memory.
    hit = (low <= high) & (tl.abs(x) + tl.abs(y) + tl.abs(z) < SOMEWHERE)
    return tl.where(hit, tl.ceil(low).to(tl.int32), samples), tl.where(hit, high.to(tl.int32) + 1, samples)


@triton.jit
def _across(brick, free, position, per):
    """Samples until a position leaves the bricks that are free on either side of its own."""
    face = tl.where(per > 0.0, brick + free, brick + 1 - free) << BRICK_BITS
    return (face.to(tl.float32) - position) * per


@triton.jit
def clear_samples(clearance, x, y, z, per_x, per_y, per_z, bricks, here):
    """Number of samples from a position on that certainly have minimum opacity; 0 in an occupied brick.

    With the signs of samples per voxel flipped, it counts backwards.
    """
    bx, by, bz = x.to(tl.int32) >> BRICK_BITS, y.to(tl.int32) >> BRICK_BITS, z.to(tl.int32) >> BRICK_BITS
    free = tl.load(clearance + (bx * bricks + by) * bricks + bz, mask=here, other=0).to(tl.int32)
    nearest = tl.minimum(_across(bx, free, x, per_x), _across(by, free, y, per_y))
    nearest = tl.minimum(tl.minimum(nearest, _across(bz, free, z, per_z)), 1e6)
    return tl.where(free > 0, 1 + nearest.to(tl.int32), 0)


@triton.jit
def hat(position, n):
    """Voxel index of the nearer neighbour on one axis, and position from it; weights end at zero outside the grid."""
    index = tl.minimum(tl.maximum(tl.floor(position) - 1.0, 0.0), n - 2.0)
    return index.to(tl.int32), position - 1.0 - index


@triton.jit
def near_weight(beyond):
    """Weight of the nearer neighbour, or of the farther one if `beyond` is measured from that."""
    return tl.maximum(1.0 - tl.abs(beyond), 0.0)


@triton.jit
def _near_slope(beyond):
    """Derivative of the weight of the nearer neighbour."""
    return tl.where(beyond < 0.0, tl.where(beyond > -1.0, 1.0, 0.0), tl.where(beyond < 1.0, -1.0, 0.0))


@triton.jit
def _row(voxels, index, near, far):
    """Interpolates between two neighbours along z."""
    return near * tl.load(voxels + index).to(tl.float32) + far * tl.load(voxels + index + 1).to(tl.float32)


@triton.jit
def opacity_at(voxels, x, y, z, n):
    """Trilinear value."""
    ix, tx = hat(x, n)
    iy, ty = hat(y, n)
    iz, tz = hat(z, n)
    first = (ix * n + iy) * n + iz
    near, far = near_weight(tz), near_weight(tz - 1.0)
    front = near_weight(ty) * _row(voxels, first, near, far) + near_weight(ty - 1.0) * _row(
        voxels, first + n, near, far
    )
    first += n * n
    back = near_weight(ty) * _row(voxels, first, near, far) + near_weight(ty - 1.0) * _row(
        voxels, first + n, near, far
    )
    return near_weight(tx) * front + near_weight(tx - 1.0) * back


@triton.jit
def clamped(opacity):
    """Clamps opacity to its limits; NaN stays NaN."""
    opacity = tl.where(opacity < MIN_OPACITY, MIN_OPACITY, opacity)
    return tl.where(opacity > MAX_OPACITY, MAX_OPACITY, opacity)


@triton.jit
def gradient_of_opacity(voxels, x, y, z, n):
    """Derivatives of the trilinear value by position, in voxels."""
    ix, tx = hat(x, n)
    iy, ty = hat(y, n)
    iz, tz = hat(z, n)
    first = (ix * n + iy) * n + iz
    by_x, by_y, by_z = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    # The farther neighbour's weight is the nearer one's shifted by a voxel.
    for side in tl.static_range(4):
        at_x, at_y = tx - side // 2, ty - side % 2
        row = first + (side // 2) * n * n + (side % 2) * n
        value = _row(voxels, row, near_weight(tz), near_weight(tz - 1.0))
        by_x += _near_slope(at_x) * near_weight(at_y) * value
        by_y += near_weight(at_x) * _near_slope(at_y) * value
        by_z += near_weight(at_x) * near_weight(at_y) * _row(voxels, row, _near_slope(tz), _near_slope(tz - 1.0))
    return by_x, by_y, by_z


BRICK = tl.constexpr(4)
# Distance of bricks farther away than a ray may jump at once.
FAR = tl.constexpr(8)


@triton.jit
def _occupied(values):
    """1 for values above the minimum opacity, 0 elsewhere; written so that NaN counts as occupied."""
    return tl.where(values.to(tl.float32) <= MIN_OPACITY, 0, 1)


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
