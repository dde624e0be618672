"""Single-view reconstruction: shape code, viewpoint and texture code of one photo.

The photo is segmented and encoded to depth and texture code. Starts come from a search among sketches of generated
shapes from all viewpoints, or from a regression of likely viewpoints, each with a shape code; gradient descent
through the projection fits the best of them to silhouette and depth. Then the shape is carved to the outline if codes
do not fit it, on a finer grid if the photo has more detail, and the texture code is fitted.

The published camera is two units from the object, closer than most photographers: photos would have to be explained
by its strong perspective, with lower viewpoints and distorted shapes. Photos are therefore fitted from farther away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vondata.classes import load_class
from vondata.errors import VonError
from vonmodel.geometry import Camera
from vonmodel.inference.photo import CutPhoto
from vonmodel.inference.rendering import render_framed
from vonmodel.inference.session import ModelSession, Shape
from vonmodel.projection import SurfaceSketch
from vonmodel.reconstruction.carving import CarveResult, carve
from vonmodel.reconstruction.fitting import (
    FitParameters,
    FitResult,
    FitWeights,
    SketchBank,
    Target,
    build_sketch_bank,
    depth_trust,
    fit,
    initial_frames,
    sketch_errors,
)
from vonmodel.reconstruction.regression import (
    APART,
    PhotoRegressor,
    RegressionSettings,
    photo_regressor,
    view_of_photo,
)

Phase = Literal["train", "search", "fit", "carve", "texture"]
Progress = Callable[[Phase, int, int], None]
"""Called with the phase, its steps done and their number."""

Start = Literal["regression", "search"]
"""Source of the fits' initial parameters."""
Rounds = tuple[tuple[int, int], ...]
"""For each round of fits, the number of starts it keeps and its steps."""

ELEVATION_TOLERANCE = math.radians(5.0)
FIT_SIZE = 64
"""Pixels along an edge of the sketches that are fitted after a regression, at most those of the model's images."""
PRIOR_WEIGHT = 0.03
"""Weight of a viewpoint's log probability against overlap when fits are compared."""
RARE = 0.01
"""Smallest prior probability of a viewpoint."""
ONE_VIEWPOINT = math.radians(20.0)
"""Fits whose azimuths are closer than this count as one viewpoint."""
COLOUR_SCALE = 0.3
TEXTURE_RATE = 0.05
CAMERA_DISTANCE = 3.5
"""In object units; the interquartile range of Pix3D-like photos of chairs is 3.0 to 4.3."""
_BANK_VOXELS = 96 * 64**3


class CancelledError(VonError):
    """The reconstruction was cancelled."""


