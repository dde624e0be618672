"""What loading data costs training: the same steps on batches in memory, loaded ahead, and loaded when asked for.

`python -m benchmarks.loading [--device cuda] [--rounds N] [--threads T] [--output results.json]`; `--smoke` runs it
small and once. Shapes of 128^3 are read and made coarser for the networks of the demo preset, which learn faster than
others: the step that data could starve most. On a GPU the steps are those of the preset `fast`, at full size. The
first visit decodes files; later ones find them in the cache.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu import waiting_for
from benchmarks.measure import Table, time_paired
from benchmarks.prepared import write_prepared
from vonmodel.acceleration import prepare_model, tuned_convolutions
from vonmodel.batches import loaded_ahead
from vonmodel.config import StageName, TrainConfig, update
from vonmodel.model import build_model
from vonmodel.precision import computing_in
from vonmodel.presets import PRESETS, PresetName
from vonmodel.stages import Stage, Step, run_step
from vonmodel.training_data import build_stage, open_data

WORKERS = 2


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="that compute; the other cores load")
    parser.add_argument("--stage", choices=["shape", "texture"], action="append")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds, steps, resolution = (1, 2, 32) if arguments.smoke else (arguments.rounds, 8, 128)
    table = Table(
        f"Loading shapes of {resolution}^3 and photos", "python -m benchmarks.loading", keep_in=arguments.output
    )
    device = torch.device(arguments.device)
    preset: PresetName = "fast" if device.type == "cuda" else "demo"
    table.notes.append(
        f"{steps} steps of `{preset}` a round; {arguments.threads} threads compute, {WORKERS} load; on {device}."
    )
    config = update(PRESETS[preset], {"data": {"viewpoints": "class"}}, "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        write_prepared(Path(folder), shapes=16, photos=32, resolution=resolution, image_size=max(32, resolution))
        for name in arguments.stage or ["shape", "texture"]:
            _time(table, Job(config, device, Path(folder), steps, rounds), name)
    table.finish(arguments.output)


@dataclass(frozen=True)
class Job:
    """What is trained, where, on which data, and how long."""

    config: TrainConfig
    device: torch.device
    data: Path
    steps: int
    rounds: int


def _time(table: Table, job: Job, name: StageName) -> None:
    config, steps, on_gpu = job.config, job.steps, job.device.type == "cuda"
    model = prepare_model(build_model(config.model, 0), config.compute, job.device)
    stage = build_stage(config, name, model, open_data(config, job.data, name), 10**6)
    uncached = update(config, {"output": {"cache_mb": 0}}, "benchmark")
    cold = build_stage(uncached, name, model, open_data(uncached, job.data, name), 10**6)
    for phase in stage.phases:
        for network in phase.networks:
            network.train()

    held = [[stage.load(step).to(job.device)] for step in range(steps)]  # which also fills the cache

    def loading(source: Stage, workers: int) -> AbstractContextManager[object]:
        return loaded_ahead(lambda step: [source.load(step)], range(steps), workers=workers, pin=on_gpu)

    ways: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "in memory": lambda: nullcontext(iter(held)),
        "loaded ahead, later visits": lambda: loading(stage, WORKERS),
        "loaded ahead, first visit": lambda: loading(cold, WORKERS),
        "loaded when asked for, first visit": lambda: loading(cold, 0),
    }
    timings = time_paired(
        {way: partial(_train, stage, source, job) for way, source in ways.items()},
        rounds=job.rounds,
        settle=waiting_for(job.device),
    )
    items = steps * config.stage(name).batch_size
    for timing in timings:
        table.add(
            stage=name,
            data=timing.name,
            images_per_s=items / timing.median,
            spread=items / timing.median * timing.spread / timing.median,
            share=timings[0].median / timing.median,
        )


def _train(stage: Stage, source: Callable[[], AbstractContextManager[object]], job: Job) -> None:
    precision = computing_in(job.config.compute.precision, job.device)
    with source() as batches, tuned_convolutions(job.config.compute):
        assert isinstance(batches, Iterator)
        for number, (batch,) in enumerate(batches):
            step = Step(number, batch.to(job.device), torch.Generator().manual_seed(number))
            run_step(stage, [step], learning_rate=1.0, precision=precision)


if __name__ == "__main__":
    main()
