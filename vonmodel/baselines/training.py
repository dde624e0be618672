"""Training a baseline: one loop that resumes by itself, and what it leaves on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vonmodel.baselines.configs import RECIPES, BaselineData, BaselineName
from vonmodel.baselines.gan import Game
from vonmodel.baselines.models import Baseline, build_baseline
from vonmodel.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    CheckpointState,
    checkpoint_name,
    prune_checkpoints,
    read_state,
    save_checkpoint,
)
from vonmodel.config import TrainConfig
from vonmodel.run_folder import RunFolder
from vonmodel.seeding import torch_generator
from vonmodel.training.ema import WeightAverage
from vonmodel.training.log import LossRecord
from vonmodel.training.sample_sheet import save_sheet, shaded
from vonmodel.training.stage import learning_rate_share

FOLDER = "baselines"
_SHEET = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaselineJob:
    """What to train, where, and who is told.

    Attributes:
        name: the baseline.
        run: the run of the model it stands beside; the baseline goes into its folder.
        config: the configuration of that run: data, sizes, lengths and seed.
        data: the prepared dataset.
        device: where to compute.
        on_progress: told a line of every report.
        should_stop: asked between steps; once true, the state is saved and training ends.
    """

    name: BaselineName
    run: RunFolder
    config: TrainConfig
    data: Path
    device: torch.device
    on_progress: Callable[[str], None] = lambda line: None
    should_stop: Callable[[], bool] = lambda: False


def baseline_folder(run: Path, name: BaselineName) -> RunFolder:
    """Where a baseline of a run lies."""
    return RunFolder(run / FOLDER / name)


def train_baseline(job: BaselineJob) -> CheckpointInfo:
    """Trains a baseline from its last checkpoint to its end.

    Returns:
        The newest checkpoint; it is not finished where training was stopped.

    Raises:
        RunError: the baseline was started with another configuration.
        EmptyDatasetError, ManifestMissingError, ResolutionError: the data does not serve.
        NonFiniteLossError: a loss became infinite or not a number.
    """
    data = BaselineData(job.name, job.config, job.data)
    folder = baseline_folder(job.run.path, job.name)
    folder.start(job.config)
    reached = folder.latest_checkpoint()
    if reached is not None and reached.finished:
        return reached
    model = build_baseline(job.name, job.config.model, job.config.seed).to(job.device)
    _lay_out(model)
    game = Game(model, RECIPES[job.name])
    average = WeightAverage(model, ("generator",), data.budget.kept)
    average.restart()
    if reached is not None:
        if reached.dataset != data.fingerprint:
            _log.warning("%s: items came or went since checkpoint %s", folder.path, reached.name)
        _restore(folder, reached, model, game, average)
    folder.rewind_stats(data.stage, reached.step if reached is not None else 0)
    return _learn(job, folder, data, model, game, average, reached.step if reached is not None else 0)


def _learn(
    job: BaselineJob,
    folder: RunFolder,
    data: BaselineData,
    model: Baseline,
    game: Game,
    average: WeightAverage,
    start: int,
) -> CheckpointInfo:
    """The loop."""
    budget, output, seed = data.budget, job.config.output, job.config.seed
    record = LossRecord(data.stage)
    since = time.perf_counter()
    done, reported, stopping = start, start, False
    info = _describe(data, start)
    model.train()
    while done < budget.steps and not stopping:
        real, ids = data.batch(done)
        # The randomness of a step is a function of the seed, the baseline and the step alone.
        share = learning_rate_share(done, budget.steady, budget.decaying)
        losses = game.play(real.to(job.device), torch_generator(seed, job.name, "step", done), share)
        record.add(done, ids, {job.name: losses})
        average.update(done)
        done += 1
        stopping = job.should_stop()
        last = done == budget.steps or stopping
        saving = last or _due(done, output.save_every)
        if saving or _due(done, output.log_every):
            speed = (done - reported) * budget.batch_size / (time.perf_counter() - since)
            since, reported = time.perf_counter(), done
            _report(job, folder, data, record.read(), done, speed)
        if last or _due(done, output.sample_every):
            with average.applied(model):
                _save_samples(job, folder, data, model, done)
        if saving:
            state = CheckpointState(model.state_dict(), average.values, _training_tensors(game))
            info = save_checkpoint(folder.path, _describe(data, done), state)
            prune_checkpoints(folder.path, data.stage, output.keep)
    return info


class BaselineMissingError(CheckpointError):
    """A baseline that was not trained beside its run.

    Args:
        name: of the baseline.
        folder: where it would be.
    """

    def __init__(self, name: BaselineName, folder: Path) -> None:
        self.name = name
        super().__init__(f"{folder} has no checkpoint yet; train the baseline {name} first")


def load_baseline(
    folder: RunFolder, name: BaselineName, *, device: str | torch.device = "cpu"
) -> tuple[Baseline, CheckpointInfo]:
    """A trained baseline as it is to be used: averaged weights where training kept them, evaluation mode.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    info = folder.latest_checkpoint()
    if info is None:
        raise BaselineMissingError(name, folder.path)
    model = Baseline(name, folder.config().model)
    state = read_state(folder.path, info)
    _load(model, {**state.networks, **state.average}, info)
    return model.to(device).eval().requires_grad_(False), info


