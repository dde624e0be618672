"""The networks of the baselines: DCGAN's in two dimensions, 3D-GAN's in three."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.baselines.configs import CONFIGS, BaselineName
from vonmodel.config import ModelConfig
from vonmodel.networks import ShapeGenerator
from vonmodel.networks.sizes import image_levels, shape_levels, shape_width
from vonmodel.seeding import torch_generator

_LEAK = 0.2
_DEVIATION = 0.02


class ImageGenerator(nn.Module):
    """DCGAN's generator: a code to an image, by transposed convolutions from 4x4 pixels on.

    Args:
        image_size: pixels along an edge.
        code_size: length of a code.
        base_channels: channels of the last layer but one; doubled at each coarser one, at most eight times as many.
    """

    def __init__(self, image_size: int, code_size: int, base_channels: int) -> None:
        super().__init__()
        widths = _image_widths(image_size, base_channels)[::-1]
        self.first = _growing(code_size, widths[0], stride=1, padding=0)
        self.stages = nn.Sequential(
            *(_growing(coarse, fine, stride=2, padding=1) for coarse, fine in pairwise(widths))
        )
        self.to_image = nn.ConvTranspose2d(widths[-1], 3, 4, stride=2, padding=1)

    def forward(self, codes: Float[Tensor, "n k"]) -> Float[Tensor, "n 3 size size"]:
        """Images of standard normal codes, in [-1, 1]."""
        image: Tensor = self.to_image(self.stages(self.first(codes[:, :, None, None])))
        return torch.tanh(image)


class ImageCritic(nn.Module):
    """DCGAN's discriminator: an image to a number, unbounded; the generator's mirror image.

    Args:
        image_size: pixels along an edge.
        base_channels: channels of the first layer.
        normalised: batch norm between the first and the last layer.
    """

    def __init__(self, image_size: int, base_channels: int, *, normalised: bool) -> None:
        super().__init__()
        widths = _image_widths(image_size, base_channels)
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(_LEAK, inplace=True)]
        for fine, coarse in pairwise(widths):
            layers.append(nn.Conv2d(fine, coarse, 4, stride=2, padding=1, bias=not normalised))
            layers += [nn.BatchNorm2d(coarse)] if normalised else []
            layers.append(nn.LeakyReLU(_LEAK, inplace=True))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4))

    def forward(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, " n"]:
        """Scores; larger is more real."""
        scores: Tensor = self.layers(images)
        return scores.flatten()


class VolumeCritic(nn.Module):
    """3D-GAN's discriminator: a volume to a number, unbounded.

    Args:
        resolution: voxels along an edge.
        base_channels: channels at the finest grids.
    """

    def __init__(self, resolution: int, base_channels: int) -> None:
        super().__init__()
        widths = [shape_width(level, base_channels) for level in reversed(range(shape_levels(resolution)))]
        layers: list[nn.Module] = [nn.Conv3d(1, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(_LEAK, inplace=True)]
        for fine, coarse in pairwise(widths):
            layers += [
                nn.Conv3d(fine, coarse, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm3d(coarse),
                nn.LeakyReLU(_LEAK, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv3d(widths[-1], 1, 4))

    def forward(self, volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, " n"]:
        """Scores; larger is more real."""
        scores: Tensor = self.layers(volumes)
        return scores.flatten()


class Baseline(nn.Module):
    """A generator and its critic.

    Attributes:
        generator: codes to images in [-1, 1], or to volumes in [0, 1].
        critic: images or volumes to scores (n,).
    """

    def __init__(self, name: BaselineName, config: ModelConfig) -> None:
        super().__init__()
        gan, size = CONFIGS[name], config.image_size
        self.generator: nn.Module
        self.critic: nn.Module
        if gan.draws == "images":
            self.generator = ImageGenerator(size, gan.code_size, config.texture_base_channels)
            self.critic = ImageCritic(size, config.texture_base_channels, normalised=gan.normalised_critic)
        else:
            width = config.shape_base_channels
            self.generator = ShapeGenerator(config.resolution, code_size=gan.code_size, base_channels=width)
            self.critic = VolumeCritic(config.resolution, width)


def build_baseline(name: BaselineName, config: ModelConfig, seed: int) -> Baseline:
    """A baseline with DCGAN's initial weights: normal with deviation 0.02, the gains of batch norm around 1."""
    model = Baseline(name, config)
    generator = torch_generator(seed, name, "initial weights")
    for module in model.modules():
        match module:
            case nn.Conv2d() | nn.ConvTranspose2d() | nn.Conv3d() | nn.ConvTranspose3d():
                _fill(module.weight, 0.0, generator)
                if module.bias is not None:
                    module.bias.data.zero_()
            case nn.BatchNorm2d() | nn.BatchNorm3d():
                _fill(module.weight, 1.0, generator)
                module.bias.data.zero_()
    return model


def _fill(weight: Tensor, mean: float, generator: torch.Generator) -> None:
    weight.data.copy_(mean + _DEVIATION * torch.randn(weight.shape, generator=generator))


def _image_widths(image_size: int, base_channels: int) -> list[int]:
    """Channels from half the image size down to 4 pixels."""
    return [base_channels * min(8, 2**level) for level in range(image_levels(image_size) - 2)]


def _growing(in_channels: int, out_channels: int, *, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 4, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
