"""From scores of all sketches to a viewpoint: what all shapes together say, not what the single best sketch says.

The score s of a sketch of shape k from viewpoint v counts as its log likelihood, in units of the temperature T:

    p(v | photo) ~ p(v) sum_k exp(s_kv / T)

The answer is the mean viewpoint around the strongest peak over azimuth, finer than the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.matching.viewgrid import Doubles, ViewGrid, circular_offset_deg

WINDOW_DEG = 22.5  # the confidence is that of being right within this much azimuth


@dataclass(frozen=True)
class Reading:
    """What the scores of one photo say.

    Attributes:
        azimuth_deg: in [-180, 180).
        elevation_deg: positive from above.
        confidence: probability that the azimuth is right within 22.5 degrees.
        alternative_azimuth_deg: the strongest other reading, more than 45 degrees away.
        alternative_elevation_deg: its elevation.
        alternative_confidence: its probability; with `confidence` at most 1.
        shape: index of the shape that is most alike from about there.
    """

    azimuth_deg: float
    elevation_deg: float
    confidence: float
    alternative_azimuth_deg: float
    alternative_elevation_deg: float
    alternative_confidence: float
    shape: int


def read_scores(scores: npt.NDArray[np.float32], grid: ViewGrid, prior: Doubles, temperature: float) -> Reading:
    """The viewpoint of one photo.

    Args:
        scores: (shapes, views) likeness of every sketch; -inf leaves a sketch out.
        grid: the views.
        prior: (views,) log probability before the photo.
        temperature: the difference of scores that makes a sketch e times as likely.
    """
    logs = scores / temperature + prior
    views = np.exp(logs - logs.max()).sum(axis=0, dtype=np.float64).reshape(grid.shape)
    views /= views.sum()
    away = np.abs(circular_offset_deg(grid.azimuth_deg[:, None], grid.azimuth_deg))
    step = away[0, 1]
    near = away <= WINDOW_DEG
    mass = views.sum(axis=1)
    peaks = np.maximum(0.0, 1.0 - away / (WINDOW_DEG + step)) @ mass  # a tent has its top in the middle of the mass
    best = int(peaks.argmax())
    summit = (peaks >= np.roll(peaks, 1)) & (peaks >= np.roll(peaks, -1))  # not the foot of the best peak
    other = int(np.where(away[best] > 2.0 * WINDOW_DEG, peaks + summit, -1.0).argmax())
    inside = scores.reshape(-1, *grid.shape)[:, near[best]]
    return Reading(
        *_mean_viewpoint(views, grid, near[best], best),
        float(mass[near[best]].sum()),
        *_mean_viewpoint(views, grid, near[other], other),
        float(mass[near[other]].sum()),
        int(inside.max(axis=(1, 2)).argmax()),
    )


def _mean_viewpoint(views: Doubles, grid: ViewGrid, near: npt.NDArray[np.bool_], peak: int) -> tuple[float, float]:
    inside = views[near]
    total = max(inside.sum(), np.finfo(np.float64).tiny)
    offset = circular_offset_deg(grid.azimuth_deg[near], grid.azimuth_deg[peak])
    azimuth = grid.azimuth_deg[peak] + (inside.sum(axis=1) * offset).sum() / total
    elevation = (inside.sum(axis=0) * grid.elevation_deg).sum() / total
    return float(circular_offset_deg(azimuth, 0.0)), float(elevation)
