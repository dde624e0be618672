"""Signed distances against closed forms: a ball, half spaces, sheets, plates, boxes."""

import numpy as np
import pytest

from vondata.shapes.implicit import at_least_as_thick, signed_distance
from vonmodel.data.resampling import coarser_distance, held_thickness

GRID = 48
STEP = 1.0 / (GRID - 1)
INNER = (slice(5, -5),) * 3
NORMALS = [(0.0, 0.0, 1.0), (1.0, 2.0, 3.0), (1.0, 1.0, 1.0), (-1.0, 0.2, 0.0), (1.0, -1.0, 0.0)]


def points(grid: int = GRID) -> np.ndarray:
    """(grid, grid, grid, 3) grid points in cube edges from the middle."""
    axis = np.linspace(-0.5, 0.5, grid)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def touched(distance: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Whether a plane at this distance with this normal meets a voxel's cell."""
    return np.abs(distance) <= 0.5 * STEP * np.abs(normals).sum(-1)


def unsigned(true: np.ndarray) -> np.ndarray:
    return np.abs(true).astype(np.float32)


@pytest.mark.parametrize("radius", [0.31, 0.12])
def test_a_ball(radius: float) -> None:
    where = points()
    length = np.linalg.norm(where, axis=-1, keepdims=True)
    true = length[..., 0] - radius
    solid = (true < 0) | touched(true, where / np.maximum(length, 1e-9))
    signed = signed_distance(solid, unsigned(true))
    # Only where the surface all but meets a grid point its side may be mistaken.
    wrong = np.abs(signed - true) > 1e-6
    assert np.abs(true[wrong]).max(initial=0.0) < 0.15 * STEP
    assert wrong.sum() < 0.1 * touched(true, where / np.maximum(length, 1e-9)).sum()


@pytest.mark.parametrize("normal", NORMALS)
@pytest.mark.parametrize("offset", [0.0, 0.27, 0.5])
def test_a_half_space_is_flat(normal: tuple[float, float, float], offset: float) -> None:
    direction = np.array(normal) / np.linalg.norm(normal)
    true = points() @ direction - STEP * offset
    signed = signed_distance((true < 0) | touched(true, direction), unsigned(true))
    wrong = np.abs(signed - true)[INNER] > 1e-6
    assert np.abs(true[INNER][wrong]).max(initial=0.0) < 0.15 * STEP


@pytest.mark.parametrize("normal", NORMALS)
@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5])
def test_a_sheet_becomes_a_plate(normal: tuple[float, float, float], offset: float) -> None:
    direction = np.array(normal) / np.linalg.norm(normal)
    true = points() @ direction - STEP * offset
    solid = touched(true, direction)
    grown = at_least_as_thick(signed_distance(solid, unsigned(true)), solid, STEP)
    flat = np.abs(true)[INNER] - STEP
    near = np.abs(flat) < 2 * STEP
    np.testing.assert_allclose(grown[INNER][near], flat[near], atol=0.3 * STEP)
    assert (np.sign(grown[INNER]) == np.sign(flat))[np.abs(flat) > 0.3 * STEP].all()


def test_thick_parts_do_not_grow() -> None:
    where = np.abs(points())
    beyond = where - np.array([0.25, 0.17, 0.3])
    true = np.linalg.norm(beyond.clip(0), axis=-1) + beyond.max(-1).clip(max=0)
    solid = (where <= np.array([0.25, 0.17, 0.3]) + 0.5 * STEP).all(-1)
    signed = signed_distance(solid, unsigned(true))
    near = np.abs(true) < 3 * STEP
    np.testing.assert_allclose(at_least_as_thick(signed, solid, STEP)[near], signed[near], atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 0.75])
def test_a_thin_plate_survives_on_a_coarse_grid(offset: float) -> None:
    true = np.abs(points()[..., 2] - STEP * offset) - 0.6 * STEP
    solid = true <= 0.5 * STEP
    signed = signed_distance(solid, unsigned(true))
    half = held_thickness(16)
    held = coarser_distance(at_least_as_thick(signed, solid, half), 16)
    assert half == pytest.approx(0.5 / 15)
    assert (held.min(axis=2) < 0).all()
    assert (coarser_distance(signed, 16).min(axis=2) > 0).any() or offset == 0.0


def test_the_grid_s_border_is_empty_beyond() -> None:
    solid = np.ones((4, 4, 4), dtype=bool)
    signed = signed_distance(solid, np.full((4, 4, 4), 0.4, dtype=np.float32))
    assert (signed == -np.float32(0.4)).all()


def test_nothing_stays_nothing() -> None:
    empty, far = np.zeros((6, 6, 6), dtype=bool), np.ones((6, 6, 6), dtype=np.float32)
    assert np.array_equal(at_least_as_thick(signed_distance(empty, far), empty, 0.1), far)
