"""Ray marching on the CPU: forward and backward loops of the fused projection, compiled by numba on first use.

Positions along a ray are in voxels, counted from one voxel outside the grid: u = index + 1, so that all non-zero
values lie in 0 < u < N + 1. The optimisations change results by rounding only:

- The rays of a tile are marched together, a window of samples at a time. The voxels around a window are first copied
  into a box of a few kilobytes, with zeros outside the grid, which stays in the first-level cache; gradients are
  accumulated in such a box as well. Sample k has the same depth on all rays, so that positions are sums of products
  of column and row, one short vectorised loop for a whole tile.
- A sample between voxels that are all at most 1e-4 has exactly opacity 1e-4, because opacity is clamped. A ray skips
  an empty window in closed form: m such samples have the transmittance (1 - 1e-4)^m.
- Depth needs only the sum of transmittances: with T_k the transmittance before sample k and weights d_k = near + k h,
  sum_k (T_k - T_{k+1}) d_k = near (1 - T_S) + h (sum_{k=1..S} T_k - S T_S).
- A ray ends when its transmittance falls below 1e-10; as 1 - a is at least 1e-4, no gradient changes by over 1e-6.

The backward pass goes from the last sample to the first. With h' = h times the gradient of depth, and U_k the
gradient of T_k through all later samples: U_k = (1 - a_k) (U_{k+1} + h'), and a_k has the gradient
-T_k (U_{k+1} + h').

Inner functions take plain arrays, never tuples or slices of them, whose reference counting would cost more than the
work, and loops to be vectorised index with unsigned integers, as numba wraps negative ones around. All loops are in
one file because numba's cache notices changes only in the file of a function: after a change to `scene_cpu` or
`vectors_cpu` alone, remove `__pycache__`.
"""

from __future__ import annotations

import numpy as np

from vondata.kernels import fast_kernel as kernel
from vonmodel.projection.scene_cpu import (
    LANES,
    MAX_OPACITY,
    MIN_OPACITY,
    ROW,
    Bytes,
    Doubles,
    Floats,
    Gradients,
    Ints,
    RayGrid,
    Scene,
    Whole,
    Workspace,
)
from vonmodel.projection.vectors_cpu import add_pair, copy_eight, move_eight, trilinear

NEGLIGIBLE_LIGHT = 1e-10
# Rounding error of a sample's position, in voxels.
TOLERANCE = 1e-3

# Rows of `rays`, one number for each ray of a tile.
FIRST, END = 0 * LANES, 1 * LANES  # its samples within the bounds of the occupied bricks
PASSED, TOTAL = 2 * LANES, 3 * LANES  # transmittance, and the sum of T_1 up to here
BEHIND, STEP = 4 * LANES, 5 * LANES  # U and h' as above
ACROSS, BELOW = 6 * LANES, 7 * LANES  # pixel within the tile
RAY_ROWS = 8
# Rows of `place`, one number for each ray that is marched through the window.
COLUMN, DOWN = 0 * LANES, 1 * LANES  # pixel within the tile
LIGHT, SUM = 2 * LANES, 3 * LANES  # transmittance, and its sum over the window
ADJOINT, RISE = 4 * LANES, 5 * LANES  # U and h' as above
WX, WY, WZ = 6 * LANES, 7 * LANES, 8 * LANES  # weight of the farther voxel on each axis
VALUE = 9 * LANES  # opacity
SHARE = 10 * LANES  # four rows: gradient of opacity times weights along x and y
EIGHT = 14 * LANES  # eight rows: voxels around a sample, z fastest
BRICK = 10 * LANES  # three rows: position of each ray of the tile in the middle of a window, in bricks
FLOW = 22 * LANES  # six rows: gradient of the position, and times depth, per axis
PLACE_ROWS = 28

F32, I32, U32, U64 = np.float32, np.int32, np.uint32, np.uint64
MIN, MAX = F32(MIN_OPACITY), F32(MAX_OPACITY)

