"""Ray marching on the GPU: the two Triton kernels of the fused projection, with the arithmetic of `march_cpu`.

A program marches a tile of rays in parallel. If all of them are in empty space they jump together; otherwise each
takes four samples. The backward kernel marches forward to get the transmittances and then back, keeping
W_k = sum_{j=k..S} T_j / T_k, the sum of transmittances from sample k on relative to T_k:
W_k = 1 + (1 - a_k) W_{k+1}. Nothing is stored per sample, and there is no cancellation.

With TRITON_INTERPRET=1 in the environment when this module is imported, the kernels run on the CPU, slowly.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vonmodel.projection.sampling_gpu import (
    MAX_OPACITY,
    MIN_OPACITY,
    along_axis,
    clamped,
    clear_samples,
    gradient_of_opacity,
    hat,
    near_weight,
    opacity_at,
    samples_inside,
    samples_per_voxel,
    tile_of_rays,
)

# Transmittance at which a ray ends: as 1 - a is at least 1e-4, no gradient changes by over 1e-6.
NEGLIGIBLE_LIGHT = tl.constexpr(1e-10)
UNROLL = tl.constexpr(4)
# More samples than any ray has.
FOREVER = tl.constexpr(1 << 20)


@triton.jit
def _march(voxels, clearance, runs, x, y, z, dx, dy, dz, per_x, per_y, per_z, first, end, n, bricks, samples):
    """Marches rays until they end or their transmittance is negligible.

    Returns:
        Transmittance, the sum of T_1 up to there, and the number of samples taken, per ray.
    """
    k, last = tl.min(first, axis=0), tl.max(end, axis=0)
    light, stop = tl.zeros_like(x) + tl.load(runs + k), tl.zeros_like(first) + k
    total = tl.zeros_like(x) + tl.load(runs + samples + 1 + k)
    while k < last:
        lit = light >= NEGLIGIBLE_LIGHT
        here = lit & (k >= first) & (k < end)
        u, v, w = x + k * dx, y + k * dy, z + k * dz
        clear = clear_samples(clearance, u, v, w, per_x, per_y, per_z, bricks, here)
        clear = tl.where(here, clear, tl.where(lit & (k < first), first - k, FOREVER))
        jump = tl.minimum(tl.min(clear, axis=0), last - k)
        if jump >= UNROLL:
            total = tl.where(lit, total + light * tl.load(runs + samples + 1 + jump), total)
            light = tl.where(lit, light * tl.load(runs + jump), light)
            k += jump
            stop = tl.where(lit, k, stop)
        else:
            for j in tl.static_range(UNROLL):
                s = k + j
                opacity = clamped(opacity_at(voxels, x + s * dx, y + s * dy, z + s * dz, n))
                lit = (light >= NEGLIGIBLE_LIGHT) & (s < samples)
                light = tl.where(lit, light * (1.0 - opacity), light)
                total = tl.where(lit, total + light, total)
                stop = tl.where(lit, s + 1, stop)
            k += UNROLL
        last = tl.where(tl.max(light, axis=0) < NEGLIGIBLE_LIGHT, k, last)
    return light, total, stop


@triton.jit
def sketch_tiles(
    volumes,
    clearance,
    rotations,
    runs,
    sketch,
    n,
    bricks,
    samples,
    image_size,
    tiles,
    distance,
    half_width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Writes silhouette and depth (n, 2, R, R) of a tile."""
    item, row, column = tile_of_rays(image_size, tiles, ROWS, COLUMNS)
    up = half_width - 2.0 * half_width * row / (image_size - 1)
    left = half_width - 2.0 * half_width * column / (image_size - 1)
    rotation = rotations + 9 * item
    x, dx = along_axis(rotation, 0, left, up, n, samples, distance)
    y, dy = along_axis(rotation, 1, left, up, n, samples, distance)
    z, dz = along_axis(rotation, 2, left, up, n, samples, distance)
    per_x, per_y, per_z = samples_per_voxel(dx), samples_per_voxel(dy), samples_per_voxel(dz)
    first, end = samples_inside(x, y, z, per_x, per_y, per_z, n, samples)
    voxels = volumes + item.to(tl.int64) * n * n * n
    bricked = clearance + item.to(tl.int64) * bricks * bricks * bricks
    light, total, stop = _march(
        voxels, bricked, runs, x, y, z, dx, dy, dz, per_x, per_y, per_z, first, end, n, bricks, samples
    )
    # The rest of the ray has minimum opacity; it does not count for a ray that has ended.
    left_over = tl.where(light >= NEGLIGIBLE_LIGHT, samples - stop, 0)
    total += light * tl.load(runs + samples + 1 + left_over)
    light *= tl.load(runs + left_over)
    near, rise = distance - 1.0, 2.0 / (samples - 1.0)
    depth = near * (1.0 - light) + rise * (total - samples * light) + (distance + 1.0) * clamped(light)
    inside = (row < image_size) & (column < image_size)
    pixel = sketch + item.to(tl.int64) * 2 * image_size * image_size + row * image_size + column
    tl.store(pixel, 1.0 - light, mask=inside)
    tl.store(pixel + image_size * image_size, depth, mask=inside)


