"""Entry point of the projection: checks the input and selects the reference or the fused implementation."""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vonmodel.geometry import Camera
from vonmodel.projection import fused_cpu, fused_gpu  # noqa: F401  # register their operators
from vonmodel.projection.operators import project_fused
from vonmodel.projection.reference import project_reference
from vonmodel.projection.sketch import Sketch

Implementation = Literal["auto", "reference", "fused"]

_log = logging.getLogger(__name__)


def project(
    volumes: Float[Tensor, "n 1 N N N"],
    rotations: Float[Tensor, "n 3 3"],
    *,
    camera: Camera = Camera(),  # noqa: B008  # frozen
    image_size: int | None = None,
    resampled: bool = False,
    implementation: Implementation = "auto",
) -> Sketch:
    """Projects volumes to 2.5D sketches, differentiable with respect to volumes and rotations.

    Args:
        volumes: opacity in [0, 1], indexed [x, y, z] in the object frame; any N from 2. Half-precision volumes are
            projected in float32; the fused implementation on a GPU reads them without conversion.
        rotations: camera frame to object frame, see `viewpoint_rotation`.
        camera: the camera, the same for all items.
        image_size: rows and columns R of the sketch; N when not given.
        resampled: resample the volume on a rotated grid first and sample that grid, as in the published model,
            instead of sampling the volume once along rotated rays (sharper).
        implementation: the plain PyTorch one, the fused one (float32, not resampled), or the fastest that fits.

    Returns:
        The sketch, (n, 1, R, R) each, in float64 for float64 volumes and in float32 otherwise.

    Raises:
        ValueError: shapes do not fit each other, or the chosen implementation does not support the input.
    """
    check_input(volumes, rotations, camera, image_size)
    size = volumes.shape[-1] if image_size is None else image_size
    fused = uses_fused(implementation, volumes, resampled)
    dtype = torch.float64 if volumes.dtype == torch.float64 else torch.float32
    with torch.autocast(volumes.device.type, enabled=False):
        rotations = rotations.to(dtype)
        if fused and volumes.is_cuda:
            return project_fused(volumes, rotations, camera, size)
        if fused:
            return project_fused(volumes.to(dtype), rotations, camera, size)
        return project_reference(volumes.to(dtype), rotations, camera, size, resampled)


def uses_fused(implementation: Implementation, volumes: Tensor, resampled: bool) -> bool:
    """Whether the fused implementation is requested and supports the input."""
    hindrance = None
    if resampled:
        hindrance = "resampled=True"
    elif volumes.dtype == torch.float64:
        hindrance = "float64 volumes"
    elif volumes.is_cuda and not _triton_is_there():
        hindrance = "volumes on 'cuda' without Triton (pip install triton)"
    elif volumes.device.type not in ("cpu", "cuda"):
        hindrance = f"volumes on {volumes.device.type!r}"
    if implementation == "auto":
        if not torch.compiler.is_compiling():
            _log_choice("reference" if hindrance else "fused", hindrance)
        return hindrance is None
    if implementation == "fused" and hindrance:
        raise ValueError(f"implementation 'fused' cannot do {hindrance}; choose 'auto' or 'reference'")
    return implementation == "fused"


@cache
def _triton_is_there() -> bool:
    """PyTorch's CUDA builds for Linux include it; those for Windows do not."""
    return find_spec("triton") is not None


@cache
def _log_choice(chosen: str, hindrance: str | None) -> None:
    """Logs once which implementation runs."""
    _log.info("projection: %s implementation%s", chosen, f" for {hindrance}" if hindrance else "")


def check_input(volumes: Tensor, rotations: Tensor, camera: Camera, image_size: int | None) -> None:
    """Checks that shapes and sizes fit each other.

    Raises:
        ValueError: they do not.
    """
    n, *shape = volumes.shape
    resolution = shape[-1] if shape else 0
    if shape != [1, resolution, resolution, resolution] or resolution < 2:
        raise ValueError(f"volumes are {tuple(volumes.shape)}; they must be (n, 1, N, N, N) with N at least 2")
    if rotations.shape != (n, 3, 3):
        raise ValueError(f"rotations are {tuple(rotations.shape)}; {n} volumes need ({n}, 3, 3)")
    if image_size is not None and image_size < 2:
        raise ValueError(f"image_size {image_size} must be at least 2")
    if camera.samples(resolution) < 2:
        raise ValueError(
            f"samples_per_voxel {camera.samples_per_voxel} leaves a ray fewer than 2 samples at N = {resolution}"
        )
