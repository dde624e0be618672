"""Training a baseline: its data and schedule, the stage it is for the training loop, and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vonmodel.baselines.configs import CONFIGS, BaselineName
from vonmodel.baselines.gan import GanStage
from vonmodel.baselines.models import Baseline, build_baseline
from vonmodel.checkpoint import CheckpointError, CheckpointInfo, load_weights, newest_whole, read_state
from vonmodel.config import TrainConfig
from vonmodel.data.loader import PhotoSource, ShapeSource
from vonmodel.run_folder import RunFolder
from vonmodel.seeding import torch_generator
from vonmodel.training.loop import StageSetup, TrainingJob, reached_checkpoint, run_stage, training_lock
from vonmodel.training.sample_sheet import shaded
from vonmodel.training.setup import TrainingData, items_fingerprint, open_data, prepare_model

FOLDER = "baselines"
SHEET_SAMPLES = 16


def baseline_folder(run: Path, name: BaselineName) -> RunFolder:
    """Where a baseline of a run lies."""
    return RunFolder(run / FOLDER / name)


@dataclass(frozen=True)
class BaselinePlan:
    """The data of a baseline and its schedule: as many steps as the model's stage on this data and the joint one.

    Attributes:
        data: the photos and shapes of the class.
        items: how many of them the baseline is trained on.
        steady: steps at the full learning rate.
        decaying: steps over which it falls linearly to zero.
        batch_size: items a step.
    """

    data: TrainingData
    items: int
    steady: int
    decaying: int
    batch_size: int


def plan_baseline(name: BaselineName, config: TrainConfig, data: Path) -> BaselinePlan:
    """Opens the training part and counts the steps.

    Raises:
        ManifestMissingError: it was not prepared.
        EmptyDatasetError: nothing of it is usable.
    """
    opened = open_data(config, data, "texture")
    assert opened.photos is not None
    images = CONFIGS[name].draws == "images"
    own, joint = config.stage(CONFIGS[name].stage), config.joint
    # An epoch of the texture and joint stage visits all shapes and all photos.
    steady, decaying = own.steps(opened.items if images else len(opened.shapes))
    joint_steps = sum(joint.steps(opened.items))
    return BaselinePlan(
        data=opened,
        items=len(opened.photos) if images else len(opened.shapes),
        steady=steady + round(joint_steps * joint.batch_size / own.batch_size),
        decaying=decaying,
        batch_size=own.batch_size,
    )


def train_baseline(job: TrainingJob, name: BaselineName) -> CheckpointInfo:
    """Trains a baseline from its last checkpoint to its end, in the loop that the model is trained in.

    Args:
        job: its `run` is the folder of the baseline, see `baseline_folder`.
        name: which one.

    Returns:
        The newest checkpoint; not finished where training was stopped.

    Raises:
        RunError: the baseline was started with another configuration.
        EmptyDatasetError, ManifestMissingError, ResolutionError: the data does not serve.
        NonFiniteLossError: a loss became infinite or NaN.
        RunBusyError: another process trains this baseline.
    """
    job.run.check_same(job.config)
    with training_lock(job):
        return _train_locked(job, name)


def _train_locked(job: TrainingJob, name: BaselineName) -> CheckpointInfo:
    gan, config = CONFIGS[name], job.config
    reached = reached_checkpoint(job, gan.stage)
    schedule = f"{config.stage(gan.stage).schedule}, joint {config.joint.schedule}"
    if reached is not None and reached.finished and reached.schedule in ("", schedule):
        return reached
    plan = plan_baseline(name, config, job.data)
    if reached is not None and reached.step >= plan.steady + plan.decaying:
        return reached
    model = prepare_model(
        build_baseline(name, config.model, config.seed),
        config.compute,
        job.device,
        twice_differentiated=("critic",) if gan.gradient_penalty > 0.0 else (),
    )
    source = _source(name, config, plan.data)
    stage = GanStage(
        name, model, gan, config.stage(gan.stage), source, fused_optimiser=config.compute.fused_optimiser
    )
    setup = StageSetup(
        model=model,
        stage=stage,
        steady=plan.steady,
        decaying=plan.decaying,
        dataset=items_fingerprint(source.dataset.ids),
        schedule=schedule,
        draw_samples=lambda: draw_samples(name, model, config.seed),
    )
    return run_stage(job, setup, reached)


def _source(name: BaselineName, config: TrainConfig, data: TrainingData) -> PhotoSource | ShapeSource:
    if CONFIGS[name].draws == "shapes":
        return ShapeSource(data.shapes, name, config.seed, config.shape.mirror and data.mirror_symmetry)
    assert data.photos is not None
    return PhotoSource(data.photos, data.viewpoints, config.data, data.mirror_symmetry, name, config.seed)


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
    info = newest_whole(folder.path)
    if info is None:
        raise BaselineMissingError(name, folder.path)
    model = Baseline(name, folder.config().model)
    load_weights(model, read_state(folder.path, info, ("networks", "average")), info)
    return model.to(device).eval().requires_grad_(False), info


@torch.no_grad()
def draw_samples(name: BaselineName, model: Baseline, seed: int) -> npt.NDArray[np.uint8]:
    """A sheet (height, width, 3) of two rows: images, or shaded shapes, of the same codes at every step."""
    codes = torch.randn(SHEET_SAMPLES, CONFIGS[name].code_size, generator=torch_generator(seed, "sheet"))
    drawn = model.generator(codes.to(next(model.parameters())))
    pictures = (drawn + 1.0) / 2.0 if CONFIGS[name].draws == "images" else shaded(drawn).expand(-1, 3, -1, -1)
    rows = [torch.cat(list(row), dim=2) for row in pictures.chunk(2)]
    sheet = (torch.cat(rows, dim=1).clamp(0.0, 1.0) * 255.0).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(sheet)
