"""How the values of a manifest are spread: histograms of a column and of viewpoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

BINS = 24
LOGARITHMIC_FROM = 50.0  # ratio of the 99th to the 1st percentile from which steps are taken in ratios
AZIMUTH_EDGES_DEG = np.arange(-180, 181, 15)
ELEVATION_EDGES_DEG = np.arange(-30, 91, 10)


@dataclass(frozen=True)
class Histogram:
    """Counts of values between neighbouring edges; the last interval includes its upper edge."""

    edges: Floats
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ViewpointHistogram:
    """Counts (azimuths, elevations) of viewpoints, with the edges in degrees."""

    azimuth_edges: npt.NDArray[np.int64]
    elevation_edges: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


def histogram(values: Floats) -> Histogram | None:
    """Spreads values (n,), some of which may be NaN, over at most 24 intervals; None when there are none.

    Intervals are equal in width, or in ratio when the values are positive and span more than a factor of 50.
    """
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return None
    low, high = float(known.min()), float(known.max())
    if low == high:
        return Histogram(np.array([low, high]), np.array([len(known)]))
    if low > 0 and np.divide(*np.percentile(known, [99, 1])) > LOGARITHMIC_FROM:
        edges = np.geomspace(low, high, BINS + 1)
        edges[0], edges[-1] = low, high
    else:
        edges = np.linspace(low, high, BINS + 1)
    return Histogram(edges, np.histogram(known, edges)[0])


def viewpoint_histogram(azimuth_deg: Floats, elevation_deg: Floats) -> ViewpointHistogram | None:
    """Counts the known ones of viewpoints (n,) in steps of 15 and 10 degrees; None when there are none."""
    known = np.isfinite(azimuth_deg) & np.isfinite(elevation_deg)
    if not known.any():
        return None
    azimuth = (azimuth_deg[known] + 180.0) % 360.0 - 180.0
    elevation = np.clip(elevation_deg[known], ELEVATION_EDGES_DEG[0], ELEVATION_EDGES_DEG[-1])
    counts = np.histogram2d(azimuth, elevation, (AZIMUTH_EDGES_DEG, ELEVATION_EDGES_DEG))[0]
    return ViewpointHistogram(AZIMUTH_EDGES_DEG, ELEVATION_EDGES_DEG, counts.astype(np.int64))
