"""Feature statistics of images: mean and covariance in float64 from one pass, kept features, and a cache."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.evaluation.features import FeatureNetwork
from vonmodel.evaluation.samples import Images, RealImages, RealShapes, Volumes
from vonmodel.evaluation.shape_classifier import ShapeFeatures

Array = npt.NDArray[np.float64]


class StatisticsError(VonError, ValueError):
    """Too few or invalid features for statistics."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Sample mean and covariance of feature vectors.

    With no more samples than features the covariance is kept as its root, which is smaller, and exact where the
    matrix would be singular.

    Attributes:
        count: number of samples, at least 2.
        mean: (d,)
        covariance: (d, d), unbiased; None when `root` is kept.
        root: (count, d) with root^T root = covariance; None when `covariance` is kept.
    """

    count: int
    mean: Array
    covariance: Array | None
    root: Array | None

    @property
    def total_variance(self) -> float:
        """Trace of the covariance."""
        if self.root is not None:
            return float(np.square(self.root).sum())
        assert self.covariance is not None
        return float(np.trace(self.covariance))

    def dense_covariance(self) -> Array:
        """The covariance as a matrix (d, d), whichever form is kept."""
        if self.root is not None:
            return np.asarray(self.root.T @ self.root)
        assert self.covariance is not None
        return self.covariance

    def save(self, path: Path) -> None:
        """Writes an .npz file atomically."""
        empty = np.empty(0)
        with atomic_path(path) as temporary:
            np.savez(
                temporary,
                count=self.count,
                mean=self.mean,
                covariance=empty if self.covariance is None else self.covariance,
                root=empty if self.root is None else self.root,
            )

    @classmethod
    def load(cls, path: Path) -> FeatureStatistics:
        """Reads what `save` wrote."""
        # numpy leaves a damaged file open when it opened it itself.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            covariance, root = file["covariance"], file["root"]
            return cls(
                int(file["count"]), file["mean"], covariance if covariance.size else None, root if root.size else None
            )


class StatisticsAccumulator:
    """Accumulates features; up to float64 rounding the result depends on neither batch size nor order.

    The first `size` samples are kept. From there on, mean and scatter are merged batch by batch:

        M <- M + S_b + (m_b - m)(m_b - m)^T n n_b / (n + n_b)        (Chan, Golub, LeVeque 1979)

    Args:
        size: length of a feature vector.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0
        self._kept: list[Array] = []
        self._mean = np.zeros(size)
        self._scatter: Array | None = None

    def update(self, features: npt.NDArray[np.floating]) -> None:
        """Adds features (n, size).

        Raises:
            StatisticsError: a feature is not finite.
            ValueError: the vectors have another length.
        """
        batch = np.asarray(features, dtype=np.float64)
        if batch.ndim != 2 or batch.shape[1] != self.size:
            raise ValueError(f"features of shape {batch.shape} do not fit vectors of length {self.size}")
        if not np.isfinite(batch).all():
            raise StatisticsError("a feature is infinite or not a number: look at the images and the feature network")
        if self._scatter is None and self.count + len(batch) <= self.size:
            self._kept.append(batch)
            self.count += len(batch)
            return
        if self._scatter is None:
            batch = np.concatenate([*self._kept, batch])
            self.count, self._kept = 0, []
            self._scatter = np.zeros((self.size, self.size))
        self._merge(batch, self._scatter)

    def result(self) -> FeatureStatistics:
        """The statistics of everything added so far.

        Raises:
            StatisticsError: fewer than two samples have been added.
        """
        if self.count < 2:
            raise StatisticsError(f"a score takes 2 images or more on each side, not {self.count}")
        if self._scatter is None:
            rows = np.concatenate(self._kept)
            mean = rows.mean(axis=0)
            return FeatureStatistics(self.count, mean, None, (rows - mean) / np.sqrt(self.count - 1))
        covariance = (self._scatter + self._scatter.T) / (2 * (self.count - 1))
        return FeatureStatistics(self.count, self._mean.copy(), covariance, None)

    def _merge(self, batch: Array, scatter: Array) -> None:
        """Adds a batch to mean and scatter, in place."""
        if len(batch) == 0:
            return
        total = self.count + len(batch)
        mean = batch.mean(axis=0)
        centred = batch - mean
        difference = mean - self._mean
        scatter += centred.T @ centred
        scatter += np.outer(difference, difference) * (self.count * len(batch) / total)
        self._mean += difference * (len(batch) / total)
        self.count = total


