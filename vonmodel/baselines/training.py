"""Training of a baseline GAN: its training stage, data, schedule and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vonmodel.baselines.models import CONFIGS, Baseline, BaselineConfig, BaselineName, Objective, build_baseline
from vonmodel.checkpoint import CheckpointError, CheckpointInfo, load_weights, newest_whole, read_state
from vonmodel.config import StageConfig, StageName, TrainConfig
from vonmodel.data.loader import Batch, PhotoSource, ShapeSource
from vonmodel.distributed import WHOLE, Part, mean_everywhere
from vonmodel.precision import at_least_single
from vonmodel.run_folder import RunFolder
from vonmodel.seeding import torch_generator
from vonmodel.training.log import shaded
from vonmodel.training.loop import StageSetup, TrainingJob, reached_checkpoint, run_stage, training_lock
from vonmodel.training.losses import gradient_penalty, wasserstein_critic_loss, wasserstein_generator_loss
from vonmodel.training.setup import TrainingData, items_fingerprint, open_data, prepare_model
from vonmodel.training.stage import Losses, Phase, Stage, Step, adam


class GanStage(Stage):
    """A generator against its critic, on photos or on shapes; see `training.stage.Stage` for the attributes."""

    averaged = ("generator",)

    def __init__(
        self,
        baseline: BaselineName,
        model: Baseline,
        gan: BaselineConfig,
        config: StageConfig,
        source: PhotoSource | ShapeSource,
        *,
        fused_optimiser: bool = False,
    ) -> None:
        """Sets up the phases.

        Args:
            baseline: its name, used in logs and errors.
            model: generator and critic.
            gan: objective and optimisers.
            config: batch size and weight average, those of the model's stage on the same data.
            source: real items.
            fused_optimiser: update in one pass over memory.
        """
        self.name: StageName = gan.stage
        self.config = config
        self.pools = {}
        self._baseline, self._model, self._gan, self._source = baseline, model, gan, source
        critic, generator = (model.critic,), (model.generator,)
        self.phases = (
            Phase(
                "critic",
                critic,
                adam([(critic, gan.critic_rate, gan.betas)], fused=fused_optimiser),
                self._critic,
                gan.critic_steps,
                takes_place=self._critic_is_behind if gan.accuracy_limit < 1.0 else None,
            ),
            Phase(
                "generator",
                generator,
                adam([(generator, gan.generator_rate, gan.betas)], fused=fused_optimiser),
                self._generator,
            ),
        )

    @property
    def label(self) -> str:
        """The baseline's name."""
        return self._baseline

    def load(self, step: int, part: Part = WHOLE) -> Batch:
        """Photos or shapes for all updates of the critic."""
        size, updates = self.config.batch_size, self._gan.critic_steps
        rows = [update * size + row for update in range(updates) for row in part.rows(size)]
        return self._source.load(step, updates * size, rows)

    def _critic(self, step: Step, repeat: int) -> Losses:
        critic, count = self._model.critic, len(step.part.rows(self.config.batch_size))
        real = _items(step)[repeat * count : (repeat + 1) * count]
        with torch.no_grad():
            fake = self._generate(step, real)
        real_scores, fake_scores = at_least_single(critic(real)), at_least_single(critic(fake))
        step.made["accuracy"] = torch.cat([real_scores > 0.0, fake_scores <= 0.0]).float().mean()
        losses = {"critic": critic_loss(self._gan.objective, real_scores, fake_scores)}
        if self._gan.gradient_penalty > 0.0:
            penalty = gradient_penalty(critic, real, fake, step.uniform(real))
            losses["penalty"] = self._gan.gradient_penalty * penalty
        return losses

    def _critic_is_behind(self, parts: Sequence[Step]) -> bool:
        """Whether the critic classifies few enough of a step's items correctly to be updated."""
        accuracy = mean_everywhere(torch.stack([part.made["accuracy"] for part in parts]).mean())
        return bool(accuracy <= self._gan.accuracy_limit)

    def _generator(self, step: Step, repeat: int) -> Losses:
        like = _items(step)[: len(step.part.rows(self.config.batch_size))]
        scores = at_least_single(self._model.critic(self._generate(step, like)))
        return {"generator": generator_loss(self._gan.objective, scores)}

    def _generate(self, step: Step, like: Tensor) -> Tensor:
        """One sample per item, from codes of this step."""
        fakes: Tensor = self._model.generator(step.normal(self._gan.code_size, like))
        return fakes


def _items(step: Step) -> Tensor:
    """The photos or shapes of a step."""
    items = step.batch.images if step.batch.volumes is None else step.batch.volumes
    assert items is not None
    return items


def critic_loss(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss, from its scores (n,) of real and generated samples.

    cross_entropy: -E[log s(D(x))] - E[log(1 - s(D(G(z))))] with the logistic function s (Goodfellow et al. 2014);
    least_squares: E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2 (Mao et al. 2017); wasserstein: E[D(G(z))] - E[D(x)].
    """
    match objective:
        case "cross_entropy":
            return functional.softplus(-real).mean() + functional.softplus(fake).mean()
        case "least_squares":
            return ((real - 1.0).square().mean() + fake.square().mean()) / 2.0
        case "wasserstein":
            return wasserstein_critic_loss(real, fake)
        case _:
            assert_never(objective)


def generator_loss(objective: Objective, fake: Tensor) -> Tensor:
    """The generator's loss: -E[log s(D(G(z)))], E[(D(G(z)) - 1)^2] / 2, or -E[D(G(z))]."""
    match objective:
        case "cross_entropy":
            return functional.softplus(-fake).mean()
        case "least_squares":
            return (fake - 1.0).square().mean() / 2.0
        case "wasserstein":
            return wasserstein_generator_loss(fake)
        case _:
            assert_never(objective)


FOLDER = "baselines"
SHEET_SAMPLES = 16


def baseline_folder(run: Path, name: BaselineName) -> RunFolder:
    """The folder of a baseline of a run."""
    return RunFolder(run / FOLDER / name)


@dataclass(frozen=True)
class BaselinePlan:
    """Data and schedule of a baseline: as many steps as the model's stage on this data plus its joint stage.

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
        ManifestMissingError: the class was not prepared.
        EmptyDatasetError: it has no usable items.
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
        EmptyDatasetError, ManifestMissingError, ResolutionError: the data cannot be used.
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
        folder: its expected folder.
    """

    def __init__(self, name: BaselineName, folder: Path) -> None:
        self.name = name
        super().__init__(f"{folder} has no checkpoint yet; train the baseline {name} first")


def load_baseline(
    folder: RunFolder, name: BaselineName, *, device: str | torch.device = "cpu"
) -> tuple[Baseline, CheckpointInfo]:
    """A trained baseline in evaluation mode, with averaged weights where training kept them.

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
