"""Shape training stage: the shape generator against its critic, optionally as a variational autoencoder."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.config import ShapeStageConfig, StageName
from vonmodel.data.loader import Batch, Shapes
from vonmodel.distributed import WHOLE, Part
from vonmodel.model import VonModel, with_classes
from vonmodel.networks import sample_code
from vonmodel.precision import at_least_single
from vonmodel.representation import thickened
from vonmodel.training.losses import (
    code_divergence,
    flow_divergence,
    gradient_penalty,
    pair_losses,
    relativistic_generator_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from vonmodel.training.stage import Losses, Phase, Stage, Step, adam


class ShapeStage(Stage):
    """Trains the shape networks; see `stage.Stage` for the attributes."""

    config: ShapeStageConfig
    name: StageName = "shape"
    averaged: tuple[str, ...] = ("shape_generator",)

    def __init__(
        self,
        model: VonModel,
        config: ShapeStageConfig,
        shapes: Shapes,
        critic_from: int = 0,
        *,
        fused_optimiser: bool = False,
    ) -> None:
        """Sets up the phases.

        Args:
            model: the model.
            config: objective, weights and schedule.
            shapes: prepared shapes.
            critic_from: the first step with a critic; earlier ones have the reconstruction loss only.
            fused_optimiser: update in one pass over memory.
        """
        self.config = config
        self.pools = {}
        self._model, self._shapes, self._critic_from = model, shapes, critic_from
        betas = (config.beta1, config.beta2)
        critic: tuple[nn.Module, ...] = (model.shape_critic,)
        generator: tuple[nn.Module, ...] = (model.shape_generator,)
        if model.shape_encoder is not None:
            generator = (model.shape_generator, model.shape_encoder)
            self.averaged = ("shape_generator", "shape_encoder")
        if model.shape_prior is not None:
            generator = (*generator, model.shape_prior)
            self.averaged = (*self.averaged, "shape_prior")
        critic_adam, generator_adam = (
            adam([(networks, config.learning_rate, betas)], fused=fused_optimiser) for networks in (critic, generator)
        )
        self.phases = (
            Phase("critic", critic, critic_adam, self._critic, config.critic_steps, begins=critic_from),
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
        rows = slice(repeat * size, (repeat + 1) * size)
        real, classes = step.batch.volumes[rows], _rows(step.batch.classes, rows)
        with torch.no_grad():
            fake = generate(self._model, step, real, classes)
        update = step.number * self.config.critic_steps + repeat
        return shape_critic_losses(self._model, real, fake, step, self.config, update, classes)

    def _generator(self, step: Step, repeat: int) -> Losses:
        assert step.batch.volumes is not None
        rows = slice(0, len(step.part.rows(self.config.batch_size)))
        real, classes = step.batch.volumes[rows], _rows(step.batch.classes, rows)
        if self._model.shape_encoder is None:
            fake = generate(self._model, step, real, classes)
            return {"shape_adversarial": shape_generator_loss(self._model, real, fake, self.config, classes)}
        judged = step.number >= self._critic_from
        return encoded_shape_losses(self._model, real, step, self.config, judged=judged, classes=classes)


def _rows(classes: Tensor | None, rows: slice) -> Tensor | None:
    return None if classes is None else classes[rows]


def generate(
    model: VonModel, step: Step, like: Float[Tensor, "n ..."], classes: Float[Tensor, "n c"] | None = None
) -> Float[Tensor, "n 1 r r r"]:
    """One generated volume per item, of its class, from codes of this step."""
    return model.generate_shapes(with_classes(step.normal(model.config.shape_code_size, like), classes))


def encoded_shape_losses(
    model: VonModel,
    real: Float[Tensor, "n 1 r r r"],
    step: Step,
    config: ShapeStageConfig,
    *,
    judged: bool,
    classes: Float[Tensor, "n c"] | None = None,
) -> dict[str, Tensor]:
    """The weighted losses of shape generator and encoder.

    A variational autoencoder (Kingma and Welling 2014) with an adversarial loss on shapes of sampled codes (Larsen
    et al. 2016): the generator learns every prepared shape, and the critic the shapes between them. With a
    `shape_prior` codes need not be normal: the flow learns their distribution (Chen et al. 2017).

    Args:
        model: with a shape encoder.
        real: prepared shapes.
        step: the source of random numbers.
        config: weights.
        judged: add the adversarial loss, on as many shapes of sampled codes.
        classes: class weights of the shapes; None for a model of one class.
    """
    assert model.shape_encoder is not None
    prior, size = model.shape_prior, model.config.shape_code_size
    mean, log_variance = (at_least_single(each) for each in model.shape_encoder(real))
    encoded = sample_code(mean, log_variance, step.normal(size, real))
    if prior is None:
        divergence = code_divergence(mean, log_variance)
    else:
        normal, log_determinant = prior(encoded)
        divergence = flow_divergence(normal, log_determinant, log_variance)
    latents = with_classes(encoded, classes)
    if judged:
        # In one batch, so that batch-norm statistics cover both kinds of codes.
        drawn = step.normal(size, real)
        drawn = drawn if prior is None else prior.inverse(at_least_single(drawn))
        latents = torch.cat([latents, with_classes(drawn.to(latents), classes)])
    volumes = model.decode_shapes(latents)
    again, wanted = at_least_single(volumes[: len(real)]), thickened(model.config, real, config.thicken)
    losses = {
        "shape_reconstruction": config.reconstruction * 0.5 * (again - wanted).square().flatten(1).sum(1).mean(),
        "shape_kl": config.kl * divergence.mean(),
    }
    if judged:
        losses["shape_adversarial"] = shape_generator_loss(model, real, volumes[len(real) :], config, classes)
    return losses


def shape_generator_loss(
    model: VonModel,
    real: Float[Tensor, "n 1 r r r"],
    fake: Float[Tensor, "n 1 r r r"],
    config: ShapeStageConfig,
    classes: Float[Tensor, "n c"] | None = None,
) -> Float[Tensor, ""]:
    """The shape generator's adversarial loss, against the class-conditional critic."""
    if config.objective == "wgan-gp":
        return wasserstein_generator_loss(model.shape_critic(fake, classes))
    with torch.no_grad():
        real_scores = model.shape_critic(thickened(model.config, real, config.thicken), classes)
    return relativistic_generator_loss(real_scores, model.shape_critic(fake, classes))