def rounds_of(start: Start, count: int | None = None, steps: int | None = None) -> Rounds:
    """The rounds of this many starts, with this many steps in the last round.

    A regression's starts are close, and scoring one costs as much as a step: most are scored only.
    """
    match start:
        case "regression":
            count, steps = count or 8, steps or 20
            return (count, 0), (min(3, count), max(1, steps // 2)), (1, steps)
        case "search":
            count, steps = count or 12, steps or 60
            return (count, max(1, steps * 2 // 5)), (min(4, count), steps)


@dataclass(frozen=True)
class ReconstructSettings:
    """Settings of a reconstruction.

    Attributes:
        shapes: generated shapes of a search; if None 96, fewer for more than 64 voxels along an edge.
        azimuths: azimuths of a search, within the class's range, for each of two elevations.
        rounds: for each round the number of starts it keeps and its steps; those of `rounds_of` if None.
        carve_steps: steps of carving after the code is found; 0 keeps the shape of the code.
        carve_below: a shape whose silhouette overlaps the outline by at least this is not carved: carving improves
            the outline at the expense of the solid.
        thin_below: it is carved all the same if it covers less than this fraction of the outline's thin parts, such
            as legs.
        texture_steps: steps of the texture fit after the encoder; 0 keeps the encoder's code.
        camera_distance: of the photo's camera, in object units (half the edge of the cube of voxels).
        seed: of the shapes of a search.
        weights: of the fit.
        start: a regression, which is trained if none is kept, or a search.
        near_azimuth: radians; viewpoints more than 25 degrees from it are excluded. None for any viewpoint.
        regression: how the regression is trained if none is kept.
    """

    shapes: int | None = None
    azimuths: int = 18
    rounds: Rounds | None = None
    carve_steps: int = 50
    carve_below: float = 0.8
    thin_below: float = 0.7
    texture_steps: int = 60
    camera_distance: float = CAMERA_DISTANCE
    seed: int = 0
    weights: FitWeights = field(default_factory=FitWeights)
    start: Start = "search"
    near_azimuth: float | None = None
    regression: RegressionSettings = field(default_factory=RegressionSettings)


@dataclass(frozen=True, eq=False)
class Alternative:
    """A fit of another viewpoint.

    Attributes:
        code: (k,) its shape code.
        azimuth: radians.
        elevation: radians.
        overlap: intersection over union of the silhouettes.
        score: overlap minus depth error plus the viewpoint's prior; fits are ordered by it.
        confidence: probability of this viewpoint among those that were fitted, in [0, 1].
    """

    code: Float[Tensor, " k"]
    azimuth: float
    elevation: float
    overlap: float
    score: float
    confidence: float


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The reconstruction of a photo.

    Attributes:
        photo: the photo.
        depth: (1, R, R) depth estimated by the sketch encoder, in [-1, 1].
        shape: the shape, carved, with the code it was carved from.
        azimuth: radians.
        elevation: radians.
        texture: (k,) the texture code.
        sketch: (1, 1, R, R) each: the sketch of the shape from the photo's camera.
        silhouette: (1, S, S) the silhouette at the resolution of the photo's outline.
        overlap: intersection over union of outline and silhouette.
        code_overlap: the same of the shape of the code, before carving.
        thin_parts: fraction of the outline's thin parts, such as legs, that the silhouette covers.
        depth_error: mean absolute difference of the depths where both show the object, 2 is the whole range,
            times the trust in the depths.
        confidence: probability of the viewpoint among those that were fitted, in [0, 1].
        alternatives: the fits of other viewpoints, best first.
    """

    photo: CutPhoto
    depth: Float[Tensor, "1 R R"]
    shape: Shape
    azimuth: float
    elevation: float
    texture: Float[Tensor, " k"]
    sketch: SurfaceSketch
    silhouette: Float[Tensor, "1 S S"]
    overlap: float
    code_overlap: float
    thin_parts: float
    depth_error: float
    confidence: float
    alternatives: tuple[Alternative, ...]


class Reconstructor:
    """Reconstructs photos with one model; its regressor or sketch bank is built on first use."""

    def __init__(self, session: ModelSession, settings: ReconstructSettings | None = None) -> None:
        self.session = session
        self.settings = settings or ReconstructSettings()
        self._class = load_class(session.source.class_name)
        self._rounds = self.settings.rounds or rounds_of(self.settings.start)
        self._camera = Camera.at(self.settings.camera_distance)
        bands = self._class.viewpoints
        self._azimuths, self._elevations = (
            (math.radians(min(low for low, _ in ranges)), math.radians(max(high for _, high in ranges)))
            for ranges in ([band.azimuth_deg for band in bands], [band.elevation_deg for band in bands])
        )
        self._bank: SketchBank | None = None
        self._regressor: PhotoRegressor | None = None

    def reconstruct(
        self, photo: CutPhoto, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
    ) -> Reconstruction:
        """Finds shape, viewpoint and texture of a photo; deterministic.

        Args:
            photo: at the model's image size.
            progress: called after every step.
            cancelled: called before every step; stops if it returns true.

        Raises:
            CancelledError: `cancelled` returned true.
        """

        def step(phase: Phase, done: int, total: int) -> None:
            if cancelled is not None and cancelled():
                raise CancelledError("the reconstruction was cancelled")
            if progress is not None:
                progress(phase, done, total)

        session = self.session
        target = self.target(photo)
        fitted = target.reduced(FIT_SIZE) if self.settings.start == "regression" else target
        starts, prior = self._starts(photo, fitted, step)
        fits = ranked(self._descend(fitted, starts, prior, step))
        shape, carved = self._carve(photo, fits[0], step)
        with torch.no_grad():
            sketch = render_framed(session.source.model, shape.volume[None], carved.angles[None], self._camera)
        return Reconstruction(
            photo=photo,
            depth=target.depth.cpu(),
            shape=shape,
            azimuth=math.remainder(float(carved.angles[0]), 2.0 * math.pi),
            elevation=float(carved.angles[1]),
            texture=self._fit_texture(photo, sketch, step),
            sketch=sketch,
            silhouette=carved.silhouette.cpu(),
            overlap=carved.overlap,
            code_overlap=carved.overlap_before,
            thin_parts=carved.thin_parts,
            depth_error=sketch_errors(sketch.silhouette, sketch.normalized_depth, target)[1].item(),
            confidence=fits[0].confidence,
            alternatives=tuple(fits[1:]),
        )

    def target(self, photo: CutPhoto) -> Target:
        """The target of the fit: the mask, and the depth estimated by the sketch encoder."""
        session = self.session
        size = session.config.image_size
        if photo.mask.shape != (1, size, size):
            raise ValueError(f"the photo is {tuple(photo.mask.shape)}; this model takes {size} pixels along an edge")
        with torch.no_grad():
            depth = session.source.model.sketch_encoder(photo.image[None].to(session.device))[0]
        mask = photo.mask.to(session.device)
        return Target(mask, depth, depth_trust(mask, depth))

    def _starts(
        self, photo: CutPhoto, target: Target, step: Callable[[Phase, int, int], None]
    ) -> tuple[FitParameters, Float[Tensor, " n"]]:
        """Initial parameters of the fits, and the prior of each."""
        settings, model, count = self.settings, self.session.source.model, self._rounds[0][0]
        if settings.start == "search":
            starts = self._sketches(step).starts(self.session, target, count)
            return starts, torch.zeros_like(starts.angles[:, 0])
        regressor = self._trained(step)
        view = view_of_photo(photo, regressor.view_size).to(self.session.device)
        likely = regressor.hypotheses(view, count, settings.near_azimuth)
        low, high = self._elevations
        angles = torch.tensor([(each.azimuth, min(max(each.elevation, low), high)) for each in likely]).to(view)
        codes = torch.stack([each.code for each in likely])
        with torch.no_grad():
            frames = initial_frames(model, codes, angles, self._camera, target.mask.shape[-1])
        beforehand = torch.tensor([math.log(each.probability + RARE) for each in likely]).to(view)
        return FitParameters(codes, angles, frames), PRIOR_WEIGHT * beforehand

    def _trained(self, step: Callable[[Phase, int, int], None]) -> PhotoRegressor:
        if self._regressor is None:
            self._regressor = photo_regressor(
                self.session.source, self.settings.regression, lambda done, total: step("train", done, total)
            )
        return self._regressor

    def _sketches(self, step: Callable[[Phase, int, int], None]) -> SketchBank:
        if self._bank is None:
            settings, (low, high) = self.settings, self._elevations
            azimuths = self._azimuths
            if (near := settings.near_azimuth) is not None:
                azimuths = (near - APART, near + APART)
            shapes = settings.shapes or max(12, min(96, _BANK_VOXELS // self.session.config.resolution**3))
            self._bank = build_sketch_bank(
                self.session,
                shapes=shapes,
                azimuths=tuple(np.linspace(*azimuths, settings.azimuths).tolist()),
                elevations=(low + (high - low) / 4.0, high - (high - low) / 4.0),
                seed=settings.seed,
                camera=self._camera,
                step=lambda done, total: step("search", done, total),
            )
        return self._bank

    def _descend(
        self,
        target: Target,
        starts: FitParameters,
        prior: Float[Tensor, " n"],
        step: Callable[[Phase, int, int], None],
    ) -> list[FitResult]:
        """Rounds of descent, each from the best results of the one before; returns the result of every start."""
        settings, done, left = self.settings, 0, list[FitResult]()
        total = sum(steps + 1 for _, steps in self._rounds)
        limits = (self._elevations[0] - ELEVATION_TOLERANCE, self._elevations[1] + ELEVATION_TOLERANCE)
        best: FitResult | None = None
        for count, steps in self._rounds:
            if best is not None:
                left.append(best.rest(count))
                best = best.best(count)
                starts, prior = best.pose, best.prior
            for reached in fit(
                self.session.source.model,
                target,
                starts,
                steps=steps,
                elevations=limits,
                weights=settings.weights,
                camera=self._camera,
                prior=prior,
            ):
                best = reached if best is None else best.better_of(reached)
                done += 1
                step("fit", done, total)
        if best is None:
            raise ValueError("a reconstruction needs at least one round")
        return [best, *left]

    def _carve(
        self, photo: CutPhoto, best: Alternative, step: Callable[[Phase, int, int], None]
    ) -> tuple[Shape, CarveResult]:
        """The shape of the best code, carved to the photo's outline if it does not fit well."""
        session, settings = self.session, self.settings
        shape = session.shape_of_code(best.code, photo.name)
        angles = torch.tensor([best.azimuth, best.elevation]).to(shape.volume)

        def carved_in(steps: int) -> CarveResult:
            return carve(
                session.source.model,
                shape.volume,
                angles,
                photo.outline.to(session.device),
                steps=steps,
                mirrored=self._class.mirror_symmetry,
                step=lambda done, total: step("carve", done, total),
                camera=self._camera,
            )

        carved = carved_in(0)
        fits = carved.overlap >= settings.carve_below and carved.thin_parts >= settings.thin_below
        if not settings.carve_steps or fits:
            return shape, carved
        carved = carved_in(settings.carve_steps)
        return replace(session.shape_of_volume(photo.name, carved.volume), code=shape.code), carved

    def _fit_texture(
        self, photo: CutPhoto, sketch: SurfaceSketch, step: Callable[[Phase, int, int], None]
    ) -> Float[Tensor, " k"]:
        """The texture code that paints the sketch like the photo, fitted from the encoder's code."""
        model, steps = self.session.source.model, self.settings.texture_steps
        image = photo.image[None].to(self.session.device)
        best = self.session.encode_texture(photo.image)[None].to(image.device)
        shared = torch.minimum(sketch.silhouette, photo.mask[None].to(image.device))
        code = best.clone().requires_grad_()
        optimizer = torch.optim.Adam([code], lr=TEXTURE_RATE)
        least = math.inf
        for index in range(steps):
            with torch.enable_grad():
                off = ((model.paint(sketch, code) - image) / COLOUR_SCALE).square()
                # Robust, as highlights and shadows are not texture; codes keep the length of sampled ones.
                loss = (shared * off / (1.0 + off)).sum() / shared.sum().clamp_min(1.0) / 3.0
                loss = loss + 0.05 * (code.square().mean() - 1.0).clamp_min(0.0)
            if loss.item() < least:
                best, least = code.detach().clone(), loss.item()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            step("texture", index + 1, steps)
        return best[0].cpu()


def ranked(results: Sequence[FitResult]) -> list[Alternative]:
    """Fits, best first, one for each viewpoint, with the probability of each: p(viewpoint) exp(score / weight)."""
    rows = [
        Alternative(code, float(angles[0]), float(angles[1]), float(overlap), float(score), 0.0)
        for each in results
        for code, angles, overlap, score in zip(
            each.pose.codes.cpu(), each.pose.angles, each.overlap, each.score, strict=True
        )
    ]
    found = list[Alternative]()
    for row in sorted(rows, key=lambda row: -row.score):
        if all(_apart(row.azimuth, other.azimuth) >= ONE_VIEWPOINT for other in found):
            found.append(row)
    weights = [math.exp((each.score - found[0].score) / PRIOR_WEIGHT) for each in found]
    return [replace(each, confidence=weight / sum(weights)) for each, weight in zip(found, weights, strict=True)]


def _apart(first: float, second: float) -> float:
    return abs(math.remainder(first - second, 2.0 * math.pi))
