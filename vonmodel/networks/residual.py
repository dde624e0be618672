"""Residual blocks without normalisation, and the two bodies that are made of them: a pyramid and a U-Net.

Both work at half the size of their input, which a strided convolution reads: most of the time of such networks goes
into their largest maps, and the U-Net draws its fine detail with a few channels at full size in the end.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.networks.blocks import image_levels

LEAK = 0.2
WIDEST = 4
COARSEST = 4
FINE_CHANNELS = 16


class Modulation(nn.Module):
    """Scale and offset of every channel from a style: (1 + a) x + b, with a and b linear in the style."""

    def __init__(self, channels: int, style_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(style_size, 2 * channels)

    def forward(self, features: Float[Tensor, "n c h w"], style: Float[Tensor, "n s"]) -> Float[Tensor, "n c h w"]:
        """Modulates each sample by its own style."""
        scale, offset = self.linear(style)[:, :, None, None].chunk(2, dim=1)
        modulated: Tensor = features * (1.0 + scale) + offset
        return modulated


class PlainResidual(nn.Module):
    """x + f(x), f two 3x3 convolutions with leaky ReLUs before and between them; 1x1 where the channels differ.

    Args:
        in_channels: channels read.
        out_channels: channels written.
        style_size: numbers of a style that modulates what the first convolution gives; 0 for none.
    """

    def __init__(self, in_channels: int, out_channels: int, style_size: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.modulation = Modulation(out_channels, style_size) if style_size else None

    def forward(
        self, features: Float[Tensor, "n c h w"], style: Float[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n d h w"]:
        """Applies the block."""
        change = functional.leaky_relu(self.first(features), LEAK)
        if self.modulation is not None and style is not None:
            change = self.modulation(change, style)
        result: Tensor = self.shortcut(features) + self.second(functional.leaky_relu(change, LEAK))
        return result


class Pyramid(nn.Module):
    """An image to features of 4x4 pixels: a strided convolution, then a residual block and a mean at every halving.

    Args:
        in_channels: channels of the image.
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        base_channels: channels at half the size; four times as many in the end.
    """

    def __init__(self, in_channels: int, image_size: int, base_channels: int) -> None:
        super().__init__()
        widths = level_widths(image_size, base_channels)
        self.out_channels = widths[-1]
        self.stem = nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(PlainResidual(a, b) for a, b in pairwise(widths))
        self.last = PlainResidual(widths[-1], widths[-1])

    def forward(self, image: Float[Tensor, "n c r r"]) -> Float[Tensor, "n d 4 4"]:
        """Encodes a batch of images."""
        features = self.stem(image.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            features = functional.avg_pool2d(block(features), 2)
        return functional.leaky_relu(self.last(features), LEAK)


class UNet(nn.Module):
    """Maps to maps of the same size: down to 4x4 pixels and up again, with what was on the way beside it.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        base_channels: channels at half the size; four times as many at the bottleneck.
        style_size: numbers of the style that modulates the bottleneck and the way up; 0 for none.
        fine_inputs: as many of the first channels of the input are read again at full size; all where None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_size: int,
        base_channels: int,
        *,
        style_size: int = 0,
        fine_inputs: int | None = None,
    ) -> None:
        super().__init__()
        self.fine_inputs = in_channels if fine_inputs is None else fine_inputs
        widths = level_widths(image_size, base_channels)
        self.stem = nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=1)
        self.down = nn.ModuleList(PlainResidual(a, b) for a, b in pairwise(widths))
        self.middle = PlainResidual(widths[-1], widths[-1], style_size)
        rising = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(PlainResidual(2 * coarse, fine, style_size) for fine, coarse in rising)
        self.to_fine = nn.Conv2d(widths[0], FINE_CHANNELS, 3, padding=1)
        self.fine = nn.Conv2d(FINE_CHANNELS + self.fine_inputs, FINE_CHANNELS, 3, padding=1)
        self.modulation = Modulation(FINE_CHANNELS, style_size) if style_size else None
        self.head = nn.Conv2d(FINE_CHANNELS, out_channels, 3, padding=1)

    def forward(
        self, maps: Float[Tensor, "n c r r"], style: Float[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n d r r"]:
        """Applies the network; the result is linear."""
        maps = maps.contiguous(memory_format=torch.channels_last)
        features, passed = self.stem(maps), []
        for block in self.down:
            passed.append(block(features))
            features = functional.avg_pool2d(passed[-1], 2)
        features = self.middle(features, style)
        for block, beside in zip(self.up, reversed(passed), strict=True):
            features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([features, beside], dim=1), style)
        fine = twice_as_large(functional.leaky_relu(self.to_fine(features), LEAK))
        fine = functional.leaky_relu(self.fine(torch.cat([fine, maps[:, : self.fine_inputs]], dim=1)), LEAK)
        if self.modulation is not None and style is not None:
            fine = self.modulation(fine, style)
        result: Tensor = self.head(fine)
        return result


def twice_as_large(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
    """Nearest neighbours, then the mean of 3x3: smooth, with a gradient that is deterministic on every device.

    What is shuffled from channels into pixels instead carries a pattern of two pixels' period, which a critic that
    begins with a strided convolution hardly sees.
    """
    large = functional.interpolate(features, scale_factor=2.0, mode="nearest")
    return functional.avg_pool2d(large, 3, stride=1, padding=1, count_include_pad=False)


def level_widths(image_size: int, base_channels: int) -> list[int]:
    """Channels at half of the image's size and after every halving down to 4 pixels."""
    halvings = image_levels(image_size) - 1 - (COARSEST.bit_length() - 1)
    return [base_channels * min(2 ** max(0, level - 1), WIDEST) for level in range(halvings + 1)]
