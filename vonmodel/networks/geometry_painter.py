"""Geometry painter: what a sketch shows of a surface, and a texture code, to an image."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.networks.blocks import append_code
from vonmodel.networks.residual import LEAK, UNet

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
