"""Histograms of a manifest: of one column, and of viewpoints.

Viewpoints are counted when they are annotated, or matched with enough confidence. The histogram in a class's manifest
is fine enough to sample viewpoints from; the report shows coarser cells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.floating]
Numbers = npt.NDArray[np.integer] | npt.NDArray[np.floating]

BINS = 24
LOGARITHMIC_FROM = 50.0  # ratio of the 99th to the 1st percentile above which bins are logarithmic
AZIMUTH_EDGES_DEG = np.arange(-180, 181, 15)
ELEVATION_EDGES_DEG = np.arange(-30, 91, 10)
FINE_AZIMUTH_EDGES_DEG = np.arange(-180.0, 180.1, 5.0)
FINE_ELEVATION_EDGES_DEG = np.arange(-90.0, 90.1, 2.5)
MIN_CONFIDENCE = 0.6  # of a matched viewpoint; a less certain one is treated as unknown


@dataclass(frozen=True)
class Histogram:
    """Counts of values between neighbouring edges; the last interval includes its upper edge."""

    edges: Floats
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ViewpointHistogram:
    """Counts (azimuths, elevations) of viewpoints, with the edges in degrees."""

    azimuth_edges: Numbers
    elevation_edges: Numbers
    counts: npt.NDArray[np.int64]

    def sample(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """(count, 2) azimuth and elevation in degrees: a cell with probability by its count, uniform in the cell."""
        cells = np.argwhere(self.counts)
        weights = self.counts[tuple(cells.T)].astype(np.float64)
        azimuth, elevation = cells[rng.choice(len(cells), size=count, p=weights / weights.sum())].T
        low = np.stack([self.azimuth_edges[azimuth], self.elevation_edges[elevation]], axis=1)
        high = np.stack([self.azimuth_edges[azimuth + 1], self.elevation_edges[elevation + 1]], axis=1)
        return rng.uniform(low, high)

    def to_json(self) -> str:
        """The histogram as text: the edges, and azimuth index, elevation index and count of every cell not empty."""
        cells = [[*map(int, cell), int(self.counts[tuple(cell)])] for cell in np.argwhere(self.counts)]
        edges = {"azimuth_edges_deg": self.azimuth_edges, "elevation_edges_deg": self.elevation_edges}
        return json.dumps({name: each.tolist() for name, each in edges.items()} | {"cells": cells})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        document = json.loads(text)
        azimuth, elevation = (np.array(document[f"{name}_edges_deg"]) for name in ("azimuth", "elevation"))
        counts = np.zeros((len(azimuth) - 1, len(elevation) - 1), dtype=np.int64)
        for row, column, count in document["cells"]:
            counts[row, column] = count
        return cls(azimuth, elevation, counts)


def histogram(values: Floats) -> Histogram | None:
    """The histogram of values (n,), some of which may be NaN, in at most 24 bins; None without finite values.

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


def viewpoint_histogram(
    azimuth_deg: Floats,
    elevation_deg: Floats,
    azimuth_edges: Numbers = AZIMUTH_EDGES_DEG,
    elevation_edges: Numbers = ELEVATION_EDGES_DEG,
) -> ViewpointHistogram | None:
    """The histogram of the known ones of viewpoints (n,), by default in the report's cells; None without any."""
    known = np.isfinite(azimuth_deg) & np.isfinite(elevation_deg)
    if not known.any():
        return None
    azimuth = (azimuth_deg[known] + 180.0) % 360.0 - 180.0
    elevation = np.clip(elevation_deg[known], elevation_edges[0], elevation_edges[-1])
    counts = np.histogram2d(azimuth, elevation, (azimuth_edges, elevation_edges))[0]
    return ViewpointHistogram(azimuth_edges, elevation_edges, counts.astype(np.int64))


def known_viewpoints(rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """(n, 2) azimuth and elevation in degrees of rows of an images manifest.

    NaN where it is unknown, and where a match is less confident than `MIN_CONFIDENCE`.
    """
    viewpoints = np.array(rows[["azimuth_deg", "elevation_deg"]], dtype=np.float64)
    if "viewpoint_confidence" in rows:
        viewpoints[np.asarray(rows["viewpoint_confidence"] < MIN_CONFIDENCE)] = np.nan
    return viewpoints
