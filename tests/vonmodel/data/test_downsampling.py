"""Coarser grids keep thin parts: brute force, closed forms and properties."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from vonmodel.data.resampling import ResolutionError, coarser_distance, coarser_occupancy, smaller_photo


def rod(resolution: int, radius: float) -> np.ndarray:
    """Voxels whose cell a slanted thin rod from corner region to corner region touches."""
    axis = np.linspace(-1, 1, resolution)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    start, end = np.array([-0.7, -0.5, -0.8]), np.array([0.6, 0.7, 0.8])
    along = np.clip((points - start) @ (end - start) / np.sum((end - start) ** 2), 0, 1)
    distance = np.linalg.norm(points - (start + along[..., None] * (end - start)), axis=-1)
    return distance <= radius + 0.5 * np.sqrt(3) * (axis[1] - axis[0])


@given(fine=st.integers(4, 40), coarse=st.integers(2, 40), seed=st.integers(0, 5))
def test_every_filled_voxel_fills_its_nearest_one_and_no_other(fine: int, coarse: int, seed: int) -> None:
    if coarse > fine:
        return
    occupancy = np.random.default_rng(seed).random((fine,) * 3) < 0.05
    expected = np.zeros((coarse,) * 3, dtype=bool)
    for voxel in np.argwhere(occupancy).tolist():
        # In exact arithmetic; halves go up.
        expected[tuple(math.floor(Fraction(i * (coarse - 1), fine - 1) + Fraction(1, 2)) for i in voxel)] = True
    assert np.array_equal(coarser_occupancy(occupancy, coarse), expected)


def test_the_same_resolution_changes_nothing() -> None:
    occupancy = np.random.default_rng(0).random((9, 9, 9)) < 0.5
    assert np.array_equal(coarser_occupancy(occupancy, 9), occupancy)


@pytest.mark.parametrize("resolution", [32, 48, 64])
def test_a_thin_leg_stays_in_one_piece(resolution: int) -> None:
    thin = rod(128, 0.005)
    coarse = coarser_occupancy(thin, resolution)
    _, pieces = ndimage.label(coarse, structure=np.ones((3, 3, 3)))
    assert pieces == 1
    ends = np.argwhere(coarse)[:, 2]
    assert ends.max() - ends.min() >= 0.78 * (resolution - 1)  # from end to end
    # For comparison, the mean over a cell loses it.
    mean = ndimage.zoom(thin.astype(np.float32), resolution / 128, order=1, grid_mode=True, mode="nearest")
    assert (ndimage.uniform_filter(mean, 3) > 0.5).sum() == 0


def test_close_to_preparing_at_the_coarse_resolution() -> None:
    native, coarse = rod(32, 0.2), coarser_occupancy(rod(128, 0.2), 32)
    assert (native & coarse).sum() / (native | coarse).sum() > 0.8
    assert not (coarse & ~ndimage.binary_dilation(native, iterations=1)).any()


def test_distance_is_sampled_at_the_coarse_points() -> None:
    def sphere(resolution: int) -> np.ndarray:
        axis = np.linspace(-1, 1, resolution)
        radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        return (np.abs(radius - 0.5) / 2).astype(np.float32)

    error = np.abs(coarser_distance(sphere(128), 32) - sphere(32))
    assert error.max() < 0.5 / 127  # linear interpolation next to the kink at the surface
    assert error.mean() < 2e-4


@given(fine=st.integers(3, 20), coarse=st.integers(2, 20))
def test_linear_fields_are_sampled_exactly(fine: int, coarse: int) -> None:
    if coarse > fine:
        return

    def field(n: int) -> np.ndarray:
        axis = np.linspace(0, 1, n)
        return (axis[:, None, None] + 2 * axis[:, None] + 3 * axis).astype(np.float32)

    np.testing.assert_allclose(coarser_distance(field(fine), coarse), field(coarse), rtol=0, atol=1e-5)


def test_photos_are_averaged_without_weighing_by_alpha() -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[..., :3] = 255  # white outside
    pixels[:2, :1] = [10, 20, 30, 255]
    small = smaller_photo(Image.fromarray(pixels), 2)
    assert small[0, 0].tolist() == [133, 138, 143, 128]
    assert small[1, 1].tolist() == [255, 255, 255, 0]
    assert np.array_equal(smaller_photo(Image.fromarray(pixels), 4), pixels)


def test_more_than_was_prepared_is_refused_with_both_ways_out() -> None:
    with pytest.raises(
        ResolutionError, match=r"model\.resolution is 64.*prepare it again at 64.*model\.resolution=32"
    ):
        coarser_occupancy(np.zeros((32, 32, 32), dtype=bool), 64)
    with pytest.raises(ResolutionError, match=r"prepare it again at 64"):
        coarser_distance(np.zeros((32, 32, 32), dtype=np.float32), 64)
    with pytest.raises(
        ResolutionError, match=r"model\.image_size is 128.*prepare it again at 128.*model\.image_size=64"
    ):
        smaller_photo(Image.new("RGBA", (64, 64)), 128)
