"""Shape generator and critic: layout, ranges and symmetries."""

import pytest
import torch

from vonmodel.model import initialise_kaiming
from vonmodel.networks import ShapeCritic, ShapeGenerator


@pytest.mark.parametrize(
    ("resolution", "widths"),
    [(16, [16, 8]), (32, [16, 8, 4]), (64, [16, 8, 4, 2]), (128, [16, 8, 4, 2, 2]), (256, [16, 8, 4, 2, 2, 2])],
)
def test_widths_halve_down_to_the_base_and_the_critic_mirrors_them(resolution: int, widths: list[int]) -> None:
    with torch.device("meta"):
        generator, critic = ShapeGenerator(resolution, 5, 2), ShapeCritic(resolution, 2)
    assert [stage.conv.out_channels for stage in generator.stages] == widths
    assert [stage.out_channels for stage in critic.stages] == widths[::-1]


def test_shapes_are_probabilities_and_logits_are_halved() -> None:
    generator = ShapeGenerator(16, 5, 2).eval()
    logits = []
    generator.to_volume.register_forward_hook(lambda _, __, output: logits.append(output))
    volumes = generator(torch.randn(3, 5))
    assert 0.0 <= volumes.min() < volumes.max() <= 1.0
    torch.testing.assert_close(volumes, torch.sigmoid(logits[0] / 2.0))


def test_equal_codes_give_equal_shapes_and_others_do_not() -> None:
    generator = ShapeGenerator(16, 5, 2).eval()
    code = torch.randn(1, 5)
    volumes = generator(torch.cat([code, code, -code]))
    torch.testing.assert_close(volumes[0], volumes[1])
    assert (volumes[0] - volumes[2]).abs().max() > 1e-4


def test_the_critic_is_homogeneous() -> None:
    # No bias and no normalisation: twice the volume has twice the score.
    critic, volume = ShapeCritic(16, 2).double(), torch.rand(2, 1, 16, 16, 16, dtype=torch.float64)
    initialise_kaiming(critic, torch.Generator().manual_seed(0))
    torch.testing.assert_close(critic(2.0 * volume), 2.0 * critic(volume))


def test_batch_statistics_are_gathered_in_training_only() -> None:
    generator = ShapeGenerator(16, 5, 2)
    before = generator.stages[0].norm.running_mean.clone()
    generator.eval()(torch.randn(4, 5))
    assert torch.equal(generator.stages[0].norm.running_mean, before)
    generator.train()(torch.randn(4, 5))
    assert not torch.equal(generator.stages[0].norm.running_mean, before)
