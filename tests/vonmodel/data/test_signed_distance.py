"""Signed distances against closed forms: a ball, a sheet, a box."""

import numpy as np
import pytest

from vonmodel.data.downsampling import coarser_distance
from vonmodel.data.signed_distance import signed_distance, thickness_for

GRID = 48
HALF = 0.5 / (GRID - 1)


def points(grid: int = GRID) -> np.ndarray:
    """(grid, grid, grid, 3) grid points in cube edges from the middle."""
    axis = np.linspace(-0.5, 0.5, grid)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def touched(distance: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Whether a plane at this distance with this normal meets a voxel's cell."""
    return np.abs(distance) <= HALF * np.abs(normals).sum(-1)


def test_a_ball() -> None:
    where = points()
    length = np.linalg.norm(where, axis=-1, keepdims=True)
    true = length[..., 0] - 0.31
    solid = (true < 0) | touched(true, where / np.maximum(length, 1e-9))
    signed = signed_distance(solid, np.abs(true).astype(np.float32), HALF)
    outside = true > HALF
    np.testing.assert_allclose(signed[outside], true[outside] - HALF, atol=1e-6)
    # Deep down the side is not in doubt; right at the surface both sides are inside of the grown ball.
    assert (signed[true < HALF] <= 0).all()
    np.testing.assert_allclose(signed[true < -2 * HALF], true[true < -2 * HALF] - HALF, atol=1e-6)


@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (1.0, 2.0, 3.0), (1.0, 1.0, 1.0), (-1.0, 0.2, 0.0)])
@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5])
def test_a_sheet_becomes_a_plate(normal: tuple[float, float, float], offset: float) -> None:
    direction = np.array(normal) / np.linalg.norm(normal)
    true = points() @ direction - 2 * HALF * offset
    signed = signed_distance(touched(true, direction), np.abs(true).astype(np.float32), HALF)
    inner = (slice(4, -4),) * 3  # at the border of the grid the sheet ends
    away = np.abs(true)[inner] > HALF + 1e-6
    np.testing.assert_allclose(signed[inner][away], np.abs(true)[inner][away] - HALF, atol=1e-6)
    assert (signed[inner][~away] <= 1e-6).all()


def test_a_tilted_half_space_has_no_pits() -> None:
    direction = np.array([1.0, 1.0, 1.0]) / np.sqrt(3.0)
    true = points() @ direction - 0.013
    solid = (true < 0) | touched(true, direction)
    signed = signed_distance(solid, np.abs(true).astype(np.float32), HALF)
    inner = (slice(4, -4),) * 3
    assert (signed[inner][true[inner] < HALF] <= 1e-6).all()
    assert (signed[inner][true[inner] > HALF] >= -1e-6).all()


def test_the_grid_s_border_is_empty_beyond() -> None:
    solid = np.ones((4, 4, 4), dtype=bool)
    signed = signed_distance(solid, np.full((4, 4, 4), 0.4, dtype=np.float32), 0.1)
    assert signed[0, 0, 0] == pytest.approx(0.3)
    assert signed[1, 2, 1] == pytest.approx(-0.5)


def test_a_thin_plate_survives_on_the_coarse_grid() -> None:
    true = np.abs(points()[..., 2] - 0.01)
    thickness = thickness_for(GRID, 16)
    signed = signed_distance(true <= HALF, true.astype(np.float32), thickness)
    assert thickness == pytest.approx(0.5 / 15)
    assert (coarser_distance(signed, 16).min(axis=2) < 0).all()


def test_a_fine_grid_keeps_the_prepared_thickness() -> None:
    assert thickness_for(64, 64) == pytest.approx(0.5 / 63)
    assert thickness_for(128, 256) == pytest.approx(0.5 / 127)