CACHE_FORMAT = 1
Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """The result of one pass over images.

    Attributes:
        statistics: mean and covariance of the features.
        features: (n, d) the features; None if they were not kept.
    """

    statistics: FeatureStatistics
    features: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Replica:
    """The images or shapes and the feature network on one device; all replicas hold the same ones."""

    images: Images | Volumes
    network: FeatureNetwork | ShapeFeatures


def measure(
    replicas: Sequence[Replica],
    *,
    batch_size: int,
    keep: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """Measures images or shapes in one pass; with several replicas, batches are dealt round-robin.

    Args:
        replicas: at least one; they share the work.
        batch_size: images at a time; like the number of replicas, it changes only memory and time.
        keep: keep the features, which takes 8 KB an image with Inception.
        progress: called after every batch.
    """
    accumulator = StatisticsAccumulator(replicas[0].network.size)
    kept = []
    for features in features_in_order(replicas, batch_size):
        accumulator.update(features)
        if keep:
            kept.append(features)
        if progress is not None:
            progress(accumulator.count, len(replicas[0].images))
    statistics = accumulator.result()
    return Measured(statistics, np.concatenate(kept) if keep else None)


def features_in_order(replicas: Sequence[Replica], batch_size: int) -> Iterator[npt.NDArray[np.float32]]:
    """The features of all batches in order, for any number of devices."""
    count = len(replicas[0].images)
    starts = range(0, count, batch_size)

    def features(replica: Replica, start: int) -> npt.NDArray[np.float32]:
        return replica.network(replica.images.part(start, min(start + batch_size, count)))

    if len(replicas) == 1:
        yield from (features(replicas[0], start) for start in starts)
        return
    # A thread for each replica: a device's work stays in order, and devices run independently.
    with ExitStack() as stack:
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in replicas]
        waiting: deque[Future[npt.NDArray[np.float32]]] = deque()
        for index, start in enumerate(starts):
            turn = index % len(replicas)
            waiting.append(threads[turn].submit(features, replicas[turn], start))
            if len(waiting) > 2 * len(replicas):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def measure_real(
    real: RealImages | RealShapes,
    networks: Sequence[FeatureNetwork] | Sequence[ShapeFeatures],
    cache: Path,
    *,
    batch_size: int,
    keep: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """Measures photos or shapes, or reads the cached result for the same items and network.

    A cached file is named by a hash of everything that determines its content. One that cannot be read is measured
    again; a cache that cannot be written is logged and not used.

    Args:
        real: the prepared photos or shapes.
        networks: the feature network, on each device that takes part.
        cache: folder of cached results.
        batch_size: images at a time.
        keep: keep the features.
        progress: called after every batch.
    """
    key = {
        "format": CACHE_FORMAT,
        "images": real.sha256,
        "count": len(real),
        "size": real.size,
        **networks[0].identity,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    files = cache / f"{name}.npz", cache / f"{name}-features.npy"
    try:
        statistics = FeatureStatistics.load(files[0])
        return Measured(statistics, _load_features(files[1]) if keep else None)
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        logger.warning("%s cannot be read (%s): measuring again", files[0], error)
    replicas = [Replica(real, network) for network in networks]
    measured = measure(replicas, batch_size=batch_size, keep=keep, progress=progress)
    try:
        measured.statistics.save(files[0])
        if measured.features is not None:
            with atomic_path(files[1]) as temporary:
                np.save(temporary, measured.features)
    except OSError as error:
        logger.warning("what was measured cannot be kept in %s: %s", cache, error)
    return measured


def _load_features(file: Path) -> npt.NDArray[np.float32]:
    with file.open("rb") as stream:
        features: npt.NDArray[np.float32] = np.load(stream, allow_pickle=False)
    return features
