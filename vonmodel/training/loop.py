"""Training loop of all stages: set up, restore, then batch, phases, weight average, report, sample and save."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vonmodel.checkpoint import (
    CheckpointDamagedError,
    CheckpointInfo,
    CheckpointState,
    checkpoint_name,
    load_weights,
    newest_whole,
    prune_checkpoints,
    read_state,
    save_checkpoint,
    set_damaged_aside,
)
from vonmodel.config import STAGES, StageConfig, StageName, TrainConfig
from vonmodel.data.loader import Batch, loaded_ahead
from vonmodel.distributed import Part, any_everywhere, is_writer, process_count, rank, same_everywhere, wait_for_all
from vonmodel.model import VonModel, blend_classes, build_model
from vonmodel.precision import computing_in, weights_in
from vonmodel.run_folder import RunError, RunFolder
from vonmodel.seeding import torch_generator
from vonmodel.training.log import Monitor, Progress, draw_sheet, sheet_codes
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
    """A training's run, configuration, data, device and callbacks.

    Attributes:
        run: the run folder, started with `config`.
        config: the configuration.
        data: the prepared dataset.
        device: where to compute.
        skip_nonfinite: skip steps whose losses or gradients are not finite, instead of stopping; steps then
            synchronise with the device.
        on_progress: called with every report.
        should_stop: polled between steps; once true, the stage is saved and training ends.
    """

    run: RunFolder
    config: TrainConfig
    data: Path
    device: torch.device
    skip_nonfinite: bool = False
    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False


def train(job: TrainingJob, stages: Sequence[StageName] = STAGES) -> CheckpointInfo:
    """Trains stages in order, each from its newest checkpoint; finished ones are skipped.

    If a launcher started several processes, all of them call this; each takes its part of every batch.

    Returns:
        The newest checkpoint; its stage is unfinished if training was stopped.

    Raises:
        RunError: a stage before the first of these is not finished.
        EmptyDatasetError, ManifestMissingError, ResolutionError: the data cannot be used.
        NonFiniteLossError: a loss became infinite or NaN.
        RunBusyError: another process trains this run.
        CheckpointDamagedError: all checkpoints of a stage to continue from are damaged.
        CheckpointWriteError: a checkpoint cannot be written.
        DisagreementError: processes see different configurations, checkpoints or data.
        LostProcessError: another process ended or does not answer.
    """
    with training_lock(job):
        for stage in stages[:-1]:
            if _is_passed(job.run, stage):
                continue  # a later stage has started from its end
            info = train_stage(job, stage)
            if not info.finished:
                return info
        return train_stage(job, stages[-1])


def training_lock(job: TrainingJob) -> AbstractContextManager[None]:
    """The lock of the job's run, held by the process that writes.

    Raises:
        RunBusyError: another process trains this run.
    """
    return job.run.locked() if is_writer() else nullcontext()


def _is_passed(run: RunFolder, stage: StageName) -> bool:
    """Whether a later stage has a checkpoint, which starts only after this one was finished."""
    return any(run.latest_checkpoint(later) is not None for later in STAGES[STAGES.index(stage) + 1 :])


def train_stage(job: TrainingJob, name: StageName) -> CheckpointInfo:
    """Trains one stage of the model from its last checkpoint to its end; arguments and errors as in `train`."""
    config = job.config
    reached = reached_checkpoint(job, name)
    if reached is not None and is_complete(reached, config.stage(name)):
        return reached
    data = open_data(config, job.data, name)
    steady, decaying = config.stage(name).steps(data.items)
    if reached is not None and reached.step >= steady + decaying:
        return reached
    model = prepare_model(build_model(config.model, config.seed), config.compute, job.device)
    if reached is None:
        _take_over(job, name, model)
    codes = sheet_codes(model, data.viewpoints, seed=config.seed)
    setup = StageSetup(
        model=model,
        stage=build_stage(config, name, model, data, steady + decaying),
        steady=steady,
        decaying=decaying,
        dataset=data.fingerprint,
        schedule=config.stage(name).schedule,
        draw_samples=lambda: draw_sheet(model, codes, images=name != "shape"),
    )
    return run_stage(job, setup, reached)


def is_complete(reached: CheckpointInfo, config: StageConfig) -> bool:
    """Whether a stage has reached its end, and has not been made longer since.

    Checkpoints of 0.1.0 do not record the stage's length in epochs: they are complete if they are finished.
    """
    if reached.schedule == "" and config.unit == "steps":
        return reached.step >= sum(config.steps(1))
    return reached.finished and reached.schedule in ("", config.schedule)


def reached_checkpoint(job: TrainingJob, name: StageName) -> CheckpointInfo | None:
    """The newest undamaged checkpoint of a stage in the job's run folder; None if it has not started.

    Damaged ones after it are set aside. If a later stage has started, this one is not continued, and only the
    description of its newest checkpoint is read.

    Raises:
        CheckpointDamagedError: all of them are damaged.
        DisagreementError: processes see different configurations or checkpoints.
    """
    if _is_passed(job.run, name):
        reached = job.run.latest_checkpoint(name)
        if reached is None or not reached.finished:
            raise CheckpointDamagedError(f"{job.run.path}: the end of stage {name} is damaged or removed")
    else:
        reached = newest_whole(job.run.path, name)
        wait_for_all()
        if is_writer():
            set_damaged_aside(job.run.path, name, reached)
    identity = "none" if reached is None else f"{reached.name} {reached.sha256[:12]}"
    same_everywhere({"configuration": _hash(job.config), "checkpoint": identity})
    return reached


@dataclass(frozen=True)
class StageSetup:
    """A stage that is ready to run: a stage of the model, or a baseline.

    Attributes:
        model: all networks, on their device, with the stage's initial weights.
        stage: the phases of a step.
        steady: steps at the full learning rate.
        decaying: steps over which it falls linearly to zero.
        dataset: hash of the ids of all items.
        schedule: its length as text, recorded in checkpoints.
        draw_samples: renders a sheet (height, width, 3) of samples, called with averaged weights.
    """

    model: nn.Module
    stage: Stage
    steady: int
    decaying: int
    dataset: str
    schedule: str
    draw_samples: Callable[[], npt.NDArray[np.uint8]]

    @property
    def steps(self) -> int:
        """Length of the stage."""
        return self.steady + self.decaying

    def describe(self, done: int) -> CheckpointInfo:
        """The description of a checkpoint after `done` steps."""
        return CheckpointInfo(
            name=checkpoint_name(self.stage.name, done),
            stage=self.stage.name,
            step=done,
            steps=self.steps,
            images_seen=done * self.stage.config.batch_size,
            sha256="",
            dataset=self.dataset,
            schedule=self.schedule,
        )


def run_stage(job: TrainingJob, setup: StageSetup, reached: CheckpointInfo | None) -> CheckpointInfo:
    """The training loop, from the checkpoint reached to the end of the stage.

    Returns:
        The newest checkpoint; not finished if training was stopped.

    Raises:
        CheckpointError: the checkpoint does not fit the stage.
        NonFiniteLossError, DisagreementError, LostProcessError: as in `train`.
    """
    config, output, model, stage = job.config, job.config.output, setup.model, setup.stage
    same_everywhere({"data": setup.dataset[:12]})
    average = WeightAverage(model, stage.averaged, kept_share(stage.config))
    if reached is None:
        average.restart()
    else:
        _restore(job, setup, average, reached)
    trained = {network for phase in stage.phases for network in phase.networks}
    for network in trained:
        network.train()
    start = done = reached.step if reached is not None else 0
    precision, dtype = computing_in(config.compute.precision, job.device), weights_in(config.compute.precision)
    parts = _own_parts(config.compute.accumulate)
    stopping = False

    def load(step: int) -> list[Batch]:
        return [stage.load(step, part) for part in parts]

    with (
        tuned_convolutions(config.compute),
        loaded_ahead(
            load, range(start, setup.steps), workers=output.workers, pin=job.device.type == "cuda"
        ) as batches,
        Monitor(job.run, stage, start, job.on_progress) as monitor,
    ):
        while done < setup.steps and not stopping:
            # The randomness of a step is a function of seed, stage and step only.
            pieces = [
                Step(done, batch.to(job.device, dtype), torch_generator(config.seed, stage.label, "step", done), part)
                for part, batch in zip(parts, next(batches), strict=True)
            ]
            blend_classes(trained, stage.config.class_share(done, setup.steps))
            share = learning_rate_share(done, setup.steady, setup.decaying)
            losses, sound = run_step(
                stage, pieces, learning_rate=share, precision=precision, careful=job.skip_nonfinite
            )
            items = tuple(item for piece in pieces for item in piece.batch.ids)
            (monitor.add if sound else monitor.skip)(done, items, losses)
            average.update(done)
            done += 1

            stopping = any_everywhere(job.should_stop())
            last = done == setup.steps or stopping
            saving = last or _due(done, output.save_every)
            if saving or _due(done, output.log_every):
                monitor.report(done, setup.steps, share)
            if is_writer() and (last or _due(done, output.sample_every)):
                with average.applied(model):
                    monitor.sheet(done, setup.draw_samples())
            if saving:
                reached = _save(job, setup, average, done)
    return reached if reached is not None else _save(job, setup, average, done)


def _restore(job: TrainingJob, setup: StageSetup, average: WeightAverage, reached: CheckpointInfo) -> None:
    """Restores a checkpoint: weights, averages, optimisers and pools."""
    if reached.dataset not in ("", setup.dataset):
        _log.warning("%s: shapes or photos came or went since checkpoint %s", job.run.path, reached.name)
    state = read_state(job.run.path, reached)
    load_weights(setup.model, state, reached, averaged=False)
    average.restore({**state.networks, **state.average})
    restore_training(setup.stage, state.training, job.device)


class StageOrderError(RunError):
    """A stage whose predecessor is not finished.

    Args:
        stage: the requested stage.
        before: the stage that it continues from.
        run: the run in which that is not finished.
    """

    def __init__(self, stage: StageName, before: StageName, run: RunFolder) -> None:
        self.stage, self.before = stage, before
        super().__init__(
            f"stage {stage} goes on from the finished stage {before}, and {run.path} has none; train all stages in "
            f"their order, or {before} first"
        )


def stage_before(run: RunFolder, name: StageName) -> CheckpointInfo | None:
    """The last checkpoint of the stage that this one continues from; None for the first stage.

    Raises:
        StageOrderError: that stage is not finished.
    """
    before = STAGES[: STAGES.index(name)]
    if not before:
        return None
    latest = newest_whole(run.path, before[-1])
    if latest is None or not latest.finished:
        raise StageOrderError(name, before[-1], run)
    return latest


def _take_over(job: TrainingJob, name: StageName, model: VonModel) -> None:
    """Initialises a stage with the previous stage's weights, averaged if it kept an average."""
    latest = stage_before(job.run, name)
    if latest is not None:
        load_weights(model, read_state(job.run.path, latest, ("networks", "average")), latest)


