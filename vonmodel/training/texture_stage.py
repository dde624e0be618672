"""Texture training stage: sketch to image and image to sketch, by the published or the relativistic objective.

The published objective is least squares with three cycles. The relativistic one has a single critic of images with
masks, with the same augmentation of real and generated images. It keeps the code's cycle, texture code -> image ->
code, without which the painter ignores its code, and the sketch's, sketch -> image -> sketch, which trains the sketch
encoder only: the painter's input is the geometry itself and needs no gradient from it. With a surface encoder the
image's cycle, photo -> surface and code -> photo, takes the place of the code's.

Without augmentation the critic memorises the photos. Augmentations of colour and position that are applied to real
and generated images alike do not leak into the generated ones, as they are invertible in distribution (Zhao et al.
2020, Karras et al. 2020); applied to photos only, such as hue jitter, they do leak.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.config import StageName, TextureStageConfig
from vonmodel.data.loader import Batch, Photos, Shapes, joined
from vonmodel.distributed import WHOLE, Part
from vonmodel.model import VonModel, on_background, with_classes
from vonmodel.networks import sample_code
from vonmodel.projection import FramedSketch, SurfaceSketch, geometry_maps
from vonmodel.training.losses import (
    code_divergence,
    cycle_loss,
    least_squares_critic_loss,
    least_squares_generator_loss,
    mask_loss,
    pair_losses,
    relativistic_generator_loss,
)
from vonmodel.training.shape_stage import generate
from vonmodel.training.stage import ImagePool, Losses, Phase, Stage, Step, adam

WHITE, FAR = 1.0, -1.0


class TextureStage(Stage):
    """Trains the texture networks on sketches of prepared, then of generated shapes; see `stage.Stage`."""

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
        """Sets up the phases.

        Args:
            model: the model; its shape generator is not trained.
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
        """Photos with viewpoints, and prepared shapes until generated ones are used."""
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
    """The weighted losses of texture generator, sketch encoder and texture encoder, by the configured objective."""
    if weights.objective == "relativistic":
        return paired_texture_losses(model, sketch, step, weights)
    return published_texture_losses(model, sketch, step, weights)


def published_texture_losses(
    model: VonModel, sketch: FramedSketch | SurfaceSketch, step: Step, weights: TextureStageConfig
) -> dict[str, Tensor]:
    """The published objective: least squares and three cycles.

    Stores the fake image, the fake sketch and the real sketch in `step.made` for the critics.

    Args:
        model: all networks.
        sketch: real sketches, with gradient if the shape generator is trained too.
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
    # The published weight applies to the sum over a batch; the mean times the configured batch size is the same for
    # any distribution of the batch over devices.
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
    """The model's critics of images and sketches."""
    return tuple(critic for critic in (model.image_critic, model.sketch_critic) if critic is not None)


def texture_critic_losses(
    model: VonModel, step: Step, pools: Mapping[str, ImagePool], weights: TextureStageConfig | None = None
) -> dict[str, Tensor]:
    """The losses of the image and sketch critics by the configured objective; least squares on past fakes too."""
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
    """The least-squares loss of photos against past fakes, each scored with the class it was generated for."""
    classes = step.batch.classes
    if classes is None:
        return least_squares_critic_loss(critic(real), critic(pool.exchange(made, step.generator, step.part)))
    # A fake's class is stored with it in the pool, as constant channels.
    planes = classes.to(made)[:, :, None, None].expand(-1, -1, *made.shape[2:])
    shown = pool.exchange(torch.cat([made, planes], dim=1), step.generator, step.part)
    fake, theirs = shown[:, : made.shape[1]], shown[:, made.shape[1] :, 0, 0]
    return least_squares_critic_loss(critic(real, classes), critic(fake, theirs))


# --- the relativistic objective


class Variation(NamedTuple):
    """Parameters of the augmentation of each item of a batch.

    Attributes:
        brightness: (n,) added to all colours.
        saturation: (n,) factor of the distance to grey.
        contrast: (n,) factor of the distance to the mean of the image.
        down: (n,) shift in whole pixels.
        right: (n,) shift in whole pixels.
    """

    brightness: Float[Tensor, " n"]
    saturation: Float[Tensor, " n"]
    contrast: Float[Tensor, " n"]
    down: Float[Tensor, " n"]
    right: Float[Tensor, " n"]


