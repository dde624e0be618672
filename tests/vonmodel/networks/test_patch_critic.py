"""The patch critic looks at places alike and at two scales."""

import torch

from vonmodel.model import initialise_kaiming
from vonmodel.networks import PatchCritic


def critic(in_channels: int = 1, image_size: int = 128) -> PatchCritic:
    network = PatchCritic(in_channels, image_size, base_channels=4).double()
    initialise_kaiming(network, torch.Generator().manual_seed(0))
    return network.eval()


def test_shifting_the_image_shifts_the_scores() -> None:
    network, blob = critic(), torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    image, shifted = torch.zeros(2, 1, 1, 128, 128, dtype=torch.float64)
    image[..., 48:64, 48:64] = blob
    shifted[..., 56:72, 40:56] = blob  # 8 pixels down, 8 to the left
    for scale, (here, there) in enumerate(zip(network(image), network(shifted), strict=True)):
        pixels = 8 // (4 if scale == 0 else 8)  # strides up to the scores: 4, and twice that after averaging
        inner = slice(4, -4)
        moved = there.roll((-pixels, pixels), dims=(2, 3))[..., inner, inner]
        assert moved.std() > 0.01
        torch.testing.assert_close(moved, here[..., inner, inner], rtol=1e-6, atol=1e-6)


def test_the_second_scale_is_half_as_wide_and_sees_the_average() -> None:
    network = critic(in_channels=3)
    assert [each.shape[0] for each in network.scales[0].parameters()][::2] == [4, 8, 16, 1]
    assert [each.shape[0] for each in network.scales[1].parameters()][::2] == [2, 4, 8, 1]
    # A checkerboard of single pixels averages out inside: the second scale sees nothing but the border.
    checkers = torch.ones(1, 3, 128, 128, dtype=torch.float64)
    checkers[..., ::2, 1::2] = checkers[..., 1::2, ::2] = -1.0
    fine, coarse = network(checkers), network(torch.zeros_like(checkers))
    assert (fine[0] - coarse[0]).abs().max() > 0.1
    inside = slice(6, -6)
    assert fine[1][..., inside, inside].std() < 0.2 * fine[0].std()


def test_pixels_outside_do_not_darken_the_average() -> None:
    network = critic()
    constant = torch.full((1, 1, 128, 128), 0.7, dtype=torch.float64)
    seen = []
    network.scales[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(constant)
    torch.testing.assert_close(seen[0], torch.full((1, 1, 64, 64), 0.7, dtype=torch.float64))
