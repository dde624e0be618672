"""The kernel distance between two sets of features, KID on Inception's (Binkowski et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vonmodel.evaluation.statistics import StatisticsError
from vonmodel.seeding import numpy_generator

SUBSETS = 100
SUBSET_SIZE = 1000
Features = npt.NDArray[np.floating]


@dataclass(frozen=True)
class KernelDistance:
    """A squared maximum mean discrepancy, estimated without bias on subsets.

    Attributes:
        value: mean over the subsets; 0 is best, and around it the estimate may be negative.
        spread: standard deviation over the subsets.
        subsets: how many.
        subset_size: samples of each side in a subset.
    """

    value: float
    spread: float
    subsets: int
    subset_size: int


def kernel_distance(
    first: Features, second: Features, *, seed: int, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> KernelDistance:
    """MMD^2 with the kernel k(x, y) = (x.y / d + 1)^3.

    Args:
        first: (n, d)
        second: (m, d)
        seed: of the subsets.
        subsets: how many subsets, each drawn without repeats.
        subset_size: samples of each side in a subset. Where there are no more than that, half of them, so that the
            subsets differ and their spread says something.

    Raises:
        StatisticsError: fewer than four samples on a side.
    """
    fewest = min(len(first), len(second))
    if fewest < 4:
        raise StatisticsError(f"a kernel distance takes 4 images or more on each side, not {fewest}")
    size = subset_size if fewest > subset_size else fewest // 2
    rng = numpy_generator(seed, "kernel distance")
    values = [
        squared_discrepancy(
            first[rng.choice(len(first), size, replace=False)], second[rng.choice(len(second), size, replace=False)]
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, size)


def squared_discrepancy(first: Features, second: Features) -> float:
    """The unbiased estimate from all pairs: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), x != x', y != y'."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    within_x, within_y = (_sum_without_diagonal(_kernel(each, each)) for each in (x, y))
    n, m = len(x), len(y)
    return float(within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2.0 * _kernel(x, y).mean())


def _kernel(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)


def _sum_without_diagonal(matrix: npt.NDArray[np.float64]) -> float:
    return float(matrix.sum() - np.trace(matrix))
