"""Where a reconstruction begins: sketches of many generated shapes from all around, the best of them by overlap."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vonmodel.geometry import Camera
from vonmodel.inference.sampling import Viewpoints, generate_volumes, render_sketches, sample_codes
from vonmodel.inference.session import ModelSession
from vonmodel.reconstruction.fitting import FitParameters, Target, initial_frames, score, sketch_errors

OF_ONE_VIEWPOINT = 2
"""Starts taken at most from one viewpoint, so that other viewpoints get their chance."""


@dataclass(frozen=True, eq=False)
class SketchBank:
    """Framed sketches of every code from every viewpoint.

    Attributes:
        codes: (k, code) shape codes.
        viewpoints: (v, 2) azimuth and elevation in radians.
        silhouettes: (v, k, R, R) in [0, 1].
        depths: (v, k, R, R) normalised, in [-1, 1].
        camera: what they are seen with.
    """

    codes: Float[Tensor, "k code"]
    viewpoints: Viewpoints
    silhouettes: Float[Tensor, "v k R R"]
    depths: Float[Tensor, "v k R R"]
    camera: Camera

    def starts(self, session: ModelSession, target: Target, count: int) -> FitParameters:
        """The codes and viewpoints whose sketches fit best, at most two of one viewpoint."""
        scores = torch.stack([self._scores(index, target) for index in range(len(self.viewpoints))])
        within = scores.argsort(dim=1, descending=True)[:, :OF_ONE_VIEWPOINT]
        best = scores.gather(1, within).flatten().argsort(descending=True)[:count]
        views = best // within.shape[1]
        codes = self.codes[within.flatten()[best]]
        angles = torch.from_numpy(self.viewpoints).to(codes)[views]
        with torch.no_grad():
            return FitParameters(codes, angles, initial_frames(session.source.model, codes, angles, self.camera))

    def _scores(self, viewpoint: int, target: Target) -> Float[Tensor, " k"]:
        silhouettes, depths = self.silhouettes[viewpoint, :, None], self.depths[viewpoint, :, None]
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
    """Draws the bank; `step` is told after every viewpoint and may raise to stop."""
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
