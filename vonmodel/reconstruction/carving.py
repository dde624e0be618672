"""Carving: refines the surface of a fitted shape to the photo's outline, beyond the shapes that codes can make.

The surface moves inwards or outwards, on a grid finer than the model's if the photo has more detail. The movement is
smooth, so that parts move as a whole and nothing appears far from the surface, and symmetric for classes with mirror
symmetry. The viewpoint is optimised as well. Optimising opacities directly would fit the outline by fog along the
rays, which is invisible in other views and in meshes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import binary_opening, distance_transform_edt
from torch import Tensor
from torch.nn import functional

from vondata.shapes.binvox import VoxelGrid, filled
from vonmodel.geometry import Camera
from vonmodel.inference.rendering import frame_seen, render_opacity, render_volume, resample_volume, silhouette_iou
from vonmodel.model import VonModel
from vonmodel.projection import Sketch
from vonmodel.reconstruction.fitting import framed_channels, frames_of, silhouette_loss
from vonmodel.representation import is_shell, volume_of_distance

FINEST = 64
"""Voxels along an edge that a coarser model's volumes are refined to."""
SOFT, SHARP = 0.8, 0.3
"""Width of the surface in voxels: at first, for gradients from afar, and in the end."""
SURFACE_RATE, ANGLE_RATE, FRAME_RATE, THICKNESS_RATE = 1.0, 0.02, 0.005, 0.05
"""Step sizes: of the surface in voxels, of angles in radians, of frames in image sizes, and of the thickness."""
SHARP_SHARE = 0.6
"""Fraction of the steps after which the surface is sharp."""
GROWTH = 0.2
"""Voxels added in the end: grazing rays accumulate opacities of a surface, so that solids fitted to it are thin."""
BEND_COSTS, CHANGE_COSTS = 0.8, 0.002
"""Weights of mean squared differences of neighbouring movements, and of mean squared movements, in voxels."""
MOMENTUM = 0.8
FASTEST = 3.0
"""Largest movement of a part of the surface in a step, relative to its root mean square."""
THIN_RADIUS = 0.03
"""In image sizes; parts of an outline that a disk of this radius does not fit into are thin, such as legs."""
THIN_WEIGHT = 0.2
"""Weight of covered thin parts against overlap when carved surfaces are compared."""


class CarveResult(NamedTuple):
    """A volume that fits an outline.

    Attributes:
        volume: (1, g, g, g) in the model's representation.
        angles: (2,) azimuth and elevation in radians.
        silhouette: (1, S, S) as framed, of the outline's size.
        overlap: intersection over union of silhouette and outline.
        overlap_before: the same of the initial volume.
        thin_parts: fraction of the outline's thin parts that the silhouette covers, see `thin_coverage`.
    """

    volume: Float[Tensor, "1 g g g"]
    angles: Float[Tensor, " 2"]
    silhouette: Float[Tensor, "1 S S"]
    overlap: float
    overlap_before: float
    thin_parts: float


