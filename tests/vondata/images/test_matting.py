import numpy as np
import pytest

from vondata.images.framing import frame_cut_out
from vondata.images.matting import cut_out
from vondata.images.quality import bounding_box

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
