"""Benchmark of a training step of each stage at full size: `published` (float32, eager, two-pass) against `fast`.

`python -m benchmarks.training [--stage NAME] [--preset NAME] [--batch N] [--device D] [--output results.json]`;
`--smoke` runs it small and once. On a CPU the default batch is one item, and a step of the published batch takes that
many times longer; on a GPU it is the published batch, and the table has the fraction of a step in which the GPU is
busy (kernels in a trace over the time of an untraced step), the driver's utilisation (if `pynvml` is installed), and
the peak memory. A stage that fails becomes a row with the reason, and the next one runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu import busy_s, peak_gb, sampled_utilisation, waiting_for
from benchmarks.measure import Table, Timing, time_paired
from benchmarks.prepared import write_prepared
from vonmodel.config import STAGES, StageName, TrainConfig, update
from vonmodel.model import build_model
from vonmodel.precision import computing_in
from vonmodel.presets import PRESETS, PresetName
from vonmodel.training.setup import build_stage, open_data, prepare_model, tuned_convolutions
from vonmodel.training.stage import Step, run_step

# Shapes and photos of the chairs that the paper trains on.
PUBLISHED_ITEMS = {"shape": 6778, "texture": 6778, "joint": 6778}
SMALL = {
    "resolution": 32,
    "image_size": 32,
    "shape_code_size": 8,
    "shape_base_channels": 4,
    "texture_base_channels": 4,
}


@dataclass(frozen=True)
class Setting:
    """The measurement: the presets with these changes, on this data and device."""

    data: Path
    device: torch.device
    batch: int | None
    small: bool
    rounds: int
    warmup: int

    def config(self, preset: PresetName, stage: StageName) -> TrainConfig:
        """The preset with this batch, at this size."""
        config = PRESETS[preset]
        changes = {"data": {"viewpoints": "class"}, "model": SMALL if self.small else {}}
        config = update(config, changes, "benchmark")
        return config if self.batch is None else update(config, {stage: {"batch_size": self.batch}}, "benchmark")


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, help="untimed steps  [1; 3 on a GPU]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stage", choices=STAGES, action="append")
    parser.add_argument("--preset", choices=["published", "fast", "modern"], action="append")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    batch = arguments.batch or (None if on_gpu else 2 if arguments.smoke else 1)
    size = 32 if arguments.smoke else 128
    title = f"A training step at {size}^3 voxels and {size} pixels"
    table = Table(title, "python -m benchmarks.training", keep_in=arguments.output)
    table.notes.append(
        f"On {torch.cuda.get_device_name(device)}; convolutions of `published` in cuDNN's default, which is TF32."
        if on_gpu
        else f"{arguments.threads} threads."
    )
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        write_prepared(Path(folder), shapes=12, photos=12, resolution=size, image_size=size)
        rounds = 1 if arguments.smoke else arguments.rounds
        warmup = (3 if on_gpu else 1) if arguments.warmup is None else arguments.warmup
        setting = Setting(Path(folder), device, batch, arguments.smoke, rounds, warmup)
        for stage in arguments.stage or STAGES:
            try:
                _time(table, setting, stage, arguments.preset or ["published", "fast"])
            except RuntimeError as error:  # out of memory, a kernel that does not compile
                failed.append(stage)
                table.add(stage=stage, failed=f"{type(error).__name__}: {error}".partition("\n")[0][:200])
    table.finish(arguments.output)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


class Metered:
    """A step with a record of its wall and processor time."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.step = step
        self.wall_s = self.processor_s = 0.0

    def __call__(self) -> None:
        """Runs the step."""
        wall, processor = time.perf_counter(), time.process_time()
        self.step()
        self.wall_s += time.perf_counter() - wall
        self.processor_s += time.process_time() - processor


def _time(table: Table, setting: Setting, stage: StageName, presets: list[PresetName]) -> None:
    """Times the presets alternately; on a GPU in sequence, so that each has its row before the next compiles."""
    plain: Timing | None = None
    for together in [[preset] for preset in presets] if setting.device.type == "cuda" else [presets]:
        plain = _time_together(table, setting, stage, together, plain)


def _time_together(
    table: Table, setting: Setting, stage: StageName, presets: list[PresetName], plain: Timing | None
) -> Timing:
    """Adds rows of alternately timed presets; ratios are to `plain`, or else to the first one, which it returns."""
    device, steps, held = setting.device, dict[str, Metered](), dict[str, float]()
    for preset in presets:
        before = _allocated_gb(device)
        steps[preset] = Metered(_step(setting, preset, stage))
        if device.type == "cuda":
            steps[preset]()
            held[preset] = _allocated_gb(device) - before
    timings = time_paired(steps, rounds=setting.rounds, warmup=setting.warmup, settle=waiting_for(device))
    plain = plain or timings[0]
    for preset, timing in zip(presets, timings, strict=True):
        batch, step = setting.config(preset, stage).stage(stage).batch_size, steps[preset]
        row: dict[str, object] = {
            "stage": stage,
            "preset": preset,
            "batch": batch,
            "ms": 1000 * timing.median,
            "spread": 1000 * timing.spread,
            "images_per_s": batch / timing.median,
            "ratio": plain.median / timing.median,
        }
        if device.type == "cuda":
            row |= _seen_on_gpu(step, timing, device)
            row["peak_GB"] = held[preset] + peak_gb(step, device)
        else:
            row["cores_busy"] = step.processor_s / step.wall_s
        table.add(**row, published_hours=None if setting.small else _published_hours(stage, timing, batch))
    return plain


def _seen_on_gpu(step: Callable[[], None], timing: Timing, device: torch.device) -> dict[str, object]:
    """Fractions of time in which the GPU was busy."""
    with sampled_utilisation(device) as driver_says:
        for _ in range(max(3, round(1.0 / timing.median))):
            step()
        says = driver_says()
    return {"gpu_busy": busy_s(step, device) / timing.median, "driver_busy": says}


def _allocated_gb(device: torch.device) -> float:
    return torch.cuda.memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


def _published_hours(stage: StageName, timing: Timing, batch: int) -> float:
    """Hours of the published schedule on the published chairs, at the measured time per item."""
    config = PRESETS["published"].stage(stage)
    steps = sum(config.steps(PUBLISHED_ITEMS[stage]))
    return steps * config.batch_size / batch * timing.median / 3600


def _step(setting: Setting, preset: PresetName, name: StageName) -> Callable[[], None]:
    config, device = setting.config(preset, name), setting.device
    model = prepare_model(build_model(config.model, 0), config.compute, device)
    stage = build_stage(config, name, model, open_data(config, setting.data, name), 10**6)
    for phase in stage.phases:
        for network in phase.networks:
            network.train()
    precision = computing_in(config.compute.precision, device)
    step = Step(0, stage.load(0).to(device), torch.Generator())
    wait = waiting_for(device)

    def run() -> None:
        step.made.clear()
        with tuned_convolutions(config.compute):
            run_step(stage, [step], learning_rate=1.0, precision=precision)
        wait()

    return run


if __name__ == "__main__":
    main()
