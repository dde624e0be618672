"""Distances of point clouds: Chamfer distance through k-d trees, earth mover's distance by assignment or auction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from vondata.kernels import fast_kernel

Points = npt.NDArray[np.float64]
"""(k, 3) points of a shape's surface."""
Matrix = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]

LANES = 16
"""Points of a leaf, whose distances to one point are computed at once."""
EXACT_POINTS = 256
"""Up to this many points the earth mover's distance is exact; above, it is within `EMD_TOLERANCE`."""
EMD_TOLERANCE = 0.01
EMD_SCALING = 5.0
MIN_EMD_STEP = 1e-7
"""Smallest step of the prices that float32 still resolves, relative to the extent of the clouds."""


class _Leaves(NamedTuple):
    """The points of a shape as leaves of a balanced k-d tree.

    Attributes:
        points: (leaves, 3, LANES) positions; the last lanes of a leaf with fewer points repeat its first one.
        filled: (leaves,) points of each leaf.
        low: (3, leaves) lowest corner of each leaf's box.
        high: (3, leaves) highest corner.
    """

    points: Singles
    filled: Integers
    low: Singles
    high: Singles


def _leaves_of(points: Singles) -> _Leaves:
    parts = list[Integers]()
    waiting = [np.arange(len(points))]
    while waiting:
        part = waiting.pop()
        if len(part) <= LANES:
            parts.append(part)
            continue
        inside = points[part]
        along = inside[:, np.ptp(inside, axis=0).argmax()]
        # The left half fills whole leaves, so that all but one of them are full.
        half = -(-len(part) // (2 * LANES)) * LANES
        order = part[np.argpartition(along, half - 1)]
        waiting += [order[half:], order[:half]]
    padded = np.stack([np.concatenate([part, np.repeat(part[:1], LANES - len(part))]) for part in parts])
    blocks = np.ascontiguousarray(points[padded].transpose(0, 2, 1))
    filled = np.array([len(part) for part in parts])
    return _Leaves(
        blocks, filled, np.ascontiguousarray(blocks.min(axis=2).T), np.ascontiguousarray(blocks.max(axis=2).T)
    )


def chamfer_matrix(shapes: Sequence[Points], progress: Progress | None = None, *, threads: int = 1) -> Matrix:
    """The Chamfer distance of every shape to every other (n, n), symmetric, 0 on the diagonal.

        d(X, Y) = mean over x of min over y |x - y|^2 + mean over y of min over x |x - y|^2

    in squared units of the points. Nearest neighbours are exact, found leaf by leaf in k-d trees; distances of points
    are computed in float32 relative to the mean of all shapes, and summed in float64. The distance of a shape without
    points is infinite to one with points, and 0 to another without.
    """
    middle = _middle(shapes)
    leaves = [_leaves_of((points - middle).astype(np.float32)) if len(points) else None for points in shapes]

    def distance(row: int, column: int) -> float:
        first, second = leaves[row], leaves[column]
        assert first is not None
        assert second is not None
        one, other = _summed_nearest(*first, *second), _summed_nearest(*second, *first)
        return float(one) / len(shapes[row]) + float(other) / len(shapes[column])

    return _symmetric(shapes, distance, progress, threads)


def _middle(shapes: Sequence[Points]) -> Points:
    middles = [points.mean(axis=0) for points in shapes if len(points)]
    return np.asarray(np.mean(middles, axis=0)) if middles else np.zeros(3)


def _symmetric(
    shapes: Sequence[Points], distance: Callable[[int, int], float], progress: Progress | None, threads: int
) -> Matrix:
    """The matrix of a symmetric distance, its rows distributed over threads."""
    count = len(shapes)
    empty = np.array([len(points) == 0 for points in shapes])
    matrix = np.where(empty[:, None] == empty[None, :], 0.0, np.inf)

    def fill(row: int) -> None:
        for column in range(row + 1, count):
            if not empty[row] and not empty[column]:
                matrix[row, column] = distance(row, column)

    with ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(fill, range(count))):
            if progress is not None:
                progress(done + 1, count)
    return np.triu(matrix) + np.triu(matrix, 1).T


