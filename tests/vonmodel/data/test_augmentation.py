"""Augmentation of photos: ranges, invariants, and the azimuth of mirrored photos."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.config import DataConfig
from vonmodel.data.datasets import Photo
from vonmodel.data.loader import augment, shift, turn_hue

STILL = DataConfig(hue_jitter=0.0, shift_px=0, mirror=True)


def photo() -> Photo:
    generator = torch.Generator().manual_seed(0)
    return Photo(
        torch.rand(3, 8, 8, generator=generator) * 2 - 1, torch.rand(1, 8, 8, generator=generator), (0.5, 0.2)
    )


def varied(data: DataConfig, count: int = 20, *, mirror_symmetry: bool = True) -> list[Photo]:
    rng = np.random.default_rng(0)
    return [augment(photo(), data, rng, mirror_symmetry=mirror_symmetry) for _ in range(count)]


def test_a_mirrored_photo_of_a_symmetric_class_is_seen_from_the_other_side() -> None:
    original, seen = photo(), {False: 0, True: 0}
    for each in varied(STILL):
        mirrored = each.viewpoint == (-0.5, 0.2)
        seen[mirrored] += 1
        assert torch.equal(each.image, original.image.flip(-1) if mirrored else original.image)
        assert torch.equal(each.mask, original.mask.flip(-1) if mirrored else original.mask)
    assert min(seen.values()) >= 5


def test_photos_of_other_classes_are_never_mirrored() -> None:
    # The published code mirrors them and negates the azimuth, which shows another object from a wrong viewpoint.
    original = photo()
    for each in varied(STILL, mirror_symmetry=False):
        assert torch.equal(each.image, original.image)
        assert each.viewpoint == original.viewpoint


def test_mirroring_can_be_turned_off_and_unknown_viewpoints_stay_unknown() -> None:
    assert all(each.viewpoint == (0.5, 0.2) for each in varied(dataclasses.replace(STILL, mirror=False)))
    unknown = dataclasses.replace(photo(), viewpoint=None)
    assert augment(unknown, STILL, np.random.default_rng(1), mirror_symmetry=True).viewpoint is None


def test_the_draws_do_not_depend_on_the_class() -> None:
    data = DataConfig()
    symmetric, other = varied(data), varied(data, mirror_symmetry=False)
    for one, two in zip(symmetric, other, strict=True):
        assert torch.equal(one.image if one.viewpoint == (0.5, 0.2) else one.image.flip(-1), two.image)


def test_image_and_mask_shift_together() -> None:
    marked = Photo(torch.ones(3, 8, 8), torch.zeros(1, 8, 8), None)
    marked.image[:, 4, 4], marked.mask[:, 4, 4] = -1.0, 1.0
    rng, places = np.random.default_rng(0), set()
    for _ in range(60):
        moved = augment(marked, DataConfig(hue_jitter=0, shift_px=2, mirror=False), rng, mirror_symmetry=True)
        assert torch.equal((1 - moved.image[:1]) / 2, moved.mask)
        places.add(tuple(moved.mask[0].nonzero()[0].tolist()))
    assert places <= {(4 + down, 4 + right) for down in range(-2, 3) for right in range(-2, 3)}
    assert len(places) > 15


def test_what_comes_in_at_the_edge() -> None:
    image = torch.arange(9.0).view(1, 3, 3)
    assert shift(image, 1, -1, fill=9.0).tolist() == [[[9, 9, 9], [1, 2, 9], [4, 5, 9]]]
    assert shift(image, 0, 0, fill=9.0).tolist() == image.tolist()


@given(turn=st.floats(-0.5, 0.5), grey=st.floats(-1, 1))
def test_greys_have_no_hue(turn: float, grey: float) -> None:
    image = torch.full((3, 2, 2), grey)
    torch.testing.assert_close(turn_hue(image, turn), image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("thirds", [1, 2])
def test_a_third_of_the_circle_permutes_the_channels(thirds: int) -> None:
    image = photo().image
    torch.testing.assert_close(turn_hue(image, thirds / 3), image.roll(thirds, dims=0), atol=1e-6, rtol=0)


def test_turning_back_and_staying_inside() -> None:
    image = 0.3 * photo().image
    torch.testing.assert_close(turn_hue(turn_hue(image, 0.1), -0.1), image, atol=1e-6, rtol=0)
    assert turn_hue(photo().image, 0.07).abs().max() <= 1
