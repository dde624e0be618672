"""The networks of VON put together: from codes and viewpoints to shapes, sketches and images."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.config import ModelConfig
from vonmodel.networks import (
    PatchCritic,
    ShapeCritic,
    ShapeGenerator,
    SketchEncoder,
    TextureEncoder,
    TextureGenerator,
)
from vonmodel.networks.initialisation import initialise_kaiming
from vonmodel.projection import DepthRange, FramedSketch, distance_to_opacity, frame_sketch, project
from vonmodel.seeding import torch_generator

GENERATORS = ("shape_generator", "texture_generator", "sketch_encoder", "texture_encoder")


class VonModel(nn.Module):
    """All networks of one class.

    Attributes:
        config: sizes and representation.
        shape_generator: shape code -> volume.
        shape_critic: volume -> score.
        texture_generator: normalised depth and texture code -> image.
        sketch_encoder: image -> normalised depth.
        texture_encoder: image -> mean and log variance of its texture code.
        image_critic: image -> patch scores.
        sketch_critic: normalised depth -> patch scores.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size, width = config.image_size, config.texture_base_channels
        self.shape_generator = ShapeGenerator(
            config.resolution, code_size=config.shape_code_size, base_channels=config.shape_base_channels
        )
        self.shape_critic = ShapeCritic(config.resolution, base_channels=config.shape_base_channels)
        self.texture_generator = TextureGenerator(size, code_size=config.texture_code_size, base_channels=width)
        self.sketch_encoder = SketchEncoder(size, base_channels=width)
        self.texture_encoder = TextureEncoder(size, code_size=config.texture_code_size, base_channels=width)
        self.image_critic = PatchCritic(3, size, base_channels=width)
        self.sketch_critic = PatchCritic(1, size, base_channels=width)

    def generate_shapes(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n 1 r r r"]:
        """Volumes of shape codes, in the model's representation, [0, 1]."""
        volumes: Tensor = self.shape_generator(codes)
        return volumes

    def opacity(self, volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n 1 r r r"]:
        """What of a volume in the model's representation stops light, in [0, 1]."""
        if self.config.representation == "occupancy":
            return volumes
        return distance_to_opacity(volumes, threshold=opaque_above(self.config.resolution))

    def sketch(
        self,
        volumes: Float[Tensor, "n 1 r r r"],
        rotations: Float[Tensor, "n 3 3"],
        *,
        depth_range: DepthRange | None = None,
        everywhere: bool = False,
    ) -> FramedSketch:
        """The framed 2.5D sketches of volumes at the model's image size.

        Args:
            volumes: in the model's representation, [0, 1].
            rotations: from the camera's frame to the object's, see `geometry.viewpoint_rotation`.
            depth_range: what shares one range of depth; the model's own choice where None.
            everywhere: a batch is that of all processes that train together; all must call this.
        """
        config = self.config
        seen = project(self.opacity(volumes), rotations, image_size=config.image_size, resampled=config.resampled)
        return frame_sketch(seen, depth_range=depth_range or config.depth_range, everywhere=everywhere)

    def paint(self, framed: FramedSketch, texture_codes: Float[Tensor, "n code"]) -> Float[Tensor, "n 3 size size"]:
        """Images of framed sketches in these textures, in [-1, 1], composed on white by the silhouette."""
        return on_background(self.texture_generator(framed.normalized_depth, texture_codes), framed.silhouette, 1.0)


def build_model(config: ModelConfig, seed: int) -> VonModel:
    """A model whose initial weights are a function of the seed."""
    model = VonModel(config)
    initialise_kaiming(model, torch_generator(seed, "initial weights"))
    return model


def arrange_channels_last(model: VonModel) -> None:
    """Stores the weights of convolutions channels-last, which a CPU convolves a fifth faster; no value changes."""
    for weight in model.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        elif weight.dim() == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)


def on_background(
    image: Float[Tensor, "n c h w"], mask: Float[Tensor, "n 1 h w"], background: float
) -> Float[Tensor, "n c h w"]:
    """The image where the mask is 1, the background's value where it is 0."""
    return mask * image + (1.0 - mask) * background


def opaque_above(resolution: int) -> float:
    """Smallest value exp(-8 d) of a distance-function volume that stops light.

    The published 0.9 (d < 0.013 cube edges) is a shell of 1.7 voxels at 128^3. On a coarser grid it would be thinner
    than the spacing and thin parts would vanish between voxels, so the shell is never thinner than half the diagonal
    of a voxel: a grid point lies in it wherever the surface crosses a cell.
    """
    return min(0.9, math.exp(-8.0 * 0.5 * math.sqrt(3.0) / (resolution - 1)))
