"""Benchmark of data loading: training steps on batches in memory, loaded ahead, and loaded on demand.

`python -m benchmarks.loading [--device cuda] [--size demo|published] [--steps N] [--threads T]
[--output results.json]`; `--smoke` runs it small and once. Shapes of 128^3 are read and downsampled for the networks
of the demo preset, whose steps are the fastest and thus the most sensitive to loading. On a GPU the steps are those
of the preset `fast`, at full size. The first visit decodes files; later ones find them in the cache.

The sources alternate from step to step, and each step loads one batch in parallel, so that a ratio compares
consecutive steps: the machine's speed varies by more than the cost of loading. `waited` is the fraction of time that
steps wait for data, `processor_ms` the time of a loading thread per item, and the last rows are the rate of loading
alone, at full size: training with fewer images per second never waits.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu import waiting_for
from benchmarks.measure import Table, Timing
from benchmarks.prepared import write_prepared
from vonmodel.config import StageName, TrainConfig, update
from vonmodel.data.loader import Batch, loaded_ahead
from vonmodel.model import build_model
from vonmodel.precision import computing_in
from vonmodel.presets import PRESETS, PresetName
from vonmodel.training.setup import build_stage, open_data, prepare_model, tuned_convolutions
from vonmodel.training.stage import Stage, Step, run_step

WORKERS = 2
Source = Callable[[], AbstractContextManager[Iterator[list[Batch]]]]


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=["demo", "published"], help="of the networks  [demo; published on a GPU]")
    parser.add_argument("--batch", type=int, help="items of a step  [the preset's]")
    parser.add_argument("--steps", type=int, default=20, help="of each way")
    parser.add_argument("--threads", type=int, default=1, help="compute threads; the other cores load")
    parser.add_argument("--stage", choices=["shape", "texture"], action="append")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    steps, resolution = (3, 32) if arguments.smoke else (arguments.steps, 128)
    table = Table(
        f"Loading shapes of {resolution}^3 and photos", "python -m benchmarks.loading", keep_in=arguments.output
    )
    device = torch.device(arguments.device)
    size = arguments.size or ("published" if device.type == "cuda" else "demo")
    preset: PresetName = "demo" if size == "demo" else "fast" if device.type == "cuda" else "published"
    table.notes.append(
        f"{steps} steps of `{preset}` each; {arguments.threads} threads compute, {WORKERS} load; on {device}."
    )
    config = update(PRESETS[preset], {"data": {"viewpoints": "class"}}, "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        write_prepared(Path(folder), shapes=16, photos=32, resolution=resolution, image_size=max(64, resolution))
        for name in arguments.stage or ["shape", "texture"]:
            batch = {} if arguments.batch is None else {name: {"batch_size": arguments.batch}}
            job = Job(update(config, batch, "benchmark"), device, Path(folder), steps)
            _time(table, job, name)
            _load_alone(table, job, name, resolution)
    table.finish(arguments.output)


@dataclass(frozen=True)
class Job:
    """The configuration, device, data and number of steps of the training."""

    config: TrainConfig
    device: torch.device
    data: Path
    steps: int

    def stage(self, name: StageName, *, cached: bool) -> Stage:
        """A stage with its own model, its data cached or decoded each time."""
        config = self.config if cached else update(self.config, {"output": {"cache_mb": 0}}, "benchmark")
        model = prepare_model(build_model(config.model, 0), config.compute, self.device)
        stage = build_stage(config, name, model, open_data(config, self.data, name), 10**6)
        for phase in stage.phases:
            for network in phase.networks:
                network.train()
        return stage

    def loading(self, source: Stage, workers: int) -> AbstractContextManager[Iterator[list[Batch]]]:
        """The batches, loaded as in training."""
        pin = self.device.type == "cuda"
        return loaded_ahead(lambda step: [source.load(step)], range(self.steps), workers=workers, pin=pin)


def _time(table: Table, job: Job, name: StageName) -> None:
    """Trains one model on batches of several sources, which alternate from step to step."""
    stage, cold = job.stage(name, cached=True), job.stage(name, cached=False)
    held = [[stage.load(step).to(job.device)] for step in range(job.steps)]  # which also fills the cache
    ways: dict[str, tuple[Source, Stage | None]] = {
        "in memory": (lambda: nullcontext(iter(held)), None),
        "loaded ahead, later visits": (lambda: job.loading(stage, WORKERS), stage),
        "loaded ahead, first visit": (lambda: job.loading(cold, WORKERS), cold),
        "loaded on demand, first visit": (lambda: job.loading(cold, 0), cold),
    }
    precision, wait = computing_in(job.config.compute.precision, job.device), waiting_for(job.device)
    taken: dict[str, list[float]] = {way: [] for way in ways}
    waited: dict[str, list[float]] = {way: [] for way in ways}
    with ExitStack() as opened:
        opened.enter_context(tuned_convolutions(job.config.compute))
        batches = {way: opened.enter_context(source()) for way, (source, _) in ways.items()}
        for number in range(job.steps):
            for way in list(ways)[:: -1 if number % 2 else 1]:
                wait()
                begun = time.perf_counter()
                parts = next(batches[way])
                waited[way].append(time.perf_counter() - begun)
                _step(stage, number, parts, job, precision)
                wait()
                taken[way].append(time.perf_counter() - begun)
    # The first step is a warm-up.
    memory = taken["in memory"][1:]
    for way, (_, source) in ways.items():
        timing = Timing(way, tuple(taken[way][1:]))
        shares = Timing(way, tuple(other / own for other, own in zip(memory, timing.seconds, strict=True)))
        table.add(
            stage=name,
            data=way,
            images_per_s=job.config.stage(name).batch_size / timing.median,
            share=shares.median,
            spread=shares.spread,
            waited=sum(waited[way][1:]) / sum(timing.seconds),
            step_ms=1000 * timing.median,
            processor_ms=None if source is None else _processor_ms(source, name, job),
        )


def _step(
    stage: Stage,
    number: int,
    parts: list[Batch],
    job: Job,
    precision: Callable[[], AbstractContextManager[object]],
) -> None:
    (batch,) = parts
    step = Step(number, batch.to(job.device), torch.Generator().manual_seed(number))
    run_step(stage, [step], learning_rate=1.0, precision=precision)


def _processor_ms(source: Stage, name: StageName, job: Job) -> float:
    """Processor time of a loading thread per item, in ms."""
    times = []
    for step in range(5):
        begun = time.thread_time()
        source.load(step)
        times.append(time.thread_time() - begun)
    return 1000 * statistics.median(times) / job.config.stage(name).batch_size


def _load_alone(table: Table, job: Job, name: StageName, resolution: int) -> None:
    """Loads batches of the published size without training steps; the networks only define the stage."""
    sizes = {"resolution": resolution, "image_size": resolution, "shape_base_channels": 1, "texture_base_channels": 2}
    config = update(PRESETS["published"], {"data": {"viewpoints": "class"}, "model": sizes}, "benchmark")
    loading = Job(config, torch.device("cpu"), job.data, job.steps)
    items = loading.steps * config.stage(name).batch_size
    for visit, cached in (("later visits", True), ("first visit", False)):
        stage, times = loading.stage(name, cached=cached), []
        for number in range(4):
            begun = time.perf_counter()
            with loading.loading(stage, WORKERS) as batches:
                for _ in batches:
                    pass
            if number:  # the first of them fills the cache
                times.append(time.perf_counter() - begun)
        timing = Timing(visit, tuple(times))
        table.add(
            stage=name,
            data=f"loading alone, {visit}, at full size",
            images_per_s=items / timing.median,
            spread=timing.spread / timing.median,
            processor_ms=_processor_ms(stage, name, loading),
        )


if __name__ == "__main__":
    main()
