"""Image metrics on features: FID, KID, precision, recall, density, coverage, authenticity; bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from vonmodel.evaluation.features import FeatureNetwork
from vonmodel.evaluation.image_features import (
    FeatureStatistics,
    Measured,
    Replica,
    StatisticsAccumulator,
    StatisticsError,
    measure,
    measure_real,
)
from vonmodel.evaluation.samples import Generator, RealImages
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.seeding import numpy_generator

_JITTER = 1e-12
Array = npt.NDArray[np.float64]


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """d^2 = |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    Symmetric, zero for equal statistics, non-negative up to rounding.

    Raises:
        ValueError: the two have features of different length.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of length {a.mean.size} and {b.mean.size} do not compare")
    difference = a.mean - b.mean
    return float(difference @ difference) + a.total_variance + b.total_variance - 2 * trace_of_root(a, b)


def trace_of_root(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The trace of (C_a C_b)^(1/2): the sum of the square roots of the eigenvalues of C_a C_b.

    With C_a = R_a^T R_a these are the singular values of R_a R_b^T. If both roots are known (fewer samples than
    features) their product is small and used directly; else the eigenvalues of R_a C_b R_a^T are taken, R_a being
    the known root or the Cholesky factor.
    """
    if a.root is not None and b.root is not None:
        return float(scipy.linalg.svdvals(a.root @ b.root.T).sum())
    if a.root is None and b.root is not None:
        a, b = b, a
    root = a.root if a.root is not None else _root(a.dense_covariance())
    eigenvalues = scipy.linalg.eigvalsh(root @ b.dense_covariance() @ root.T)
    return float(np.sqrt(eigenvalues.clip(min=0)).sum())


def _root(covariance: Array) -> Array:
    """R (d, d) with R^T R = covariance, also for a singular one."""
    try:
        lower = scipy.linalg.cholesky(covariance + _JITTER * np.eye(len(covariance)), lower=True)
    except scipy.linalg.LinAlgError:
        eigenvalues, vectors = scipy.linalg.eigh(covariance)
        return np.asarray(np.sqrt(eigenvalues.clip(min=0))[:, None] * vectors.T)
    return np.asarray(lower.T)


SUBSETS = 100
SUBSET_SIZE = 1000
Features = npt.NDArray[np.floating]


@dataclass(frozen=True)
class KernelDistance:
    """A squared maximum mean discrepancy, estimated without bias on subsets.

    Attributes:
        value: mean over the subsets; 0 is best, and the estimate may be slightly negative.
        spread: standard deviation over the subsets.
        subsets: number of subsets.
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
        subsets: number of subsets, each drawn without replacement.
        subset_size: samples of each side in a subset. If there are no more than that, half of them, so that the
            subsets differ and their spread is meaningful.

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


def _kernel(x: Array, y: Array) -> Array:
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)


def _sum_without_diagonal(matrix: npt.NDArray[np.float64]) -> float:
    return float(matrix.sum() - np.trace(matrix))


PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5
MIN_SAMPLES_OF_MANIFOLD = DENSITY_NEIGHBOURS + 1
BLOCK_ROWS = 1024
"""Rows of the distance matrix in memory at a time; changes no score."""


@dataclass(frozen=True)
class ManifoldScores:
    """Each set is the union of balls around its samples, with the distance to the k-th nearest neighbour as radius.

    Attributes:
        precision: fraction of generated samples inside the real set (Kynkäänniemi et al. 2019, k = 3): quality.
        recall: fraction of real samples inside the generated set (k = 3): variety.
        density: mean number of real balls around a generated sample, over k (Naeem et al. 2020, k = 5); may exceed 1.
        coverage: fraction of real balls with a generated sample inside (k = 5).
    """

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Membership:
    """Membership of every sample in the other set's manifold; the means of its arrays are `ManifoldScores`.

    Attributes:
        precise: (n,) whether each generated sample is inside the real set.
        recalled: (m,) whether each real sample is inside the generated set.
        balls: (n,) real balls around each generated sample, over k.
        covered: (m,) whether each real ball has a generated sample inside.
    """

    precise: npt.NDArray[np.bool_]
    recalled: npt.NDArray[np.bool_]
    balls: Array
    covered: npt.NDArray[np.bool_]

    @property
    def scores(self) -> ManifoldScores:
        """Their means."""
        return ManifoldScores(
            precision=float(self.precise.mean()),
            recall=float(self.recalled.mean()),
            density=float(self.balls.mean()),
            coverage=float(self.covered.mean()),
        )