Share = tuple[int, int, int]


@kernel
def sketch_tiles(scene: Scene, view: RayGrid, share: Share, sketch: Floats, space: Workspace) -> None:
    """Writes silhouette and depth of tiles into sketch (n, 2, R, R); share: start, stop, step of tiles."""
    near, far, samples = view.distance - 1.0, view.distance + 1.0, view.samples
    rise = (far - near) / (samples - 1)
    for tile in range(share[0], share[1], share[2]):
        item, top, left = _tile(tile, view)
        _march(scene, item, top, left, view, space, False)
        for row in range(min(view.edge, view.image_size - top)):
            for column in range(min(view.edge, view.image_size - left)):
                ray = row * view.edge + column
                light, total = space.rays[PASSED + ray], space.rays[TOTAL + ray]
                sketch[item, 0, top + row, left + column] = 1.0 - light
                depth = near * (1.0 - light) + rise * (total - samples * light)
                sketch[item, 1, top + row, left + column] = depth + far * _clamped(light)


@kernel
def gradient_tiles(
    scene: Scene, view: RayGrid, share: Share, upstream: Floats, gradients: Gradients, space: Workspace
) -> None:
    """Accumulates gradients for an upstream gradient (n, 2, R, R) of silhouette and depth; share as above."""
    begun = _tile(share[0], view)[0] if len(gradients.first) else -1
    for tile in range(share[0], share[1], share[2]):
        item, top, left = _tile(tile, view)
        target = gradients.first if item == begun or not len(gradients.volumes) else gradients.volumes[item]
        turns = gradients.rotations[item : item + 1]
        first, end, windows = _march(scene, item, top, left, view, space, True)
        _start_back(upstream, item, top, left, view, space.rays)
        for ray in range(view.edge * view.edge):
            # Behind the last window a ray ran through empty space, unless it had ended before.
            if space.rays[END + ray] > 0.0:
                _let_pass_back(ray, view.samples - end, scene.runs, space.rays)
        for window in range(windows - 1, -1, -1):
            k = first + window * view.window
            m = min(view.window, end - k)
            _window_back(scene.volumes[item], k, m, window, top, left, view, target, turns, scene.runs, space)


@kernel
def _tile(tile: int, view: RayGrid) -> Share:
    """Item, first row and first column of a tile.

    Tiles of an item are numbered so that any range of them is spread over two bands, as central tiles cost more.
    """
    across = (view.image_size + view.edge - 1) // view.edge
    count = across * across
    item, index = tile // count, tile % count
    spread = index // 2 + (index % 2) * ((count + 1) // 2)
    return item, spread // across * view.edge, spread % across * view.edge


@kernel
def _aim(rotation: Doubles, top: int, left: int, view: RayGrid, axes: Doubles) -> None:
    """Writes the coefficients of a tile's sample positions u(k, column, row), see `Workspace.axes`."""
    edge, camera, scale = view.half_width, view.distance, (view.resolution - 1) / 2.0
    pitch, step = 2.0 * edge / (view.image_size - 1), 2.0 / view.samples
    first_left, first_up = edge - pitch * left, edge - pitch * top
    for axis in range(3):
        forward, aside, up = rotation[axis, 0], rotation[axis, 1], rotation[axis, 2]
        # Position at depth 1, then change per unit of depth; sample k lies at depth (camera - 1) + k step.
        along = (forward + first_left * aside + first_up * up) * scale
        axes[axis, 0] = along * (camera - 1.0) + (1.0 - forward * camera) * scale + 1.0
        axes[axis, 1] = along * step
        axes[axis, 2], axes[axis, 3] = -pitch * aside * scale * (camera - 1.0), -pitch * aside * scale * step
        axes[axis, 4], axes[axis, 5] = -pitch * up * scale * (camera - 1.0), -pitch * up * scale * step


