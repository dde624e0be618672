"""Bootstrap intervals of image scores: how much a score would move with other images of the same kinds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vonmodel.evaluation.image_features import FeatureStatistics, StatisticsAccumulator, StatisticsError
from vonmodel.evaluation.image_metrics import Features, frechet_distance
from vonmodel.seeding import numpy_generator

RESAMPLES = 200
LEVEL = 0.95
MIN_SAMPLES = 8

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A score with its interval.

    Attributes:
        value: on all samples.
        low: lower end.
        high: upper end.
        level: probability that intervals made this way contain the score of infinitely many samples.
    """

    value: float
    low: float
    high: float
    level: float = LEVEL


def kernel_distance_interval(
    generated: Features, real: Features, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """MMD^2 with the kernel (x.y / d + 1)^3, the unbiased estimate on all samples, and its bootstrap interval.

    Both sides are resampled. Pairs of a sample with its own copy are left out, as a sample with itself is: they would
    raise every resampled score over the value.

    Args:
        generated: (n, d).
        real: (m, d).
        seed: of the resampling.
        resamples: how many.

    Raises:
        StatisticsError: fewer than eight samples on a side.
    """
    _check(generated, real)
    x, y = generated.astype(np.float64), real.astype(np.float64)
    within_x, within_y, across = (_kernel(*pair) for pair in ((x, x), (y, y), (x, y)))
    np.fill_diagonal(within_x, 0.0)
    np.fill_diagonal(within_y, 0.0)

    def score(a: Array, b: Array) -> float:
        """The estimate with these multiplicities of the samples."""
        return float(_pair_mean(within_x, a) + _pair_mean(within_y, b) - 2.0 * (a @ across @ b) / (a.sum() * b.sum()))

    rng = numpy_generator(seed, "kernel distance interval")
    scores = [score(_multiplicities(len(x), rng), _multiplicities(len(y), rng)) for _ in range(resamples)]
    return _interval(score(np.ones(len(x)), np.ones(len(y))), np.array(scores))


def frechet_distance_interval(
    generated: Features, real: Features, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """The Fréchet distance on all samples, and its bootstrap interval; arguments and errors as above.

    Resampled distances lie over the value, as the distance falls with the number of different samples; the interval
    is as wide as their spread and lies about the value.
    """
    _check(generated, real)
    rng = numpy_generator(seed, "frechet distance interval")
    scores = [
        frechet_distance(*(_statistics(side[rng.integers(len(side), size=len(side))]) for side in (generated, real)))
        for _ in range(resamples)
    ]
    return _interval(frechet_distance(_statistics(generated), _statistics(real)), np.array(scores))


def _check(generated: Features, real: Features) -> None:
    fewest = min(len(generated), len(real))
    if fewest < MIN_SAMPLES:
        raise StatisticsError(f"an interval takes {MIN_SAMPLES} images or more on each side, not {fewest}")


def _kernel(x: Array, y: Array) -> Array:
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)


def _multiplicities(count: int, rng: np.random.Generator) -> Array:
    """How often each of `count` samples is drawn when as many are drawn with replacement."""
    return np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)


def _pair_mean(kernel: Array, weights: Array) -> float:
    """The mean over pairs of different samples, a pair counting as often as both were drawn."""
    pairs = weights.sum() ** 2 - np.square(weights).sum()
    return float(weights @ kernel @ weights / pairs)


def _statistics(features: Features) -> FeatureStatistics:
    accumulator = StatisticsAccumulator(features.shape[1])
    accumulator.update(features)
    return accumulator.result()


def _interval(value: float, scores: Array) -> Interval:
    """The quantiles of resampled scores about their mean, moved to the value."""
    low, high = np.quantile(scores - scores.mean(), [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Interval(value, float(value + low), float(value + high))
