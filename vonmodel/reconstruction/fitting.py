"""Fitting of shape codes and viewpoints to a silhouette and a depth map, by gradient descent through the projection.

The frame (the position of the photo's square in the camera's image) is fitted as well. The model's framing derives it
from the sketch without gradient: if it were not fitted, growing the whole object would seem to help.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vonmodel.config import ModelConfig
from vonmodel.geometry import Camera
from vonmodel.inference.rendering import frame_seen, render_volume, silhouette_iou
from vonmodel.inference.sampling import Viewpoints, generate_volumes, render_sketches, sample_codes
from vonmodel.inference.session import ModelSession
from vonmodel.model import VonModel
from vonmodel.projection import Sketch, frame_positions

LEVELS = 3
"""Silhouettes are compared at this many sizes, each half of the one before: coarse ones give gradients from afar."""
DEPTH_SCALE = 0.25
"""Scale of the robust depth error, in half the depth's range: the sketch encoder has outliers."""
TRUSTED_SPREAD = 0.2
"""Standard deviation of an object's depths, in half their range, from which on they are fully trusted."""
DEPTH_WEIGHT = 0.75
"""Weight of the depth error against overlap when fits are compared."""
CODE_RATE, ANGLE_RATE, FRAME_RATE = 0.08, 0.05, 0.01
"""Adam's step sizes: of codes, of angles in radians, and of frames in image sizes."""
FREE_FRAME_SHARE = 0.5
"""Fraction of the steps in which the frames are free."""


@dataclass(frozen=True)
class FitWeights:
    """Weights of the fit's loss terms.

    Attributes:
        silhouette: difference of the silhouettes, relative to the object's area.
        depth: robust difference of the depths where both show the object.
        code: excess of a code's length over that of sampled codes.
        tilt: elevations beyond those of the class.
    """

    silhouette: float = 1.0
    depth: float = 0.4
    code: float = 0.05
    tilt: float = 1.0


class Target(NamedTuple):
    """The mask and the depth to fit to.

    Attributes:
        mask: (1, R, R) in [0, 1].
        depth: (1, R, R) in [-1, 1], near 1; only counts inside the mask.
        trust: weight of the depth, in [0, 1].
    """

    mask: Float[Tensor, "1 R R"]
    depth: Float[Tensor, "1 R R"]
    trust: float = 1.0

    def reduced(self, size: int) -> Target:
        """The target average-pooled to `size`, if it is larger and divisible by it."""
        if self.mask.shape[-1] <= size or self.mask.shape[-1] % size:
            return self
        mask, depth = (functional.adaptive_avg_pool2d(each, size) for each in (self.mask, self.depth))
        return Target(mask, depth, self.trust)


def depth_trust(mask: Float[Tensor, "1 R R"], depth: Float[Tensor, "1 R R"]) -> float:
    """The reliability of a depth map: 1 if it varies as depths of objects do, near 0 if it is almost flat.

    On photos far from its training data the sketch encoder gives one depth for the whole object. Fitting that would
    favour the flattest view, a chair's back.
    """
    inside = depth[mask > 0.5]
    return min(1.0, inside.std().item() / TRUSTED_SPREAD) if len(inside) > 1 else 0.0


class FitParameters(NamedTuple):
    """The fitted parameters, one row for each start.

    Attributes:
        codes: (n, k) shape codes.
        angles: (n, 2) azimuth and elevation in radians.
        frames: (n, 3) middle row, middle column and size of the photo's square in the camera's image, in its pixels.
    """

    codes: Float[Tensor, "n k"]
    angles: Float[Tensor, "n 2"]
    frames: Float[Tensor, "n 3"]


class FitResult(NamedTuple):
    """The state of a descent, one row for each start.

    Attributes:
        pose: codes, viewpoints and frames.
        loss: the minimised loss.
        overlap: intersection over union of mask and silhouette, framed as the model frames sketches.
        depth_error: mean absolute difference of the depths where both show the object, 2 is the whole range, times
            the trust in the depths.
        prior: prior of its start, in units of the score.
    """

    pose: FitParameters
    loss: Float[Tensor, " n"]
    overlap: Float[Tensor, " n"]
    depth_error: Float[Tensor, " n"]
    prior: Float[Tensor, " n"]

    @property
    def score(self) -> Float[Tensor, " n"]:
        """Quality of the fit plus prior; 1 is perfect without a prior."""
        return score(self.overlap, self.depth_error) + self.prior

    def better_of(self, other: FitResult) -> FitResult:
        """Row by row the one with the higher score."""
        ours = self.score >= other.score
        poses = (torch.where(ours[:, None], a, b) for a, b in zip(self.pose, other.pose, strict=True))
        rest = (torch.where(ours, a, b) for a, b in zip(self[1:], other[1:], strict=True))
        return FitResult(FitParameters(*poses), *rest)

    def best(self, count: int) -> FitResult:
        """The rows with the highest scores, the best first."""
        return self._rows(self.score.argsort(descending=True)[:count])

    def rest(self, count: int) -> FitResult:
        """The rows that `best` does not return."""
        return self._rows(self.score.argsort(descending=True)[count:])

    def _rows(self, rows: Tensor) -> FitResult:
        return FitResult(FitParameters(*(part[rows] for part in self.pose)), *(part[rows] for part in self[1:]))


