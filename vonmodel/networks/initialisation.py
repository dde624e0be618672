"""First weights of the networks, drawn from a generator the caller seeds."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .normalisation import WholeSampleNorm


def initialise_kaiming(network: nn.Module, generator: torch.Generator) -> None:
    """Draws normal weights with variance 2 / fan-in, as the published training does for all seven networks.

    Fan-in is counted as the published code counts it, over the numbers in `weight[0]`; for transposed convolutions
    those are the output channels.

    Args:
        network: initialised in place, on any device.
        generator: the source of all random numbers; equal seeds give equal weights on every device.
    """
    _initialise(network, generator, lambda weight: math.sqrt(2.0 / weight[0].numel()))


def initialise_normal(network: nn.Module, generator: torch.Generator, deviation: float = 0.02) -> None:
    """Draws normal weights with one standard deviation everywhere, as DCGAN and 3D-GAN do.

    Args:
        network: initialised in place, on any device.
        generator: the source of all random numbers; equal seeds give equal weights on every device.
        deviation: standard deviation of the weights.
    """
    _initialise(network, generator, lambda _: deviation)


@torch.no_grad()
def _initialise(network: nn.Module, generator: torch.Generator, deviation: Callable[[Tensor], float]) -> None:
    """Weights normal, biases 0; batch norm the identity; gains of whole-sample normalisation uniform in [0, 1]."""
    for module in network.modules():
        match module:
            case nn.Conv2d() | nn.Conv3d() | nn.ConvTranspose3d() | nn.Linear():
                drawn = torch.randn(module.weight.shape, generator=generator, device=generator.device)
                module.weight.copy_(drawn * deviation(module.weight))
                if module.bias is not None:
                    module.bias.zero_()
            case WholeSampleNorm():
                gains = torch.rand(module.gamma.shape, generator=generator, device=generator.device)
                module.gamma.copy_(gains)
                module.beta.zero_()
            case nn.BatchNorm3d():
                module.reset_running_stats()
                module.weight.fill_(1.0)
                module.bias.zero_()
