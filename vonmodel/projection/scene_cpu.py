"""Data of the CPU projection's loops: scene, tiles and windows of rays, workspaces, and empty bricks to skip.

An image is divided into square tiles, and the samples of a tile's rays into windows of consecutive depths. Tile and
window are small enough that the voxels around them fit into the first-level cache.

Rays jump over empty bricks of voxels. Cell c = 0..N of an axis lies between voxels c - 1 and c (the outermost ones
reach half out of the grid); a brick is 4 x 4 x 4 cells. It is empty if no voxel that its cells touch exceeds the
minimum opacity. Bricks are found by loops that numba compiles on first use.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vondata.kernels import fast_kernel as kernel

MIN_OPACITY = 1e-4
MAX_OPACITY = 1.0 - MIN_OPACITY
FREE_OPACITY = np.float32(MIN_OPACITY)
BRICK_BITS = 2
# Number of bricks a ray may jump over at once.
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
        first: the first of n B layers of bricks to mark.
        stride: step from layer to layer.
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
                        line[z] |= np.uint8(not (row[z] <= FREE_OPACITY))
            for z in range(n):
                if line[z]:
                    occupied[item, bx + 1, by + 1, (z >> BRICK_BITS) + 1] = 1
                    occupied[item, bx + 1, by + 1, ((z + 1) >> BRICK_BITS) + 1] = 1


def occupied_bounds(clearance: Bytes) -> Doubles:
    """Lower and upper bound, in cells, of the occupied bricks along each axis; 4 B and 0 if there are none.

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
    """Measures the distance of bricks from occupied ones.

    Args:
        occupied: (B + 2, B + 2, B + 2), the outer layer empty.
        clearance: (B, B, B), overwritten: bricks to the nearest occupied one (Chebyshev distance), at most 8; 0 if
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
    """Dilation of the occupied bricks by one, corners included; the outer layer stays empty."""
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


# Largest number of rays of a tile: the length of the rows of the loops' arrays.
LANES = 64
TILE_EDGE, MAX_WINDOW = 8, 16
# Largest span in voxels of an edge of a tile (half way along its rays) and of a window (on its longest ray).
WIDE, DEEP = 10.0, 9.3
# Rows of boxes of voxels are padded to this.
ROW = 8

Ints = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]


class RayGrid(NamedTuple):
    """Camera and sizes, the same for every ray.

    Attributes:
        edge: rows and columns of a tile.
        window: samples of a window.
        side: largest number of voxels of a box around them on an axis.
    """

    distance: float
    half_width: float
    samples: int
    resolution: int
    image_size: int
    brick_bits: int
    edge: int
    window: int
    side: int


class Scene(NamedTuple):
    """The volumes to project, and their rotations.

    Attributes:
        volumes: (n, N^3), flat.
        clearance: (n, B, B, B) of their bricks.
        bounds: (n, 3, 2) the occupied cells in u, per axis; the first exceeds the second if there are none.
        rotations: (n, 3, 3), camera frame to object frame.
        runs: (2, S + 1) for m = 0..S samples of minimum opacity: their transmittance, and its sum after each of them.
    """

    volumes: Floats
    clearance: Bytes
    bounds: Doubles
    rotations: Doubles
    runs: Doubles


class Workspace(NamedTuple):
    """Scratch memory of one thread for one tile.

    Attributes:
        axes: (3, 6) positions of the tile's samples: u = (a0 + k a1) + column (a2 + k a3) + row (a4 + k a5).
        rays: rows of LANES for the rays of the tile, listed in `march_cpu`.
        place: rows of LANES for the rays that are marched through a window, listed in `march_cpu`.
        corner: (LANES) voxel indices in the box of the samples of one depth.
        slots: (windows, LANES) rays that are marched, from the front, and rays that skip the window, from the back.
        counts: (windows, 2) number of each.
        opacity, light: (windows, samples, LANES) of samples and before them; gradients of opacity replace opacity.
        box: origin, extents with padded rows, and the extent of a row without padding.
        voxels, shares: a box's values, and gradients, which are zero between windows.
    """

    axes: Doubles
    rays: Doubles
    place: Floats
    corner: Ints
    slots: Ints
    counts: Ints
    opacity: Floats
    light: Floats
    box: Whole
    voxels: Floats
    shares: Floats


class Gradients(NamedTuple):
    """Accumulators of one thread's gradients.

    Attributes:
        volumes: (n, N^3), shared by the threads; zero rows if not needed.
        first: (N^3) for the first item of the thread's share, if another thread began it; else empty.
        rotations: (n, 3, 3), the thread's own; zero rows if not needed.
    """

    volumes: Floats
    first: Floats
    rotations: Doubles


def plan_view(
    camera: tuple[float, float], samples: int, resolution: int, image_size: int, brick_bits: int, rotations: Doubles
) -> RayGrid:
    """Chooses the sizes of tile and window.

    Args:
        camera: its distance and half width.
        samples: of a ray.
        resolution: N.
        image_size: R.
        brick_bits: binary logarithm of a brick's edge.
        rotations: (n, 3, 3); if they are not orthonormal but stretch, tile and window are smaller.
    """
    distance, half_width = camera
    lengths = np.linalg.norm(rotations, axis=2)
    stretch = max(1.0, math.ceil(np.max(lengths, initial=0.0, where=np.isfinite(lengths)) - 1e-3))
    pitch = stretch * half_width * distance * (resolution - 1) / (image_size - 1)
    step = stretch * math.hypot(1.0, half_width, half_width) * (resolution - 1) / samples
    edge, window = (
        max(1, min(most, int(span))) for most, span in ((TILE_EDGE, WIDE / pitch), (MAX_WINDOW, DEEP / step))
    )
    # No box is longer than the farthest tile's diagonal plus a window's longest ray, in any direction.
    longest = math.sqrt(2.0) * pitch * (distance + 1.0) / distance * (edge - 1) + step * (window - 1)
    return RayGrid(distance, half_width, samples, resolution, image_size, brick_bits, edge, window, int(longest) + 4)


def tile_count(view: RayGrid) -> int:
    """Number of tiles of an image; the last ones may reach beyond it."""
    return (-(-view.image_size // view.edge)) ** 2


def runs_of_least_opacity(samples: int) -> Doubles:
    """The closed forms of runs up to a whole ray, as `Scene.runs`."""
    passed = MAX_OPACITY ** np.arange(samples + 1, dtype=np.float64)
    return np.stack([passed, np.cumsum(passed) - 1.0])


def new_workspace(view: RayGrid, rows: int, ray_rows: int, *, backward: bool) -> Workspace:
    """Scratch memory for any tile of a view."""
    windows = -(-view.samples // view.window)
    room = windows * view.window * LANES
    cells = view.side * view.side * (view.side + ROW)
    return Workspace(
        np.empty((3, 6)),
        np.empty(ray_rows * LANES),
        aligned(rows * LANES),
        np.empty(LANES, np.int32),
        np.empty((windows, LANES), np.int32),
        np.empty((windows, 2), np.int32),
        np.empty(room, np.float32),
        np.empty(room, np.float32),
        np.empty(7, np.int64),
        np.empty(cells, np.float32),
        np.zeros(cells if backward else 0, np.float32),
    )


def aligned(size: int) -> Floats:
    """An array aligned to a cache line."""
    space = np.empty(size + 16, np.float32)
    begin = -(space.ctypes.data // 4) % 16
    return space[begin : begin + size]