def draw_variation(step: Step, like: Float[Tensor, "n c r r"], *, colour: float, shift: float) -> Variation:
    """Draws the augmentation of the items of a batch.

    Args:
        step: source of randomness; items of a part are augmented as in the whole batch.
        like: the batch.
        colour: strength; at 1 brightness changes by up to 0.5 (of 2), saturation by up to 100 % and contrast by 50 %.
        shift: largest shift along an axis, as a fraction of the side.
    """
    brightness, saturation, contrast, down, right = (2.0 * step.uniform(like) - 1.0 for _ in range(5))
    most = round(shift * like.shape[-1])
    return Variation(
        0.5 * colour * brightness,
        1.0 + colour * saturation,
        1.0 + 0.5 * colour * contrast,
        # Uniform over -most..most: u in [-1, 1) is divided into 2 most + 1 equal intervals.
        ((most + 0.5) * down).round(),
        ((most + 0.5) * right).round(),
    )


def vary_colours(image: Float[Tensor, "n 3 r r"], variation: Variation) -> Float[Tensor, "n 3 r r"]:
    """Brightness, then saturation, then contrast of whole images, background included; values may leave [-1, 1]."""
    brightness, saturation, contrast = (each[:, None, None, None] for each in variation[:3])
    image = image + brightness
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * saturation
    mean = image.mean((1, 2, 3), keepdim=True)
    return mean + (image - mean) * contrast


def shift_images(images: Float[Tensor, "n c r r"], variation: Variation) -> Float[Tensor, "n c r r"]:
    """Shifts each image by whole pixels, repeating the row or column at the edge.

    The edge is background, in its augmented colour.
    """
    size = images.shape[-1]
    steps = torch.arange(size, device=images.device)
    for axis, by in ((2, variation.down), (3, variation.right)):
        index = (steps - by.long().unsqueeze(1)).clamp(0, size - 1)
        index = index[:, None, :, None] if axis == 2 else index[:, None, None, :]
        images = images.gather(axis, index.expand_as(images))
    return images


def with_mask(image: Float[Tensor, "n 3 r r"], mask: Float[Tensor, "n 1 r r"]) -> Float[Tensor, "n 4 r r"]:
    """Image and mask as input of a critic, both in [-1, 1]."""
    return torch.cat([image, 2.0 * mask - 1.0], dim=1)


def paired_texture_losses(
    model: VonModel, sketch: FramedSketch | SurfaceSketch, step: Step, weights: TextureStageConfig
) -> dict[str, Tensor]:
    """The weighted losses of painter, texture encoder and sketch encoder by the relativistic objective.

    Stores the fake image and its silhouette in `step.made` for the critic.

    Args:
        model: all networks.
        sketch: real sketches, with gradient if the shape generator is trained too.
        step: the step, with photos and masks.
        weights: the weight of every term.
    """
    photo, mask = _photos(step)
    code = step.normal(model.config.texture_code_size, photo)
    image = model.paint(sketch, with_classes(code, step.batch.classes))
    step.made.update(image=image.detach(), silhouette=sketch.silhouette.detach())
    with torch.no_grad():
        real_scores = _scores(model, step)(_shown(model, photo, mask, step, weights))
    fake_scores = _scores(model, step)(_shown(model, image, sketch.silhouette, step, weights))
    code_again = model.texture_encoder(image)[0]
    return {
        "image_adversarial": relativistic_generator_loss(real_scores, fake_scores),
        "texture_cycle": weights.texture_cycle * functional.mse_loss(code_again.to(code), code),
        **_sketch_losses(model, sketch, step, weights),
        **(_image_losses(model, step, weights) if model.config.surface_encoder else {}),
    }


