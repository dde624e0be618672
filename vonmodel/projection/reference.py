"""Reference implementation of the projection in plain PyTorch: any device, any floating type, differentiable.

A ray takes S samples; sample k has opacity a_k, clamped to [1e-4, 1 - 1e-4], and depth weight d_k. The ray stops
there with probability s_k = a_k prod_{j<k} (1 - a_j). Then silhouette = sum s_k and depth = sum s_k d_k +
far prod (1 - a_k), the last product clamped as well.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vonmodel.geometry import Camera, rotate_points
from vonmodel.projection.sketch import Sketch

# Keeps 1 / (1 - a) finite; every sample outside the object absorbs a ten-thousandth of the light as a consequence.
MIN_OPACITY = 1e-4


def project_reference(
    volumes: Float[Tensor, "n 1 N N N"],
    rotations: Float[Tensor, "n 3 3"],
    camera: Camera,
    image_size: int,
    resampled: bool,
) -> Sketch:
    """Projects volumes to sketches; arguments and result as in `project`.

    Holds the coordinates of all n R R S samples at once.
    """
    resolution = volumes.shape[-1]
    depths = camera.sample_depths(resolution, volumes)
    start = torch.tensor([-camera.distance, 0.0, 0.0], dtype=volumes.dtype, device=volumes.device)
    points = start + camera.ray_directions(image_size, volumes).unsqueeze(-2) * depths.unsqueeze(-1)
    reversing = rotations.flip(-2)  # rotates, and reverses the order of the axes
    if resampled:
        volumes = sample_volumes(volumes, rotate_points(reversing, _lattice(resolution, volumes)))
        opacity = sample_volumes(volumes, points.flip(-1).expand(len(volumes), *points.shape))
    else:
        opacity = sample_volumes(volumes, rotate_points(reversing, points))
    return composite(opacity, camera.depth_weights(resolution, volumes), camera.far)


def sample_volumes(
    volumes: Float[Tensor, "n 1 N N N"], points: Float[Tensor, "n A B C 3"]
) -> Float[Tensor, "n 1 A B C"]:
    """Trilinear values at points of the cube [-1, 1]^3, falling to 0 within one voxel outside it.

    Args:
        volumes: one for each set of points.
        points: (z, y, x), the coordinate along the volumes' last axis first.
    """
    return functional.grid_sample(volumes, points, mode="bilinear", padding_mode="zeros", align_corners=True)


def composite(opacity: Float[Tensor, "n 1 R R S"], weights: Float[Tensor, " S"], far: float) -> Sketch:
    """Alpha compositing of the samples of every ray.

    Args:
        opacity: along every ray, nearest sample first.
        weights: depth assigned to a sample.
        far: depth of light that passes all samples.
    """
    opacity = opacity.clamp(MIN_OPACITY, 1.0 - MIN_OPACITY)
    passed = torch.cumprod(1.0 - opacity, dim=-1)
    arriving = torch.cat([torch.ones_like(passed[..., :1]), passed[..., :-1]], dim=-1)
    stopped = opacity * arriving
    background = passed[..., -1].clamp(MIN_OPACITY, 1.0 - MIN_OPACITY)
    return Sketch(stopped.sum(-1), (stopped * weights).sum(-1) + far * background)


def _lattice(resolution: int, like: Tensor) -> Float[Tensor, "N N N 3"]:
    axis = torch.linspace(-1.0, 1.0, resolution, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
