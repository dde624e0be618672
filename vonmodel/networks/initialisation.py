"""First weights of the networks, drawn from a generator the caller seeds."""

import math

import torch
from torch import nn

from vonmodel.networks.blocks import ClassEmbedding, Modulation, PlainResidual, Pyramid, UNet, WholeSampleNorm
from vonmodel.networks.texture_networks import CodeRegressor, ResidualCritic

# What the published rule is multiplied by where nothing is normalised. Residual blocks begin near the identity and
# styles near no modulation; what no ReLU follows has the variance 1 / (3 fan-in) that PyTorch begins with. A critic
# that multiplies its input at every level begins so steep that it has won before the painter has learnt anything.
RESIDUAL_SHARE = 0.3 / math.sqrt(2.0)
MODULATION_SHARE = 0.3
LINEAR_SHARE = math.sqrt(1.0 / 6.0)


@torch.no_grad()
def initialise_kaiming(network: nn.Module, generator: torch.Generator) -> None:
    """Draws normal weights with variance 2 / fan-in, as the published training does for all seven networks.

    Fan-in is counted as the published code counts it, over the numbers in `weight[0]`; for transposed convolutions
    those are the output channels. Biases are 0, batch norm is the identity, gains of whole-sample normalisation are
    uniform in [0, 1]. Of the networks without normalisation the layers begin smaller, each as its place asks.

    Args:
        network: initialised in place, on any device.
        generator: the source of all random numbers; equal seeds give equal weights on every device.
    """
    for module in network.modules():
        match module:
            case nn.Conv2d() | nn.Conv3d() | nn.ConvTranspose3d() | nn.Linear():
                drawn = torch.randn(module.weight.shape, generator=generator, device=generator.device)
                module.weight.copy_(drawn * math.sqrt(2.0 / module.weight[0].numel()))
                if module.bias is not None:
                    module.bias.zero_()
            case WholeSampleNorm():
                gains = torch.rand(module.gamma.shape, generator=generator, device=generator.device)
                module.gamma.copy_(gains)
                module.beta.zero_()
            case ClassEmbedding():
                shape = module.vectors.shape
                module.vectors.copy_(torch.randn(shape, generator=generator, device=generator.device))
            case nn.BatchNorm3d():
                module.reset_running_stats()
                module.weight.fill_(1.0)
                module.bias.zero_()
    _begin_small(network)


def _begin_small(network: nn.Module) -> None:
    """Reduces the layers of networks without normalisation to what their places ask."""
    for module in network.modules():
        match module:
            case PlainResidual(shortcut=shortcut):
                module.second.weight.mul_(RESIDUAL_SHARE)
                if isinstance(shortcut, nn.Conv2d):
                    shortcut.weight.mul_(LINEAR_SHARE)
            case Modulation():
                module.linear.weight.mul_(MODULATION_SHARE)
            case Pyramid():
                module.stem.weight.mul_(LINEAR_SHARE)
            case UNet():
                module.stem.weight.mul_(LINEAR_SHARE)
                module.head.weight.mul_(LINEAR_SHARE)
            case ResidualCritic():
                module.head.weight.mul_(LINEAR_SHARE)
                if module.class_scores is not None:
                    for weight in module.class_scores.head.parameters():
                        weight.mul_(LINEAR_SHARE)
            case CodeRegressor():
                module.mean.weight.mul_(LINEAR_SHARE)
