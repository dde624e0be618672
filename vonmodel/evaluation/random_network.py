"""A small network with fixed random weights: image features where no trained ones can be had.

Its distances order pictures sensibly (blur, noise, missing parts, wrong proportions and too little variety all cost)
and are the same on every machine, but have no relation to published FID values.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

INPUT_SIZE = 64
WIDTH = 24
FEATURES = 3 * WIDTH + 4 * WIDTH
SEED = 20151205


class RandomNetwork(nn.Module):
    """Four convolutions with maximum pools; the features are the mean responses of each.

    The first three are averaged over the whole picture and tell textures apart, the last one over its four quarters
    and tells where things are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(3, WIDTH, 5, padding=2, bias=False),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            ]
        )
        fill_uniform(self, SEED)

    def forward(self, images: Float[Tensor, "n 3 64 64"]) -> Float[Tensor, "n 168"]:
        """Features of images with values in [-1, 1]."""
        features = []
        x = images
        for convolution in self.convolutions:
            x = functional.relu(convolution(x))
            cells = 2 if convolution is self.convolutions[-1] else 1
            features.append(functional.adaptive_avg_pool2d(x, cells).flatten(1))
            x = functional.max_pool2d(x, 2)
        return torch.cat(features, dim=1)


@torch.no_grad()
def fill_uniform(module: nn.Module, seed: int) -> None:
    """Fills every parameter with uniform numbers of variance 2 / fan-in, in the order of their names.

    The numbers are PCG64's raw integers turned into floats by exact arithmetic, so they depend neither on the machine
    nor on the version of a library.
    """
    generator = np.random.PCG64(seed)
    for _, parameter in sorted(module.named_parameters()):
        fan_in = max(1, math.prod(parameter.shape[1:]))
        unit = (generator.random_raw(parameter.numel()) >> np.uint64(11)) * 2.0**-53
        values = (2 * unit - 1) * math.sqrt(6 / fan_in)
        parameter.copy_(torch.from_numpy(values).view(parameter.shape))
