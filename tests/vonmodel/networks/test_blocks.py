"""The parts networks on images are built of."""

import torch
from torch import nn

from vonmodel.networks.blocks import ContentEncoder, ConvBlock, ResidualBlock, UpBlock, append_code


def test_padding_reflects_without_repeating_the_border() -> None:
    block = ConvBlock(1, 1, 3)
    with torch.no_grad():
        block.conv.weight.zero_()[0, 0, 1, 0] = 1.0  # the left neighbour
        block.conv.bias.zero_()
    row = torch.arange(4.0).expand(1, 1, 4, 4)
    assert block(row)[0, 0, 2].tolist() == [1.0, 0.0, 1.0, 2.0]


def test_strided_blocks_halve_and_others_keep_the_size() -> None:
    image = torch.zeros(1, 2, 16, 16)
    for kernel_size in (3, 5, 7):
        assert ConvBlock(2, 3, kernel_size)(image).shape == (1, 3, 16, 16)
    assert ConvBlock(2, 3, 4, stride=2)(image).shape == (1, 3, 8, 8)
    assert UpBlock(2, 3)(image).shape == (1, 3, 32, 32)


def test_a_residual_block_without_weights_is_the_identity() -> None:
    block = ResidualBlock(4, code_size=2)
    with torch.no_grad():
        for weight in block.parameters():
            weight.zero_()
    features = torch.randn(2, 6, 8, 8)
    assert torch.equal(block(features), features)


def test_a_residual_block_narrows_to_the_channels_without_the_code() -> None:
    block = ResidualBlock(4, code_size=2)
    assert block.first.conv.weight.shape[:2] == (4, 6)
    assert block.second.conv.weight.shape[:2] == (6, 4)


def test_the_content_encoder_quarters_the_size_and_has_four_times_the_channels() -> None:
    encoder = ContentEncoder(3, 5, residual_blocks=2)
    assert encoder(torch.zeros(1, 3, 32, 32)).shape == (1, 20, 8, 8)
    assert encoder.out_channels == 20


def test_a_code_is_appended_as_constant_channels_in_the_features_dtype() -> None:
    code = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    features = torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16)
    joined = append_code(features, code)
    assert joined.dtype == torch.bfloat16
    assert torch.equal(joined[:, :3], features)
    assert torch.equal(joined[:, 3:], code.to(torch.bfloat16)[:, :, None, None].expand(2, 2, 4, 4))


def test_normalisation_and_activation_are_optional() -> None:
    assert isinstance(ConvBlock(1, 1, 3).norm, nn.Identity)
    assert isinstance(ConvBlock(1, 1, 3).activation, nn.Identity)
