"""The shape stage: the shape generator against its critic, WGAN-GP on volumes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vonmodel.config import ShapeStageConfig, StageName
from vonmodel.data.loader import Batch, ShapeSource
from vonmodel.distributed import WHOLE, Part
from vonmodel.model import VonModel
from vonmodel.training.losses import gradient_penalty, wasserstein_critic_loss, wasserstein_generator_loss
from vonmodel.training.stage import Losses, Phase, Stage, Step, adam


class ShapeStage(Stage):
    """Learns to generate shapes; see `phase.Stage` for the attributes."""

    config: ShapeStageConfig
    name: StageName = "shape"
    averaged = ("shape_generator",)

    def __init__(
        self, model: VonModel, config: ShapeStageConfig, shapes: ShapeSource, *, fused_optimiser: bool = False
    ) -> None:
        self.config = config
        self.pools = {}
        self._model, self._shapes = model, shapes
        betas = (config.beta1, config.beta2)
        critic, generator = (model.shape_critic,), (model.shape_generator,)
        critic_adam, generator_adam = (
            adam([(networks, config.learning_rate, betas)], fused=fused_optimiser) for networks in (critic, generator)
        )
        self.phases = (
            Phase("critic", critic, critic_adam, self._critic, config.critic_steps),
            Phase("generator", generator, generator_adam, self._generator),
        )

    def load(self, step: int, part: Part = WHOLE) -> Batch:
        """Shapes for all updates of the critic."""
        size, updates = self.config.batch_size, self.config.critic_steps
        rows = [update * size + row for update in range(updates) for row in part.rows(size)]
        return self._shapes.load(step, updates * size, rows)

    def _critic(self, step: Step, repeat: int) -> Losses:
        assert step.batch.volumes is not None
        size = len(step.part.rows(self.config.batch_size))
        real = step.batch.volumes[repeat * size : (repeat + 1) * size]
        with torch.no_grad():
            fake = generate(self._model, step, real)
        return shape_critic_losses(self._model, real, fake, step, self.config.gradient_penalty)

    def _generator(self, step: Step, repeat: int) -> Losses:
        assert step.batch.volumes is not None
        fake = generate(self._model, step, step.batch.volumes[: len(step.part.rows(self.config.batch_size))])
        return {"shape_adversarial": wasserstein_generator_loss(self._model.shape_critic(fake))}


def generate(model: VonModel, step: Step, like: Float[Tensor, "n ..."]) -> Float[Tensor, "n 1 r r r"]:
    """As many volumes as these items are, from codes of this step."""
    return model.generate_shapes(step.normal(model.config.shape_code_size, like))


def shape_critic_losses(
    model: VonModel,
    real: Float[Tensor, "n 1 r r r"],
    fake: Float[Tensor, "n 1 r r r"],
    step: Step,
    penalty_weight: float,
) -> dict[str, Tensor]:
    """What the shape critic minimises; scores and penalty are both means over the batch."""
    critic = model.shape_critic
    penalty = gradient_penalty(critic, real, fake, step.uniform(real))
    return {
        "shape_critic": wasserstein_critic_loss(critic(real), critic(fake)),
        "shape_penalty": penalty_weight * penalty,
    }