def shape_critic_losses(
    model: VonModel,
    real: Float[Tensor, "n 1 r r r"],
    fake: Float[Tensor, "n 1 r r r"],
    step: Step,
    config: ShapeStageConfig,
    update: int,
    classes: Float[Tensor, "n c"] | None = None,
) -> dict[str, Tensor]:
    """The weighted losses of the shape critic; every term is a mean over the batch.

    Args:
        model: its generator and critic.
        real: prepared shapes.
        fake: generated shapes, without gradient.
        step: the source of random numbers.
        config: objective and weights.
        update: number of this update of the critic, from 0.
        classes: class weights of both, row by row; None for a model of one class.
    """
    real = thickened(model.config, real, config.thicken)
    if config.objective == "wgan-gp":
        critic = partial(model.shape_critic, classes=classes)
        penalty = gradient_penalty(critic, real, fake, step.uniform(real))
        return {
            "shape_critic": wasserstein_critic_loss(critic(real), critic(fake)),
            "shape_penalty": config.gradient_penalty * penalty,
        }
    loss, slope = pair_losses(
        partial(_scores, model, classes),
        real,
        fake,
        weights=(config.r1, config.r2),
        slope_every=config.slope_every,
        update=update,
    )
    return {"shape_critic": loss, "shape_slope": slope}


def _scores(model: VonModel, classes: Tensor | None, shapes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, " n"]:
    """The shape critic's scores; a batch of real and generated shapes repeats the class weights."""
    if classes is not None:
        classes = classes.repeat(len(shapes) // len(classes), 1)
    scores: Tensor = model.shape_critic(shapes, classes)
    return scores
