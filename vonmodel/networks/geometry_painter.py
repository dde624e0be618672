"""Geometry painter: what a sketch shows of a surface, and a texture code, to an image; and its encoders."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.networks.blocks import append_code
from vonmodel.networks.residual import LEAK, Pyramid, UNet

STYLE_SIZE = 64
# Of colours beyond [-1, 1] in training: none would leave a saturated painter without a gradient to come back by, one
# would let it run away.
OUTSIDE_SLOPE = 0.1


class GeometryPainter(nn.Module):
    """Paints a surface, in place of `TextureGenerator`: (silhouette, depth, normal, position; z_texture) -> x_2D.

    A point of the object keeps its position and a part its normals however the object is turned, so colours follow
    the parts, and views agree, without anybody asking for it. The code enters as constant channels at the input, and
    by a small network as the style that modulates the features on the way up.

    Args:
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        code_size: numbers in a texture code.
        base_channels: channels at half the size; four times as many at the bottleneck.
        geometry_channels: channels of the geometry.
    """

    def __init__(
        self, image_size: int, code_size: int = 8, base_channels: int = 24, geometry_channels: int = 8
    ) -> None:
        super().__init__()
        self.image_size, self.code_size, self.base_channels = image_size, code_size, base_channels
        self.style = nn.Sequential(
            nn.Linear(code_size, STYLE_SIZE), nn.LeakyReLU(LEAK), nn.Linear(STYLE_SIZE, STYLE_SIZE)
        )
        self.body = UNet(
            geometry_channels + code_size,
            3,
            image_size,
            base_channels,
            style_size=STYLE_SIZE,
            fine_inputs=geometry_channels,
        )

    def forward(
        self, geometry: Float[Tensor, "n g r r"], texture_code: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n 3 r r"]:
        """Paints a batch of surfaces.

        Args:
            geometry: maps in [-1, 1], see `projection.geometry_maps`.
            texture_code: standard normal codes.

        Returns:
            Colours in [-1, 1], also where there is no object: compose them with the silhouette. In training they may
            leave the range a little.
        """
        style = functional.leaky_relu(self.style(texture_code), LEAK)
        colours: Tensor = self.body(append_code(geometry, texture_code), style)
        inside = colours.clamp(-1.0, 1.0)
        return inside + OUTSIDE_SLOPE * (colours - inside) if self.training else inside


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
