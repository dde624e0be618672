"""PyTorch operators of the fused projection: schemas, shapes and derivative; the CPU and GPU modules implement them.

`von::march_rays` gives silhouette and depth (n, 2, R, R) in float32, and the clearance (n, B, B, B) of the volumes'
bricks in uint8, which the backward pass needs as well: the distance in bricks to the nearest non-empty one, at most
8. `von::march_rays_backward` gives the gradients of volumes and rotations for an upstream gradient of the sketch; one
that is not needed has zero rows. torch.compile treats both as opaque operators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vonmodel.geometry import Camera
from vonmodel.projection.scene_cpu import bricks_along
from vonmodel.projection.sketch import Sketch

# Defined by schema: torch.library.custom_op would import the compiler on the first call, which takes two seconds.
torch.library.define(
    "von::march_rays",
    "(Tensor volumes, Tensor rotations, float distance, float half_width, int samples, int image_size)"
    " -> (Tensor, Tensor)",
)
torch.library.define(
    "von::march_rays_backward",
    "(Tensor upstream, Tensor volumes, Tensor clearance, Tensor rotations, float distance, float half_width,"
    " int samples, bool need_volumes, bool need_rotations) -> (Tensor, Tensor)",
)


def project_fused(volumes: Tensor, rotations: Tensor, camera: Camera, image_size: int) -> Sketch:
    """Projects volumes (n, 1, N, N, N) as `project` does; float32, on the GPU also half precision."""
    samples = camera.samples(volumes.shape[-1])
    view = (camera.distance, camera.half_width, samples, image_size)
    sketch, _ = torch.ops.von.march_rays(volumes, rotations, *view)
    return Sketch(sketch[:, :1], sketch[:, 1:])


@torch.library.register_fake("von::march_rays")  # type: ignore[untyped-decorator]
def _(
    volumes: Tensor, rotations: Tensor, distance: float, half_width: float, samples: int, image_size: int
) -> tuple[Tensor, Tensor]:
    n, bricks = volumes.shape[0], bricks_along(volumes.shape[-1])
    return (
        volumes.new_empty(n, 2, image_size, image_size, dtype=torch.float32),
        volumes.new_empty(n, bricks, bricks, bricks, dtype=torch.uint8),
    )


@torch.library.register_fake("von::march_rays_backward")  # type: ignore[untyped-decorator]
def _(
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
    n = volumes.shape[0]
    return (
        volumes.new_empty(n if need_volumes else 0, *volumes.shape[1:]),
        rotations.new_empty(n if need_rotations else 0, 3, 3),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    volumes, rotations, *ctx.view, _ = inputs
    ctx.save_for_backward(volumes, output[1], rotations)


def _differentiate(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    need_volumes, need_rotations, *others = ctx.needs_input_grad
    grad_volumes, grad_rotations = torch.ops.von.march_rays_backward(
        upstream, *ctx.saved_tensors, *ctx.view, need_volumes, need_rotations
    )
    return grad_volumes if need_volumes else None, grad_rotations if need_rotations else None, *[None for _ in others]


torch.library.register_autograd("von::march_rays", _differentiate, setup_context=_remember)
