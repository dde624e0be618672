"""Mean and covariance of features, gathered batch by batch in float64."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vondata.errors import VonError
from vondata.io.files import atomic_path

Array = npt.NDArray[np.float64]


class StatisticsError(VonError, ValueError):
    """Features from which no mean and covariance can be made."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Sample mean and covariance of feature vectors.

    With no more samples than features the covariance is kept as its root, which is smaller and exact where the matrix
    itself would be singular.

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
        """Writes an .npz file, whole or not at all."""
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
    """Gathers features; the result depends on neither batch size nor order, but for rounding in float64.

    The first `size` samples are kept as they are. From there on, mean and scatter are merged batch by batch:

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
