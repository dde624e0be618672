"""The training loop, one for all stages: set up, restore, then batch, phases, average, report, sample and save."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from vonmodel.checkpoint import (
    CheckpointInfo,
    CheckpointState,
    checkpoint_name,
    load_weights,
    prune_checkpoints,
    read_state,
    save_checkpoint,
)
from vonmodel.config import STAGES, StageName, TrainConfig
from vonmodel.data.loader import Batch, loaded_ahead
from vonmodel.distributed import Part, any_everywhere, is_writer, process_count, rank, same_everywhere, wait_for_all
from vonmodel.model import VonModel, build_model
from vonmodel.precision import computing_in, weights_in
from vonmodel.run_folder import RunError, RunFolder
from vonmodel.seeding import torch_generator
from vonmodel.training.ema import WeightAverage, kept_share
from vonmodel.training.log import Monitor, Progress
from vonmodel.training.sample_sheet import draw_sheet, sheet_codes
from vonmodel.training.setup import (
    build_stage,
    open_data,
    prepare_model,
    restore_training,
    training_tensors,
    tuned_convolutions,
)
from vonmodel.training.stage import Stage, Step, learning_rate_share, run_step

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """What to train, where, and who is told.

    Attributes:
        run: the run folder, started with `config`.
        config: the configuration.
        data: the prepared dataset.
        device: where to compute.
        skip_nonfinite: leave steps out whose losses or gradients are not finite, instead of stopping; steps then wait
            for the device.
        on_progress: told of every report.
        should_stop: asked between steps; once true, the stage is saved and training ends.
    """

    run: RunFolder
    config: TrainConfig
    data: Path
    device: torch.device
    skip_nonfinite: bool = False
    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False


def train(job: TrainingJob, stages: Sequence[StageName] = STAGES) -> CheckpointInfo:
    """Trains stages in their order, each from where it stands; a finished one is left alone.

    Where a launcher started several processes, all of them call this; each takes its share of every batch.

    Returns:
        The newest checkpoint; its stage is not finished where training was stopped.

    Raises:
        RunError: a stage before the first of these is not finished.
        EmptyDatasetError, ManifestMissingError, ResolutionError: the data does not serve.
        NonFiniteLossError: a loss became infinite or not a number.
        DisagreementError: processes see different configurations, checkpoints or data.
        LostProcessError: another process ended or does not answer.
    """
    info: CheckpointInfo | None = None
    for stage in stages:
        info = train_stage(job, stage)
        if not info.finished:
            break
    assert info is not None
    return info


def train_stage(job: TrainingJob, name: StageName) -> CheckpointInfo:
    """Trains one stage from its last checkpoint to its end; arguments and errors as in `train`."""
    config, output = job.config, job.config.output

    # What there is to learn from, and for how long.
    reached = job.run.latest_checkpoint(name)
    same_everywhere({"configuration": _hash(config), "checkpoint": _named(reached)})
    if reached is not None and reached.finished:
        return reached
    data = open_data(config, job.data, name)
    same_everywhere({"data": data.fingerprint[:12]})
    steady, decaying = config.stage(name).steps(data.items)
    steps = steady + decaying

    # The model as the stage before left it, or as this stage left it when it was stopped.
    model = prepare_model(build_model(config.model, config.seed), config.compute, job.device)
    stage = build_stage(config, name, model, data, steps)
    average = WeightAverage(model, stage.averaged, kept_share(stage.config))
    if reached is None:
        _take_over(job, name, model)
        average.restart()
    else:
        if reached.dataset != data.fingerprint:
            _log.warning("%s: shapes or photos came or went since checkpoint %s", job.run.path, reached.name)
        state = read_state(job.run.path, reached)
        load_weights(model, state, reached, averaged=False)
        average.restore(state.average)
        restore_training(stage, state.training, job.device)
    for network in {network for phase in stage.phases for network in phase.networks}:
        network.train()
    codes = sheet_codes(model, data.viewpoints, seed=config.seed)
    info = partial(_describe, stage, steps, data.fingerprint)
    start = done = reached.step if reached is not None else 0
    precision, dtype = computing_in(config.compute.precision, job.device), weights_in(config.compute.precision)
    parts = _own_parts(config.compute.accumulate)
    stopping = False

    def load(step: int) -> list[Batch]:
        return [stage.load(step, part) for part in parts]

    with (
        tuned_convolutions(config.compute),
        loaded_ahead(load, range(start, steps), workers=output.workers, pin=job.device.type == "cuda") as batches,
        Monitor(job.run, stage, start, job.on_progress) as monitor,
    ):
        while done < steps and not stopping:
            # The randomness of a step is a function of the seed, the stage and the step alone.
            pieces = [
                Step(done, batch.to(job.device, dtype), torch_generator(config.seed, name, "step", done), part)
                for part, batch in zip(parts, next(batches), strict=True)
            ]
            share = learning_rate_share(done, steady, decaying)
            losses, sound = run_step(
                stage, pieces, learning_rate=share, precision=precision, careful=job.skip_nonfinite
            )
            items = tuple(item for piece in pieces for item in piece.batch.ids)
            (monitor.add if sound else monitor.skip)(done, items, losses)
            average.update(done)
            done += 1

            stopping = any_everywhere(job.should_stop())
            last = done == steps or stopping
            saving = last or _due(done, output.save_every)
            if saving or _due(done, output.log_every):
                monitor.report(done, steps, share)
            if is_writer() and (last or _due(done, output.sample_every)):
                with average.applied(model):
                    monitor.sheet(done, draw_sheet(model, codes, images=name != "shape"))
            if saving:
                reached = _save(job, stage, model, average, info(done))
    return reached if reached is not None else _save(job, stage, model, average, info(done))


class StageOrderError(RunError):
    """A stage whose predecessor is not finished.

    Args:
        stage: the stage that was asked for.
        before: the one that it goes on from.
        run: the run that has no end of it.
    """

    def __init__(self, stage: StageName, before: StageName, run: RunFolder) -> None:
        self.stage, self.before = stage, before
        super().__init__(
            f"stage {stage} goes on from the finished stage {before}, and {run.path} has none; train all stages in "
            f"their order, or {before} first"
        )


def stage_before(run: RunFolder, name: StageName) -> CheckpointInfo | None:
    """The end of the stage that this one goes on from; None for the first stage.

    Raises:
        StageOrderError: that stage is not finished.
    """
    before = STAGES[: STAGES.index(name)]
    if not before:
        return None
    latest = run.latest_checkpoint(before[-1])
    if latest is None or not latest.finished:
        raise StageOrderError(name, before[-1], run)
    return latest


def _take_over(job: TrainingJob, name: StageName, model: VonModel) -> None:
    """Starts a stage from the weights that the one before would be sampled with."""
    latest = stage_before(job.run, name)
    if latest is not None:
        load_weights(model, read_state(job.run.path, latest), latest)


def _describe(stage: Stage, steps: int, dataset: str, done: int) -> CheckpointInfo:
    """A checkpoint of the stage after `done` of its steps."""
    return CheckpointInfo(
        name=checkpoint_name(stage.name, done),
        stage=stage.name,
        step=done,
        steps=steps,
        images_seen=done * stage.config.batch_size,
        sha256="",
        dataset=dataset,
    )


def _save(
    job: TrainingJob, stage: Stage, model: VonModel, average: WeightAverage, info: CheckpointInfo
) -> CheckpointInfo:
    """Saves the stage and removes checkpoints that are no longer kept; all processes wait until it is there."""
    if is_writer():
        state = CheckpointState(model.state_dict(), average.values, training_tensors(stage))
        info = save_checkpoint(job.run.path, info, state)
        prune_checkpoints(job.run.path, stage.name, job.config.output.keep)
    wait_for_all()
    return info


def _hash(config: TrainConfig) -> str:
    return hashlib.sha256(json.dumps(dataclasses.asdict(config)).encode()).hexdigest()[:12]


def _named(reached: CheckpointInfo | None) -> str:
    return "none" if reached is None else f"{reached.name} {reached.sha256[:12]}"


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _own_parts(pieces: int) -> list[Part]:
    """The parts of every batch that this process computes."""
    return [Part(rank() * pieces + piece, process_count() * pieces) for piece in range(pieces)]