def manifold_scores(generated: Features, real: Features) -> ManifoldScores:
    """Compares generated features (n, d) with real ones (m, d); both need more samples than neighbours.

    Raises:
        StatisticsError: too few samples.
    """
    return manifold_membership(generated, real).scores


def manifold_membership(generated: Features, real: Features) -> Membership:
    """Membership of generated features (n, d) and real ones (m, d) in the other set's manifold; errors as above."""
    fewest = min(len(generated), len(real))
    if fewest <= DENSITY_NEIGHBOURS:
        needed = MIN_SAMPLES_OF_MANIFOLD
        raise StatisticsError(f"precision and recall take {needed} images or more on each side, not {fewest}")
    drawn, photos = generated.astype(np.float64), real.astype(np.float64)
    real_radius = neighbour_distance(photos, PRECISION_NEIGHBOURS)
    drawn_radius = neighbour_distance(drawn, PRECISION_NEIGHBOURS)
    wide_radius = neighbour_distance(photos, DENSITY_NEIGHBOURS)
    precise, balls = np.zeros(len(drawn), dtype=bool), np.zeros(len(drawn))
    recalled, covered = (np.zeros(len(photos), dtype=bool) for _ in range(2))
    for rows, distance in _distances(drawn, photos):
        precise[rows] = (distance <= real_radius).any(axis=1)
        recalled |= (distance <= drawn_radius[rows, None]).any(axis=0)
        inside = distance <= wide_radius
        balls[rows] = inside.sum(axis=1) / DENSITY_NEIGHBOURS
        covered |= inside.any(axis=0)
    return Membership(precise, recalled, balls, covered)


@dataclass(frozen=True)
class NearestReference:
    """The reference sample that each generated one is nearest to.

    Attributes:
        index: (n,) which one.
        distance: (n,) the distance to it.
        ratio: (n,) that distance over the reference sample's distance to its nearest neighbour; 0 for a copy.
    """

    index: npt.NDArray[np.int64]
    distance: Array
    ratio: Array

    @property
    def authentic(self) -> npt.NDArray[np.bool_]:
        """(n,) whether each is farther from its nearest reference than that is from any other (Alaa 2022)."""
        return self.ratio > 1.0


def nearest_reference(across: Iterable[Array], radius: Array) -> NearestReference:
    """Finds the nearest reference of each generated sample, to detect copies.

    Args:
        across: distances (rows, m) of blocks of generated samples to all reference samples.
        radius: (m,) distance of every reference sample to its nearest neighbour.
    """
    nearest = [(block.argmin(axis=1), block.min(axis=1)) for block in across]
    index = np.concatenate([each for each, _ in nearest])
    distance = np.concatenate([each for _, each in nearest])
    own = radius[index]
    # Duplicate reference samples have a radius of 0.
    alike = np.where(distance > 0.0, np.inf, 0.0)
    return NearestReference(index, distance, np.divide(distance, own, out=alike, where=own > 0.0))


def nearest_features(generated: Features, real: Features) -> NearestReference:
    """`nearest_reference` of features (n, d) and (m, d), by their distance."""
    drawn, photos = generated.astype(np.float64), real.astype(np.float64)
    radius = np.sqrt(neighbour_distance(photos, 1))
    return nearest_reference((np.sqrt(block) for _, block in _distances(drawn, photos)), radius)


def neighbour_distance(samples: Array, neighbours: int) -> Array:
    """Squared distance (n,) of each sample (n, d) to its k-th nearest other sample."""
    # The nearest is the sample itself.
    parts = [
        np.partition(distance, neighbours, axis=1)[:, neighbours] for _, distance in _distances(samples, samples)
    ]
    return np.concatenate(parts)


