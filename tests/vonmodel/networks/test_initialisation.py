"""Initial weights: their distribution, and that they depend only on the generator."""

import math

import pytest
import torch
from torch import nn

from vonmodel.model import initialise_kaiming
from vonmodel.networks import PatchCritic, ShapeCritic, ShapeGenerator, TextureEncoder, TextureGenerator
from vonmodel.networks.blocks import WholeSampleNorm


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def convolutions(network: nn.Module) -> list[nn.Module]:
    return [
        each for each in network.modules() if isinstance(each, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d | nn.Linear)
    ]


@pytest.mark.parametrize("network", [ShapeGenerator(32, 64, 8), ShapeCritic(32, 8), TextureGenerator(32, 8, 16)])
def test_kaiming_deviations_follow_the_fan_in(network: nn.Module) -> None:
    initialise_kaiming(network, seeded(0))
    large = [each for each in convolutions(network) if each.weight.numel() > 4000]
    assert len(large) >= 3
    for each in large:
        expected = math.sqrt(2.0 / nn.init._calculate_fan_in_and_fan_out(each.weight)[0])
        assert each.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert abs(each.weight.mean().item()) < 4.0 * expected / math.sqrt(each.weight.numel())


def test_kaiming_keeps_the_power_of_a_critic_s_signal() -> None:
    critic = ShapeCritic(64, 8)
    initialise_kaiming(critic, seeded(0))
    scores = critic(torch.randn(8, 1, 64, 64, 64, generator=seeded(1)))
    assert 0.3 < scores.square().mean().sqrt() < 5.0


def test_only_the_generator_decides() -> None:
    torch.manual_seed(1)
    first, second, other = (TextureGenerator(32, 3, 2) for _ in range(3))
    before = torch.get_rng_state()
    initialise_kaiming(first, seeded(3))
    initialise_kaiming(second, seeded(3))
    initialise_kaiming(other, seeded(4))
    assert torch.equal(torch.get_rng_state(), before)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.to_image.conv.weight, other.to_image.conv.weight)


def test_biases_norms_and_running_statistics_start_neutral() -> None:
    generator, painter = ShapeGenerator(16, 5, 2), TextureGenerator(32, 3, 16)
    generator(torch.randn(4, 5))  # moves the running statistics
    for network in (generator, painter, TextureEncoder(32, 3, 2), PatchCritic(1, 32, 2)):
        initialise_kaiming(network, seeded(0))
        assert all((each.bias == 0).all() for each in convolutions(network) if each.bias is not None)
    for stage in generator.stages:
        assert (stage.norm.weight == 1).all()
        assert (stage.norm.running_mean == 0).all()
        assert (stage.norm.running_var == 1).all()
    gains = torch.cat([each.gamma for each in painter.modules() if isinstance(each, WholeSampleNorm)])
    assert 0.0 <= gains.min() < 0.2
    assert 0.8 < gains.max() <= 1.0