@kernel
def _at(axes: Doubles, axis: int, k: float, column: float, row: float) -> float:
    """Position u of a sample on an axis."""
    across = column * (axes[axis, 2] + k * axes[axis, 3]) + row * (axes[axis, 4] + k * axes[axis, 5])
    return float(axes[axis, 0] + k * axes[axis, 1] + across)


@kernel
def _span(start: float, step: float, low: float, high: float) -> tuple[float, float]:
    """First and last sample, fractional, between two bounds on one axis; none if last < first."""
    if step == 0.0:
        return (0.0, np.inf) if low < start < high else (0.0, -1.0)
    one, other = (low - start) / step, (high - start) / step
    return min(one, other), max(one, other)


@kernel
def _enter(bounds: Doubles, top: int, left: int, view: RayGrid, axes: Doubles, rays: Doubles) -> tuple[int, int]:
    """Finds the samples within the bounds of the occupied bricks, of each ray and of all rays together."""
    earliest, latest = view.samples, 0
    for row in range(view.edge):
        for column in range(view.edge):
            ray, first, last = row * view.edge + column, 0.0, view.samples - 1.0
            rays[ACROSS + ray], rays[BELOW + ray] = column, row
            for axis in range(3):
                start = _at(axes, axis, 0.0, column, row)
                step = _at(axes, axis, 1.0, column, row) - start
                enters, leaves = _span(start, step, bounds[axis, 0], bounds[axis, 1])
                first, last = max(first, enters), min(last, leaves)
                # With a non-finite rotation no voxel may be read; the caller sets the result to NaN.
                last = last if abs(start) + abs(step) < np.inf else -1.0
            inside = (first <= last) & (bounds[0, 0] <= bounds[0, 1])
            if inside & (top + row < view.image_size) & (left + column < view.image_size):
                rays[FIRST + ray], rays[END + ray] = np.ceil(first), np.floor(last) + 1.0
                earliest, latest = min(earliest, int(np.ceil(first))), max(latest, int(last) + 1)
            else:
                rays[FIRST + ray], rays[END + ray] = view.samples, view.samples
    return earliest, max(latest, earliest)


@kernel
def _march(
    scene: Scene, item: int, top: int, left: int, view: RayGrid, space: Workspace, traced: bool
) -> tuple[int, int, int]:
    """Marches the rays of a tile: transmittances into `rays`, opacities and light into the trace.

    Returns:
        First sample, the one after the last, and the number of windows.
    """
    axes, rays, place, corner, box = space.axes, space.rays, space.place, space.corner, space.box
    voxels, runs, n = scene.volumes[item], scene.runs, view.resolution
    _aim(scene.rotations[item], top, left, view, axes)
    first, end = _enter(scene.bounds[item], top, left, view, axes, rays)
    for ray in range(view.edge * view.edge):
        rays[PASSED + ray], rays[TOTAL + ray] = runs[0, first], runs[1, first]
    window, k, lit = 0, first, 1
    while (k < end) & (lit > 0):
        m = min(view.window, end - k)
        slots, counts = space.slots[window], space.counts[window]
        _choose(scene.clearance[item], k, m, view, axes, rays, place, slots, counts)
        for i in range(counts[1]):
            _let_pass(slots[LANES - 1 - i], m, runs, rays)
        if counts[0]:
            _set_out(counts[0], slots, rays, place)
            _lay_box(counts[0], k, m, axes, place, box)
            _fill_box(voxels, n, box, space.voxels)
            trace = window * view.window * LANES if traced else -1
            _follow(counts[0], k, m, axes, box, space.voxels, place, corner, space.opacity, space.light, trace)
            _arrive(counts[0], slots, place, rays)
        lit = counts[0] + counts[1]
        k += m
        window += 1
    for ray in range(view.edge * view.edge):
        # Rays that have ended are marked: no light passes any more.
        if rays[PASSED + ray] < NEGLIGIBLE_LIGHT:
            rays[END + ray] = 0.0
        else:
            _let_pass(ray, view.samples - k, runs, rays)
    return first, k, window


