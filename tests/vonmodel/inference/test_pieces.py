"""Loose pieces: found, measured, and removed without changing the others."""

import pytest
import torch
from torch import Tensor

from vonmodel.config import ModelConfig
from vonmodel.inference.rendering import largest_pieces, share_in_largest_piece
from vonmodel.representation import opacity, signed_volume


def boxes(*corners: tuple[int, int, int, int, int, int]) -> Tensor:
    """(1, 1, 16, 16, 16) with a box from each low to its high corner."""
    volume = torch.zeros(1, 1, 16, 16, 16)
    for x, y, z, to_x, to_y, to_z in corners:
        volume[0, 0, x:to_x, y:to_y, z:to_z] = 1.0
    return volume


LARGE, LOOSE = (0, 0, 0, 8, 8, 8), (12, 12, 12, 14, 14, 14)


def test_the_loose_piece_goes_and_the_largest_stays() -> None:
    assert torch.equal(largest_pieces(boxes(LARGE, LOOSE), 0.5), boxes(LARGE))


def test_pieces_that_share_a_corner_hang_together() -> None:
    touching = boxes(LARGE, (8, 8, 8, 9, 9, 9))
    assert largest_pieces(touching, 0.5) is not touching
    assert torch.equal(largest_pieces(touching, 0.5), touching)
    assert share_in_largest_piece(touching[0, 0], 0.5) == 1.0


def test_a_gap_of_two_voxels_is_bridged_and_a_wider_one_is_not() -> None:
    near, far = boxes(LARGE, (10, 0, 0, 12, 2, 2)), boxes(LARGE, (11, 0, 0, 13, 2, 2))
    assert torch.equal(largest_pieces(near, 0.5), near)
    assert torch.equal(largest_pieces(far, 0.5), boxes(LARGE))
    assert share_in_largest_piece(near[0, 0], 0.5) == pytest.approx(512 / 520)


def test_each_volume_of_a_batch_by_itself() -> None:
    batch = torch.cat([boxes(LARGE, LOOSE), boxes(LOOSE), torch.zeros(1, 1, 16, 16, 16)])
    expected = torch.cat([boxes(LARGE), boxes(LOOSE), torch.zeros(1, 1, 16, 16, 16)])
    assert torch.equal(largest_pieces(batch, 0.5), expected)


def test_the_share_of_the_largest_piece() -> None:
    assert share_in_largest_piece(boxes(LARGE, LOOSE)[0, 0], 0.5) == pytest.approx(512 / 520)
    assert share_in_largest_piece(torch.zeros(16, 16, 16), 0.5) == 0.0


def test_nothing_of_a_loose_piece_is_left_to_be_seen() -> None:
    config = ModelConfig(resolution=32, representation="signed")
    axis = torch.linspace(-0.5, 0.5, 32)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))

    def ball(x: float, radius: float) -> Tensor:
        centre = torch.tensor([x, 0.0, 0.0])[:, None, None, None]
        return (points - centre).square().sum(0).sqrt() - radius

    large, small = ball(-0.2, 0.2), ball(0.3, 0.08)
    both, alone = (signed_volume(each, config.band)[None, None] for each in (torch.minimum(large, small), large))
    cleaned = largest_pieces(both, 0.5)
    torch.testing.assert_close(opacity(config, cleaned), opacity(config, alone), atol=1e-3, rtol=0.0)
    # Of the largest piece even what surrounds it stays as it was.
    near = (large < 0.05)[None, None]
    assert torch.equal(cleaned[near], both[near])
