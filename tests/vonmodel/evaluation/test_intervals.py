"""Bootstrap intervals of scores against distributions whose scores are known."""

import numpy as np
import pytest

from vonmodel.evaluation.image_features import FeatureStatistics, StatisticsAccumulator, StatisticsError
from vonmodel.evaluation.image_metrics import (
    frechet_distance,
    frechet_distance_interval,
    kernel_distance_interval,
    squared_discrepancy,
)


def cubic_discrepancy(shift: float) -> float:
    """MMD^2 of N(0, 1) and N(shift, 1) in one dimension with the kernel (x y + 1)^3, by its moments.

    E k(x, y) = E x^3 E y^3 + 3 E x^2 E y^2 + 3 E x E y + 1, and the two sides' moments differ by these.
    """
    moments = shift**3 + 3 * shift, shift**2, shift
    return moments[0] ** 2 + 3 * moments[1] ** 2 + 3 * moments[2] ** 2


def statistics(features: np.ndarray) -> FeatureStatistics:
    accumulator = StatisticsAccumulator(features.shape[1])
    accumulator.update(features)
    return accumulator.result()


def test_the_value_is_the_score_of_all_samples() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(0.5, 1.2, size=(30, 3))
    found = kernel_distance_interval(x, y, seed=1, resamples=50)
    assert found.value == pytest.approx(squared_discrepancy(x, y), rel=1e-12)
    assert found.low < found.value < found.high
    distance = frechet_distance_interval(x, y, seed=1, resamples=50)
    assert distance.value == pytest.approx(frechet_distance(statistics(x), statistics(y)), rel=1e-12)
    assert distance.low < distance.value < distance.high


def test_intervals_contain_the_true_kernel_distance_as_often_as_they_say() -> None:
    """400 experiments with normal samples; 95 % of the intervals, give or take three standard errors."""
    rng, truth, hits = np.random.default_rng(5), cubic_discrepancy(0.8), 0
    for seed in range(400):
        x, y = rng.normal(size=(100, 1)), rng.normal(0.8, 1.0, size=(100, 1))
        found = kernel_distance_interval(x, y, seed=seed, resamples=150)
        hits += found.low <= truth <= found.high
    assert 0.95 - 3 * (0.95 * 0.05 / 400) ** 0.5 <= hits / 400 <= 0.985


def test_intervals_shrink_with_the_root_of_the_number() -> None:
    rng = np.random.default_rng(2)
    width = {}
    for count in (100, 400):
        x, y = rng.normal(size=(count, 4)), rng.normal(0.7, 1.0, size=(count, 4))
        found = frechet_distance_interval(x, y, seed=0, resamples=100)
        width[count] = found.high - found.low
    assert 1.4 < width[100] / width[400] < 2.8


def test_few_samples_are_refused() -> None:
    with pytest.raises(StatisticsError, match="8 images or more"):
        kernel_distance_interval(np.zeros((7, 2)), np.zeros((9, 2)), seed=0)
