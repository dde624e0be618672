"""Fused projection on NVIDIA GPUs: float32, float16 or bfloat16 volumes (not resampled), accumulated in float32.

Only the sketch is stored per ray, nothing per sample; the backward pass marches again. Gradients of voxels are added
atomically, so their last bits depend on timing, except under torch.use_deterministic_algorithms: then they are added
as integers (int64, in units of 2^-30 of the largest upstream gradient).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import numpy as np
import torch
from torch import Tensor

from vonmodel.projection import operators  # noqa: F401  # defines the operators implemented here
from vonmodel.projection.scene_cpu import bricks_along

# Rays of a program, rows x columns. One warp: it decides about jumps without a barrier, and small tiles jump
# farther.
TILE = (8, 4)
WARPS = 1
# Samples whose gradients a program adds in one unrolled group; more of them take long to compile.
TOGETHER = 2
# Bricks of a program of `spread_along_axis`.
SPREAD = 1024


def march_rays(
    volumes: Tensor, rotations: Tensor, distance: float, half_width: float, samples: int, image_size: int
) -> tuple[Tensor, Tensor]:
    """Silhouette and depth, (n, 2, R, R), and the clearance of the volumes' bricks."""
    from vonmodel.projection import march_gpu

    n, resolution, tiles = len(volumes), volumes.shape[-1], tile_count(image_size)
    volumes = volumes.detach().contiguous()
    sketch = volumes.new_empty(n, 2, image_size, image_size, dtype=torch.float32)
    with _on_device_of(volumes):
        clearance = survey(volumes)
        if n:
            march_gpu.sketch_tiles[n * tiles,](
                volumes,
                clearance,
                rotations.contiguous(),
                runs_of_least_opacity(samples, volumes.device),
                sketch,
                resolution,
                clearance.shape[-1],
                samples,
                image_size,
                tiles,
                distance,
                half_width,
                ROWS=TILE[0],
                COLUMNS=TILE[1],
                num_warps=WARPS,
            )
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
    from vonmodel.projection import march_gpu

    n, resolution, image_size = len(volumes), volumes.shape[-1], upstream.shape[-1]
    deterministic, tiles = torch.are_deterministic_algorithms_enabled(), tile_count(image_size)
    summed = volumes.new_zeros(
        n if need_volumes else 0, *volumes.shape[1:], dtype=torch.int64 if deterministic else torch.float32
    )
    turns = rotations.new_empty(n if need_rotations else 0, tiles, 3, 3)
    unit = 2.0**30 / upstream.abs().amax().clamp(min=1e-30) if deterministic and n else None
    if n:
        volumes = volumes.detach().contiguous()
        with _on_device_of(volumes):
            march_gpu.gradient_tiles[n * tiles,](
                volumes,
                clearance.contiguous(),
                rotations.contiguous(),
                runs_of_least_opacity(samples, volumes.device),
                upstream.contiguous(),
                summed,
                turns,
                unit,
                resolution,
                clearance.shape[-1],
                samples,
                image_size,
                tiles,
                distance,
                half_width,
                ROWS=TILE[0],
                COLUMNS=TILE[1],
                NEED_VOLUMES=need_volumes,
                NEED_ROTATIONS=need_rotations,
                DETERMINISTIC=deterministic,
                TOGETHER=TOGETHER,
                num_warps=WARPS,
            )
    gradient = summed if unit is None else summed.double() / unit.double()
    return gradient.to(volumes.dtype), turns.sum(1)


def tile_count(image_size: int) -> int:
    """Number of tiles of an image; the last ones may reach beyond it."""
    return -(-image_size // TILE[0]) * -(-image_size // TILE[1])


def survey(volumes: Tensor) -> Tensor:
    """Distance in bricks from every brick of volumes (n, 1, N, N, N) to the nearest non-empty one, at most 8.

    Bricks and clearance are those of `scene_cpu`, (n, B, B, B) uint8.
    """
    from vonmodel.projection import sampling_gpu

    n, resolution = len(volumes), volumes.shape[-1]
    bricks = bricks_along(resolution)
    clearance = volumes.new_empty(n, bricks, bricks, bricks, dtype=torch.uint8)
    if n:
        lanes = 1 << (bricks - 1).bit_length()
        sampling_gpu.mark_bricks[n * bricks**2,](volumes, clearance, resolution, bricks, LANES=lanes, num_warps=1)
        for stride in (1, bricks, bricks**2):
            nearest, clearance = clearance, torch.empty_like(clearance)
            programs = -(-clearance.numel() // SPREAD)
            sampling_gpu.spread_along_axis[programs,](
                nearest, clearance, clearance.numel(), bricks, stride, LANES=SPREAD
            )
    return clearance


def _on_device_of(volumes: Tensor) -> AbstractContextManager[None]:
    """Selects the GPU of the volumes for launches; interpreted kernels take volumes on the CPU."""
    return torch.cuda.device(volumes.device) if volumes.is_cuda else nullcontext()


@cache
def runs_of_least_opacity(samples: int, device: torch.device) -> Tensor:
    """(2, S + 1) for m = 0..S samples of minimum opacity: their transmittance, and its sum after each of them.

    Computed once for each device; the copy has finished on return, so that any stream may read it.
    """
    passed = (1.0 - 1e-4) ** np.arange(samples + 1, dtype=np.float64)
    runs = np.stack([passed, np.cumsum(passed) - 1.0]).astype(np.float32)
    return torch.from_numpy(runs).to(device)


torch.library.impl("von::march_rays", "cuda", march_rays)
torch.library.impl("von::march_rays_backward", "cuda", march_rays_backward)