@kernel
def _choose(
    clearance: Bytes,
    k: int,
    m: int,
    view: RayGrid,
    axes: Doubles,
    rays: Doubles,
    place: Floats,
    slots: Ints,
    counts: Ints,
) -> None:
    """Sorts the rays that have not ended: those near occupied bricks are marched, the others skip the window."""
    followed, passing, middle, last = 0, 0, k + 0.5 * (m - 1), F32(len(clearance) - 1)
    # Bricks around the window's middle that its samples may touch: `reach` - 1 on every side.
    stretch, edge, brick = 0.0, view.edge, F32(1.0 / (1 << view.brick_bits))
    for axis in range(3):
        for corner in range(4):
            column, row = (corner & 1) * (edge - 1.0), (corner >> 1) * (edge - 1.0)
            stretch = max(stretch, abs(_at(axes, axis, 1.0, column, row) - _at(axes, axis, 0.0, column, row)))
        start, across = F32(_at(axes, axis, middle, 0.0, 0.0)), F32(axes[axis, 2] + middle * axes[axis, 3])
        down = F32(axes[axis, 4] + middle * axes[axis, 5])
        for row in range(edge):
            for column in range(edge):
                # If the middle is outside the grid, the nearest brick inside is not farther from occupied ones.
                index = (start + F32(column) * across + F32(row) * down) * brick
                place[BRICK + axis * LANES + row * edge + column] = min(max(index, F32(0.0)), last)
    reach = 1 + int(np.ceil((0.5 * (m - 1) * stretch + TOLERANCE) * brick))
    for ray in range(edge * edge):
        if rays[PASSED + ray] < NEGLIGIBLE_LIGHT:
            continue
        bx, by, bz = place[BRICK + ray], place[BRICK + LANES + ray], place[BRICK + 2 * LANES + ray]
        near = clearance[U64(I32(bx)), U64(I32(by)), U64(I32(bz))] < reach
        if near & (rays[FIRST + ray] < k + m) & (rays[END + ray] > k):
            slots[followed] = ray
            followed += 1
        else:
            slots[LANES - 1 - passing] = ray
            passing += 1
    counts[0], counts[1] = followed, passing


@kernel
def _let_pass(ray: int, m: int, runs: Doubles, rays: Doubles) -> None:
    """Applies m samples of minimum opacity at once."""
    rays[TOTAL + ray] += rays[PASSED + ray] * runs[1, m]
    rays[PASSED + ray] *= runs[0, m]


@kernel
def _let_pass_back(ray: int, m: int, runs: Doubles, rays: Doubles) -> None:
    rays[BEHIND + ray] = rays[BEHIND + ray] * runs[0, m] + rays[STEP + ray] * runs[1, m]


@kernel
def _set_out(count: int, slots: Ints, rays: Doubles, place: Floats) -> None:
    """Gathers the rays that are marched through a window into contiguous rows."""
    for j in range(count):
        ray = int(slots[j])
        place[COLUMN + j], place[DOWN + j] = rays[ACROSS + ray], rays[BELOW + ray]
        place[LIGHT + j], place[SUM + j] = rays[PASSED + ray], 0.0


@kernel
def _arrive(count: int, slots: Ints, place: Floats, rays: Doubles) -> None:
    for j in range(count):
        ray = int(slots[j])
        rays[PASSED + ray] = place[LIGHT + j]
        rays[TOTAL + ray] += place[SUM + j]


