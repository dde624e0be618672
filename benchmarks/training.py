"""What a step of each stage costs at full size, plainly (float32, eager, the published projection) and as `fast`.

`python -m benchmarks.training [--stage NAME] [--preset NAME] [--batch N] [--device D] [--output results.json]`;
`--smoke` runs it small and once. On a CPU the batch is one item unless said otherwise, and a step of the published
batch takes that many times longer; on a GPU it is the published batch.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measure import Table, Timing, time_paired
from benchmarks.prepared import write_prepared
from vonmodel.acceleration import prepare_model, tuned_convolutions
from vonmodel.config import STAGES, StageName, TrainConfig, update
from vonmodel.model import build_model
from vonmodel.precision import computing_in
from vonmodel.presets import PRESETS, PresetName
from vonmodel.stages import Step, run_step
from vonmodel.training_data import build_stage, open_data

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
    """What is measured: the presets with these changes, on this data and device."""

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
    parser.add_argument("--warmup", type=int, help="steps before the first that counts  [1; 3 on a GPU]")
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
    table = Table(f"A training step at {size}^3 voxels and {size} pixels", "python -m benchmarks.training")
    table.notes.append(f"On {torch.cuda.get_device_name(device)}." if on_gpu else f"{arguments.threads} threads.")
    with tempfile.TemporaryDirectory() as folder:
        write_prepared(Path(folder), shapes=12, photos=12, resolution=size, image_size=size)
        rounds = 1 if arguments.smoke else arguments.rounds
        warmup = (3 if on_gpu else 1) if arguments.warmup is None else arguments.warmup
        setting = Setting(Path(folder), device, batch, arguments.smoke, rounds, warmup)
        for stage in arguments.stage or STAGES:
            _time(table, setting, stage, arguments.preset or ["published", "fast"])
    table.finish(arguments.output)


def _time(table: Table, setting: Setting, stage: StageName, presets: list[PresetName]) -> None:
    steps = {preset: _step(setting, preset, stage) for preset in presets}
    memory = {preset: _peak_gb(step) if setting.device.type == "cuda" else None for preset, step in steps.items()}
    timings = time_paired(
        {str(preset): step for preset, step in steps.items()}, rounds=setting.rounds, warmup=setting.warmup
    )
    for preset, timing in zip(presets, timings, strict=True):
        batch = setting.config(preset, stage).stage(stage).batch_size
        table.add(
            stage=stage,
            preset=preset,
            batch=batch,
            ms=1000 * timing.median,
            spread=1000 * timing.spread,
            images_per_s=batch / timing.median,
            ratio=timings[0].median / timing.median,
            peak_GB=memory[preset],
            published_hours=None if setting.small else _published_hours(stage, timing, batch),
        )


def _published_hours(stage: StageName, timing: Timing, batch: int) -> float:
    """Hours of the published schedule on the published chairs, a step taking as long as its items do here."""
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

    def run() -> None:
        step.made.clear()
        with tuned_convolutions(config.compute):
            run_step(stage, [step], learning_rate=1.0, precision=precision)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def _peak_gb(step: Callable[[], None]) -> float:
    step()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / 2**30


if __name__ == "__main__":
    main()