def _save(job: TrainingJob, setup: StageSetup, average: WeightAverage, done: int) -> CheckpointInfo:
    """Saves a checkpoint and removes those no longer kept; all processes wait until it is written."""
    info = setup.describe(done)
    if is_writer():
        state = CheckpointState(setup.model.state_dict(), average.values, training_tensors(setup.stage))
        info = save_checkpoint(job.run.path, info, state)
        prune_checkpoints(job.run.path, setup.stage.name, job.config.output.keep)
    wait_for_all()
    return info


def _hash(config: TrainConfig) -> str:
    return hashlib.sha256(json.dumps(dataclasses.asdict(config)).encode()).hexdigest()[:12]


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _own_parts(pieces: int) -> list[Part]:
    """The parts of every batch that this process computes."""
    return [Part(rank() * pieces + piece, process_count() * pieces) for piece in range(pieces)]


# --- the exponential moving average (EMA) of the weights, used for samples

KeptShare = Callable[[int], float]
"""Decay of the average at step `step`, from 0."""
RAMP_UP = 0.1
"""The half-life is at most this fraction of the items seen, so that the start of a training is forgotten."""


def kept_by_decay(decay: float) -> KeptShare:
    """A fixed decay; smaller in early steps, so that the start is forgotten."""
    return lambda step: min(decay, (1.0 + step) / (10.0 + step))