def carve(
    model: VonModel,
    volume: Float[Tensor, "1 r r r"],
    angles: Float[Tensor, " 2"],
    outline: Float[Tensor, "1 S S"],
    *,
    steps: int,
    mirrored: bool,
    step: Callable[[int, int], None],
    camera: Camera = Camera(),  # noqa: B008  # frozen
) -> CarveResult:
    """Moves the surface of a volume to fit its silhouette to an outline; returns the best result, or the input.

    The frame is a free parameter to the end: computed from the silhouette, it would jump when a foot appears, and the
    surface would follow it.

    Args:
        model: the model in whose representation the volume is.
        volume: values in [0, 1].
        angles: initial azimuth and elevation in radians.
        outline: the photo's mask, framed, in [0, 1]; the larger it is, the finer the grid.
        steps: number of steps; step sizes follow a cosine to zero.
        mirrored: whether the movement is symmetric.
        step: called after every step; may raise to stop.
        camera: the photo's camera.
    """
    size = outline.shape[-1]
    volume = resample_volume(volume, carving_grid(max(volume.shape[-1], model.config.finer_grid), size))
    with torch.no_grad():
        seen = render_volume(model, volume[None], angles[None], camera=camera, image_size=size)
        before, silhouette = _overlap(model, seen, angles[None], outline, camera)
    thin = thin_coverage(outline, silhouette)
    best = CarveResult(volume, angles.detach().clone(), silhouette, before, before, thin)
    solid = solid_of(model, volume)
    if not steps or solid.all() or not solid.any():
        return best
    surface = Surface(signed_distance(solid, volume), mirrored)
    turned, frames = angles.detach().clone()[None].requires_grad_(), frames_of(model.config, seen).requires_grad_()
    rates = ((turned, ANGLE_RATE), (frames, FRAME_RATE * size), (surface.thickness, THICKNESS_RATE))
    optimizer = torch.optim.Adam([{"params": [part], "lr": rate} for part, rate in rates], betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for index in range(steps + 1):
        width = max(SHARP, SOFT - (SOFT - SHARP) * index / (SHARP_SHARE * steps))
        with torch.enable_grad():
            distance, cost = surface.moved()
            seen = render_opacity(
                model.config, torch.sigmoid(-distance / width), turned, camera=camera, image_size=size
            )
            shown, _ = framed_channels(seen, frames)
            loss = silhouette_loss(shown, outline).sum() + cost
        if width == SHARP:
            grown = volume_of_distance(model.config, distance.detach()[0] - GROWTH, SHARP)
            with torch.no_grad():
                grown_seen = render_volume(model, grown[None], turned, camera=camera, image_size=size)
                overlap, silhouette = _overlap(model, grown_seen, turned, outline, camera)
            thin = thin_coverage(outline, silhouette)
            if overlap + THIN_WEIGHT * thin > best.overlap + THIN_WEIGHT * best.thin_parts:
                best = CarveResult(grown, turned[0].detach().clone(), silhouette, overlap, before, thin)
        if index < steps:
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            surface.move(SURFACE_RATE * 0.5 * (1.0 + math.cos(math.pi * index / steps)), distance.detach())
            schedule.step()
            step(index + 1, steps)
    return best


class Surface:
    """A movable surface: the zero level of a signed distance plus a movement field.

    Attributes:
        thickness: (1,) uniform movement inwards, in voxels; codes make parts as thick as coarse voxels.
    """

    def __init__(self, distance: Float[Tensor, "1 g g g"], mirrored: bool) -> None:
        self._distance, self._mirrored = smooth(distance[None]), mirrored
        self._movement = torch.zeros_like(self._distance, requires_grad=True)
        self._momentum = torch.zeros_like(self._distance)
        self.thickness = torch.zeros(1, device=distance.device, requires_grad=True)

    def moved(self) -> tuple[Float[Tensor, "1 1 g g g"], Float[Tensor, ""]]:
        """The distance to the moved surface, in voxels and negative inside, and the regularisation loss."""
        movement = smooth(self._movement)
        if self._mirrored:
            movement = (movement + movement.flip(2)) / 2.0
        bends = sum((movement.diff(dim=axis).square().mean() for axis in (2, 3, 4)), movement.new_zeros(()))
        movement = movement + self.thickness
        return self._distance + movement, BEND_COSTS * bends + CHANGE_COSTS * movement.square().mean()

    @torch.no_grad()
    def move(self, rate: float, distance: Float[Tensor, "1 1 g g g"]) -> None:
        """One step of gradient descent, whose root mean square near the surface is `rate` voxels.

        All voxels share one scale: with a scale for each, as in Adam, all voxels along a ray would become solid.
        """
        if self._movement.grad is None:
            return
        self._momentum.lerp_(self._movement.grad, 1.0 - MOMENTUM)
        usual = self._momentum[distance.abs() < 1.5].square().mean().sqrt().clamp_min(1e-12)
        self._movement -= rate * (self._momentum / usual).nan_to_num_().clamp_(-FASTEST, FASTEST)
        self._movement.grad = None


def carving_grid(resolution: int, outline_size: int) -> int:
    """Voxels along an edge of the grid for carving: finer than the model's if the photo has more detail."""
    return max(resolution, min(outline_size, FINEST))


def solid_of(model: VonModel, volume: Float[Tensor, "1 g g g"]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """The solid voxels of a volume; for a distance function including the inside of its opaque shell."""
    opaque = (model.opacity(volume[None])[0, 0] > 0.5).cpu().numpy()
    if is_shell(model.config.representation):
        opaque = filled(VoxelGrid(opaque, (0.0, 0.0, 0.0), 1.0)).occupancy
    return np.asarray(opaque)


def signed_distance(
    solid: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], like: Float[Tensor, "1 g g g"]
) -> Float[Tensor, "1 g g g"]:
    """Distance in voxels to the faces between solid and empty voxels, negative inside."""
    distance = distance_transform_edt(~solid) - distance_transform_edt(solid)
    return torch.from_numpy(distance - np.copysign(0.5, distance)).to(like)[None]


def thin_coverage(outline: Float[Tensor, "1 S S"], silhouette: Float[Tensor, "1 S S"]) -> float:
    """Fraction of an outline's thin parts that a silhouette covers; 1 if it has none."""
    solid, seen = (each[0].cpu().numpy() > 0.5 for each in (outline, silhouette))
    radius = THIN_RADIUS * len(solid)
    across = np.arange(-math.floor(radius), math.floor(radius) + 1)
    thin = solid & ~binary_opening(solid, np.hypot(*np.meshgrid(across, across)) <= radius)
    return float((thin & seen).sum() / thin.sum()) if thin.any() else 1.0


def smooth(field: Float[Tensor, "1 1 g g g"]) -> Float[Tensor, "1 1 g g g"]:
    """Twice the mean over the nearest 27 voxels, axis by axis."""
    for axis in (2, 3, 4) * 2:
        kernel = [3 if each == axis else 1 for each in (2, 3, 4)]
        padding = [size // 2 for size in kernel]
        field = functional.avg_pool3d(field, kernel, stride=1, padding=padding, count_include_pad=False)
    return field


def _overlap(
    model: VonModel, seen: Sketch, angles: Float[Tensor, "1 2"], outline: Float[Tensor, "1 S S"], camera: Camera
) -> tuple[float, Float[Tensor, "1 S S"]]:
    """IoU of the outline and of the sketch's silhouette as framed by the model, and that silhouette."""
    with torch.no_grad():
        silhouette = frame_seen(model, seen, angles, camera).silhouette
    return silhouette_iou(silhouette, outline).item(), silhouette[0]