def _distances(first: Array, second: Array) -> Iterator[tuple[slice, Array]]:
    """Squared distances (block, m) of blocks of rows of the first set to all of the second."""
    squares = np.square(second).sum(axis=1)
    for start in range(0, len(first), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = first[rows]
        distance = np.square(block).sum(axis=1)[:, None] + squares - 2.0 * block @ second.T
        yield rows, distance.clip(min=0.0)


Progress = Callable[[str, int, int], None]
"""Called with what is measured, the amount done and the total."""


def image_scores(
    generator: Generator,
    networks: Sequence[FeatureNetwork],
    settings: ScoreSettings,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Scores generated images against the photos of the class.

    Args:
        generator: the generator to score; one without images gets no score.
        networks: the feature network, on each device that takes part; the generator is on the first.
        settings: which scores, and how many images.
        progress: called after every batch.

    Yields:
        one entry for each requested score, with what it was measured on.
    """
    config = generator.config
    real = RealImages(
        generator.data,
        config.class_name,
        size=config.model.image_size,
        split=settings.split,
        maximum=settings.max_images,
    )
    samples = settings.samples or len(real)
    count = min(samples, settings.max_images or samples)
    keep = settings.kid or settings.precision_recall
    drawn = _measure_drawn(generator, networks, count, settings, progress, "generated images", keep=keep)
    if drawn is None:
        return
    photos = measure_real(
        real,
        networks,
        generator.data / config.class_name / "statistics",
        batch_size=settings.batch_size,
        keep=keep,
        progress=bind_progress(progress, "photos"),
    )
    about = _about(real, count, networks[0], settings)
    if settings.fid:
        value = frechet_distance(drawn.statistics, photos.statistics)
        untrained = _untrained(generator, networks, photos, count, settings, progress)
        yield {"metric": "fid", "value": value, "untrained": untrained} | about
    if drawn.features is not None and photos.features is not None:
        for result in _feature_scores(drawn.features, photos.features, settings):
            yield result | about


def _measure_drawn(
    generator: Generator,
    networks: Sequence[FeatureNetwork],
    count: int,
    settings: ScoreSettings,
    progress: Progress | None,
    what: str,
    *,
    keep: bool = False,
) -> Measured | None:
    """Feature statistics of generated images, computed on all devices; None for a generator without images."""
    others = [generator.on(device) for device in settings.devices[1:]]
    images = [each.images(count, settings.seed) for each in (generator, *others)]
    replicas = [Replica(some, network) for some, network in zip(images, networks, strict=True) if some is not None]
    if not replicas:
        return None
    return measure(replicas, batch_size=settings.batch_size, keep=keep, progress=bind_progress(progress, what))


def _feature_scores(drawn: Features, photos: Features, settings: ScoreSettings) -> Iterator[dict[str, Any]]:
    """The scores that need the features themselves."""
    if settings.kid:
        yield {"metric": "kid", **asdict(kernel_distance(drawn, photos, seed=settings.seed))}
    if settings.precision_recall:
        yield {"metric": "precision_recall", **asdict(manifold_scores(drawn, photos))}


def _untrained(
    generator: Generator,
    networks: Sequence[FeatureNetwork],
    photos: Measured,
    count: int,
    settings: ScoreSettings,
    progress: Progress | None,
) -> float | None:
    """The Fréchet distance of the model with its initial weights; None if not requested."""
    wanted = settings.features == "random" if settings.untrained is None else settings.untrained
    if not wanted:
        return None
    drawn = _measure_drawn(
        generator.untrained(), networks, count, settings, progress, "images of the untrained model"
    )
    assert drawn is not None
    return frechet_distance(drawn.statistics, photos.statistics)


def _about(real: RealImages, count: int, network: FeatureNetwork, settings: ScoreSettings) -> dict[str, Any]:
    return {
        "seed": settings.seed,
        "generated": count,
        "real": len(real),
        "split": settings.split or "all",
        "dataset_sha256": real.sha256,
        "image_size": real.size,
        "features": network.name,
        "features_sha256": network.sha256,
        "comparable": network.comparable,
        "resize": network.resize,
        "input_size": network.input_size,
    }


def bind_progress(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """The progress callback with its first argument bound."""
    return None if progress is None else partial(progress, what)


RESAMPLES = 200
LEVEL = 0.95
MIN_SAMPLES = 8


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap interval.

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

    Both sides are resampled. Pairs of a sample with its own copy are excluded, like pairs of a sample with itself:
    they would raise every resampled score over the value.

    Args:
        generated: (n, d).
        real: (m, d).
        seed: of the resampling.
        resamples: number of resamples.

    Raises:
        StatisticsError: fewer than eight samples on a side.
    """
    _check_counts(generated, real)
    x, y = generated.astype(np.float64), real.astype(np.float64)
    within_x, within_y, across = (_kernel(*pair) for pair in ((x, x), (y, y), (x, y)))
    np.fill_diagonal(within_x, 0.0)
    np.fill_diagonal(within_y, 0.0)

    def score(a: Array, b: Array) -> float:
        """The estimate with these multiplicities of the samples."""
        return float(_pair_mean(within_x, a) + _pair_mean(within_y, b) - 2.0 * (a @ across @ b) / (a.sum() * b.sum()))

    rng = numpy_generator(seed, "kernel distance interval")
    scores = [score(multiplicities(len(x), rng), multiplicities(len(y), rng)) for _ in range(resamples)]
    return interval_about(score(np.ones(len(x)), np.ones(len(y))), np.array(scores))


def frechet_distance_interval(
    generated: Features, real: Features, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """The Fréchet distance on all samples, and its bootstrap interval; arguments and errors as above.

    Resampled distances exceed the value, as the distance falls with the number of distinct samples; the interval
    has the width of their spread and is centred on the value.
    """
    _check_counts(generated, real)
    rng = numpy_generator(seed, "frechet distance interval")
    sides = generated.astype(np.float64), real.astype(np.float64)
    scores = [
        frechet_distance(*(_resampled_statistics(side, multiplicities(len(side), rng)) for side in sides))
        for _ in range(resamples)
    ]
    return interval_about(frechet_distance(statistics_of(generated), statistics_of(real)), np.array(scores))


def _resampled_statistics(samples: Array, weights: Array) -> FeatureStatistics:
    """The statistics of weighted samples; a sample drawn several times is one row of the root."""
    drawn = weights > 0
    mean = weights @ samples / weights.sum()
    root = np.sqrt(weights[drawn] / (weights.sum() - 1.0))[:, None] * (samples[drawn] - mean)
    few = len(root) <= samples.shape[1]
    return FeatureStatistics(len(samples), mean, None if few else root.T @ root, root if few else None)


def mean_interval(values: npt.NDArray[Any], *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The mean of a value per sample, such as membership of a manifold, and its bootstrap interval."""
    rng = numpy_generator(seed, "mean interval")
    numbers = values.astype(np.float64)
    means = [float(numbers[rng.integers(len(numbers), size=len(numbers))].mean()) for _ in range(resamples)]
    return interval_about(float(numbers.mean()), np.array(means))


def _check_counts(generated: Features, real: Features) -> None:
    fewest = min(len(generated), len(real))
    if fewest < MIN_SAMPLES:
        raise StatisticsError(f"an interval takes {MIN_SAMPLES} images or more on each side, not {fewest}")


def multiplicities(count: int, rng: np.random.Generator) -> Array:
    """How often each of `count` samples occurs among as many draws with replacement."""
    return np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)


def _pair_mean(kernel: Array, weights: Array) -> float:
    """The mean over pairs of different samples, weighted by the product of their multiplicities."""
    pairs = weights.sum() ** 2 - np.square(weights).sum()
    return float(weights @ kernel @ weights / pairs)


def statistics_of(features: Features) -> FeatureStatistics:
    """The statistics of features (n, d) that are in memory."""
    accumulator = StatisticsAccumulator(features.shape[1])
    accumulator.update(features)
    return accumulator.result()


def interval_about(value: float, scores: Array) -> Interval:
    """The quantiles of resampled scores about their mean, shifted to the value."""
    low, high = np.quantile(scores - scores.mean(), [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Interval(value, float(value + low), float(value + high))
