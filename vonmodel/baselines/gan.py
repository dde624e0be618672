"""A baseline as a stage of training: in each step its critic's updates, then its generator's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional

from vonmodel.baselines.configs import BaselineConfig, BaselineName, Objective
from vonmodel.baselines.models import Baseline
from vonmodel.config import StageConfig, StageName
from vonmodel.data.loader import Batch, PhotoSource, ShapeSource
from vonmodel.distributed import WHOLE, Part, mean_everywhere
from vonmodel.precision import at_least_single
from vonmodel.training.losses import gradient_penalty, wasserstein_critic_loss, wasserstein_generator_loss
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
        """Sets the phases up.

        Args:
            baseline: its name, under which it is reported.
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
        """As many samples as these items are, from codes of this step."""
        fakes: Tensor = self._model.generator(step.normal(self._gan.code_size, like))
        return fakes


def _items(step: Step) -> Tensor:
    """The photos or shapes of a step."""
    items = step.batch.images if step.batch.volumes is None else step.batch.volumes
    assert items is not None
    return items


def critic_loss(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """What the critic minimises, from its scores (n,) of real and generated samples.

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
    """What the generator minimises: -E[log s(D(G(z)))], E[(D(G(z)) - 1)^2] / 2, or -E[D(G(z))]."""
    match objective:
        case "cross_entropy":
            return functional.softplus(-fake).mean()
        case "least_squares":
            return (fake - 1.0).square().mean() / 2.0
        case "wasserstein":
            return wasserstein_generator_loss(fake)
        case _:
            assert_never(objective)