@kernel
def _lay_box(count: int, k: int, m: int, axes: Doubles, place: Floats, box: Whole) -> None:
    """The bounding box of all samples of a window; positions are extreme at the corners of its rows and columns."""
    left, right, top, bottom = F32(LANES), F32(0.0), F32(LANES), F32(0.0)
    for j in range(count):
        left, right = min(left, place[COLUMN + j]), max(right, place[COLUMN + j])
        top, bottom = min(top, place[DOWN + j]), max(bottom, place[DOWN + j])
    for axis in range(3):
        low, high = np.inf, -np.inf
        for corner in range(8):
            sample = k if corner & 1 else k + m - 1
            column, row = float(left if corner & 2 else right), float(top if corner & 4 else bottom)
            position = _at(axes, axis, sample, column, row)
            low, high = min(low, position), max(high, position)
        # u - 1 counts voxels; the farther neighbour of the last one is in the box as well.
        box[axis] = int(np.floor(low - 1.0 - TOLERANCE))
        box[3 + axis] = int(np.floor(high - 1.0 + TOLERANCE)) + 2 - box[axis]
    box[6] = box[5]
    box[5] = (box[5] + ROW - 1) // ROW * ROW


@kernel
def _is_inside(box: Whole, n: int) -> bool:
    """Whether a box is in the grid, and its padding, which extends into the next row, in the volume."""
    x, y, z = box[0] + box[3], box[1] + box[4], box[2] + box[6]
    end = ((x - 1) * n + y - 1) * n + box[2] + box[5]
    inside = (min(box[0], box[1], box[2]) >= 0) & (max(x, y, z) <= n) & (end <= n * n * n)
    return bool(inside)


@kernel
def _fill_box(voxels: Floats, n: int, box: Whole, into: Floats) -> None:
    """Copies a box of voxels, zero outside the grid."""
    x, y, z, wide, high, row = box[0], box[1], box[2], box[3], box[4], box[5]
    if _is_inside(box, n):
        for i in range(wide):
            for j in range(high):
                source, to = U64(((x + i) * n + y + j) * n + z), U64((i * high + j) * row)
                for c in range(0, row, ROW):
                    copy_eight(into, to + U64(c), voxels, source + U64(c))
        return
    into[: wide * high * row] = F32(0.0)
    low, stop = max(0, -z), min(box[6], n - z)
    for i in range(max(0, -x), min(wide, n - x)):
        for j in range(max(0, -y), min(high, n - y)):
            source, to = ((x + i) * n + y + j) * n + z, (i * high + j) * row
            for c in range(low, stop):
                into[U64(to + c)] = voxels[U64(source + c)]


@kernel
def _follow(
    count: int,
    k: int,
    m: int,
    axes: Doubles,
    box: Whole,
    voxels: Floats,
    place: Floats,
    corner: Ints,
    opacity: Floats,
    light: Floats,
    trace: int,
) -> None:
    """Marches rays through m samples; keeps opacities and transmittances in the trace unless that is negative."""
    row, slab = U64(box[5]), U64(box[4] * box[5])
    for sample in range(m):
        _locate(count, k + sample, axes, box, place, corner)
        for j in range(count):
            first, wx, wy, wz = U64(U32(corner[j])), place[WX + j], place[WY + j], place[WZ + j]
            place[VALUE + j] = trilinear(voxels, first, row, slab, wx, wy, wz)
        if trace >= 0:
            for j in range(count):
                opacity[U64(trace + j)] = place[VALUE + j]
            for j in range(count):
                light[U64(trace + j)] = place[LIGHT + j]
            trace += LANES
        for j in range(count):
            value = place[VALUE + j]
            value = MIN if value < MIN else (MAX if value > MAX else value)
            # Not light * (1 - value): 1 - 1e-4 is not exact in float32, and its error would accumulate along a ray.
            left = place[LIGHT + j] - place[LIGHT + j] * value
            place[LIGHT + j] = left
            place[SUM + j] += left


