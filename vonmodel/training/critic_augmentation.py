"""Augmentation of everything that a critic sees, real and generated alike, so that few photos last for long.

A critic that sees photos as they are learns them by heart. Colours and places that vary in the same way on both sides
do not leak into what is generated, as each operation can be undone in distribution (Zhao et al. 2020, Karras et al.
2020); varied on one side alone, as a jitter of the photos' hue is, they do leak.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

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
