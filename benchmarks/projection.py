"""Benchmark of the projection against the published two-pass scheme in plain PyTorch.

`python -m benchmarks.projection [--device cuda] [--rounds N] [--threads T] [--scene NAME] [--shapes FOLDER]
[--output results.json]`; `--smoke` runs it small and once. Scenes: real chairs, if the reference data is next to the
repository or prepared shapes are in FOLDER (else chairs of boxes), the same blurred as by an untrained generator, and
a thin fog that every ray crosses completely. On a GPU also with bfloat16 volumes, and with the lower bound on the
time: for the bytes and operations of the job, at the device's measured rates.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu import Ceilings, measure_ceilings, peak_gb, waiting_for
from benchmarks.measure import Table, peak_memory_mb, time_paired
from benchmarks.scenes import ITEMS, box_chairs, build_scenes
from vonmodel.geometry import Camera, rotate_points, viewpoint_rotation
from vonmodel.projection import Sketch, project
from vonmodel.projection.reference import MIN_OPACITY, composite, sample_volumes

Projection = Callable[[Tensor, Tensor], Sketch]
VIEWPOINTS_DEG = ((0.0, 0.0), (35.0, 20.0), (-70.0, 35.0), (150.0, 10.0))
METHODS = ("two-pass", "direct", "fused")
JOBS = {"forward": (False, False), "forward + backward": (True, False), "with viewpoints": (True, True)}
# Float32 operations per sample: position, interpolation of eight voxels and compositing; the backward pass repeats
# them and adds the gradient of opacity and of eight voxels; for viewpoints the derivatives along three axes.
OPERATIONS = {"forward": 60, "forward + backward": 60 + 60 + 80, "with viewpoints": 60 + 60 + 80 + 110}
NEGLIGIBLE_LIGHT = 1e-10


@dataclass(frozen=True)
class Setting:
    """Device, batch size and rounds of the measurement."""

    device: torch.device
    batch: int
    rounds: int
    without: tuple[str, ...]
    ceilings: Ceilings | None

    def rotations(self) -> Tensor:
        """One viewpoint per item."""
        angles = torch.deg2rad(torch.tensor(VIEWPOINTS_DEG)).repeat(-(-self.batch // len(VIEWPOINTS_DEG)), 1)
        return viewpoint_rotation(*angles[: self.batch].T).to(self.device)


class TwoPass:
    """The published scheme: resample the volume on a rotated grid, then sample that along precomputed rays."""

    def __init__(self, resolution: int, batch: int, device: torch.device) -> None:
        camera, like = Camera(), torch.empty(0, device=device)
        depths = camera.sample_depths(resolution, like)
        rays = camera.ray_directions(resolution, like).unsqueeze(-2) * depths.unsqueeze(-1)
        rays[..., 0] -= camera.distance
        self.points = rays.flip(-1).expand(batch, *rays.shape).contiguous()
        self.weights = camera.depth_weights(resolution, like)
        self.far = camera.far

    def __call__(self, volumes: Tensor, rotations: Tensor) -> Sketch:
        """Silhouette and depth; the rotation acts on reversed coordinates, as in grid_sample."""
        turn = functional.pad(rotations.flip(1, 2), (0, 1))
        grid = functional.affine_grid(turn, list(volumes.shape), align_corners=True)
        turned = functional.grid_sample(volumes, grid, align_corners=True)
        return composite(sample_volumes(turned, self.points), self.weights, self.far)


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="volumes at once  [4; 16 on a GPU]")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scene", help="only scenes whose name contains this")
    parser.add_argument("--shapes", type=Path, help="a folder with prepared shapes of 128^3")
    parser.add_argument("--without-direct", action="store_true", help="leave the one-pass PyTorch version out")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--memory-of", choices=["nothing", *METHODS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device, resolution = torch.device(arguments.device), 32 if arguments.smoke else 128
    on_gpu = device.type == "cuda"
    setting = Setting(
        device,
        arguments.batch or (16 if on_gpu else ITEMS),
        1 if arguments.smoke else arguments.rounds,
        ("direct",) if arguments.without_direct else (),
        measure_ceilings(device) if on_gpu else None,
    )
    if arguments.memory_of:
        _run_for_memory(setting, arguments.memory_of, resolution)
        return
    title = f"Projection of {setting.batch} volumes of {resolution}^3"
    table = Table(title, "python -m benchmarks.projection", keep_in=arguments.output)
    table.notes.append(f"{arguments.threads} threads, image {resolution} x {resolution}, on {device}.")
    if setting.ceilings:
        table.notes.append(
            f"At best {setting.ceilings.bytes_per_s / 1e12:.2f} TB/s (a copy of 1 GB, read and written) and "
            f"{setting.ceilings.operations_per_s / 1e12:.1f} TFLOP/s (a product of matrices in float32)."
        )
    for scene, volumes in build_scenes(resolution, arguments.shapes).items():
        if (arguments.scene or "") in scene:
            repeated = volumes.repeat(-(-setting.batch // ITEMS), 1, 1, 1, 1)[: setting.batch]
            time_projection(table, setting, scene, repeated)
    if not on_gpu:
        _weigh(table, arguments.smoke, arguments.threads)
    table.finish(arguments.output)


def _contender(setting: Setting, name: str, resolution: int) -> Projection:
    if name == "two-pass":
        return TwoPass(resolution, setting.batch, setting.device)
    return partial(project, implementation="fused" if name == "fused" else "reference")


def time_projection(table: Table, setting: Setting, scene: str, volumes: Tensor) -> None:
    """Forward, forward + backward to the volumes, and to the volumes and viewpoints."""
    volumes = volumes.to(setting.device)
    contenders = {name: _contender(setting, name, volumes.shape[-1]) for name in METHODS}
    _check(setting, contenders, volumes)
    rotations = setting.rotations()
    samples = samples_that_count(volumes, rotations) if setting.ceilings else 0.0
    for job, needs in JOBS.items():
        steps = {
            name: partial(_step, projection, volumes, rotations, needs)
            for name, projection in contenders.items()
            if name not in setting.without
        }
        if setting.ceilings:
            steps["fused, bfloat16"] = partial(_step, contenders["fused"], volumes.bfloat16(), rotations, needs)
        timings = time_paired(
            steps,
            rounds=setting.rounds,
            settle=waiting_for(setting.device),
            at_least_s=0.05 if setting.ceilings else 0.0,
        )
        for timing in timings:
            row: dict[str, object] = {
                "scene": scene,
                "job": job,
                "method": timing.name,
                "ms": 1000 * timing.median,
                "spread": 1000 * timing.spread,
                "ratio": timings[0].median / timing.median,
            }
            if setting.ceilings:
                row["extra_GB"] = peak_gb(steps[timing.name], setting.device)
            if setting.ceilings and timing.name.startswith("fused"):
                size = 2 if timing.name.endswith("bfloat16") else 4
                floor = setting.ceilings.floor_s(
                    moved=_bytes(job, volumes, size), operations=samples * OPERATIONS[job]
                )
                row |= {"floor_ms": 1000 * floor, "share_of_floor": floor / timing.median}
            table.add(**row)


def _bytes(job: str, volumes: Tensor, size: int) -> float:
    """Memory traffic: volumes once a pass and the sketch; backward also its gradient and that of the volumes."""
    pixels = 2 * 4 * len(volumes) * volumes.shape[-1] ** 2
    forward = volumes.numel() * size + pixels
    return forward if job == "forward" else 2 * forward + volumes.numel() * size


def samples_that_count(volumes: Tensor, rotations: Tensor) -> float:
    """Number of samples above the minimum opacity with non-negligible transmittance; the others can be skipped."""
    camera, resolution, count = Camera(), volumes.shape[-1], 0.0
    start = torch.tensor([-camera.distance, 0.0, 0.0], device=volumes.device)
    depths = camera.sample_depths(resolution, volumes)
    points = start + camera.ray_directions(resolution, volumes).unsqueeze(-2) * depths.unsqueeze(-1)
    for item in range(len(volumes)):
        opacity = sample_volumes(volumes[item : item + 1], rotate_points(rotations[item : item + 1].flip(-2), points))
        arriving = (1.0 - opacity.clamp(MIN_OPACITY, 1.0 - MIN_OPACITY)).cumprod(-1).roll(1, -1)
        arriving[..., 0] = 1.0
        count += ((opacity > MIN_OPACITY) & (arriving >= NEGLIGIBLE_LIGHT)).sum().item()
    return count


def _check(setting: Setting, contenders: dict[str, Projection], volumes: Tensor) -> None:
    """Checks that all contenders compute the same result.

    Raises:
        RuntimeError: one does not.
    """
    rotations = setting.rotations()
    pairs = {
        "two-pass": (contenders["two-pass"](volumes, rotations), project(volumes, rotations, resampled=True)),
        "fused": (contenders["fused"](volumes, rotations), contenders["direct"](volumes, rotations)),
    }
    for name, (sketch, expected) in pairs.items():
        for output, answer in zip(sketch, expected, strict=True):
            error = (output - answer).abs().max().item()
            # Written so that NaN is refused as well.
            if not error <= 2e-4:
                raise RuntimeError(f"{name} is off by {error:.1e} and not worth timing")


def _step(projection: Projection, volumes: Tensor, rotations: Tensor, needs: tuple[bool, bool]) -> None:
    leaves = [leaf.detach().requires_grad_(need) for leaf, need in zip((volumes, rotations), needs, strict=True)]
    sketch = projection(*leaves)
    if any(needs):
        torch.autograd.grad(
            sketch.silhouette.sum() + sketch.depth.sum(), [leaf for leaf in leaves if leaf.requires_grad]
        )


def _weigh(table: Table, smoke: bool, threads: int) -> None:
    """Peak memory of forward + backward beyond that of a process that holds only volumes and their gradient."""
    call = [
        "-m",
        "benchmarks.projection",
        "--device",
        "cpu",
        "--threads",
        str(threads),
        *(["--smoke"] if smoke else []),
    ]
    # Peaks of one process differ by tens of megabytes from run to run.
    peaks = {
        name: statistics.median(peak_memory_mb([*call, "--memory-of", name]) for _ in range(1 if smoke else 5))
        for name in ("nothing", *METHODS)
    }
    extra = {name: peaks[name] - peaks["nothing"] for name in METHODS}
    for name, megabytes in extra.items():
        table.add(
            scene="box chairs",
            job="extra memory",
            method=name,
            MB=megabytes,
            ratio=extra["two-pass"] / max(megabytes, 1),
        )


def _run_for_memory(setting: Setting, name: str, resolution: int) -> None:
    volumes, rotations = box_chairs(resolution), setting.rotations()
    # Small volumes load and compile everything first, so that only memory that grows with the volume is measured.
    for each in METHODS:
        _step(_contender(setting, each, 8), torch.rand(setting.batch, 1, 8, 8, 8), rotations, (True, True))
    if name == "nothing":
        torch.ones_like(volumes)
    else:
        _step(_contender(setting, name, resolution), volumes, rotations, (True, True))


if __name__ == "__main__":
    main()
