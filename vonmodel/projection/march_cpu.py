"""Ray marching on the CPU: the loops behind the fused projection, compiled by numba at first use.

Positions along a ray are counted in voxels from one voxel outside the grid: u = index + 1, so that everything that is
not zero lies in 0 < u < N + 1. Three things make it fast and change the result by no more than rounding:

- A sample between voxels that are all at most 1e-4 has exactly opacity 1e-4, because opacity is clamped. Such
  samples, and those outside the grid, are taken in runs: m of them let (1 - 1e-4)^m of the light pass.
- Depth needs only the sum of the light that passes: with T_k the light before sample k and weights d_k = near + k h,
  sum_k (T_k - T_{k+1}) d_k = near (1 - T_S) + h (sum_{k=1..S} T_k - S T_S).
- A ray ends when less than 1e-10 of the light is left; as 1 - a is at least 1e-4, no gradient changes by over 1e-6.

Other samples are taken sixteen at a time (a chunk), in loops that each do one thing: positions (vectorised),
gathering, light; backward slopes (vectorised), scattering, derivatives of positions (vectorised). Inner functions
take plain arrays, never tuples or slices of them, whose reference counts would cost more than the work. All of it is
one file because numba's cache notices changes only in the file a function is in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vonmodel.projection.compiled import compiled

LEAST_OPACITY = 1e-4
MOST_OPACITY = 1.0 - LEAST_OPACITY
NEGLIGIBLE_LIGHT = 1e-10
CHUNK = 16
# Tiles of rays that share most of the voxels they read. Tall, because neighbours along z share cache lines.
TILE_ROWS, TILE_COLUMNS = 16, 8

# Where rows of sixteen begin in a thread's `place`: one flat array, so that the compiler sees that rows are apart.
# Three rows each, for x, y, z: where a chunk's samples lie.
INDEX = 0 * CHUNK  # the nearer of the two voxels on either side, whole numbers
BEYOND = 3 * CHUNK  # position from that voxel
NEAR = 6 * CHUNK  # weight of that voxel
FAR = 9 * CHUNK  # weight of the next one
Y, Z = CHUNK, 2 * CHUNK  # from the row for x to those for y and z
SLOPE = 12 * CHUNK  # one row: gradient of the opacity
# Eight rows, for the voxels around each sample, z fastest: their values, or what their gradients get.
EIGHT = 13 * CHUNK
PLACES = 21 * CHUNK
# Rows of a thread's `trace` (3, about S): what a ray met.
OPACITY = 0  # of every sample that was looked at
LIGHT = 1  # sum of the light T_1..T_k up to that sample
FIRST = 2  # of every chunk its first sample, and where the last one ended

F32, U64 = np.float32, np.uint64

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Whole = npt.NDArray[np.int64]
Share = tuple[int, int, int]


class View(NamedTuple):
    """Camera and sizes, the same for every ray."""

    distance: float
    half_width: float
    samples: int
    resolution: int
    image_size: int
    brick_bits: int


class Scene(NamedTuple):
    """What is projected.

    Attributes:
        volumes: (n, N^3), flat.
        clearance: (n, B, B, B) of their bricks.
        bounds: (n, 3, 2) the occupied cells in u, per axis; the first beyond the second when there are none.
        rotations: (n, 3, 3), camera frame to object frame.
        runs: (2, S + 1) for m = 0..S samples of least opacity: the light that passes, and its sum after each of them.
    """

    volumes: Floats
    clearance: Bytes
    bounds: Doubles
    rotations: Doubles
    runs: Doubles


class Workspace(NamedTuple):
    """What one thread writes on while it follows a ray; rows as listed above."""

    place: Floats
    corner: Whole
    trace: Doubles
    flow: Doubles


class Gradients(NamedTuple):
    """Where one thread adds up gradients.

    Attributes:
        volumes: (n, N^3), shared by the threads; no rows when not asked for.
        first: (N^3) for the first item of the thread's share, when another thread began it; else empty.
        rotations: (n, 3, 3), the thread's own; no rows when not asked for.
    """

    volumes: Floats
    first: Floats
    rotations: Doubles


class Ray(NamedTuple):
    """Position u of a ray's first sample, the step to the next one, and samples per voxel (inf along a plane)."""

    x: float
    y: float
    z: float
    dx: float
    dy: float
    dz: float
    per_x: float
    per_y: float
    per_z: float


