"""Encoders that go with the geometry painter: an image to its texture code, and to its normalised depth."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.networks.residual import Pyramid, UNet


class CodeRegressor(nn.Module):
    """Reads a texture code off an image, in place of `TextureEncoder`.

    It is trained to find the code that an image was painted with, under a normal distribution of variance one around
    its answer: the log variance that it gives is 0.

    Args:
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        code_size: numbers in a texture code.
        base_channels: channels at half the size; four times as many in the end.
    """

    def __init__(self, image_size: int, code_size: int = 8, base_channels: int = 24) -> None:
        super().__init__()
        self.image_size, self.code_size, self.base_channels = image_size, code_size, base_channels
        self.body = Pyramid(3, image_size, base_channels)
        self.mean = nn.Linear(self.body.out_channels, code_size)

    def forward(self, image: Float[Tensor, "n 3 r r"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """Encodes a batch of images, colours in [-1, 1] on white.

        Returns:
            Mean and logarithm of the variance of each number of the code.
        """
        mean: Tensor = self.mean(self.body(image).mean(dim=(2, 3)))
        return mean, torch.zeros_like(mean)


class DepthUNet(nn.Module):
    """Reads a 2.5D sketch off an image, in place of `SketchEncoder`: x_2D -> v_2.5D.

    Args:
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        base_channels: channels at half the size; four times as many at the bottleneck.
    """

    def __init__(self, image_size: int, base_channels: int = 12) -> None:
        super().__init__()
        self.image_size, self.base_channels = image_size, base_channels
        self.body = UNet(3, 1, image_size, base_channels)

    def forward(self, image: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 1 r r"]:
        """Estimates the sketches of a batch of images.

        Args:
            image: colours in [-1, 1], the object on white.

        Returns:
            Normalised depth in [-1, 1], near 1, also where there is no object: compose it with the mask.
        """
        return torch.tanh(self.body(image))
