"""Benchmark of evaluation: image features, the Fréchet distance against scipy's sqrtm, Chamfer distances, meshes.

`python -m benchmarks.evaluation [--rounds N] [--output results.json]`; `--smoke` runs everything small and once.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from skimage.measure import marching_cubes

from benchmarks.measure import Table, time_paired
from vondata.shapes.point_distance import chamfer_matrix
from vonmodel.evaluation.features import FeatureNetwork, random_features
from vonmodel.evaluation.image_features import FeatureStatistics, StatisticsAccumulator
from vonmodel.evaluation.image_metrics import frechet_distance
from vonmodel.evaluation.inception import FEATURES, INPUT_SIZE, Inception
from vonmodel.mesh import surface_mesh


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    rounds = 1 if arguments.smoke else arguments.rounds
    table = Table("Evaluation", "python -m benchmarks.evaluation")
    _features(table, rounds, images=2 if arguments.smoke else 16)
    for samples in (100,) if arguments.smoke else (500, 5000):
        _distance(table, rounds, size=64 if arguments.smoke else FEATURES, samples=samples)
    _points(table, rounds, shapes=2 if arguments.smoke else 8, points=64 if arguments.smoke else 2048)
    _meshes(table, rounds, resolution=32 if arguments.smoke else 128)
    table.finish(arguments.output)


def _features(table: Table, rounds: int, images: int) -> None:
    # Random weights cost the same as the published ones.
    module = Inception().eval()
    inception = FeatureNetwork("inception", module, FEATURES, INPUT_SIZE, "tensorflow", "", False)
    pixels = torch.randint(0, 256, (images, 3, 128, 128), dtype=torch.uint8)
    contenders = {network.name: partial(network, pixels) for network in (inception, random_features())}
    for timing in time_paired(contenders, rounds=rounds):
        table.add(job=f"features of {images} images", method=timing.name, seconds=timing.median, spread=timing.spread)


def _distance(table: Table, rounds: int, size: int, samples: int) -> None:
    first, second = _statistics(size, samples, 0), _statistics(size, samples, 1)
    covariances = first.dense_covariance(), second.dense_covariance()
    ours, peer = time_paired(
        {
            "frechet_distance": lambda: frechet_distance(first, second),
            "scipy sqrtm": lambda: scipy.linalg.sqrtm(covariances[0] @ covariances[1]),
        },
        rounds=rounds,
        warmup=0,
    )
    job = f"distance, {samples} x {size}"
    table.add(job=job, method=ours.name, seconds=ours.median, spread=ours.spread, ratio=peer.median / ours.median)
    table.add(job=job, method=peer.name, seconds=peer.median, spread=peer.spread, ratio=1.0)


def _statistics(size: int, samples: int, seed: int) -> FeatureStatistics:
    accumulator = StatisticsAccumulator(size)
    accumulator.update(np.random.default_rng(seed).gamma(0.5, size=(samples, size)))
    return accumulator.result()


def _points(table: Table, rounds: int, shapes: int, points: int) -> None:
    rng = np.random.default_rng(0)
    # Ellipsoids: overlapping surfaces, like those of one class.
    balls = rng.normal(size=(shapes, points, 3))
    balls *= rng.uniform(0.5, 1.0, (shapes, 1, 3)) / np.linalg.norm(balls, axis=2, keepdims=True)
    sets = list(balls)
    tensors = [torch.from_numpy(each).float() for each in sets]

    def by_every_pair() -> list[float]:
        return [
            float(sum(torch.cdist(x, y).square().amin(dim=dim).mean() for dim in (0, 1)))
            for x in tensors
            for y in tensors
        ]

    ours, peer = time_paired(
        {"chamfer_matrix (k-d trees)": lambda: chamfer_matrix(sets), "torch.cdist": by_every_pair}, rounds=rounds
    )
    job = f"distances of {shapes} shapes, {points} points"
    table.add(job=job, method=ours.name, seconds=ours.median, spread=ours.spread, ratio=peer.median / ours.median)
    table.add(job=job, method=peer.name, seconds=peer.median, spread=peer.spread, ratio=1.0)


def _meshes(table: Table, rounds: int, resolution: int) -> None:
    position = np.stack(np.meshgrid(*[np.linspace(-1, 1, resolution, dtype=np.float32)] * 3, indexing="ij"))
    volume = 1 / (1 + np.exp(20 * (np.linalg.norm(position, axis=0) - 0.7 - 0.1 * np.sin(9 * position).prod(axis=0))))
    ours, peer = time_paired(
        {
            "surface_mesh (open3d)": lambda: surface_mesh(volume, 0.5),
            "skimage": lambda: marching_cubes(np.pad(volume, 1), 0.5),
        },
        rounds=rounds,
    )
    job = f"surface of {resolution}^3"
    table.add(job=job, method=ours.name, seconds=ours.median, spread=ours.spread, ratio=peer.median / ours.median)
    table.add(job=job, method=peer.name, seconds=peer.median, spread=peer.spread, ratio=1.0)


if __name__ == "__main__":
    main()
