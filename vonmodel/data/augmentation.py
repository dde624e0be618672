"""What happens to a photo before a step sees it: another hue, a small shift, a mirror."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vonmodel.config import DataConfig
from vonmodel.data.datasets import Photo


def augment(photo: Photo, data: DataConfig, rng: np.random.Generator, *, mirror_symmetry: bool) -> Photo:
    """A variation of a photo; the numbers drawn do not depend on the photo.

    Args:
        photo: the photo.
        data: how far it may vary.
        rng: source of the variation.
        mirror_symmetry: whether the class looks alike in the mirror. Only then is a mirrored photo one of an object
            of this class, seen from the negated azimuth; photos of other classes are never mirrored.
    """
    hue = rng.uniform(-data.hue_jitter, data.hue_jitter)
    down, right = rng.integers(-data.shift_px, data.shift_px, size=2, endpoint=True)
    mirrored = rng.random() < 0.5
    image = shift(turn_hue(photo.image, hue), int(down), int(right), fill=1.0)
    mask = shift(photo.mask, int(down), int(right), fill=0.0)
    viewpoint = photo.viewpoint
    if mirrored and data.mirror and mirror_symmetry:
        image, mask = image.flip(-1), mask.flip(-1)
        viewpoint = None if viewpoint is None else (-viewpoint[0], viewpoint[1])
    return Photo(image, mask, viewpoint)


def turn_hue(image: Float[Tensor, "3 h w"], turn: float) -> Float[Tensor, "3 h w"]:
    """Turns every colour around the grey axis and keeps it inside the cube of colours.

    Args:
        image: colours in [-1, 1].
        turn: fraction of the whole circle.

    Returns:
        The turned colours; greys, white and black stay what they are.
    """
    if turn == 0.0:
        return image
    angle = 2.0 * math.pi * turn
    cos, sin = math.cos(angle), math.sin(angle)
    # Rodrigues' rotation about (1, 1, 1) / sqrt 3.
    across = sin / math.sqrt(3.0)
    level = (1.0 - cos) / 3.0
    rotation = torch.tensor(
        [
            [cos + level, level - across, level + across],
            [level + across, cos + level, level - across],
            [level - across, level + across, cos + level],
        ],
        dtype=image.dtype,
    )
    return torch.einsum("ij,jhw->ihw", rotation, image).clamp(-1.0, 1.0)


def shift(image: Float[Tensor, "c h w"], down: int, right: int, *, fill: float) -> Float[Tensor, "c h w"]:
    """Moves an image by whole pixels; what comes in at the edges is `fill`."""
    _, height, width = image.shape
    moved = torch.full_like(image, fill)
    moved[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = image[
        :, max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return moved
