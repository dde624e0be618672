"""The texture stage: sketches become images and images sketches, held together by three cycles."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.config import StageName, TextureStageConfig
from vonmodel.data.loader import Batch, Photos, Shapes, joined
from vonmodel.distributed import WHOLE, Part
from vonmodel.model import VonModel, on_background, with_classes
from vonmodel.networks import sample_code
from vonmodel.projection import FramedSketch, SurfaceSketch
from vonmodel.training.losses import (
    code_divergence,
    cycle_loss,
    least_squares_critic_loss,
    least_squares_generator_loss,
    mask_loss,
)
from vonmodel.training.shape_stage import generate
from vonmodel.training.stage import ImagePool, Losses, Phase, Stage, Step, adam
from vonmodel.training.texture_pairs import paired_critic_losses, paired_texture_losses

WHITE, FAR = 1.0, -1.0


class TextureStage(Stage):
    """Learns to paint sketches of prepared shapes, then of generated ones; see `phase.Stage` for the attributes."""

    config: TextureStageConfig
    name: StageName = "texture"
    averaged = ("texture_generator", "sketch_encoder", "texture_encoder")

    def __init__(
        self,
        model: VonModel,
        config: TextureStageConfig,
        shapes: Shapes,
        photos: Photos,
        generated_from: int,
        *,
        fused_optimiser: bool = False,
    ) -> None:
        """Sets the phases up.

        Args:
            model: the model; its shape generator stands still.
            config: weights and schedule.
            shapes: prepared shapes.
            photos: photos and viewpoints.
            generated_from: the first step that paints generated shapes.
            fused_optimiser: update in one pass over memory.
        """
        self.config = config
        self.pools = {"images": ImagePool(config.image_pool), "sketches": ImagePool(config.image_pool)}
        self._model, self._shapes, self._photos, self._generated_from = model, shapes, photos, generated_from
        betas = (config.beta1, config.beta2)
        painters = (model.texture_generator, model.sketch_encoder, model.texture_encoder)
        critics = texture_critics(model)
        paint_adam, critic_adam = (
            adam([(networks, config.learning_rate, betas)], fused=fused_optimiser) for networks in (painters, critics)
        )
        self.phases = (
            Phase("painters", painters, paint_adam, self._painters),
            Phase("critics", critics, critic_adam, self._critics),
        )

    def load(self, step: int, part: Part = WHOLE) -> Batch:
        """Photos with viewpoints, and shapes while those are prepared ones."""
        size = self.config.batch_size
        photos = self._photos.load(step, size, part.rows(size))
        if step >= self._generated_from:
            return photos
        return joined(self._shapes.load(step, size, part.rows(size)), photos)

    def _painters(self, step: Step, repeat: int) -> Losses:
        batch = step.batch
        assert batch.images is not None
        assert batch.rotations is not None
        with torch.no_grad():
            volumes = batch.volumes
            if volumes is None:
                volumes = generate(self._model, step, batch.images, batch.classes)
            sketch = self._model.sketch(volumes, batch.rotations, everywhere=True)
        return texture_losses(self._model, sketch, step, self.config)

    def _critics(self, step: Step, repeat: int) -> Losses:
        return texture_critic_losses(self._model, step, self.pools, self.config)


def texture_losses(
    model: VonModel, sketch: FramedSketch | SurfaceSketch, step: Step, weights: TextureStageConfig
) -> dict[str, Tensor]:
    """What texture generator, sketch encoder and texture encoder minimise, weighted, in the objective chosen."""
    if weights.objective == "relativistic":
        return paired_texture_losses(model, sketch, step, weights)
    return published_texture_losses(model, sketch, step, weights)


def published_texture_losses(
    model: VonModel, sketch: FramedSketch | SurfaceSketch, step: Step, weights: TextureStageConfig
) -> dict[str, Tensor]:
    """The published objective: least squares and three cycles.

    Leaves the fake image, the fake sketch and the real sketch in `step.made` for the critics.

    Args:
        model: all networks.
        sketch: real sketches, with gradient where the shapes learn too.
        step: the step, with photos and masks.
        weights: the weight of every term.
    """
    image, mask = step.batch.images, step.batch.masks
    assert image is not None
    assert mask is not None
    depth, silhouette = sketch.normalized_depth, sketch.silhouette
    classes = step.batch.classes
    code = step.normal(model.config.texture_code_size, image)
    noise = step.normal(model.config.texture_code_size, image)

    fake_image = model.paint(sketch, with_classes(code, classes))
    fake_depth = on_background(model.sketch_encoder(image), mask, FAR)
    depth_again = on_background(model.sketch_encoder(fake_image), silhouette, FAR)
    mean, log_variance = model.texture_encoder(image)
    image_code = sample_code(mean, log_variance, noise)
    image_again = on_background(model.texture_generator(fake_depth, with_classes(image_code, classes)), mask, WHITE)
    fake_mean, fake_log_variance = model.texture_encoder(fake_image)
    fake_noise = step.normal(model.config.texture_code_size, image)
    code_again = sample_code(fake_mean, fake_log_variance, fake_noise)

    step.made.update(image=fake_image.detach(), depth=fake_depth.detach(), real_depth=depth.detach())
    # The published weight counts the sum over a batch; times the batch size of the configuration it stays the same
    # however the batch is dealt out to devices.
    divergence = weights.batch_size * code_divergence(mean, log_variance).mean()
    assert model.sketch_critic is not None
    return {
        "image_adversarial": least_squares_generator_loss(model.image_critic(fake_image, classes)),
        "sketch_adversarial": least_squares_generator_loss(model.sketch_critic(fake_depth, classes)),
        "sketch_cycle": weights.sketch_cycle * cycle_loss(depth_again, depth),
        "image_cycle": weights.image_cycle * cycle_loss(image_again, image),
        "texture_cycle": weights.texture_cycle * cycle_loss(code_again, code),
        "texture_kl": weights.kl * divergence,
        "sketch_mask": weights.mask * mask_loss(fake_depth, mask),
    }


def texture_critics(model: VonModel) -> tuple[nn.Module, ...]:
    """The critics that the model has for images and sketches."""
    return tuple(critic for critic in (model.image_critic, model.sketch_critic) if critic is not None)


def texture_critic_losses(
    model: VonModel, step: Step, pools: Mapping[str, ImagePool], weights: TextureStageConfig | None = None
) -> dict[str, Tensor]:
    """What the critics of images and sketches minimise in the objective chosen; least squares on past fakes too."""
    if weights is not None and weights.objective == "relativistic":
        return paired_critic_losses(model, step, weights)
    assert model.sketch_critic is not None
    real_image, real_depth = step.batch.images, step.made["real_depth"]
    assert real_image is not None
    return {
        "image_critic": _patch_loss(model.image_critic, real_image, step.made["image"], pools["images"], step),
        "sketch_critic": _patch_loss(model.sketch_critic, real_depth, step.made["depth"], pools["sketches"], step),
    }


def _patch_loss(
    critic: nn.Module, real: Float[Tensor, "n c h w"], made: Float[Tensor, "n c h w"], pool: ImagePool, step: Step
) -> Tensor:
    """Of photos against past fakes, each judged as of the class that it was made for."""
    classes = step.batch.classes
    if classes is None:
        return least_squares_critic_loss(critic(real), critic(pool.exchange(made, step.generator, step.part)))
    # A fake's class lies beside it in the pool, as channels that are constant.
    planes = classes.to(made)[:, :, None, None].expand(-1, -1, *made.shape[2:])
    shown = pool.exchange(torch.cat([made, planes], dim=1), step.generator, step.part)
    fake, theirs = shown[:, : made.shape[1]], shown[:, made.shape[1] :, 0, 0]
    return least_squares_critic_loss(critic(real, classes), critic(fake, theirs))
