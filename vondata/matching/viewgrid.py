"""The viewpoints that are compared, and how probable each is before a photo has been seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.classes import ObjectClass

Doubles = npt.NDArray[np.float64]

_STEEPEST_DEG = 84.0


@dataclass(frozen=True, eq=False)
class ViewGrid:
    """Viewpoints at all pairs of azimuth and elevation, azimuth outermost.

    Attributes:
        azimuth_deg: (a,) a full turn in equal steps, from -180.
        elevation_deg: (e,) in equal steps.
    """

    azimuth_deg: Doubles
    elevation_deg: Doubles

    @property
    def shape(self) -> tuple[int, int]:
        """Azimuths and elevations."""
        return len(self.azimuth_deg), len(self.elevation_deg)

    @property
    def views_deg(self) -> Doubles:
        """(a * e, 2) azimuth and elevation of every viewpoint."""
        return np.stack(np.meshgrid(self.azimuth_deg, self.elevation_deg, indexing="ij"), axis=-1).reshape(-1, 2)


def view_grid(object_class: ObjectClass, azimuth_step_deg: float, elevation_step_deg: float) -> ViewGrid:
    """All azimuths, and the elevations of the class's prior with a step beyond on either side.

    Args:
        object_class: its viewpoints bound the elevations.
        azimuth_step_deg: is rounded so that a turn has whole steps.
        elevation_step_deg: between elevations; 0 is one of them.
    """
    steps = round(360.0 / azimuth_step_deg)
    low = min(band.elevation_deg[0] for band in object_class.viewpoints) - elevation_step_deg
    high = max(band.elevation_deg[1] for band in object_class.viewpoints) + elevation_step_deg
    first = np.ceil(max(low, -_STEEPEST_DEG) / elevation_step_deg)
    last = np.floor(min(high, _STEEPEST_DEG) / elevation_step_deg)
    azimuth = np.arange(steps, dtype=np.float64) * (360.0 / steps) - 180.0
    elevation = np.arange(first, last + 1.0, dtype=np.float64) * elevation_step_deg
    return ViewGrid(azimuth, elevation)


def log_prior(grid: ViewGrid, object_class: ObjectClass, weight: float) -> Doubles:
    """(a * e,) logarithm of each viewpoint's probability before a photo has been seen.

    Args:
        grid: the viewpoints.
        object_class: its bands of viewpoints, each cell of the grid getting its share of them.
        weight: of the bands, in [0, 1); the rest is spread evenly, so that no viewpoint is ruled out.
    """
    even = np.full(grid.shape, 1.0 / np.prod(grid.shape))
    banded = np.zeros(grid.shape)
    for band in object_class.viewpoints:
        turned = (band.azimuth_deg[0] + turn for turn in (-360.0, 0.0, 360.0))
        width = band.azimuth_deg[1] - band.azimuth_deg[0]
        across = np.sum([_overlap(grid.azimuth_deg, low, low + width) for low in turned], axis=0)
        banded += band.weight * across[:, None] * _overlap(grid.elevation_deg, *band.elevation_deg)
    return np.asarray(np.log((1.0 - weight) * even + weight * banded / banded.sum()).reshape(-1))


def circular_offset_deg(angle_deg: npt.ArrayLike, origin_deg: npt.ArrayLike) -> Doubles:
    """The way from origin to angle, in [-180, 180)."""
    offset: Doubles = (np.asarray(angle_deg, np.float64) - np.asarray(origin_deg) + 180.0) % 360.0 - 180.0
    return offset


def _overlap(centres: Doubles, low: float, high: float) -> Doubles:
    """The share of the interval [low, high] that falls into the cell around each of the evenly spaced centres."""
    half = (centres[1] - centres[0]) / 2.0
    inside = np.minimum(centres + half, high) - np.maximum(centres - half, low)
    share: Doubles = np.maximum(inside, 0.0) / (high - low)
    return share