@kernel
def _locate(count: int, k: int, axes: Doubles, box: Whole, place: Floats, corner: Ints) -> None:
    """Locates the k-th samples in the box: the index of the nearer voxel and the weights of the farther one."""
    x, y, z = axes[0, 0] + k * axes[0, 1], axes[1, 0] + k * axes[1, 1], axes[2, 0] + k * axes[2, 1]
    # u - 1 counts voxels. Relative to the box, coordinates are small and precise in float32.
    x, y, z = F32(x - 1.0 - box[0]), F32(y - 1.0 - box[1]), F32(z - 1.0 - box[2])
    across_x, down_x = F32(axes[0, 2] + k * axes[0, 3]), F32(axes[0, 4] + k * axes[0, 5])
    across_y, down_y = F32(axes[1, 2] + k * axes[1, 3]), F32(axes[1, 4] + k * axes[1, 5])
    across_z, down_z = F32(axes[2, 2] + k * axes[2, 3]), F32(axes[2, 4] + k * axes[2, 5])
    row, slab = F32(box[5]), F32(box[4] * box[5])
    for j in range(count):
        across, down = place[COLUMN + j], place[DOWN + j]
        at_x = x + across * across_x + down * down_x
        at_y = y + across * across_y + down * down_y
        at_z = z + across * across_z + down * down_z
        # Positions in the box are not negative, so that truncation rounds down.
        index_x, index_y, index_z = F32(I32(at_x)), F32(I32(at_y)), F32(I32(at_z))
        place[WX + j], place[WY + j], place[WZ + j] = at_x - index_x, at_y - index_y, at_z - index_z
        corner[j] = I32(index_x * slab + index_y * row + index_z)


@kernel
def _clamped(light: float) -> float:
    if light < MIN_OPACITY:
        return MIN_OPACITY
    return MAX_OPACITY if light > MAX_OPACITY else light


@kernel
def _start_back(upstream: Floats, item: int, top: int, left: int, view: RayGrid, rays: Doubles) -> None:
    """Gradients of the light T_S and of every T_k, from the closed form of the depth."""
    near, far, samples = view.distance - 1.0, view.distance + 1.0, view.samples
    rise = (far - near) / (samples - 1)
    for row in range(min(view.edge, view.image_size - top)):
        for column in range(min(view.edge, view.image_size - left)):
            ray = row * view.edge + column
            silhouette = float(upstream[item, 0, top + row, left + column])
            depth = float(upstream[item, 1, top + row, left + column])
            background = far if MIN_OPACITY <= rays[PASSED + ray] <= MAX_OPACITY else 0.0
            rays[BEHIND + ray] = -silhouette - depth * (near + rise * samples - background)
            rays[STEP + ray] = depth * rise


@kernel
def _window_back(
    voxels: Floats,
    k: int,
    m: int,
    window: int,
    top: int,
    left: int,
    view: RayGrid,
    target: Floats,
    turns: Doubles,
    runs: Doubles,
    space: Workspace,
) -> None:
    """Propagates a tile's gradients back through a window, and accumulates those of its voxels and rotation."""
    rays, place, corner, box = space.rays, space.place, space.corner, space.box
    slots, count, n = space.slots[window], int(space.counts[window, 0]), view.resolution
    for i in range(space.counts[window, 1]):
        _let_pass_back(slots[LANES - 1 - i], m, runs, rays)
    if count == 0:
        return
    _set_out_back(count, slots, rays, place)
    trace = window * view.window * LANES
    found = _differentiate(count, m, trace, place, space.light, space.opacity)
    for j in range(count):
        rays[BEHIND + slots[j]] = place[ADJOINT + j]
    if not found:
        return
    _lay_box(count, k, m, space.axes, place, box)
    if len(turns):
        _fill_box(voxels, n, box, space.voxels)
        place[FLOW : FLOW + 6 * LANES] = F32(0.0)
    if len(target):
        _spread(count, k, m, space.axes, box, place, corner, space.opacity, trace, space.shares)
    if len(turns):
        near, step = view.distance - 1.0, 2.0 / view.samples
        _add_flow(count, k, m, near, step, space.axes, box, space.voxels, place, corner, space.opacity, trace)
    if len(target):
        _empty_box(target, n, box, space.shares)
    if len(turns):
        _turn(count, top, left, view, place, turns)


