"""Rendering of volumes: sketches from any camera, finer grids, silhouette IoU, connected components of shapes."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from vonmodel.config import ModelConfig
from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.model import VonModel, view_opacity
from vonmodel.projection import Sketch, SurfaceSketch

RAYS_PER_VOXEL = 2
"""Along an edge, for volumes finer than the model's, whose thin parts would fall between its pixels' rays."""


def render_volume(
    model: VonModel,
    volumes: Float[Tensor, "n 1 g g g"],
    angles: Float[Tensor, "n 2"],
    *,
    camera: Camera | None = None,
    image_size: int | None = None,
) -> Sketch:
    """The sketches of volumes in a model's representation, before framing; otherwise as `render_opacity`."""
    return render_opacity(
        model.config, model.opacity(volumes), angles, camera=camera or model.camera, image_size=image_size
    )


def render_opacity(
    config: ModelConfig,
    opacity: Float[Tensor, "n 1 g g g"],
    angles: Float[Tensor, "n 2"],
    *,
    camera: Camera,
    image_size: int | None = None,
) -> Sketch:
    """The sketches of opacity grids before framing; differentiable with respect to opacity and angles.

    Args:
        config: of the model.
        opacity: opacity of the voxels, in [0, 1], on any grid.
        angles: azimuth and elevation in radians.
        camera: the camera.
        image_size: pixels along an edge; the model's if None.

    Returns:
        The sketch; its depths are shifted to the range of the published camera, at any camera distance.
    """
    rotations = viewpoint_rotation(angles[:, 0], angles[:, 1])
    return view_opacity(config, opacity, rotations, camera=camera, image_size=image_size or config.image_size)


def render_framed(
    model: VonModel,
    volumes: Float[Tensor, "n 1 g g g"],
    angles: Float[Tensor, "n 2"],
    camera: Camera | None = None,
) -> SurfaceSketch:
    """The sketches of volumes framed at the model's image size, the depth of each normalised by itself.

    Finer volumes are rendered with more rays and then averaged. On the model's own grid, with its own camera, this is
    `VonModel.sketch`.
    """
    camera = camera or model.camera
    seen = render_volume(
        model, volumes, angles, camera=camera, image_size=rays_across(model.config, volumes.shape[-1])
    )
    return frame_seen(model, seen, angles, camera, model.config.image_size)


def frame_seen(
    model: VonModel, seen: Sketch, angles: Float[Tensor, "n 2"], camera: Camera, image_size: int | None = None
) -> SurfaceSketch:
    """Frames sketches of `render_volume`, each depth normalised by itself; at their own size if none is given."""
    size, rotations = image_size or seen.silhouette.shape[-1], viewpoint_rotation(angles[:, 0], angles[:, 1])
    return model.frame(seen, rotations, camera=camera, image_size=size, depth_range="item")


def rays_across(config: ModelConfig, resolution: int) -> int:
    """Rays along an edge of the image for a volume of this resolution: a multiple of its pixels."""
    own = config.image_size * config.rays_per_pixel
    if resolution <= config.resolution:
        return own
    return max(own, config.image_size * math.ceil(RAYS_PER_VOXEL * resolution / config.image_size))


def resample_volume(volume: Float[Tensor, "1 r r r"], resolution: int) -> Float[Tensor, "1 g g g"]:
    """A volume on another grid over the same cube, interpolated trilinearly; unchanged on its own grid."""
    if volume.shape[-1] == resolution:
        return volume
    return functional.interpolate(volume[None], size=(resolution,) * 3, mode="trilinear", align_corners=True)[0]


def silhouette_iou(first: Float[Tensor, "n 1 R R"], second: Float[Tensor, "*n 1 R R"]) -> Float[Tensor, " n"]:
    """Intersection over union of silhouettes in [0, 1]."""
    both, either = torch.minimum(first, second), torch.maximum(first, second)
    return both.sum((1, 2, 3)) / either.sum((1, 2, 3)).clamp_min(1e-6)


Pieces = Literal["largest", "all"]
PIECES: tuple[Pieces, ...] = get_args(Pieces)
"""The pieces of a generated shape that are kept."""
HALO = 2
"""Voxels around a loose piece that are removed with it: a field rises before it reaches the level."""
_TOUCHING = np.ones((3, 3, 3), dtype=bool)

Labels = npt.NDArray[np.int32]


def largest_pieces(volumes: Float[Tensor, "n 1 r r r"], level: float) -> Float[Tensor, "n 1 r r r"]:
    """Keeps the largest connected piece of each volume and removes the others.

    Pieces with a gap of at most two voxels between them count as connected, so that a leg that almost touches its
    seat is kept. A loose piece is removed with its surroundings, as far as they are not nearer to the largest piece;
    a volume in one piece is returned unchanged.

    Args:
        volumes: in any representation, 0 outside the object.
        level: of the surface.
    """
    kept = []
    for volume in volumes:
        labels, sizes = _labelled(volume[0], level, bridged=True)
        if len(sizes) < 2:
            kept.append(volume)
            continue
        largest = 1 + int(sizes.argmax())
        to_largest = ndimage.distance_transform_edt(labels != largest)
        to_loose = ndimage.distance_transform_edt((labels == 0) | (labels == largest))
        loose = torch.from_numpy((to_loose <= HALO) & (to_loose < to_largest)).to(volume.device)
        kept.append(volume.masked_fill(loose, 0.0))
    return torch.stack(kept) if kept else volumes


def share_in_largest_piece(volume: Float[Tensor, "r r r"], level: float) -> float:
    """Fraction of the solid voxels in the largest piece, in (0, 1]; 0 for an empty volume.

    Voxels are connected if they share a face, an edge or a corner (26-connectivity); no gap is bridged.
    """
    _, sizes = _labelled(volume, level)
    return float(sizes.max() / sizes.sum()) if len(sizes) else 0.0


def _labelled(
    volume: Float[Tensor, "r r r"], level: float, *, bridged: bool = False
) -> tuple[Labels, npt.NDArray[np.int64]]:
    """The piece of every voxel, from 1, and the number of voxels of each piece."""
    solid = volume.detach().cpu().numpy() > level
    labels, _ = ndimage.label(ndimage.binary_dilation(solid) if bridged else solid, structure=_TOUCHING)
    labels = labels * solid
    return labels, np.bincount(labels.ravel())[1:]
