"""Bootstrap intervals of scores against distributions whose scores are known."""

import numpy as np
import pytest

from vonmodel.evaluation.image_features import StatisticsError
from vonmodel.evaluation.image_metrics import (
    frechet_distance,
    frechet_distance_interval,
    kernel_distance_interval,
    mean_interval,
    squared_discrepancy,
    statistics_of,
)


def cubic_discrepancy(shift: np.ndarray) -> float:
    """MMD^2 of N(0, I) and N(shift, I) in d dimensions with the kernel (x.y / d + 1)^3, by its moments.

    E k(x, y) is the sum over k of C(3, k) d^-k times the product of the k-th moment tensors; the two sides' tensors
    differ by shift, by its square, and by its cube with three of shift times the identity.
    """
    d, m = len(shift), float(shift @ shift)
    return 3 * m / d + 3 * m**2 / d**2 + (m**3 + 6 * m**2 + (3 * d + 6) * m) / d**3


def test_the_value_is_the_score_of_all_samples() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(0.5, 1.2, size=(30, 3))
    found = kernel_distance_interval(x, y, seed=1, resamples=50)
    assert found.value == pytest.approx(squared_discrepancy(x, y), rel=1e-12)
    assert found.low < found.value < found.high
    distance = frechet_distance_interval(x, y, seed=1, resamples=50)
    assert distance.value == pytest.approx(frechet_distance(statistics_of(x), statistics_of(y)), rel=1e-12)
    assert distance.low < distance.value < distance.high


def test_intervals_contain_the_true_kernel_distance_as_often_as_they_say() -> None:
    """95 % intervals of normal samples whose distance is known contain it in 93 to 97 % of 500 experiments."""
    shift = np.full(8, 0.4)
    rng, truth, hits = np.random.default_rng(5), cubic_discrepancy(shift), 0
    for seed in range(500):
        x, y = rng.normal(size=(150, 8)), rng.normal(shift, 1.0, size=(150, 8))
        found = kernel_distance_interval(x, y, seed=seed, resamples=150)
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / 500 <= 0.97


def test_intervals_of_few_samples_with_heavy_tails_are_a_little_too_narrow() -> None:
    """In one dimension the cubic kernel sees third moments: of 400 experiments of 100 samples, 93 %."""
    rng, truth, hits = np.random.default_rng(5), cubic_discrepancy(np.array([0.8])), 0
    for seed in range(400):
        x, y = rng.normal(size=(100, 1)), rng.normal(0.8, 1.0, size=(100, 1))
        found = kernel_distance_interval(x, y, seed=seed, resamples=150)
        hits += found.low <= truth <= found.high
    assert 0.95 - 3 * (0.95 * 0.05 / 400) ** 0.5 <= hits / 400 <= 0.985


def test_intervals_contain_the_true_frechet_distance_as_often_as_they_say() -> None:
    """The same for N(0, 1) and N(2, 3/2) in the plane, whose distance is 4 + 2 (3/2 - 1)^2."""
    rng, truth, hits = np.random.default_rng(6), 4.5, 0
    for seed in range(300):
        x, y = rng.normal(size=(150, 2)), rng.normal((2.0, 0.0), 1.5, size=(150, 2))
        found = frechet_distance_interval(x, y, seed=seed, resamples=100)
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / 300 <= 0.97


def test_intervals_contain_the_true_share_as_often_as_they_say() -> None:
    rng, hits = np.random.default_rng(7), 0
    for seed in range(1000):
        found = mean_interval(rng.random(200) < 0.3, seed=seed, resamples=150)
        hits += found.low <= 0.3 <= found.high
    assert 0.93 <= hits / 1000 <= 0.97


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