@kernel
def _set_out_back(count: int, slots: Ints, rays: Doubles, place: Floats) -> None:
    for j in range(count):
        ray = int(slots[j])
        place[COLUMN + j], place[DOWN + j] = rays[ACROSS + ray], rays[BELOW + ray]
        place[ADJOINT + j], place[RISE + j] = rays[BEHIND + ray], rays[STEP + ray]


@kernel
def _differentiate(count: int, m: int, trace: int, place: Floats, light: Floats, opacity: Floats) -> bool:
    """Replaces opacities by their gradients, the last of m samples first; returns whether any is not zero."""
    found = False
    for sample in range(m - 1, -1, -1):
        start = trace + sample * LANES
        for j in range(count):
            value, behind = opacity[U64(start + j)], place[ADJOINT + j] + place[RISE + j]
            clamped = MIN if value < MIN else (MAX if value > MAX else value)
            place[ADJOINT + j] = behind - clamped * behind
            gradient = -light[U64(start + j)] * behind
            # Clamped values have no gradient; NaN keeps its own. Both sides are computed to avoid a branch.
            opacity[U64(start + j)] = F32(0.0) if (value < MIN) | (value > MAX) else gradient
        for j in range(count):
            found |= opacity[U64(start + j)] != F32(0.0)
    return found


@kernel
def _spread(
    count: int,
    k: int,
    m: int,
    axes: Doubles,
    box: Whole,
    place: Floats,
    corner: Ints,
    slope: Floats,
    trace: int,
    shares: Floats,
) -> None:
    """Adds the gradients of m samples to the eight voxels around each."""
    row, slab = U64(box[5]), U64(box[4] * box[5])
    for sample in range(m):
        _locate(count, k + sample, axes, box, place, corner)
        for j in range(count):
            whole = slope[U64(trace + j)]
            back = whole * place[WX + j]
            front = whole - back
            far_front, far_back = front * place[WY + j], back * place[WY + j]
            place[SHARE + j], place[SHARE + LANES + j] = front - far_front, far_front
            place[SHARE + 2 * LANES + j], place[SHARE + 3 * LANES + j] = back - far_back, far_back
        trace += LANES
        for j in range(count):
            a = U64(U32(corner[j]))
            b, c = a + row, a + slab
            d = c + row
            far = place[WZ + j]
            near = F32(1.0) - far
            add_pair(shares, a, place[SHARE + j], near, far)
            add_pair(shares, b, place[SHARE + LANES + j], near, far)
            add_pair(shares, c, place[SHARE + 2 * LANES + j], near, far)
            add_pair(shares, d, place[SHARE + 3 * LANES + j], near, far)


@kernel
def _empty_box(target: Floats, n: int, box: Whole, shares: Floats) -> None:
    """Adds a box of gradients to those of the volume and leaves zeros in it."""
    x, y, z, wide, high, row = box[0], box[1], box[2], box[3], box[4], box[5]
    if _is_inside(box, n):
        for i in range(wide):
            for j in range(high):
                to, source = U64(((x + i) * n + y + j) * n + z), U64((i * high + j) * row)
                for c in range(0, row, ROW):
                    move_eight(target, to + U64(c), shares, source + U64(c))
        return
    low, stop = max(0, -z), min(box[6], n - z)
    for i in range(max(0, -x), min(wide, n - x)):
        for j in range(max(0, -y), min(high, n - y)):
            to, source = ((x + i) * n + y + j) * n + z, (i * high + j) * row
            for c in range(low, stop):
                target[U64(to + c)] += shares[U64(source + c)]
    shares[: wide * high * row] = F32(0.0)


