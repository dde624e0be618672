"""What projecting costs, against the published two-pass scheme in plain PyTorch, in the same run.

`python -m benchmarks.projection [--rounds N] [--threads T] [--scene NAME] [--output results.json]`; `--smoke` runs it
small and once. Scenes: real chairs where the reference data lies beside the repository (else chairs of boxes), the
same blurred as by a generator that is not sure yet, and a thin fog that every ray crosses to its end.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measure import REALDATA, Table, peak_memory_mb, time_paired
from vondata.classes import load_class
from vondata.shapes.prepare import ShapeSettings, prepare_shape, shapenet_items
from vondata.storage import load_occupancy
from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.projection import Sketch, project
from vonmodel.projection.reference import composite, sample_volumes

Projection = Callable[[Tensor, Tensor], Sketch]
VIEWPOINTS_DEG = ((0.0, 0.0), (35.0, 20.0), (-70.0, 35.0), (150.0, 10.0))
BATCH = len(VIEWPOINTS_DEG)
METHODS = ("two-pass", "direct", "fused")


class TwoPass:
    """The published scheme: turn the volume onto a grid, then sample that along rays whose grid is kept ready."""

    def __init__(self, resolution: int) -> None:
        camera, like = Camera(), torch.empty(0)
        depths = camera.sample_depths(resolution, like)
        rays = camera.ray_directions(resolution, like).unsqueeze(-2) * depths.unsqueeze(-1)
        rays[..., 0] -= camera.distance
        self.points = rays.expand(BATCH, *rays.shape).contiguous()
        self.weights = camera.depth_weights(resolution, like)
        self.far = camera.far

    def __call__(self, volumes: Tensor, rotations: Tensor) -> Sketch:
        """Silhouette and depth; the rotation acts on reversed coordinates, as grid_sample counts them."""
        turn = functional.pad(rotations.flip(1, 2), (0, 1))
        grid = functional.affine_grid(turn, list(volumes.shape), align_corners=True)
        turned = functional.grid_sample(volumes, grid, align_corners=True)
        return composite(sample_volumes(turned, self.points), self.weights, self.far)


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scene", help="only scenes whose name contains this")
    parser.add_argument("--without-direct", action="store_true", help="leave the one-pass PyTorch version out")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--memory-of", choices=["nothing", *METHODS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    resolution = 32 if arguments.smoke else 128
    if arguments.memory_of:
        _run_for_memory(arguments.memory_of, resolution)
        return
    table = Table(f"Projection of {BATCH} volumes of {resolution}^3", "python -m benchmarks.projection")
    table.notes.append(f"{arguments.threads} threads, image {resolution} x {resolution}, float32.")
    left_out = ("direct",) if arguments.without_direct else ()
    for scene, volumes in _scenes(resolution).items():
        if (arguments.scene or "") in scene:
            _time(table, scene, volumes, 1 if arguments.smoke else arguments.rounds, left_out)
    _weigh(table, arguments.smoke, arguments.threads)
    table.finish(arguments.output)


def _contender(name: str, resolution: int) -> Projection:
    if name == "two-pass":
        return TwoPass(resolution)
    return partial(project, implementation="fused" if name == "fused" else "reference")


def _rotations() -> Tensor:
    return viewpoint_rotation(*torch.deg2rad(torch.tensor(VIEWPOINTS_DEG)).T)


def _time(table: Table, scene: str, volumes: Tensor, rounds: int, left_out: tuple[str, ...]) -> None:
    """Forward, forward + backward to the volumes, and to the volumes and viewpoints."""
    contenders = {name: _contender(name, volumes.shape[-1]) for name in METHODS}
    _check(contenders, volumes)
    contenders = {name: projection for name, projection in contenders.items() if name not in left_out}
    jobs = {"forward": (False, False), "forward + backward": (True, False), "with viewpoints": (True, True)}
    for job, needs in jobs.items():
        timings = time_paired(
            {name: partial(_step, projection, volumes, needs) for name, projection in contenders.items()},
            rounds=rounds,
        )
        for timing in timings:
            table.add(
                scene=scene,
                job=job,
                method=timing.name,
                ms=1000 * timing.median,
                spread=1000 * timing.spread,
                ratio=timings[0].median / timing.median,
            )


def _check(contenders: dict[str, Projection], volumes: Tensor) -> None:
    """Refuses to time what does not compute the same."""
    rotations = _rotations()
    pairs = {
        "two-pass": (contenders["two-pass"](volumes, rotations), project(volumes, rotations, resampled=True)),
        "fused": (contenders["fused"](volumes, rotations), contenders["direct"](volumes, rotations)),
    }
    for name, (sketch, expected) in pairs.items():
        for output, answer in zip(sketch, expected, strict=True):
            error = (output - answer).abs().max().item()
            if error > 2e-4:
                raise RuntimeError(f"{name} is off by {error:.1e} and not worth timing")


def _step(projection: Projection, volumes: Tensor, needs: tuple[bool, bool]) -> None:
    leaves = [leaf.detach().requires_grad_(need) for leaf, need in zip((volumes, _rotations()), needs, strict=True)]
    sketch = projection(*leaves)
    if any(needs):
        torch.autograd.grad(
            sketch.silhouette.sum() + sketch.depth.sum(), [leaf for leaf in leaves if leaf.requires_grad]
        )


def _weigh(table: Table, smoke: bool, threads: int) -> None:
    """Peak memory of forward + backward beyond that of a process that holds volumes and their gradient alone."""
    call = ["-m", "benchmarks.projection", "--threads", str(threads), *(["--smoke"] if smoke else []), "--memory-of"]
    base = peak_memory_mb([*call, "nothing"])
    extra = {name: peak_memory_mb([*call, name]) - base for name in METHODS}
    for name, megabytes in extra.items():
        table.add(
            scene="box chairs",
            job="extra memory",
            method=name,
            MB=megabytes,
            ratio=extra["two-pass"] / max(megabytes, 1),
        )


def _run_for_memory(name: str, resolution: int) -> None:
    volumes = _box_chairs(resolution)
    # Everything loads and compiles on small volumes, so that only what grows with the volume is left to weigh.
    for each in METHODS:
        _step(_contender(each, 8), torch.rand(BATCH, 1, 8, 8, 8), (True, True))
    if name == "nothing":
        torch.ones_like(volumes)
    else:
        _step(_contender(name, resolution), volumes, (True, True))


def _scenes(resolution: int) -> dict[str, Tensor]:
    real = REALDATA.is_dir()
    chairs = _real_chairs(resolution) if real else _box_chairs(resolution)
    blurred = functional.avg_pool3d(chairs, 9, stride=1, padding=4)
    return {
        "real chairs" if real else "box chairs": chairs,
        "blurred": torch.sigmoid(12.0 * blurred - 7.0),
        "thin fog": torch.full_like(chairs, 0.003),
    }


def _real_chairs(resolution: int) -> Tensor:
    occupancies: list[Tensor] = []
    with tempfile.TemporaryDirectory() as folder:
        items = shapenet_items(REALDATA / "ShapeNetCore.v2", [load_class("chair")])
        for item in items:
            if item.rejected is None and len(occupancies) < BATCH:
                path = Path(folder) / f"{item.id}.npz"
                prepare_shape(item, ShapeSettings(resolution=resolution), path)
                occupancies.append(torch.from_numpy(load_occupancy(path)).float())
    return torch.stack(occupancies).unsqueeze(1)


def _box_chairs(resolution: int) -> Tensor:
    axis = torch.linspace(-1.0, 1.0, resolution)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    chairs = []
    for width in torch.linspace(0.35, 0.55, BATCH):
        seat = (x.abs() < width) & (y.abs() < 0.45) & (z.abs() < 0.05)
        back = (x.abs() < width) & ((y + 0.42).abs() < 0.04) & (z > 0.0) & (z < 0.7)
        legs = ((x.abs() - width + 0.05).abs() < 0.04) & ((y.abs() - 0.4).abs() < 0.04) & (z < 0.0) & (z > -0.6)
        chairs.append((seat | back | legs).float())
    return torch.stack(chairs).unsqueeze(1)


if __name__ == "__main__":
    main()