@fast_kernel
def _summed_nearest(
    queries: Singles,
    filled: Integers,
    query_low: Singles,
    query_high: Singles,
    targets: Singles,
    _target_filled: Integers,
    target_low: Singles,
    target_high: Singles,
) -> float:
    """The sum over the points of one shape of the squared distance to the nearest point of another."""
    count, lanes = targets.shape[0], targets.shape[2]
    gaps = np.empty(count, dtype=np.float32)
    # Distances are not negative, so their bits as integers have the same order, and integer minima, unlike IEEE
    # minima, are vectorised.
    best = np.empty(lanes, dtype=np.int32)
    distances = best.view(np.float32)
    zero = np.float32(0.0)
    total = 0.0
    for leaf in range(queries.shape[0]):
        low_x, low_y, low_z = query_low[0, leaf], query_low[1, leaf], query_low[2, leaf]
        high_x, high_y, high_z = query_high[0, leaf], query_high[1, leaf], query_high[2, leaf]
        for other in range(count):  # squared distances of the boxes
            x = max(target_low[0, other] - high_x, low_x - target_high[0, other], zero)
            y = max(target_low[1, other] - high_y, low_y - target_high[1, other], zero)
            z = max(target_low[2, other] - high_z, low_z - target_high[2, other], zero)
            gaps[other] = x * x + y * y + z * z
        first = 0
        for other in range(1, count):
            if gaps[other] < gaps[first]:
                first = other
        distances[:] = np.float32(np.inf)
        worst = np.float32(np.inf)
        for turn in range(-1, count):
            other = first if turn < 0 else turn
            if gaps[other] >= worst or turn == first:
                continue
            worst = zero
            for point in range(lanes):
                x, y, z = queries[leaf, 0, point], queries[leaf, 1, point], queries[leaf, 2, point]
                nearest = best[point]
                for lane in range(lanes):
                    dx, dy, dz = targets[other, 0, lane] - x, targets[other, 1, lane] - y, targets[other, 2, lane] - z
                    nearest = min(nearest, np.float32(dx * dx + dy * dy + dz * dz).view(np.int32))
                best[point] = nearest
                worst = max(worst, distances[point])
        for lane in range(filled[leaf]):
            total += distances[lane]
    return total


class EarthMover(NamedTuple):
    """Earth mover's distances of shapes.

    Attributes:
        matrix: (n, n), symmetric, 0 on the diagonal.
        error: the largest relative amount by which any of them may exceed the true distance; 0 if all are exact.
    """

    matrix: Matrix
    error: float


def emd_matrix(shapes: Sequence[Points], progress: Progress | None = None, *, threads: int = 1) -> EarthMover:
    """The earth mover's distance of every shape to every other.

        d(X, Y) = min over bijections f of mean over x of |x - f(x)|

    Up to `EXACT_POINTS` points, by the optimal assignment (scipy's Jonker-Volgenant). Above, by the auction algorithm
    (Bertsekas 1988), whose bid increment is reduced until the assignment costs at most `EMD_TOLERANCE` more than the
    lower bound given by the prices.

    Args:
        shapes: points of each, equally many, or none.
        progress: called after every shape.
        threads: number of threads that the pairs are distributed over.

    Raises:
        ValueError: shapes have different numbers of points.
    """
    sizes = {len(points) for points in shapes if len(points)}
    if len(sizes) > 1:
        raise ValueError(f"shapes of {min(sizes)} to {max(sizes)} points: a bijection needs equally many")
    middle = _middle(shapes)
    moved = [points - middle for points in shapes]
    planes = [np.ascontiguousarray(points.T, dtype=np.float32) for points in moved]
    errors = [0.0] * len(shapes)

    def distance(row: int, column: int) -> float:
        if len(moved[row]) <= EXACT_POINTS:
            costs = cdist(moved[row], moved[column])
            return float(costs[linear_sum_assignment(costs)].mean())
        cost, proven = _auction(planes[row], planes[column], EMD_TOLERANCE, EMD_SCALING, MIN_EMD_STEP)
        errors[row] = max(errors[row], cost / proven - 1.0 if proven > 0.0 else 0.0)
        return float(cost)

    matrix = _symmetric(shapes, distance, progress, threads)
    return EarthMover(matrix, max(errors, default=0.0))