@kernel
def _add_flow(
    count: int,
    k: int,
    m: int,
    nearest: float,
    step: float,
    axes: Doubles,
    box: Whole,
    voxels: Floats,
    place: Floats,
    corner: Ints,
    slope: Floats,
    trace: int,
) -> None:
    """Adds the gradients of m samples' positions, plain in three rows and times their depth in the next three."""
    row, slab = U64(box[5]), U64(box[4] * box[5])
    for sample in range(m):
        depth = F32(nearest + step * (k + sample))
        _locate(count, k + sample, axes, box, place, corner)
        # The eight voxels around each sample are gathered into rows, so that the next loop is vectorised.
        for j in range(count):
            a = U64(U32(corner[j]))
            b, c = a + row, a + slab
            d = c + row
            place[EIGHT + j], place[EIGHT + 1 * LANES + j] = voxels[a], voxels[a + U64(1)]
            place[EIGHT + 2 * LANES + j], place[EIGHT + 3 * LANES + j] = voxels[b], voxels[b + U64(1)]
            place[EIGHT + 4 * LANES + j], place[EIGHT + 5 * LANES + j] = voxels[c], voxels[c + U64(1)]
            place[EIGHT + 6 * LANES + j], place[EIGHT + 7 * LANES + j] = voxels[d], voxels[d + U64(1)]
        for j in range(count):
            whole, wx, wy, wz = slope[U64(trace + j)], place[WX + j], place[WY + j], place[WZ + j]
            a, along_a = place[EIGHT + j], place[EIGHT + 1 * LANES + j] - place[EIGHT + j]
            b, along_b = place[EIGHT + 2 * LANES + j], place[EIGHT + 3 * LANES + j] - place[EIGHT + 2 * LANES + j]
            c, along_c = place[EIGHT + 4 * LANES + j], place[EIGHT + 5 * LANES + j] - place[EIGHT + 4 * LANES + j]
            d, along_d = place[EIGHT + 6 * LANES + j], place[EIGHT + 7 * LANES + j] - place[EIGHT + 6 * LANES + j]
            row_a, row_b, row_c, row_d = a + wz * along_a, b + wz * along_b, c + wz * along_c, d + wz * along_d
            front, back = row_a + wy * (row_b - row_a), row_c + wy * (row_d - row_c)
            along_front, along_back = along_a + wy * (along_b - along_a), along_c + wy * (along_d - along_c)
            x = whole * (back - front)
            y = whole * ((row_b - row_a) + wx * ((row_d - row_c) - (row_b - row_a)))
            z = whole * (along_front + wx * (along_back - along_front))
            place[FLOW + j] += x
            place[FLOW + LANES + j] += y
            place[FLOW + 2 * LANES + j] += z
            place[FLOW + 3 * LANES + j] += depth * x
            place[FLOW + 4 * LANES + j] += depth * y
            place[FLOW + 5 * LANES + j] += depth * z
        trace += LANES


@kernel
def _turn(count: int, top: int, left: int, view: RayGrid, place: Floats, turns: Doubles) -> None:
    """Adds the gradient of the rotation, for points (depth - distance, left depth, up depth) in the camera frame."""
    edge, scale = view.half_width, (view.resolution - 1) / 2.0
    pitch = 2.0 * edge / (view.image_size - 1)
    for axis in range(3):
        plain, forward, aside, up = 0.0, 0.0, 0.0, 0.0
        for j in range(count):
            deep = float(place[FLOW + (3 + axis) * LANES + j])
            plain += place[FLOW + axis * LANES + j]
            forward += deep
            aside += (edge - pitch * (left + place[COLUMN + j])) * deep
            up += (edge - pitch * (top + place[DOWN + j])) * deep
        turns[0, axis, 0] += scale * (forward - view.distance * plain)
        turns[0, axis, 1] += scale * aside
        turns[0, axis, 2] += scale * up