@triton.jit
def _add(gradient, index, value, scale, mask, DETERMINISTIC: tl.constexpr):
    """Adds to voxels atomically; as integers, whose sum does not depend on the order, if deterministic."""
    if DETERMINISTIC:
        tl.atomic_add(gradient + index, (value * scale).to(tl.int64), mask=mask & (value != 0.0), sem="relaxed")
    else:
        tl.atomic_add(gradient + index, value, mask=mask & (value != 0.0), sem="relaxed")


@triton.jit
def _scatter(gradient, slope, x, y, z, n, scale, mask, DETERMINISTIC: tl.constexpr):
    """Adds the gradients of opacities to the eight voxels of each sample."""
    ix, tx = hat(x, n)
    iy, ty = hat(y, n)
    iz, tz = hat(z, n)
    corner = (ix * n + iy) * n + iz
    for side in tl.static_range(4):
        by_x = near_weight(tx - side // 2)
        share = slope * by_x * near_weight(ty - side % 2)
        index = corner + (side // 2) * n * n + (side % 2) * n
        _add(gradient, index, share * near_weight(tz), scale, mask, DETERMINISTIC)
        _add(gradient, index + 1, share * near_weight(tz - 1.0), scale, mask, DETERMINISTIC)


@triton.jit
def _store_turn(target, g, h, left, up, scale, distance):
    """Gradient of a row of the rotation, from rays' gradients of position, plain and times depth."""
    tl.store(target, tl.sum(h - distance * g, axis=0) * scale)
    tl.store(target + 1, tl.sum(h * left, axis=0) * scale)
    tl.store(target + 2, tl.sum(h * up, axis=0) * scale)


@triton.jit
def gradient_tiles(
    volumes,
    clearance,
    rotations,
    runs,
    upstream,
    gradient,
    turns,
    scale,
    n,
    bricks,
    samples,
    image_size,
    tiles,
    distance,
    half_width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    NEED_VOLUMES: tl.constexpr,
    NEED_ROTATIONS: tl.constexpr,
    DETERMINISTIC: tl.constexpr,
    TOGETHER: tl.constexpr,
):
    """Adds a tile's gradient of the volumes (n, N^3) and writes that of its rotation (tiles of all items, 3, 3)."""
    item, row, column = tile_of_rays(image_size, tiles, ROWS, COLUMNS)
    up = half_width - 2.0 * half_width * row / (image_size - 1)
    left = half_width - 2.0 * half_width * column / (image_size - 1)
    rotation = rotations + 9 * item
    x, dx = along_axis(rotation, 0, left, up, n, samples, distance)
    y, dy = along_axis(rotation, 1, left, up, n, samples, distance)
    z, dz = along_axis(rotation, 2, left, up, n, samples, distance)
    per_x, per_y, per_z = samples_per_voxel(dx), samples_per_voxel(dy), samples_per_voxel(dz)
    first, end = samples_inside(x, y, z, per_x, per_y, per_z, n, samples)
    voxels = volumes + item.to(tl.int64) * n * n * n
    target = gradient + item.to(tl.int64) * n * n * n
    bricked = clearance + item.to(tl.int64) * bricks * bricks * bricks
    light, _, stop = _march(
        voxels, bricked, runs, x, y, z, dx, dy, dz, per_x, per_y, per_z, first, end, n, bricks, samples
    )
    lit = light >= NEGLIGIBLE_LIGHT
    left_over = tl.where(lit, samples - stop, 0)
    through = light * tl.load(runs + left_over)
    ahead = tl.where(lit, 1.0 + tl.load(runs + samples + 1 + left_over), 0.0)

    inside = (row < image_size) & (column < image_size)
    pixel = upstream + item.to(tl.int64) * 2 * image_size * image_size + row * image_size + column
    grad_silhouette = tl.load(pixel, mask=inside, other=0.0)
    grad_depth = tl.load(pixel + image_size * image_size, mask=inside, other=0.0)
    near, rise = distance - 1.0, 2.0 / (samples - 1.0)
    background = tl.where((through >= MIN_OPACITY) & (through <= MAX_OPACITY), distance + 1.0, 0.0)
    passing = through * (grad_silhouette + grad_depth * (near + rise * samples - background))
    rising = grad_depth * rise

    gx, gy, gz = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    hx, hy, hz = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    unit = 1.0
    if DETERMINISTIC:
        unit = tl.load(scale)
    k, low = tl.max(stop, axis=0), tl.min(first, axis=0)
    # For each ray: in the interpreter of some releases comparing two scalars gives an integer, not a boolean.
    lowest = tl.zeros_like(stop) + low
    while k > low:
        # Each ray's next sample: the one before k, or the last it took if that is farther back.
        before = tl.minimum(k, stop) - 1
        here = (before >= first) & (before < end)
        u, v, w = x + before * dx, y + before * dy, z + before * dz
        clear = clear_samples(bricked, u, v, w, -per_x, -per_y, -per_z, bricks, here)
        clear = tl.where(here, clear, tl.where(before >= end, before - end + 1, FOREVER)) + k - before - 1
        jump = tl.minimum(tl.min(clear, axis=0), k - low)
        if jump >= UNROLL:
            length = tl.minimum(tl.maximum(stop - k + jump, 0), jump)
            passed = tl.load(runs + length)
            ahead = 1.0 + tl.load(runs + samples + 1 + length) - passed + passed * ahead
            light = light / passed
            k -= jump
        else:
            for group in range(0, UNROLL, TOGETHER):
                for j in tl.static_range(TOGETHER):
                    s = k - 1 - group - j
                    u, v, w = x + s * dx, y + s * dy, z + s * dz
                    raw = opacity_at(voxels, u, v, w, n)
                    clearness = 1.0 - clamped(raw)
                    taken = (s < stop) & (s >= lowest)
                    light = tl.where(taken, light / clearness, light)
                    counts = taken & inside & (raw >= MIN_OPACITY) & (raw <= MAX_OPACITY)
                    slope = tl.where(counts, passing / clearness - rising * light * ahead, 0.0)
                    ahead = tl.where(taken, 1.0 + clearness * ahead, ahead)
                    if tl.max(counts.to(tl.int32), axis=0) > 0:
                        if NEED_VOLUMES:
                            _scatter(target, slope, u, v, w, n, unit, counts, DETERMINISTIC)
                        if NEED_ROTATIONS:
                            by_x, by_y, by_z = gradient_of_opacity(voxels, u, v, w, n)
                            depth = near + 2.0 * s / samples
                            gx += slope * by_x
                            gy += slope * by_y
                            gz += slope * by_z
                            hx += slope * by_x * depth
                            hy += slope * by_y * depth
                            hz += slope * by_z * depth
            k -= UNROLL
    if NEED_ROTATIONS:
        turn = turns + tl.program_id(0) * 9
        _store_turn(turn, gx, hx, left, up, (n - 1) * 0.5, distance)
        _store_turn(turn + 3, gy, hy, left, up, (n - 1) * 0.5, distance)
        _store_turn(turn + 6, gz, hz, left, up, (n - 1) * 0.5, distance)
