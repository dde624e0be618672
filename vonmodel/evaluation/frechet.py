"""The Fréchet distance between two Gaussians, which on Inception features is the FID (Heusel et al. 2017)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

from vonmodel.evaluation.statistics import FeatureStatistics

_JITTER = 1e-12
Array = npt.NDArray[np.float64]


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """d^2 = |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    Symmetric, zero for equal statistics, and at least zero but for rounding.

    Raises:
        ValueError: the two have features of different length.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of length {a.mean.size} and {b.mean.size} do not compare")
    difference = a.mean - b.mean
    return float(difference @ difference) + a.total_variance + b.total_variance - 2 * trace_of_root(a, b)


def trace_of_root(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The trace of (C_a C_b)^(1/2): the sum of the roots of the eigenvalues of C_a C_b.

    With C_a = R_a^T R_a these are the singular values of R_a R_b^T. Where both roots are known (fewer samples than
    features) their product is small and is taken as it is; else the eigenvalues of R_a C_b R_a^T are taken, R_a being
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
    """R (d, d) with R^T R = covariance, also for one that is singular."""
    try:
        lower = scipy.linalg.cholesky(covariance + _JITTER * np.eye(len(covariance)), lower=True)
    except scipy.linalg.LinAlgError:
        eigenvalues, vectors = scipy.linalg.eigh(covariance)
        return np.asarray(np.sqrt(eigenvalues.clip(min=0))[:, None] * vectors.T)
    return np.asarray(lower.T)
