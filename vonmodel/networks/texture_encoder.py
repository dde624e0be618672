"""Texture encoder: an image to the distribution of its texture code."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.networks.blocks import ConvBlock
from vonmodel.networks.sizes import image_levels


class TextureEncoder(nn.Module):
    """Reads a texture code off an image, E_texture in the paper: x_2D -> (mean, log variance) of z_texture.

    Args:
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        code_size: numbers in a texture code.
        base_channels: channels at full size; four times as many in the end.
    """

    def __init__(self, image_size: int, code_size: int = 8, base_channels: int = 64) -> None:
        super().__init__()
        self.image_size, self.code_size, self.base_channels = image_size, code_size, base_channels
        halvings = max(2, image_levels(image_size) - 4)
        widths = [base_channels * min(2**level, 4) for level in range(halvings + 1)]
        self.stem = ConvBlock(3, base_channels, 7, activation=nn.ReLU(inplace=True))
        self.down = nn.Sequential(
            *(
                ConvBlock(fine, coarse, 4, stride=2, activation=nn.ReLU(inplace=True))
                for fine, coarse in pairwise(widths)
            )
        )
        self.mean = nn.Linear(widths[-1], code_size)
        self.log_variance = nn.Linear(widths[-1], code_size)

    def forward(self, image: Float[Tensor, "n 3 r r"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """Encodes a batch of images, colours in [-1, 1] on white.

        Returns:
            Mean and logarithm of the variance of each number of the code.
        """
        pooled = self.down(self.stem(image)).mean(dim=(2, 3))
        return self.mean(pooled), self.log_variance(pooled)


def sample_texture_code(
    mean: Float[Tensor, "n k"], log_variance: Float[Tensor, "n k"], noise: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """Draws codes that mean and variance get gradients through: mean + exp(log_variance / 2) noise.

    Args:
        mean: means of the encoder.
        log_variance: logarithms of its variances.
        noise: standard normal numbers.
    """
    return mean + torch.exp(0.5 * log_variance) * noise
