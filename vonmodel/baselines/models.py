"""Baseline GANs: networks of DCGAN and 3D-GAN, and objective and optimiser of each as in its paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.config import ModelConfig, StageName
from vonmodel.networks import ShapeGenerator
from vonmodel.networks.blocks import image_levels, shape_levels, shape_width
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
    """DCGAN's discriminator: an image to an unbounded score; the generator's layers in reverse.

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
    """3D-GAN's discriminator: a volume to an unbounded score.

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
    """A baseline with DCGAN's initial weights: normal with standard deviation 0.02, batch-norm gains around 1."""
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


BaselineName = Literal["dcgan", "lsgan", "wgan-gp", "3dgan"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
Objective = Literal["cross_entropy", "least_squares", "wasserstein"]


@dataclass(frozen=True)
class BaselineConfig:
    """A baseline.

    Attributes:
        title: the name as papers write it.
        draws: what it generates, images or shapes.
        objective: the losses of generator and critic.
        generator_rate: Adam's step size for the generator.
        critic_rate: Adam's step size for the critic.
        betas: Adam's decays.
        critic_steps: updates of the critic for each of the generator.
        gradient_penalty: weight of WGAN-GP's gradient penalty; 0 for none.
        normalised_critic: batch norm in the critic; excluded by a gradient penalty, which is defined per sample.
        code_size: length of a code.
        accuracy_limit: the critic is updated only while it classifies at most this share of a batch correctly.
    """

    title: str
    draws: Literal["images", "shapes"]
    objective: Objective
    generator_rate: float = 2e-4
    critic_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    critic_steps: int = 1
    gradient_penalty: float = 0.0
    normalised_critic: bool = True
    code_size: int = 100
    accuracy_limit: float = 1.0

    @property
    def stage(self) -> StageName:
        """The stage of the model that is trained on the same data."""
        return "texture" if self.draws == "images" else "shape"


CONFIGS: Mapping[BaselineName, BaselineConfig] = {
    # Radford, Metz, Chintala 2016.
    "dcgan": BaselineConfig("DCGAN", "images", "cross_entropy"),
    # Mao et al. 2017, with DCGAN's networks and optimiser.
    "lsgan": BaselineConfig("LSGAN", "images", "least_squares"),
    # Gulrajani et al. 2017.
    "wgan-gp": BaselineConfig(
        "WGAN-GP",
        "images",
        "wasserstein",
        generator_rate=1e-4,
        critic_rate=1e-4,
        betas=(0.5, 0.9),
        critic_steps=5,
        gradient_penalty=10.0,
        normalised_critic=False,
    ),
    # Wu et al. 2016.
    "3dgan": BaselineConfig(
        "3D-GAN",
        "shapes",
        "cross_entropy",
        generator_rate=2.5e-3,
        critic_rate=1e-5,
        code_size=200,
        accuracy_limit=0.8,
    ),
}
