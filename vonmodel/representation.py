"""Shape representations (occupancy, unsigned and signed distance): the opacity and the surface of a volume.

A volume holds numbers in [0, 1] on a grid over the cube [-1, 1]^3, indexed [x, y, z]; distances are in cube edges.

    occupancy   solid fraction; surface at 1/2
    distance    exp(-8 d) of the unsigned distance d; a shell around the surface (published)
    signed      1/2 - s / (2 band), clipped to [0, 1], of the signed distance s, negative inside; surface at 1/2

Code outside this module does not depend on which one it is.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vonmodel.config import ModelConfig, Representation
from vonmodel.precision import at_least_single
from vonmodel.projection import distance_to_opacity

DISTANCE_DECAY = 8.0
"""Distance-function volumes hold exp(-DISTANCE_DECAY d)."""
SURFACE_DISTANCE = 0.012
"""Distance value of the extracted surface of a distance function (the published value)."""


def opacity(config: ModelConfig, volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n 1 g g g"]:
    """The opacity of volumes, in [0, 1]; differentiable.

    Occupancy is opacity; a distance function is opaque in a shell; a signed distance s has the opacity
    sigmoid(-s / opacity_width), on the `finer_grid` of the configuration.
    """
    match config.representation:
        case "occupancy":
            return volumes
        case "distance":
            return distance_to_opacity(volumes, threshold=opaque_above(config.resolution))
        case "signed":
            fine = at_least_single(refined(volumes, max(volumes.shape[-1], config.finer_grid)))
            return torch.sigmoid((2.0 * fine - 1.0) * (config.band / config.opacity_width))


def surface_level(config: ModelConfig) -> float:
    """The value of a volume on its surface.

    Occupancy and signed distance: 1/2. Distance functions: d = 0.012 as published, but never less than half a
    voxel's diagonal, below which thin parts fall through the grid.
    """
    if config.representation != "distance":
        return 0.5
    half_diagonal = 0.5 * math.sqrt(3.0) / (config.resolution - 1)
    return math.exp(-DISTANCE_DECAY * max(SURFACE_DISTANCE, half_diagonal))


def surface_field(config: ModelConfig, volume: Float[Tensor, "1 r r r"]) -> Float[Tensor, "1 g g g"]:
    """The volume on the grid that its surface is extracted from, the configuration's `finer_grid` if it is finer."""
    return refined(volume[None], max(volume.shape[-1], config.finer_grid))[0]


def is_shell(representation: Representation) -> bool:
    """Whether a volume is opaque in a shell around an empty inside, which must be filled to get a solid."""
    return representation == "distance"


def volume_of_distance(
    config: ModelConfig, distance: Float[Tensor, "1 g g g"], width: float
) -> Float[Tensor, "1 g g g"]:
    """The volume of signed distances to the surface of the opaque region, in voxels of their grid.

    Args:
        config: representation and its scales.
        distance: negative inside.
        width: of an occupancy's edge, in voxels.
    """
    edges = distance / (distance.shape[-1] - 1)
    match config.representation:
        case "occupancy":
            return torch.sigmoid(-distance / width)
        case "distance":
            threshold = opaque_above(config.resolution)
            return threshold * torch.exp(-DISTANCE_DECAY * edges.clamp_min(math.log(threshold) / DISTANCE_DECAY))
        case "signed":
            return signed_volume(edges, config.band)


def signed_volume(distance: Float[Tensor, "*n"], band: float) -> Float[Tensor, "*n"]:
    """Values of signed distances in cube edges: 1/2 - s / (2 band), clipped to [0, 1]."""
    return (0.5 - distance / (2.0 * band)).clamp(0.0, 1.0)


def thickened(config: ModelConfig, volumes: Float[Tensor, "*n"], by: float) -> Float[Tensor, "*n"]:
    """Signed-distance volumes with the surface moved outwards by `by` cube edges; others are returned unchanged."""
    if not by or config.representation != "signed":
        return volumes
    return (volumes + by / (2.0 * config.band)).clamp_max(1.0)


def opaque_above(resolution: int) -> float:
    """Smallest value exp(-8 d) of a distance-function volume that is opaque.

    The published 0.9 (d < 0.013 cube edges) is a shell of 1.7 voxels at 128^3. On a coarser grid it would be thinner
    than the spacing and thin parts would vanish between voxels, so the shell is never thinner than half the diagonal
    of a voxel: a grid point lies in it wherever the surface crosses a cell.
    """
    return min(0.9, math.exp(-DISTANCE_DECAY * 0.5 * math.sqrt(3.0) / (resolution - 1)))


def refined(volumes: Float[Tensor, "n 1 r r r"], grid: int) -> Float[Tensor, "n 1 g g g"]:
    """Volumes resampled to `grid` voxels along an edge of the same cube by cubic (Catmull-Rom) interpolation.

    A smooth field stays smooth across the cells of the coarse grid, where linear interpolation leaves creases that
    are visible in shading. The values are clipped to [0, 1], which a cubic overshoots.
    """
    if grid == volumes.shape[-1]:
        return volumes
    with torch.autocast(volumes.device.type, enabled=False):
        volumes = at_least_single(volumes)
        weights = _cubic_weights(volumes.shape[-1], grid, volumes)
        fine = torch.einsum("ncijk,xi,yj,zk->ncxyz", volumes, weights, weights, weights)
    return fine.clamp(0.0, 1.0).contiguous()


def _cubic_weights(coarse: int, fine: int, like: Tensor) -> Float[Tensor, "fine coarse"]:
    """Weights of coarse grid points at fine ones, with aligned end points; border values are repeated outside."""
    position = torch.arange(fine, device=like.device, dtype=like.dtype) * ((coarse - 1) / (fine - 1))
    points = torch.arange(-1, coarse + 1, device=like.device, dtype=like.dtype)
    away = (position[:, None] - points).abs()
    near, far = (1.5 * away - 2.5) * away.square() + 1.0, ((2.5 - 0.5 * away) * away - 4.0) * away + 2.0
    weights = torch.where(away < 1.0, near, torch.where(away < 2.0, far, 0.0))
    first, last = weights[:, :2].sum(1, keepdim=True), weights[:, -2:].sum(1, keepdim=True)
    return torch.cat([first, weights[:, 2:-2], last], dim=1)
