"""How two sets of features cover each other: precision and recall, density and coverage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vonmodel.evaluation.statistics import StatisticsError

PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5
_BLOCK = 1024
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ManifoldScores:
    """Each set is taken as the union of balls around its samples that reach to their k-th nearest neighbour.

    Attributes:
        precision: share of generated samples inside the real set (Kynkäänniemi et al. 2019, k = 3): quality.
        recall: share of real samples inside the generated set (k = 3): variety.
        density: mean number of real balls around a generated sample, over k (Naeem et al. 2020, k = 5); may exceed 1.
        coverage: share of real balls with a generated sample inside (k = 5).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(generated: npt.NDArray[np.floating], real: npt.NDArray[np.floating]) -> ManifoldScores:
    """Compares generated features (n, d) with real ones (m, d); both need more samples than neighbours.

    Raises:
        StatisticsError: too few samples.
    """
    fewest = min(len(generated), len(real))
    if fewest <= DENSITY_NEIGHBOURS:
        needed = DENSITY_NEIGHBOURS + 1
        raise StatisticsError(f"precision and recall take {needed} images or more on each side, not {fewest}")
    drawn, photos = generated.astype(np.float64), real.astype(np.float64)
    real_radius = neighbour_distance(photos, PRECISION_NEIGHBOURS)
    drawn_radius = neighbour_distance(drawn, PRECISION_NEIGHBOURS)
    wide_radius = neighbour_distance(photos, DENSITY_NEIGHBOURS)
    precise = balls = 0
    recalled, covered = (np.zeros(len(photos), dtype=bool) for _ in range(2))
    for rows, distance in _distances(drawn, photos):
        precise += int((distance <= real_radius).any(axis=1).sum())
        recalled |= (distance <= drawn_radius[rows, None]).any(axis=0)
        inside = distance <= wide_radius
        balls += int(inside.sum())
        covered |= inside.any(axis=0)
    return ManifoldScores(
        precision=precise / len(drawn),
        recall=float(recalled.mean()),
        density=balls / (DENSITY_NEIGHBOURS * len(drawn)),
        coverage=float(covered.mean()),
    )


def neighbour_distance(samples: Array, neighbours: int) -> Array:
    """Squared distance (n,) of each sample (n, d) to its k-th nearest other sample."""
    # The nearest of all is the sample itself.
    parts = [
        np.partition(distance, neighbours, axis=1)[:, neighbours] for _, distance in _distances(samples, samples)
    ]
    return np.concatenate(parts)


def _distances(first: Array, second: Array) -> Iterator[tuple[slice, Array]]:
    """Squared distances (block, m) of some rows of the first set at a time to all of the second."""
    squares = np.square(second).sum(axis=1)
    for start in range(0, len(first), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = first[rows]
        distance = np.square(block).sum(axis=1)[:, None] + squares - 2.0 * block @ second.T
        yield rows, distance.clip(min=0.0)