@fast_kernel
def _auction(
    people: Singles, objects: Singles, tolerance: float, scaling: float, min_step: float
) -> tuple[float, float]:
    """The mean cost of an assignment of points (3, n) to points (3, n), and a lower bound of the mean cost."""
    count = people.shape[1]
    prices = np.zeros(count, dtype=np.float32)
    values = np.empty(count, dtype=np.float32)
    lowest, second = np.empty(LANES, dtype=np.int32), np.empty(LANES, dtype=np.int32)
    owner, chosen = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    waiting = np.empty(count, dtype=np.int64)
    extent = 0.0
    for axis in range(3):
        extent += max(people[axis].max(), objects[axis].max()) - min(people[axis].min(), objects[axis].min())
    step = np.float32(extent / 10.0)
    cost = proven = 0.0
    while True:
        owner[:] = -1
        for person in range(count):
            waiting[person] = count - 1 - person
        left = count
        while left:
            person = waiting[left - 1]
            best, least, next_least = _cheapest(people, person, objects, prices, values, lowest, second)
            chosen[person] = best
            prices[best] += next_least - least + step
            before = owner[best]
            owner[best] = person
            if before < 0:
                left -= 1
            else:
                waiting[left - 1] = before
        cost = proven = 0.0
        for person in range(count):
            x, y, z = (
                people[0, person] - objects[0, chosen[person]],
                people[1, person] - objects[1, chosen[person]],
                people[2, person] - objects[2, chosen[person]],
            )
            cost += np.sqrt(x * x + y * y + z * z)
            _, least, _ = _cheapest(people, person, objects, prices, values, lowest, second)
            proven += least - prices[person]
        if cost - proven <= tolerance * proven or step <= min_step * extent:
            return cost / count, proven / count
        step = np.float32(step / scaling)


@fast_kernel
def _cheapest(
    people: Singles,
    person: int,
    objects: Singles,
    prices: Singles,
    values: Singles,
    lowest: npt.NDArray[np.int32],
    second: npt.NDArray[np.int32],
) -> tuple[int, float, float]:
    """The object with the lowest cost for a person, distance plus price; its cost, and the second lowest cost."""
    count, lanes = objects.shape[1], lowest.size
    x, y, z = people[0, person], people[1, person], people[2, person]
    bits = values.view(np.int32)
    for item in range(count):
        dx, dy, dz = objects[0, item] - x, objects[1, item] - y, objects[2, item] - z
        values[item] = np.sqrt(dx * dx + dy * dy + dz * dz) + prices[item]
    lowest[:] = 0x7F7FFFFF
    second[:] = 0x7F7FFFFF
    whole = count // lanes * lanes
    for start in range(0, whole, lanes):
        for lane in range(lanes):
            value = bits[start + lane]
            second[lane] = min(second[lane], max(lowest[lane], value))
            lowest[lane] = min(lowest[lane], value)
    for item in range(whole, count):
        second[0] = min(second[0], max(lowest[0], bits[item]))
        lowest[0] = min(lowest[0], bits[item])
    least, next_least = np.int32(0x7F7FFFFF), np.int32(0x7F7FFFFF)
    for lane in range(lanes):
        next_least = min(next_least, max(least, lowest[lane]))
        least = min(least, lowest[lane])
        next_least = min(next_least, second[lane])
    best = 0
    while bits[best] != least:
        best += 1
    lowest[0], lowest[1] = least, next_least
    found = lowest.view(np.float32)
    return best, found[0], found[1]
