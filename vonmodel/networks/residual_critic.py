"""Residual critic: one score for an image with its mask, without normalisation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.networks.residual import COARSEST, Pyramid


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
