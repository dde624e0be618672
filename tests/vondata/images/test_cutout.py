import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.images.masks import CutOut, bounding_box, cut_out, frame_cut_out, frame_of_box


def _block(height, width, box, colour=(200.0, 20.0, 60.0)):
    left, top, right, bottom = box
    alpha = np.zeros((height, width), dtype=np.float32)
    alpha[top:bottom, left:right] = 1.0
    return CutOut(np.broadcast_to(np.float32(colour), (height, width, 3)), alpha)


@given(
    left=st.integers(0, 300), top=st.integers(0, 300), width=st.integers(1, 400), height=st.integers(1, 400),
    margin=st.floats(0, 0.2),
)  # fmt: skip
def test_the_square_is_centred_with_its_margin(left, top, width, height, margin):
    x, y, side = frame_of_box((left, top, left + width, top + height), margin)
    free = [left - x, top - y, x + side - (left + width), y + side - (top + height)]
    pad = max(1, int(margin * max(width, height)))
    assert side == max(width, height) + 2 * pad
    assert abs(free[0] - free[2]) <= 1
    assert abs(free[1] - free[3]) <= 1
    assert min(free) == pad


@pytest.mark.parametrize("size", [16, 64, 128, 300])
@pytest.mark.parametrize("box", [(0, 0, 100, 80), (50, 20, 90, 140), (100, 60, 160, 120)])
def test_the_object_fills_the_picture_up_to_the_margin(size, box):
    picture = frame_cut_out(_block(150, 200, box), box, size=size, margin=0.03)
    assert picture.shape == (size, size, 4)
    left, top, right, bottom = bounding_box(picture[..., 3] > 127)
    longest = max(box[2] - box[0], box[3] - box[1])
    expected = size * longest / (longest + 2 * int(0.03 * longest))
    assert abs(max(right - left, bottom - top) - expected) <= 2
    assert abs((left + right) - size) <= 2
    assert abs((top + bottom) - size) <= 2


@pytest.mark.parametrize("size", [20, 64, 200])
def test_white_behind_and_the_object_as_it_was(size):
    picture = frame_cut_out(_block(60, 60, (10, 10, 50, 50)), (10, 10, 50, 50), size=size, margin=0.03)
    assert (picture[picture[..., 3] == 0][:, :3] == 255).all()
    assert (picture[picture[..., 3] == 255][:, :3] == (200, 20, 60)).all()
    assert (picture[0, :, 3] == 0).all() or size == 20


def test_what_lies_under_transparency_never_shows():
    cut = _block(64, 64, (16, 16, 48, 48))
    loud = np.where(cut.alpha[..., None] > 0, cut.rgb, np.float32([0, 255, 0]))
    quiet = np.where(cut.alpha[..., None] > 0, cut.rgb, np.float32(0))
    pictures = [
        frame_cut_out(CutOut(rgb, cut.alpha), (16, 16, 48, 48), size=25, margin=0.03) for rgb in (loud, quiet)
    ]
    np.testing.assert_array_equal(*pictures)


def test_shrinking_averages_areas():
    rng = np.random.default_rng(0)
    rgb = rng.uniform(0, 255, (136, 136, 3)).astype(np.float32)
    cut = CutOut(rgb, np.ones((136, 136), dtype=np.float32))
    picture = frame_cut_out(cut, (4, 4, 132, 132), size=34, margin=0.03)  # pad 3: a square of 134
    assert picture[..., :3].std() < 0.5 * rgb.std()
    picture = frame_cut_out(cut, (3, 3, 133, 133), size=68, margin=0.03)  # pad 3: the whole of it, halved
    expected = rgb.reshape(68, 2, 68, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(picture[..., :3], expected, atol=1)


def test_a_frame_beyond_the_photo_is_white():
    picture = frame_cut_out(_block(20, 100, (0, 0, 100, 20)), (0, 0, 100, 20), size=106, margin=0.03)
    assert (picture[:40] == [255, 255, 255, 0]).all()
    assert (picture[-40:] == [255, 255, 255, 0]).all()


OBJECT, BACKGROUND = np.array([40.0, 60.0, 200.0]), np.array([20.0, 230.0, 20.0])


def _flat(coverage, background=BACKGROUND):
    photo = coverage[..., None] * OBJECT + (1 - coverage[..., None]) * background
    return (photo + 0.5).astype(np.uint8)


def test_the_edge_gets_its_coverage_back(chair):
    cut = cut_out(_flat(chair), chair > 0.5)
    wide = chair[:, :][130:140]  # across the seat
    np.testing.assert_allclose(cut.alpha[130:140], wide, atol=0.1)
    assert np.abs(cut.alpha - chair).mean() < 0.01


def test_the_known_background_gives_the_same(chair):
    known = np.broadcast_to(BACKGROUND.astype(np.float32), (*chair.shape, 3))
    cut = cut_out(_flat(chair), chair > 0.5, known)
    assert np.abs(cut.alpha - chair).mean() < 0.01


@pytest.mark.parametrize(
    "background", [(20.0, 230.0, 20.0), (255.0, 255.0, 255.0), (0.0, 0.0, 0.0), (255.0, 0.0, 0.0)]
)
@pytest.mark.parametrize("off_by", [-1, 0, 1])
def test_no_halo_of_the_old_background(chair, background, off_by):
    """Whatever was behind it, visible pixels show the object's own colour over white, also if the mask is off."""
    mask = np.roll(chair > 0.5, off_by, axis=1)
    cut = cut_out(_flat(chair, np.array(background)), mask)
    picture = frame_cut_out(cut, bounding_box(mask), size=128, margin=0.03).astype(float)
    alpha = picture[..., 3:] / 255
    expected = alpha * OBJECT + (1 - alpha) * 255
    wrong = np.abs(picture[..., :3] - expected).max(axis=2)
    if off_by == 0:
        assert wrong.max() < 12
    assert np.quantile(wrong[alpha[..., 0] > 0.02], 0.95) < 25


def test_colours_inside_are_untouched(chair):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*chair.shape, 3), dtype=np.uint8)
    cut = cut_out(photo, chair > 0.5)
    np.testing.assert_array_equal(cut.rgb[cut.alpha == 1], photo[cut.alpha == 1])
    assert (cut.alpha[125:145, 100:220] == 1).all()


def test_alpha_agrees_with_the_mask(chair):
    mask = chair > 0.5
    cut = cut_out(_flat(chair), mask)
    np.testing.assert_array_equal(cut.alpha > 0.5, mask)


def test_same_colour_as_the_background_falls_back_to_the_shape(chair):
    mask = chair > 0.5
    cut = cut_out(np.full((*chair.shape, 3), 200, dtype=np.uint8), mask)
    np.testing.assert_array_equal(cut.alpha > 0.5, mask)
    assert np.isfinite(cut.rgb).all()
    np.testing.assert_allclose(cut.rgb[mask], 200, atol=0.5)


def test_a_mask_that_fills_the_photo():
    cut = cut_out(np.full((20, 20, 3), 90, dtype=np.uint8), np.ones((20, 20), dtype=bool))
    assert (cut.alpha >= 0.5).all()
    np.testing.assert_allclose(cut.rgb, 90, atol=0.5)
