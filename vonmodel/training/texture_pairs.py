"""The texture objective by pairs: painter against one critic of images with masks, both sides augmented alike.

In place of the published least-squares objective with its three cycles. Of these stay the code's, texture code ->
image -> code, without which the painter ignores its code, and the sketch's, sketch -> image -> sketch, which trains
the sketch encoder alone: the painter sees the geometry itself and needs no gradient of it.

A critic that sees photos as they are learns them by heart. Colours and places that vary in the same way on both sides
do not leak into what is generated, as each operation can be undone in distribution (Zhao et al. 2020, Karras et al.
2020); varied on one side alone, as a jitter of the photos' hue is, they do leak.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vonmodel.config import TextureStageConfig
from vonmodel.model import VonModel, on_background, with_classes
from vonmodel.projection import FramedSketch, SurfaceSketch
from vonmodel.training.losses import (
    critic_slope,
    cycle_loss,
    mask_loss,
    relativistic_critic_loss,
    relativistic_generator_loss,
)
from vonmodel.training.stage import Step


class Variation(NamedTuple):
    """How each item of a batch is varied.

    Attributes:
        brightness: (n,) added to all colours.
        saturation: (n,) factor of the distance to grey.
        contrast: (n,) factor of the distance to the mean of the image.
        down: (n,) pixels, whole numbers.
        right: (n,) pixels, whole numbers.
    """

    brightness: Float[Tensor, " n"]
    saturation: Float[Tensor, " n"]
    contrast: Float[Tensor, " n"]
    down: Float[Tensor, " n"]
    right: Float[Tensor, " n"]


def draw_variation(step: Step, like: Float[Tensor, "n c r r"], *, colour: float, shift: float) -> Variation:
    """Draws how the items of a batch are varied.

    Args:
        step: its randomness; items of a part are varied as they are in the whole.
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
        # From -most to most, all equally often: u in [-1, 1) is cut into 2 most + 1 equal pieces.
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
    """Moves each image by whole pixels; the row or column at the edge is repeated where something comes in.

    At the edge there is background, in whatever colour it was varied to.
    """
    size = images.shape[-1]
    steps = torch.arange(size, device=images.device)
    for axis, by in ((2, variation.down), (3, variation.right)):
        index = (steps - by.long().unsqueeze(1)).clamp(0, size - 1)
        index = index[:, None, :, None] if axis == 2 else index[:, None, None, :]
        images = images.gather(axis, index.expand_as(images))
    return images


def with_mask(image: Float[Tensor, "n 3 r r"], mask: Float[Tensor, "n 1 r r"]) -> Float[Tensor, "n 4 r r"]:
    """Image and mask as a critic reads them, both in [-1, 1]."""
    return torch.cat([image, 2.0 * mask - 1.0], dim=1)


FAR = -1.0


def paired_texture_losses(
    model: VonModel, sketch: FramedSketch | SurfaceSketch, step: Step, weights: TextureStageConfig
) -> dict[str, Tensor]:
    """What painter, texture encoder and sketch encoder minimise, weighted.

    Leaves the fake image and its silhouette in `step.made` for the critic.

    Args:
        model: all networks.
        sketch: real sketches, with gradient where the shapes learn too.
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
    }


def paired_critic_losses(model: VonModel, step: Step, weights: TextureStageConfig) -> dict[str, Tensor]:
    """What the critic minimises: the pairs, and R1 and R2 in every `slope_every`-th step, that much heavier."""
    photo, mask = _photos(step)
    real = _shown(model, photo, mask, step, weights)
    fake = _shown(model, step.made["image"], step.made["silhouette"], step, weights)
    scores = _scores(model, step)
    if step.number % weights.slope_every:
        # Real and generated together: nothing in the critic makes a score depend on other samples.
        real_scores, fake_scores = scores(torch.cat([real, fake])).chunk(2)
        slope = real_scores.new_zeros(())
    else:
        (real_scores, real_slope), (fake_scores, fake_slope) = (critic_slope(scores, each) for each in (real, fake))
        slope = weights.slope_every * (weights.r1 * real_slope + weights.r2 * fake_slope)
    return {"image_critic": relativistic_critic_loss(real_scores, fake_scores), "image_slope": slope}


def _sketch_losses(
    model: VonModel, sketch: FramedSketch | SurfaceSketch, step: Step, weights: TextureStageConfig
) -> dict[str, Tensor]:
    """What the sketch encoder alone minimises: the depth of generated images, in colours varied as for the critic."""
    photo, mask = _photos(step)
    variation = draw_variation(step, photo, colour=weights.augment_colour, shift=0.0)
    of_fake = model.sketch_encoder(vary_colours(step.made["image"], variation))
    again = on_background(of_fake, step.made["silhouette"], FAR)
    losses = {"sketch_cycle": weights.sketch_cycle * cycle_loss(again, sketch.normalized_depth)}
    if weights.mask > 0.0:
        of_photo = model.sketch_encoder(vary_colours(photo, variation))
        losses["sketch_mask"] = weights.mask * mask_loss(on_background(of_photo, mask, FAR), mask)
    return losses


def _shown(
    model: VonModel,
    image: Float[Tensor, "n 3 r r"],
    mask: Float[Tensor, "n 1 r r"],
    step: Step,
    weights: TextureStageConfig,
) -> Float[Tensor, "n c r r"]:
    """Images, varied, as the critic reads them: with masks where it is made for them."""
    variation = draw_variation(step, image, colour=weights.augment_colour, shift=weights.augment_shift)
    varied = vary_colours(image, variation)
    return shift_images(with_mask(varied, mask) if model.image_critic.in_channels == 4 else varied, variation)


def _scores(model: VonModel, step: Step) -> Callable[[Tensor], Tensor]:
    """The image critic as one that gives a tensor: a score a sample, or its patches' in a row.

    It is told the step's classes, and takes the step's rows, or these several times over.
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
