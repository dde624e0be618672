"""Sketch encoder: an image to its normalised depth."""

from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.networks.blocks import ContentEncoder, ConvBlock, ResidualBlock, UpBlock
from vonmodel.networks.sizes import image_levels


class SketchEncoder(nn.Module):
    """Reads a 2.5D sketch off an image, E_2.5D in the paper: x_2D -> v_2.5D.

    Args:
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        base_channels: channels at full size; four times as many at the bottleneck.
    """

    def __init__(self, image_size: int, base_channels: int = 64) -> None:
        super().__init__()
        residual_blocks = image_levels(image_size) - 4
        self.image_size, self.base_channels = image_size, base_channels
        self.encoder = ContentEncoder(3, base_channels, residual_blocks)
        wide = self.encoder.out_channels
        self.residual = nn.Sequential(*(ResidualBlock(wide) for _ in range(residual_blocks)))
        self.up = nn.Sequential(UpBlock(wide, 2 * base_channels), UpBlock(2 * base_channels, base_channels))
        self.to_depth = ConvBlock(base_channels, 1, 7, activation=nn.Tanh())

    def forward(self, image: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 1 r r"]:
        """Estimates the sketches of a batch of images.

        Args:
            image: colours in [-1, 1], the object on white.

        Returns:
            Normalised depth in [-1, 1], near 1, also where there is no object: compose it with the mask.
        """
        depth: Tensor = self.to_depth(self.up(self.residual(self.encoder(image))))
        return depth