def _lay_out(model: Baseline) -> None:
    """Stores the weights of convolutions channels-last, which takes a sixth less time; no value changes."""
    for weight in model.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        elif weight.dim() == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)


def _describe(data: BaselineData, done: int) -> CheckpointInfo:
    return CheckpointInfo(
        name=checkpoint_name(data.stage, done),
        stage=data.stage,
        step=done,
        steps=data.budget.steps,
        images_seen=done * data.budget.batch_size,
        sha256="",
        dataset=data.fingerprint,
    )


def _report(
    job: BaselineJob, folder: RunFolder, data: BaselineData, losses: Mapping[str, float], done: int, speed: float
) -> None:
    terms = "  ".join(f"{name.rpartition('/')[2]} {value:.4g}" for name, value in losses.items())
    line = f"{job.name} {done}/{data.budget.steps}  {terms}  {speed:.1f} items/s"
    folder.log_stats(
        {"stage": data.stage, "step": done, "steps": data.budget.steps, "losses": losses, "images_per_s": speed}
    )
    folder.append_log(line)
    job.on_progress(line)


@torch.no_grad()
def _save_samples(job: BaselineJob, folder: RunFolder, data: BaselineData, model: Baseline, done: int) -> None:
    """A sheet of what the same codes give at every step: images, or shaded shapes."""
    codes = torch.randn(_SHEET, RECIPES[job.name].code_size, generator=torch_generator(job.config.seed, "sheet"))
    drawn = model.generator(codes.to(job.device))
    pictures = (drawn + 1.0) / 2.0 if data.stage == "texture" else shaded(drawn).expand(-1, 3, -1, -1)
    rows = [torch.cat(list(row), dim=2) for row in pictures.chunk(2)]
    sheet = (torch.cat(rows, dim=1).clamp(0.0, 1.0) * 255.0).round().byte().permute(1, 2, 0).cpu().numpy()
    save_sheet(np.ascontiguousarray(sheet), folder.samples / f"{job.name}-{done:08d}.png")


def _training_tensors(game: Game) -> dict[str, Tensor]:
    """The state of the optimisers, as named tensors."""
    return {
        f"{network}.{index}.{name}": value
        for network, optimiser in game.optimisers.items()
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }


def _restore(folder: RunFolder, info: CheckpointInfo, model: Baseline, game: Game, average: WeightAverage) -> None:
    """Puts a checkpoint back."""
    state = read_state(folder.path, info)
    _load(model, state.networks, info)
    average.restore(state.average)
    for network, optimiser in game.optimisers.items():
        parameters = optimiser.param_groups[0]["params"]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.training.items():
            owner, index, name = key.split(".")
            if owner == network:
                # Moments lie in memory as their parameter does, or every update would take the slow way.
                laid = value if value.dim() == 0 else torch.empty_like(parameters[int(index)]).copy_(value)
                moments.setdefault(int(index), {})[name] = laid
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _load(model: Baseline, weights: Mapping[str, Tensor], info: CheckpointInfo) -> None:
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint {info.name} does not fit the baseline of config.json: {error}") from error


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0
