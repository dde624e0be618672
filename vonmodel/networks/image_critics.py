"""Critics of images: patches at two scales (published), or one score for an image with its mask."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.networks.blocks import COARSEST, Pyramid, image_levels

LEAK = 0.2


class PatchCritic(nn.Module):
    """Judges patches as real or generated, D_image and D_2.5D in the paper.

    The second scale sees the input averaged to half its size and is half as wide.

    Args:
        in_channels: 3 for images, 1 for normalised depth.
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        base_channels: channels after the first convolution of the first scale; at least 2.
    """

    def __init__(self, in_channels: int, image_size: int, base_channels: int = 64) -> None:
        super().__init__()
        halvings = image_levels(image_size) - 5
        self.in_channels, self.image_size, self.base_channels = in_channels, image_size, base_channels
        self.scales = nn.ModuleList(
            PatchScale(in_channels, width, halvings) for width in (base_channels, round(base_channels / 2))
        )

    def forward(self, image: Float[Tensor, "n c r r"]) -> list[Float[Tensor, "n 1 _ _"]]:
        """Scores of the patches, fine scale first: 1 means real, 0 generated, unbounded."""
        coarse = functional.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
        return [scale(view) for scale, view in zip(self.scales, (image, coarse), strict=True)]


class PatchScale(nn.Module):
    """One scale of the patch critic: strided 4x4 convolutions, then two of stride 1, instance norm inside."""

    def __init__(self, in_channels: int, base_channels: int, halvings: int) -> None:
        super().__init__()
        strided = [base_channels * min(2**level, 8) for level in range(max(1, halvings))]
        widths = [in_channels, *strided, base_channels * min(2**halvings, 8), 1]
        strides = [2] * len(strided) + [1, 1]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride, padding=1)
            for (before, after), stride in zip(pairwise(widths), strides, strict=True)
        )

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 p q"]:
        """Scores of all patches."""
        first, *inner, head = self.convolutions
        features = functional.leaky_relu(first(image), LEAK, inplace=True)
        for convolution in inner:
            features = functional.leaky_relu(functional.instance_norm(convolution(features)), LEAK, inplace=True)
        scores: Tensor = head(features)
        return scores


class ResidualCritic(nn.Module):
    """Judges whole images, in place of `PatchCritic`.

    Nothing is normalised: instance norm hides colour and contrast from a critic, and a batch norm would make the
    score of a sample depend on others. One score a sample is what pairs are compared by.

    Args:
        in_channels: 4 for images with masks.
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        base_channels: channels at half the size; four times as many in the end.
    """

    def __init__(self, in_channels: int, image_size: int, base_channels: int = 24) -> None:
        super().__init__()
        self.in_channels, self.image_size, self.base_channels = in_channels, image_size, base_channels
        self.body = Pyramid(in_channels, image_size, base_channels)
        self.head = nn.Linear(self.body.out_channels * COARSEST**2, 1)

    def forward(self, image: Float[Tensor, "n c r r"]) -> Float[Tensor, " n"]:
        """Scores of a batch, unbounded: higher for what looks real."""
        scores: Tensor = self.head(self.body(image).flatten(1))
        return scores.squeeze(1)