def score(overlap: Float[Tensor, "*n"], depth_error: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Quality of a fit from overlap and depth error; 1 is perfect."""
    return overlap - DEPTH_WEIGHT * depth_error


def fit(
    model: VonModel,
    target: Target,
    start: FitParameters,
    *,
    steps: int,
    elevations: tuple[float, float],
    weights: FitWeights,
    camera: Camera = Camera(),  # noqa: B008  # frozen
    prior: Float[Tensor, " n"] | None = None,
) -> Iterator[FitResult]:
    """Gradient descent from every start; yields the state before each step and at the end.

    At first the frames are free parameters; in the last steps they are those of the model's framing, by which results
    are compared.

    Args:
        model: the model, whose weights do not change.
        target: silhouette and depth; sketches are rendered at its size.
        start: initial parameters.
        steps: number of Adam steps; the step size follows a cosine to zero.
        elevations: lowest and highest elevation of the class, in radians.
        weights: of the terms of the loss.
        camera: the photo's camera.
        prior: of each start, see `FitResult`; 0 if None.
    """
    size = target.mask.shape[-1]
    prior = torch.zeros_like(start.angles[:, 0]) if prior is None else prior
    values = [part.clone().requires_grad_() for part in start]
    rates = (CODE_RATE, ANGLE_RATE, FRAME_RATE * size)
    groups = [{"params": [value], "lr": rate} for value, rate in zip(values, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for step in range(steps + 1):
        optimizer.zero_grad()
        with torch.set_grad_enabled(step < steps):
            pose = FitParameters(*values)
            seen = camera_sketch(model, pose, camera, size)
            if step > FREE_FRAME_SHARE * steps:
                pose = pose._replace(frames=frames_of(model.config, seen))
            losses = pose_losses(seen, target, pose, elevations, weights)
        with torch.no_grad():
            reached = FitParameters(*(value.detach().clone() for value in pose))
            yield FitResult(reached, losses.detach(), *framed_errors(model, seen, pose.angles, target, camera), prior)
        if step < steps:
            torch.autograd.backward(losses.sum())
            optimizer.step()
            schedule.step()


def pose_losses(
    seen: Sketch, target: Target, pose: FitParameters, elevations: tuple[float, float], weights: FitWeights
) -> Float[Tensor, " n"]:
    """The loss of each pose: 0 is perfect."""
    silhouette, depth = framed_channels(seen, pose.frames)
    both = silhouette.detach() * target.mask
    off = ((depth - target.depth) / DEPTH_SCALE).square()
    depth_loss = (both * off / (1.0 + off)).sum((1, 2, 3)) / both.sum((1, 2, 3)).clamp_min(1.0)
    low, high = elevations
    tilt = (low - pose.angles[:, 1]).clamp_min(0.0) + (pose.angles[:, 1] - high).clamp_min(0.0)
    spread = (pose.codes.square().mean(-1) - 1.0).clamp_min(0.0)
    return (
        weights.silhouette * silhouette_loss(silhouette, target.mask)
        + weights.depth * target.trust * depth_loss
        + weights.code * spread
        + weights.tilt * tilt
    )


def framed_errors(
    model: VonModel, seen: Sketch, angles: Float[Tensor, "n 2"], target: Target, camera: Camera
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Overlap and depth error of sketches as the model frames them, see `FitResult`."""
    framed = frame_seen(model, seen, angles, camera)
    return sketch_errors(framed.silhouette, framed.normalized_depth, target)


def sketch_errors(
    silhouette: Float[Tensor, "n 1 R R"], depth: Float[Tensor, "n 1 R R"], target: Target
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Overlap and depth error of framed sketches, see `FitResult`."""
    both = torch.minimum(silhouette, target.mask)
    shared = both.sum((1, 2, 3))
    error = ((depth - target.depth).abs() * both).sum((1, 2, 3)) / shared.clamp_min(1e-6)
    return silhouette_iou(silhouette, target.mask), target.trust * torch.where(shared > 0, error, 2.0)


def camera_sketch(
    model: VonModel,
    pose: FitParameters,
    camera: Camera = Camera(),  # noqa: B008  # frozen
    image_size: int | None = None,
) -> Sketch:
    """The sketch of each pose before framing; at the model's image size if none is given."""
    return render_volume(model, model.generate_shapes(pose.codes), pose.angles, camera=camera, image_size=image_size)


def initial_frames(
    model: VonModel,
    codes: Float[Tensor, "n k"],
    angles: Float[Tensor, "n 2"],
    camera: Camera = Camera(),  # noqa: B008  # frozen
    image_size: int | None = None,
) -> Float[Tensor, "n 3"]:
    """The frames of the model's framing for sketches of this size."""
    anywhere = angles.new_zeros(len(angles), 3)
    return frames_of(model.config, camera_sketch(model, FitParameters(codes, angles, anywhere), camera, image_size))


def frames_of(config: ModelConfig, seen: Sketch) -> Float[Tensor, "n 3"]:
    """The frames of sketches by the framing of a model of this configuration."""
    rows, columns = frame_positions(seen.silhouette, exact=config.exact_framing)
    size = (rows[:, -1] - rows[:, 0]).maximum(columns[:, -1] - columns[:, 0])
    return torch.stack([rows.mean(-1), columns.mean(-1), size], dim=-1)


def framed_channels(
    seen: Sketch, frames: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, "n 1 R R"], Float[Tensor, "n 1 R R"]]:
    """Silhouette and normalised depth of sketches in given frames; differentiable also with respect to the frames."""
    far, size = Camera().far, seen.silhouette.shape[-1]
    channels = torch.cat([seen.silhouette, far - seen.depth], dim=1)
    across = torch.linspace(-0.5, 0.5, size, dtype=channels.dtype, device=channels.device)
    rows = frames[:, 0, None] + frames[:, 2, None] * across
    columns = frames[:, 1, None] + frames[:, 2, None] * across
    grid = torch.stack([columns[:, None, :].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)], dim=-1)
    grid = 2.0 * grid / (size - 1) - 1.0
    framed = functional.grid_sample(channels, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    silhouette, nearness = framed[:, :1], framed[:, 1:]
    nearest = nearness.detach().amax((1, 2, 3), keepdim=True).clamp_min(1e-3)
    return silhouette, 2.0 * nearness / nearest - 1.0


def silhouette_loss(silhouette: Float[Tensor, "n 1 R R"], mask: Float[Tensor, "1 R R"]) -> Float[Tensor, " n"]:
    """Multiscale L1 difference of silhouettes, relative to the object's area."""
    difference = silhouette - mask
    levels = [functional.avg_pool2d(difference, 2**level).abs().sum((1, 2, 3)) * 4**level for level in range(LEVELS)]
    return torch.stack(levels).mean(0) / mask.sum().clamp_min(1.0)


OF_ONE_VIEWPOINT = 2
"""Largest number of starts from one viewpoint, so that others are tried as well."""


@dataclass(frozen=True, eq=False)
class SketchBank:
    """Framed sketches of every code from every viewpoint.

    Attributes:
        codes: (k, code) shape codes.
        viewpoints: (v, 2) azimuth and elevation in radians.
        silhouettes: (v, k, R, R) in [0, 1].
        depths: (v, k, R, R) normalised, in [-1, 1].
        camera: their camera.
    """

    codes: Float[Tensor, "k code"]
    viewpoints: Viewpoints
    silhouettes: Float[Tensor, "v k R R"]
    depths: Float[Tensor, "v k R R"]
    camera: Camera

    def starts(self, session: ModelSession, target: Target, count: int) -> FitParameters:
        """The codes and viewpoints whose sketches fit best, at most two of one viewpoint.

        Args:
            session: the model.
            target: the target, at most as large as the bank's sketches.
            count: number of starts.
        """
        scores = torch.stack([self._scores(index, target) for index in range(len(self.viewpoints))])
        within = scores.argsort(dim=1, descending=True)[:, :OF_ONE_VIEWPOINT]
        best = scores.gather(1, within).flatten().argsort(descending=True)[:count]
        views = best // within.shape[1]
        codes = self.codes[within.flatten()[best]]
        angles = torch.from_numpy(self.viewpoints).to(codes)[views]
        size = target.mask.shape[-1]
        with torch.no_grad():
            frames = initial_frames(session.source.model, codes, angles, self.camera, size)
        return FitParameters(codes, angles, frames)

    def _scores(self, viewpoint: int, target: Target) -> Float[Tensor, " k"]:
        size = target.mask.shape[-1]
        silhouettes, depths = (
            functional.adaptive_avg_pool2d(each[viewpoint, :, None], size) for each in (self.silhouettes, self.depths)
        )
        overlap, depth_error = sketch_errors(silhouettes, depths, target)
        return score(overlap, depth_error)


def build_sketch_bank(
    session: ModelSession,
    *,
    shapes: int,
    azimuths: tuple[float, ...],
    elevations: tuple[float, ...],
    seed: int,
    camera: Camera,
    step: Callable[[int, int], None],
) -> SketchBank:
    """Renders the bank; `step` is called after every viewpoint and may raise to stop."""
    model = session.source.model
    viewpoints = np.array(list(itertools.product(azimuths, elevations)))
    codes = sample_codes(shapes, model.config.shape_code_size, seed=seed, purpose="shape").to(session.device)
    silhouettes, depths = [], []
    with torch.no_grad():
        volumes = generate_volumes(model, codes)
        for index, viewpoint in enumerate(viewpoints):
            seen = render_sketches(model, volumes, np.broadcast_to(viewpoint, (shapes, 2)).copy(), camera)
            silhouettes.append(seen.silhouette[:, 0])
            depths.append(seen.normalized_depth[:, 0])
            step(index + 1, len(viewpoints))
    return SketchBank(codes, viewpoints, torch.stack(silhouettes), torch.stack(depths), camera)