def kept_by_half_life(half_life: float, batch_size: int) -> KeptShare:
    """The decay with a half-life of `half_life` items seen, for any batch size.

    The half-life is at most `RAMP_UP` of the items seen so far (Karras et al., StyleGAN2-ADA).
    """
    return lambda step: 0.5 ** (1.0 / min(half_life / batch_size, RAMP_UP * (step + 1)))


def kept_share(config: StageConfig) -> KeptShare | None:
    """The decay of a stage's configuration; None if it keeps no average."""
    if config.average_half_life > 0.0:
        return kept_by_half_life(config.average_half_life, config.batch_size)
    return kept_by_decay(config.average) if config.average > 0.0 else None


class WeightAverage:
    """Exponential moving average of the parameters and statistics of some networks of a model.

    Attributes:
        values: the averages under the names of the model's state dict; empty if nothing is averaged.
    """

    def __init__(self, model: nn.Module, networks: Iterable[str], kept: KeptShare | None) -> None:
        """Starts from the present weights.

        Args:
            model: the model.
            networks: names of the networks to average.
            kept: the decay at each step; None for no average.
        """
        self._kept = kept
        prefixes = tuple(f"{name}." for name in networks)
        weights = {} if kept is None else model.state_dict()
        self._sources = {name: value for name, value in weights.items() if name.startswith(prefixes)}
        self.values = {name: value.detach().clone() for name, value in self._sources.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Adds the weights after step `step`, from 0."""
        if self._kept is None:
            return
        share = 1.0 - self._kept(step)
        # Scalars are not weights, but the blend of the class conditioning.
        floating = [name for name, value in self.values.items() if value.is_floating_point() and value.dim() > 0]
        if floating:
            torch._foreach_lerp_(
                [self.values[name] for name in floating], [self._sources[name] for name in floating], share
            )
        for name in self.values.keys() - set(floating):
            self.values[name].copy_(self._sources[name])

    def restart(self) -> None:
        """Restarts from the present weights."""
        self.restore(self._sources)

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Restores saved averages."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Temporarily replaces the model's weights by the averages, in evaluation mode."""
        modes = {module: module.training for module in model.modules()}
        trained = {name: value.clone() for name, value in self._sources.items()}
        model.load_state_dict(self.values, strict=False)
        model.eval()
        try:
            yield
        finally:
            model.load_state_dict(trained, strict=False)
            for module, mode in modes.items():
                module.training = mode
