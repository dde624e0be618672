"""Fused projection on the CPU: multithreaded forward and backward in float32 (not resampled), coordinates not stored.

Work is shared among as many threads as PyTorch uses (torch.set_num_threads). Results are deterministic: threads write
disjoint pixels and accumulate gradients of their own items; for an item that two threads share, each has a separate
volume, added in a fixed order. If every thread has whole items no memory beyond the results is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vonmodel.projection import operators  # noqa: F401  # defines the operators implemented here

if TYPE_CHECKING:
    from vonmodel.projection.scene_cpu import RayGrid, Scene, Workspace


class _Input(NamedTuple):
    """Input of the loops."""

    scene: Scene
    view: RayGrid


def march_rays(
    volumes: Tensor, rotations: Tensor, distance: float, half_width: float, samples: int, image_size: int
) -> tuple[Tensor, Tensor]:
    """Silhouette and depth, (n, 2, R, R), and the clearance of the volumes' bricks."""
    from vonmodel.projection.march_cpu import sketch_tiles
    from vonmodel.projection.scene_cpu import tile_count

    clearance = _survey(volumes)
    given = _prepare(volumes, clearance, rotations, (distance, half_width, samples, image_size))
    sketch = volumes.new_empty(len(volumes), 2, image_size, image_size)
    pixels, threads, tiles = sketch.numpy(), torch.get_num_threads(), len(volumes) * tile_count(given.view)
    _side_by_side(
        lambda thread: sketch_tiles(*given, (thread, tiles, threads), pixels, _workspace(given.view, backward=False))
    )
    # Rays of non-finite rotations sample nothing; their result is NaN, not an empty sketch.
    sketch[~rotations.isfinite().flatten(1).all(1)] = torch.nan
    return sketch, clearance


def march_rays_backward(
    upstream: Tensor,
    volumes: Tensor,
    clearance: Tensor,
    rotations: Tensor,
    distance: float,
    half_width: float,
    samples: int,
    need_volumes: bool,
    need_rotations: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of volumes and rotations; one that is not needed has zero rows."""
    from vonmodel.projection.march_cpu import gradient_tiles
    from vonmodel.projection.scene_cpu import Gradients, tile_count

    given = _prepare(volumes, clearance, rotations, (distance, half_width, samples, upstream.shape[-1]))
    n, threads, tiles = len(volumes), torch.get_num_threads(), tile_count(given.view)
    bounds = [n * tiles * thread // threads for thread in range(threads + 1)]
    voxels = volumes.shape[2:].numel()
    grad_volumes = volumes.new_zeros(n if need_volumes else 0, voxels)
    turns = np.zeros((threads, n if need_rotations else 0, 3, 3))
    # A thread whose share begins inside an item uses a separate volume for it; the thread before has the item's own.
    begun = [need_volumes and bounds[thread] % tiles > 0 for thread in range(threads)]
    parts = [volumes.new_zeros(voxels if other else 0) for other in begun]
    pixels = upstream.contiguous().numpy()

    def work(thread: int) -> None:
        into = Gradients(grad_volumes.numpy(), parts[thread].numpy(), turns[thread])
        gradient_tiles(
            *given, (bounds[thread], bounds[thread + 1], 1), pixels, into, _workspace(given.view, backward=True)
        )

    _side_by_side(work)
    for thread in np.flatnonzero(begun):
        grad_volumes[bounds[thread] // tiles] += parts[thread]
    shape = volumes.shape if need_volumes else (0, 1, *volumes.shape[2:])
    return grad_volumes.view(shape), torch.from_numpy(turns.sum(0)).to(rotations.dtype)


def _survey(volumes: Tensor) -> Tensor:
    """Distance in bricks from each brick of volumes to the nearest non-empty one, (n, B, B, B) uint8."""
    from vonmodel.projection import scene_cpu

    n, threads, bricks = len(volumes), torch.get_num_threads(), scene_cpu.bricks_along(volumes.shape[-1])
    grids = _grids(volumes)
    occupied = np.zeros((n, *[bricks + 2] * 3), np.uint8)
    clearance = np.empty((n, *[bricks] * 3), np.uint8)

    def measure(thread: int) -> None:
        for item in range(thread, n, threads):
            scene_cpu.measure_clearance(occupied[item], clearance[item])

    _side_by_side(lambda thread: scene_cpu.mark_occupied(grids, occupied, thread, threads))
    _side_by_side(measure)
    return torch.from_numpy(clearance)


def _grids(volumes: Tensor) -> npt.NDArray[np.float32]:
    """(n, N, N, N)."""
    return volumes.detach().contiguous().numpy().reshape(len(volumes), *volumes.shape[2:])


def _prepare(volumes: Tensor, clearance: Tensor, rotations: Tensor, view: tuple[float, float, int, int]) -> _Input:
    """Arrays for the loops; view: distance, half width, samples, image size."""
    from vonmodel.projection import scene_cpu

    distance, half_width, samples, image_size = view
    free = clearance.contiguous().numpy()
    bounds = np.stack([scene_cpu.occupied_bounds(item) for item in free]) if len(free) else np.empty((0, 3, 2))
    turns = np.ascontiguousarray(rotations.detach().numpy(), dtype=np.float64)
    runs = scene_cpu.runs_of_least_opacity(samples)
    scene = scene_cpu.Scene(_grids(volumes).reshape(len(volumes), volumes.shape[-1] ** 3), free, bounds, turns, runs)
    sizes = (samples, volumes.shape[-1], image_size, scene_cpu.BRICK_BITS)
    return _Input(scene, scene_cpu.plan_view((distance, half_width), *sizes, turns))


def _workspace(view: RayGrid, *, backward: bool) -> Workspace:
    """Scratch memory of a thread."""
    from vonmodel.projection.march_cpu import PLACE_ROWS, RAY_ROWS
    from vonmodel.projection.scene_cpu import new_workspace

    return new_workspace(view, PLACE_ROWS, RAY_ROWS, backward=backward)


def _side_by_side(work: Callable[[int], None]) -> None:
    """Calls work(thread) for every thread in parallel; the loops release the GIL."""
    threads = torch.get_num_threads()
    if threads == 1:
        work(0)
    else:
        list(_pool(os.getpid(), threads).map(work, range(threads)))


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The threads of this process; a forked one must not wait for those of its parent."""
    return ThreadPoolExecutor(threads, thread_name_prefix="march")


torch.library.impl("von::march_rays", "cpu", march_rays)
torch.library.impl("von::march_rays_backward", "cpu", march_rays_backward)
