"""Texture generator and encoders: ranges, and what depends on the code."""

import pytest
import torch

from vonmodel.model import initialise_kaiming
from vonmodel.networks import SketchEncoder, TextureEncoder, TextureGenerator, sample_code


@pytest.fixture
def painter() -> TextureGenerator:
    network = TextureGenerator(32, code_size=3, base_channels=4)
    initialise_kaiming(network, torch.Generator().manual_seed(0))
    return network


def test_pictures_and_depths_stay_in_range(painter: TextureGenerator) -> None:
    images = painter(100.0 * torch.randn(2, 1, 32, 32), 100.0 * torch.randn(2, 3))
    depths = SketchEncoder(32, 4)(100.0 * torch.randn(2, 3, 32, 32))
    assert images.abs().max() <= 1.0
    assert depths.abs().max() <= 1.0


def test_each_number_of_the_code_changes_the_picture(painter: TextureGenerator) -> None:
    depth, code = torch.rand(1, 1, 32, 32), torch.zeros(1, 3)
    plain = painter(depth, code)
    for i in range(3):
        changed = painter(depth, code + torch.eye(3)[[i]])
        assert (changed - plain).abs().max() > 1e-3


def test_the_code_enters_at_three_places(painter: TextureGenerator) -> None:
    widths = {
        painter.residual[0].first: 16 + 3,
        painter.up[0].block: 16 + 3,
        painter.up[1].block: 8 + 3,
        painter.to_image: 4 + 3,
    }
    for block, expected in widths.items():
        assert block.conv.in_channels == expected
    # Blind to the code at the first place, the network still sees it at the two others.
    with torch.no_grad():
        for block in painter.residual:
            block.first.conv.weight[:, 16:] = 0.0
        painter.up[0].block.conv.weight[:, 16:] = 0.0
    depth = torch.rand(1, 1, 32, 32)
    for silenced in (painter.up[1].block, painter.to_image):
        assert not torch.equal(painter(depth, torch.zeros(1, 3)), painter(depth, torch.ones(1, 3)))
        with torch.no_grad():
            silenced.conv.weight[:, -3:] = 0.0
    assert torch.equal(painter(depth, torch.zeros(1, 3)), painter(depth, torch.ones(1, 3)))


def test_the_texture_encoder_halves_down_to_sixteen_pixels_with_at_most_four_times_the_width() -> None:
    for size, convolutions in ((32, 2), (64, 2), (128, 3), (256, 4)):
        down = TextureEncoder(size, base_channels=2).down
        assert len(down) == convolutions
        assert down[-1].conv.out_channels == 8


def test_sampled_codes_have_the_encoder_s_mean_and_variance() -> None:
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    noise = torch.randn(20000, 2, generator=torch.Generator().manual_seed(0))
    codes = sample_code(mean.expand(20000, 2), log_variance.expand(20000, 2), noise)
    torch.testing.assert_close(codes.mean(0), mean[0], rtol=0, atol=0.06)
    torch.testing.assert_close(codes.var(0).log(), log_variance[0], rtol=0, atol=0.06)


def test_sampled_codes_carry_gradients_to_mean_and_variance() -> None:
    mean, log_variance = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    sample_code(mean, log_variance, torch.tensor([[2.0, -4.0]])).sum().backward()
    assert mean.grad is not None
    assert log_variance.grad is not None
    assert mean.grad.tolist() == [[1.0, 1.0]]
    assert log_variance.grad.tolist() == [[1.0, -2.0]]
