"""Texture generator: a normalised depth image and a texture code to an image."""

from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.networks.blocks import ContentEncoder, ConvBlock, ResidualBlock, UpBlock, append_code
from vonmodel.networks.sizes import image_levels


class TextureGenerator(nn.Module):
    """Paints a 2.5D sketch, G_texture in the paper: (v_2.5D, z_texture) -> x_2D.

    The code enters three times: before the residual blocks behind the bottleneck, which carry its channels through,
    before the second upsampling and before the output convolution.

    Args:
        image_size: pixels on a side; one of `sizes.IMAGE_SIZES`.
        code_size: numbers in a texture code.
        base_channels: channels at full size; four times as many at the bottleneck.
    """

    def __init__(self, image_size: int, code_size: int = 8, base_channels: int = 64) -> None:
        super().__init__()
        residual_blocks = image_levels(image_size) - 4
        self.image_size, self.code_size, self.base_channels = image_size, code_size, base_channels
        self.encoder = ContentEncoder(1, base_channels, residual_blocks)
        wide = self.encoder.out_channels
        self.residual = nn.Sequential(*(ResidualBlock(wide, code_size) for _ in range(residual_blocks)))
        self.up = nn.ModuleList(
            [
                UpBlock(wide + code_size, 2 * base_channels),
                UpBlock(2 * base_channels + code_size, base_channels),
            ]
        )
        self.to_image = ConvBlock(base_channels + code_size, 3, 7, activation=nn.Tanh())

    def forward(
        self, normalized_depth: Float[Tensor, "n 1 r r"], texture_code: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n 3 r r"]:
        """Paints a batch of sketches.

        Args:
            normalized_depth: near 1, far and background -1.
            texture_code: standard normal codes.

        Returns:
            Colours in [-1, 1], also where the sketch is empty: compose them with its silhouette.
        """
        features: Tensor = self.residual(append_code(self.encoder(normalized_depth), texture_code))
        features = self.up[0](features)
        features = self.up[1](append_code(features, texture_code))
        image: Tensor = self.to_image(append_code(features, texture_code))
        return image