def paired_critic_losses(model: VonModel, step: Step, weights: TextureStageConfig) -> dict[str, Tensor]:
    """The relativistic critic's losses, with R1 and R2 in every `slope_every`-th step, weighted accordingly."""
    photo, mask = _photos(step)
    real = _shown(model, photo, mask, step, weights)
    fake = _shown(model, step.made["image"], step.made["silhouette"], step, weights)
    loss, slope = pair_losses(
        _scores(model, step),
        real,
        fake,
        weights=(weights.r1, weights.r2),
        slope_every=weights.slope_every,
        update=step.number,
    )
    return {"image_critic": loss, "image_slope": slope}


def _sketch_losses(
    model: VonModel, sketch: FramedSketch | SurfaceSketch, step: Step, weights: TextureStageConfig
) -> dict[str, Tensor]:
    """The sketch encoder's losses: the depth of generated images, with the critic's colour augmentation.

    A surface encoder is also trained on the normals and positions of generated images.
    """
    photo, mask = _photos(step)
    variation = draw_variation(step, photo, colour=weights.augment_colour, shift=0.0)
    painted, silhouette = vary_colours(step.made["image"], variation), step.made["silhouette"]
    losses = {}
    if model.config.surface_encoder:
        assert isinstance(sketch, SurfaceSketch)
        maps, seen = model.read_surface(painted, silhouette), geometry_maps(sketch)
        again = maps[:, 1:2]
        losses["surface_cycle"] = weights.sketch_cycle * cycle_loss(maps[:, 2:], seen[:, 2:].detach())
    else:
        again = on_background(model.sketch_encoder(painted), silhouette, FAR)
    losses["sketch_cycle"] = weights.sketch_cycle * cycle_loss(again, sketch.normalized_depth)
    if weights.mask > 0.0:
        of_photo = model.sketch_encoder(vary_colours(photo, variation))
        losses["sketch_mask"] = weights.mask * mask_loss(on_background(of_photo, mask, FAR), mask)
    return losses


def _image_losses(model: VonModel, step: Step, weights: TextureStageConfig) -> dict[str, Tensor]:
    """The image cycle, photo -> surface and texture code -> photo, with a surface encoder.

    The colours of seat and frame must then be in the photo's code, and the painter must place them by the surface.
    The surface has no gradient, so that it cannot encode colours. The KL divergence makes the codes of photos fill
    the normal distribution that codes are sampled from.
    """
    photo, mask = _photos(step)
    with torch.no_grad():
        surface = model.read_surface(photo, mask)
    mean, log_variance = model.texture_encoder(photo)
    sampled = sample_code(mean, log_variance, step.normal(model.config.texture_code_size, photo))
    again = model.texture_generator(surface, with_classes(sampled, step.batch.classes))
    return {
        "image_cycle": weights.image_cycle * cycle_loss(on_background(again, mask, WHITE), photo),
        "texture_kl": weights.kl * weights.batch_size * code_divergence(mean, log_variance).mean(),
    }


def _shown(
    model: VonModel,
    image: Float[Tensor, "n 3 r r"],
    mask: Float[Tensor, "n 1 r r"],
    step: Step,
    weights: TextureStageConfig,
) -> Float[Tensor, "n c r r"]:
    """Augmented images as input of the critic, with masks if it takes them."""
    variation = draw_variation(step, image, colour=weights.augment_colour, shift=weights.augment_shift)
    varied = vary_colours(image, variation)
    return shift_images(with_mask(varied, mask) if model.image_critic.in_channels == 4 else varied, variation)


def _scores(model: VonModel, step: Step) -> Callable[[Tensor], Tensor]:
    """The image critic with a tensor as output: one score per sample, or its patch scores concatenated.

    It is conditioned on the step's classes; the batch holds the step's rows once or several times.
    """

    def scores(images: Tensor) -> Tensor:
        classes = step.batch.classes
        if classes is not None:
            classes = classes.repeat(len(images) // len(classes), 1)
        given = model.image_critic(images, classes)
        return given if isinstance(given, Tensor) else torch.cat([each.flatten(1) for each in given], dim=1)

    return scores


def _photos(step: Step) -> tuple[Float[Tensor, "n 3 r r"], Float[Tensor, "n 1 r r"]]:
    assert step.batch.images is not None
    assert step.batch.masks is not None
    return step.batch.images, step.batch.masks
