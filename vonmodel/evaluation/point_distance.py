"""Generated shapes against real ones as sets of surface points: how near, how many of them, how easily told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import KDTree

from vonmodel.evaluation.statistics import StatisticsError
from vonmodel.evaluation.surface_points import Points

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PointScores:
    """Scores of Achlioptas et al. 2018 and Lopez-Paz and Oquab 2017, on the Chamfer distance.

    Attributes:
        minimum_matching_distance: mean over real shapes of the distance to the nearest generated one; fidelity, 0 is
            best. None where no generated shape has a surface.
        coverage: share of the real shapes that are some generated shape's nearest; variety, 1 is best.
        nearest_neighbour_accuracy: how often the nearest other shape of both sets together is of the same set, one
            set as large as the other; 0.5 where they cannot be told apart, 1 where they always can.
        empty: generated shapes without a surface.
    """

    minimum_matching_distance: float | None
    coverage: float
    nearest_neighbour_accuracy: float
    empty: int


def point_scores(
    generated: Sequence[Points], real: Sequence[Points], progress: Callable[[int, int], None] | None = None
) -> PointScores:
    """Compares two equally large sets of shapes.

    Args:
        generated: points of each generated shape; none for one without a surface, which is infinitely far from all
            others but its like.
        real: points of each real shape, of which each has some.
        progress: told after every shape.

    Raises:
        StatisticsError: fewer than two shapes on a side, or a real one without a surface.
        ValueError: the sets are not equally large.
    """
    count = len(real)
    if len(generated) != count:
        raise ValueError(f"{len(generated)} generated and {count} real shapes: the sets must be equally large")
    if count < 2:
        raise StatisticsError(f"distances of surface points take 2 shapes or more on each side, not {count}")
    empty = sum(len(points) == 0 for points in generated)
    if any(len(points) == 0 for points in real):
        raise StatisticsError("a real shape has no surface at this resolution; train at a higher one")
    distance = chamfer_matrix([*generated, *real], progress)
    return scores_of(distance, count, empty)


def scores_of(distance: Matrix, count: int, empty: int = 0) -> PointScores:
    """The scores from all distances (2n, 2n), the n generated shapes first."""
    across = distance[:count, count:]
    nearest = across.min(axis=0)
    matched = across.argmin(axis=1)[np.isfinite(across).any(axis=1)]
    others = distance.copy()
    np.fill_diagonal(others, np.inf)
    neighbour = others.argmin(axis=1)
    alone = ~np.isfinite(others).any(axis=1)  # a lone empty shape: nobody takes it for a real one
    same = (neighbour < count) == (np.arange(2 * count) < count)
    return PointScores(
        minimum_matching_distance=float(nearest.mean()) if np.isfinite(nearest).all() else None,
        coverage=len(set(matched.tolist())) / count,
        nearest_neighbour_accuracy=float((same | alone).mean()),
        empty=empty,
    )


def chamfer_matrix(shapes: Sequence[Points], progress: Callable[[int, int], None] | None = None) -> Matrix:
    """The Chamfer distance of every shape to every other (n, n), symmetric, 0 on the diagonal.

        d(X, Y) = mean over x of min over y |x - y|^2 + mean over y of min over x |x - y|^2

    in squared object units, of which the cube's edge has 2. A shape without points is infinitely far from one with
    points, and like another without.
    """
    trees = [KDTree(points) if len(points) else None for points in shapes]
    threads = torch.get_num_threads()
    one_way = np.zeros((len(shapes), len(shapes)))
    for row, points in enumerate(shapes):
        for column, tree in enumerate(trees):
            if tree is None or len(points) == 0:
                one_way[row, column] = 0.0 if tree is None and len(points) == 0 else np.inf
            elif row != column:
                one_way[row, column] = np.square(tree.query(points, workers=threads)[0]).mean()
        if progress is not None:
            progress(row + 1, len(shapes))
    return one_way + one_way.T