def runs_of_least_opacity(samples: int) -> Doubles:
    """The closed forms of runs up to a whole ray, as `Scene.runs`."""
    passed = MOST_OPACITY ** np.arange(samples + 1, dtype=np.float64)
    return np.stack([passed, np.cumsum(passed) - 1.0])


def new_workspace(samples: int) -> Workspace:
    """Room for a whole ray: every chunk but the last takes sixteen samples."""
    room = (samples // CHUNK + 1) * CHUNK
    space = np.empty(PLACES + CHUNK, np.float32)
    # Rows begin where a cache line does.
    begin = -(space.ctypes.data // 4) % CHUNK
    place, corner = space[begin : begin + PLACES], np.empty(CHUNK, np.int64)
    return Workspace(place, corner, np.empty((3, room)), np.empty((2, 3)))


def tile_count(image_size: int) -> int:
    """Tiles of an image; the last ones may reach beyond it."""
    return -(-image_size // TILE_ROWS) * -(-image_size // TILE_COLUMNS)


@compiled
def sketch_tiles(scene: Scene, view: View, share: Share, sketch: Floats, workspace: Workspace) -> None:
    """Writes silhouette and depth into sketch (n, 2, R, R) where the tiles lie; share: start, stop, step of tiles."""
    near, far, size, samples = view.distance - 1.0, view.distance + 1.0, view.image_size, view.samples
    rise, runs = (far - near) / (samples - 1), scene.runs
    place, corner, trace = workspace.place, workspace.corner, workspace.trace
    for tile in range(share[0], share[1], share[2]):
        item, top, left = _tile(tile, size)
        voxels, clearance, bounds = scene.volumes[item], scene.clearance[item], scene.bounds[item]
        rotation = scene.rotations[item]
        for row in range(top, min(top + TILE_ROWS, size)):
            for column in range(left, min(left + TILE_COLUMNS, size)):
                ray = _ray(rotation, row, column, view)
                _, light, total = _march(voxels, clearance, bounds, ray, view, runs, place, corner, trace)
                sketch[item, 0, row, column] = 1.0 - light
                depth = near * (1.0 - light) + rise * (total - samples * light)
                sketch[item, 1, row, column] = depth + far * _clamped(light)


@compiled
def gradient_tiles(
    scene: Scene, view: View, share: Share, upstream: Floats, gradients: Gradients, workspace: Workspace
) -> None:
    """Adds up gradients for an upstream gradient (n, 2, R, R) of silhouette and depth; share as above."""
    size, runs, n = view.image_size, scene.runs, view.resolution
    place, corner, trace, flow = workspace.place, workspace.corner, workspace.trace, workspace.flow
    begun = _tile(share[0], size)[0] if len(gradients.first) else -1
    for tile in range(share[0], share[1], share[2]):
        item, top, left = _tile(tile, size)
        voxels, clearance, bounds = scene.volumes[item], scene.clearance[item], scene.bounds[item]
        rotation = scene.rotations[item]
        target = gradients.first if item == begun or not len(gradients.volumes) else gradients.volumes[item]
        turns = gradients.rotations[item : item + 1]
        for row in range(top, min(top + TILE_ROWS, size)):
            for column in range(left, min(left + TILE_COLUMNS, size)):
                ray = _ray(rotation, row, column, view)
                chunks, light, total = _march(voxels, clearance, bounds, ray, view, runs, place, corner, trace)
                silhouette, depth = float(upstream[item, 0, row, column]), float(upstream[item, 1, row, column])
                passing, rise = _sensitivities(silhouette, depth, light, view)
                flow[:] = 0.0
                for chunk in range(chunks):
                    if _opacity_gradients(trace, chunk, passing, rise, total, place):
                        _place_chunk(ray, int(trace[FIRST, chunk]), n, place, corner)
                        if len(turns):
                            _fetch(voxels, n, corner, place)
                            _add_flow(int(trace[FIRST, chunk]), view, place, flow)
                        if len(target):
                            _scatter(target, n, corner, place)
                if len(turns):
                    _turn(flow, row, column, view, turns)


@compiled
def _tile(tile: int, image_size: int) -> Share:
    """Item, first row and first column of a tile.

    Tiles of an item are counted so that any stretch of them is spread over two bands, as the middle costs more.
    """
    across = (image_size + TILE_COLUMNS - 1) // TILE_COLUMNS
    count = (image_size + TILE_ROWS - 1) // TILE_ROWS * across
    item, index = tile // count, tile % count
    spread = index // 2 + (index % 2) * ((count + 1) // 2)
    return item, spread // across * TILE_ROWS, spread % across * TILE_COLUMNS


@compiled
def _ray(rotation: Doubles, row: int, column: int, view: View) -> Ray:
    edge, camera, scale = view.half_width, view.distance, (view.resolution - 1) / 2.0
    up = edge - 2.0 * edge * row / (view.image_size - 1)
    left = edge - 2.0 * edge * column / (view.image_size - 1)
    stride = 2.0 * scale / view.samples
    x = rotation[0, 0] + left * rotation[0, 1] + up * rotation[0, 2]
    y = rotation[1, 0] + left * rotation[1, 1] + up * rotation[1, 2]
    z = rotation[2, 0] + left * rotation[2, 1] + up * rotation[2, 2]
    return Ray(
        (x * (camera - 1.0) - rotation[0, 0] * camera + 1.0) * scale + 1.0,
        (y * (camera - 1.0) - rotation[1, 0] * camera + 1.0) * scale + 1.0,
        (z * (camera - 1.0) - rotation[2, 0] * camera + 1.0) * scale + 1.0,
        x * stride,
        y * stride,
        z * stride,
        np.inf if x == 0.0 else 1.0 / (x * stride),
        np.inf if y == 0.0 else 1.0 / (y * stride),
        np.inf if z == 0.0 else 1.0 / (z * stride),
    )


@compiled
def _span(start: float, per_voxel: float, low: float, high: float) -> tuple[float, float]:
    """First and last sample, with fractions, between two bounds on one axis; none when the last comes first."""
    if per_voxel == np.inf:
        return (0.0, np.inf) if low < start < high else (0.0, -1.0)
    one, other = (low - start) * per_voxel, (high - start) * per_voxel
    return min(one, other), max(one, other)


@compiled
def _samples_inside(bounds: Doubles, ray: Ray, samples: int) -> tuple[int, int]:
    """The samples [first, end) within the bounds of what is occupied."""
    x = _span(ray.x, ray.per_x, bounds[0, 0], bounds[0, 1])
    y = _span(ray.y, ray.per_y, bounds[1, 0], bounds[1, 1])
    z = _span(ray.z, ray.per_z, bounds[2, 0], bounds[2, 1])
    first, last = max(0.0, x[0], y[0], z[0]), min(samples - 1.0, x[1], y[1], z[1])
    if first > last or bounds[0, 0] > bounds[0, 1]:
        return samples, samples
    return int(np.ceil(first)), int(last) + 1


@compiled
def _samples_across(brick: int, free: int, bits: int, position: float, per_voxel: float) -> float:
    """Samples until a position leaves the `free` - 1 bricks on either side of its own."""
    face = brick + free if per_voxel > 0.0 else brick + 1 - free
    return ((face << bits) - position) * per_voxel


@compiled
def _clear_samples(clearance: Bytes, ray: Ray, k: int, bits: int) -> int:
    """How many samples from the k-th on are sure to have least opacity; 0 in an occupied brick."""
    x, y, z = ray.x + k * ray.dx, ray.y + k * ray.dy, ray.z + k * ray.dz
    bx, by, bz = int(x) >> bits, int(y) >> bits, int(z) >> bits
    free = int(clearance[U64(bx), U64(by), U64(bz)])
    if free == 0:
        return 0
    across_x = _samples_across(bx, free, bits, x, ray.per_x)
    across_y = _samples_across(by, free, bits, y, ray.per_y)
    across_z = _samples_across(bz, free, bits, z, ray.per_z)
    return 1 + int(min(across_x, across_y, across_z))


@compiled
def _march(
    voxels: Floats,
    clearance: Bytes,
    bounds: Doubles,
    ray: Ray,
    view: View,
    runs: Doubles,
    place: Floats,
    corner: Whole,
    trace: Doubles,
) -> tuple[int, float, float]:
    """Follows one ray.

    Returns:
        How many chunks were traced, the light T_S that passes everything, and the sum of T_1..T_S.
    """
    k, end = _samples_inside(bounds, ray, view.samples)
    light, total, chunks = runs[0, k], runs[1, k], 0
    while k < end:
        clear = min(_clear_samples(clearance, ray, k, view.brick_bits), end - k)
        if clear > 0:
            total += light * runs[1, clear]
            light *= runs[0, clear]
            k += clear
            continue
        _place_chunk(ray, k, view.resolution, place, corner)
        start = chunks * CHUNK
        _gather(voxels, view.resolution, corner, place, trace, start)
        trace[FIRST, chunks] = k
        for j in range(start, start + min(CHUNK, end - k)):
            trace[LIGHT, j] = total
            light *= 1.0 - _clamped(trace[OPACITY, j])
            total += light
        k += min(CHUNK, end - k)
        chunks += 1
        trace[FIRST, chunks] = k
        if light < NEGLIGIBLE_LIGHT:
            return chunks, light, total
    left = view.samples - k
    return chunks, light * runs[0, left], total + light * runs[1, left]


@compiled
def _place_chunk(ray: Ray, k: int, n: int, place: Floats, corner: Whole) -> None:
    """Says where samples k..k+15 lie, and the flat index of the first of the eight voxels around each."""
    _place_axis(0, ray.x + k * ray.dx, ray.dx, n, place)
    _place_axis(Y, ray.y + k * ray.dy, ray.dy, n, place)
    _place_axis(Z, ray.z + k * ray.dz, ray.dz, n, place)
    for j in range(CHUNK):
        row = np.int64(place[INDEX + j]) * n + np.int64(place[INDEX + Y + j])
        corner[j] = row * n + np.int64(place[INDEX + Z + j])


@compiled
def _place_axis(axis: int, start: float, step: float, n: int, place: Floats) -> None:
    """Voxels and hat-function weights on one axis; the weights end at zero outside the grid."""
    edge = np.floor(min(start, start + (CHUNK - 1) * step))
    # Small numbers keep all digits in float32; floats throughout let the loop be vectorised.
    local, delta, shift, limit = F32(start - edge), F32(step), F32(edge - 1.0), F32(n - 2)
    for j in range(CHUNK):
        position = local + F32(j) * delta
        index = min(max(np.floor(position) + shift, F32(0.0)), limit)
        beyond = position - (index - shift)
        place[INDEX + axis + j] = index
        place[BEYOND + axis + j] = beyond
        place[NEAR + axis + j] = max(F32(1.0) - abs(beyond), F32(0.0))
        place[FAR + axis + j] = max(F32(1.0) - abs(beyond - F32(1.0)), F32(0.0))


@compiled
def _fetch(voxels: Floats, n: int, corner: Whole, place: Floats) -> None:
    """Puts the eight voxels around each sample side by side, so that what follows is vectorised."""
    for j in range(CHUNK):
        a = U64(corner[j])
        b, c = a + U64(n), a + U64(n * n)
        d = c + U64(n)
        place[EIGHT + j] = voxels[a]
        place[EIGHT + 1 * CHUNK + j] = voxels[a + U64(1)]
        place[EIGHT + 2 * CHUNK + j] = voxels[b]
        place[EIGHT + 3 * CHUNK + j] = voxels[b + U64(1)]
        place[EIGHT + 4 * CHUNK + j] = voxels[c]
        place[EIGHT + 5 * CHUNK + j] = voxels[c + U64(1)]
        place[EIGHT + 6 * CHUNK + j] = voxels[d]
        place[EIGHT + 7 * CHUNK + j] = voxels[d + U64(1)]


@compiled
def _gather(voxels: Floats, n: int, corner: Whole, place: Floats, trace: Doubles, start: int) -> None:
    """Trilinear values of a chunk's samples into the trace."""
    for j in range(CHUNK):
        a = U64(corner[j])
        b, c = a + U64(n), a + U64(n * n)
        d = c + U64(n)
        z0, z1 = place[NEAR + Z + j], place[FAR + Z + j]
        row_a = z0 * voxels[a] + z1 * voxels[a + U64(1)]
        row_b = z0 * voxels[b] + z1 * voxels[b + U64(1)]
        row_c = z0 * voxels[c] + z1 * voxels[c + U64(1)]
        row_d = z0 * voxels[d] + z1 * voxels[d + U64(1)]
        front = place[NEAR + Y + j] * row_a + place[FAR + Y + j] * row_b
        back = place[NEAR + Y + j] * row_c + place[FAR + Y + j] * row_d
        trace[OPACITY, U64(start + j)] = place[NEAR + j] * front + place[FAR + j] * back


@compiled
def _clamped(opacity: float) -> float:
    if opacity < LEAST_OPACITY:
        return LEAST_OPACITY
    return MOST_OPACITY if opacity > MOST_OPACITY else opacity


@compiled
def _sensitivities(silhouette: float, depth: float, light: float, view: View) -> tuple[float, float]:
    """What the gradient of opacity a_k consists of: (passing - rise * sum_{j>k} T_j) / (1 - a_k).

    From the closed form of the depth above, as each T_j after sample k has the factor 1 - a_k.
    """
    near, far, samples = view.distance - 1.0, view.distance + 1.0, view.samples
    rise = (far - near) / (samples - 1)
    background = far if LEAST_OPACITY <= light <= MOST_OPACITY else 0.0
    return light * (silhouette + depth * (near + rise * samples - background)), depth * rise


@compiled
def _opacity_gradients(trace: Doubles, chunk: int, passing: float, rise: float, total: float, place: Floats) -> bool:
    """Gradients of the opacities of a traced chunk; says whether any is not zero."""
    count, start = int(trace[FIRST, chunk + 1] - trace[FIRST, chunk]), chunk * CHUNK
    for j in range(CHUNK):
        opacity = trace[OPACITY, U64(start + j)]
        slope = (passing - rise * (total - trace[LIGHT, U64(start + j)])) / (1.0 - opacity)
        # No branches, so that the loop is vectorised; NaN counts.
        kept = (j < count) & (not (opacity < LEAST_OPACITY) | (opacity > MOST_OPACITY))
        place[SLOPE + j] = F32(slope) if kept else F32(0.0)
    found = False
    for j in range(CHUNK):
        found |= place[SLOPE + j] != F32(0.0)
    return found


@compiled
def _scatter(target: Floats, n: int, corner: Whole, place: Floats) -> None:
    """Adds the gradient of a chunk's opacities to the eight voxels of each sample."""
    for j in range(CHUNK):
        slope = place[SLOPE + j]
        if slope == F32(0.0):
            continue
        a = U64(corner[j])
        b, c = a + U64(n), a + U64(n * n)
        d = c + U64(n)
        front, back, z0, z1 = slope * place[NEAR + j], slope * place[FAR + j], place[NEAR + Z + j], place[FAR + Z + j]
        share_a, share_b = front * place[NEAR + Y + j], front * place[FAR + Y + j]
        share_c, share_d = back * place[NEAR + Y + j], back * place[FAR + Y + j]
        target[a] += share_a * z0
        target[a + U64(1)] += share_a * z1
        target[b] += share_b * z0
        target[b + U64(1)] += share_b * z1
        target[c] += share_c * z0
        target[c + U64(1)] += share_c * z1
        target[d] += share_d * z0
        target[d + U64(1)] += share_d * z1


@compiled
def _near_slope(beyond: np.float32) -> np.float32:
    """Derivative of the nearer voxel's weight max(0, 1 - |t|); that of the farther one's is this at t - 1."""
    inner = F32(-1.0) if beyond >= F32(0.0) else F32(1.0)
    return inner if (beyond >= F32(-1.0)) & (beyond < F32(1.0)) else F32(0.0)


@compiled
def _add_flow(first: int, view: View, place: Floats, flow: Doubles) -> None:
    """Adds the gradients of a chunk's positions, plain in row 0 and times the samples' depth in row 1, per axis."""
    for j in range(CHUNK):
        x0, x1 = place[NEAR + j], place[FAR + j]
        y0, y1 = place[NEAR + Y + j], place[FAR + Y + j]
        z0, z1 = place[NEAR + Z + j], place[FAR + Z + j]
        dx0, dx1 = _near_slope(place[BEYOND + j]), _near_slope(place[BEYOND + j] - F32(1.0))
        dy0, dy1 = _near_slope(place[BEYOND + Y + j]), _near_slope(place[BEYOND + Y + j] - F32(1.0))
        dz0, dz1 = _near_slope(place[BEYOND + Z + j]), _near_slope(place[BEYOND + Z + j] - F32(1.0))
        a0, a1 = place[EIGHT + j], place[EIGHT + 1 * CHUNK + j]
        b0, b1 = place[EIGHT + 2 * CHUNK + j], place[EIGHT + 3 * CHUNK + j]
        c0, c1 = place[EIGHT + 4 * CHUNK + j], place[EIGHT + 5 * CHUNK + j]
        d0, d1 = place[EIGHT + 6 * CHUNK + j], place[EIGHT + 7 * CHUNK + j]
        row_a, row_b, row_c, row_d = z0 * a0 + z1 * a1, z0 * b0 + z1 * b1, z0 * c0 + z1 * c1, z0 * d0 + z1 * d1
        front = y0 * (dz0 * a0 + dz1 * a1) + y1 * (dz0 * b0 + dz1 * b1)
        back = y0 * (dz0 * c0 + dz1 * c1) + y1 * (dz0 * d0 + dz1 * d1)
        slope = place[SLOPE + j]
        place[EIGHT + j] = slope * (dx0 * (y0 * row_a + y1 * row_b) + dx1 * (y0 * row_c + y1 * row_d))
        place[EIGHT + Y + j] = slope * (x0 * (dy0 * row_a + dy1 * row_b) + x1 * (dy0 * row_c + dy1 * row_d))
        place[EIGHT + Z + j] = slope * (x0 * front + x1 * back)
    for j in range(CHUNK):
        if place[SLOPE + j] == F32(0.0):
            continue
        depth = view.distance - 1.0 + 2.0 * (first + j) / view.samples
        for axis in range(3):
            along = float(place[EIGHT + axis * CHUNK + j])
            flow[0, axis] += along
            flow[1, axis] += along * depth


@compiled
def _turn(flow: Doubles, row: int, column: int, view: View, turns: Doubles) -> None:
    """Adds the gradient of the rotation of a ray through (depth - distance, left depth, up depth) in the camera."""
    edge, scale = view.half_width, (view.resolution - 1) / 2.0
    up = edge - 2.0 * edge * row / (view.image_size - 1)
    left = edge - 2.0 * edge * column / (view.image_size - 1)
    for axis in range(3):
        turns[0, axis, 0] += scale * (flow[1, axis] - view.distance * flow[0, axis])
        turns[0, axis, 1] += scale * left * flow[1, axis]
        turns[0, axis, 2] += scale * up * flow[1, axis]
