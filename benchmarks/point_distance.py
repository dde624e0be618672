"""Benchmark of point-cloud distances: Chamfer against scipy's k-d trees, EMD by auction against scipy's assignment.

`python -m benchmarks.point_distance [--shapes N] [--whole] [--output results.json]`; `--smoke` runs it small.
`--whole` also measures all pairs of 1,000 x 1,000 shapes of 2,048 points.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from benchmarks.measure import Table, time_paired
from vondata.shapes.point_distance import chamfer_matrix, emd_matrix

Points = npt.NDArray[np.float64]


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=24)
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    count, points = (3, 300) if arguments.smoke else (arguments.shapes, arguments.points)
    rounds = 1 if arguments.smoke else arguments.rounds
    table = Table("Distances of point clouds", "python -m benchmarks.point_distance", keep_in=arguments.output)
    shapes = ellipsoids(count, points)
    _chamfer(table, shapes, rounds, arguments.threads)
    _earth_mover(table, shapes[:2], rounds)
    if arguments.whole:
        _whole(table, ellipsoids(2000, points), arguments.threads)
    table.finish(arguments.output)


def ellipsoids(count: int, points: int) -> list[Points]:
    """Overlapping surfaces, like those of one class."""
    rng = np.random.default_rng(0)
    balls = rng.normal(size=(count, points, 3))
    return list(balls * rng.uniform(0.5, 1.0, (count, 1, 3)) / np.linalg.norm(balls, axis=2, keepdims=True))


def _chamfer(table: Table, shapes: list[Points], rounds: int, threads: int) -> None:
    trees = [KDTree(points) for points in shapes]

    def by_trees() -> None:
        for points in shapes:
            for tree in trees:
                tree.query(points, workers=threads)

    ours, peer = time_paired(
        {"chamfer_matrix": lambda: chamfer_matrix(shapes, threads=threads), "scipy KDTree": by_trees}, rounds=rounds
    )
    pairs = len(shapes) * (len(shapes) - 1) / 2
    processor = _processor_seconds(shapes)
    table.add(
        job=f"Chamfer, {len(shapes)} shapes, {len(shapes[0])} points, {threads} threads",
        method=ours.name,
        seconds=ours.median,
        ratio=peer.median / ours.median,
        ms_of_processor_a_pair=1e3 * processor / pairs,
        million_pairs_min=1e6 * processor / pairs / threads / 60,
    )
    table.add(job="", method=peer.name, seconds=peer.median, ratio=1.0)


def _processor_seconds(shapes: list[Points]) -> float:
    """Processor time of the matrix, which depends little on the machine's load."""
    before = time.process_time()
    chamfer_matrix(shapes)
    return time.process_time() - before


def _earth_mover(table: Table, shapes: list[Points], rounds: int) -> None:
    costs = cdist(*shapes)
    exact = costs[linear_sum_assignment(costs)].mean()
    found = emd_matrix(shapes)
    ours, peer = time_paired(
        {"emd_matrix": lambda: emd_matrix(shapes), "scipy": lambda: linear_sum_assignment(costs)}, rounds=rounds
    )
    table.add(
        job=f"earth mover's distance, {len(shapes[0])} points",
        method=ours.name,
        seconds=ours.median,
        ratio=peer.median / ours.median,
        proven_excess=found.error,
        true_excess=float(found.matrix[0, 1] / exact - 1.0),
    )
    table.add(job="", method=peer.name, seconds=peer.median, ratio=1.0)


def _whole(table: Table, shapes: list[Points], threads: int) -> None:
    """The distances for scores of 1,000 shapes a side: 2,000 x 1,999 / 2."""
    start, processor = time.monotonic(), time.process_time()
    chamfer_matrix(shapes, threads=threads)
    table.add(
        job=f"Chamfer, 1,000 + 1,000 shapes, {len(shapes[0])} points, {threads} threads",
        method="chamfer_matrix",
        seconds=time.monotonic() - start,
        processor_s=time.process_time() - processor,
    )


if __name__ == "__main__":
    main()
