"""Frames: every conversion against its definition, and back again."""

import itertools
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.frames import (
    Axis,
    axes_to_object,
    axis_vector,
    camera_direction,
    object_to_shapenet,
    object_to_voxel,
    shapenet_to_object,
    viewpoint_of_direction,
    voxel_to_object,
)

AXES = get_args(Axis)


def test_shapenet_front_up_and_left_come_to_lie_right() -> None:
    front, up, left = [0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]
    turned = shapenet_to_object(np.array([front, up, left]))
    np.testing.assert_array_equal(turned, [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    x, y, z = 0.3, -0.7, 0.2
    np.testing.assert_array_equal(shapenet_to_object(np.array([x, y, z])), [x, -z, y])


def test_shapenet_and_back(rng: np.random.Generator) -> None:
    points = rng.normal(size=(4, 5, 3))
    np.testing.assert_allclose(object_to_shapenet(shapenet_to_object(points)), points, atol=1e-15)


@pytest.mark.parametrize(("up", "front"), list(itertools.product(AXES, AXES)))
def test_stated_axes_are_turned_without_mirroring(up: Axis, front: Axis) -> None:
    if up[-1] == front[-1]:
        with pytest.raises(ValueError, match="same axis"):
            axes_to_object(up, front)
        return
    rotation = axes_to_object(up, front)
    np.testing.assert_array_equal(rotation @ axis_vector(up), [0, 0, 1])
    np.testing.assert_array_equal(rotation @ axis_vector(front), [0, 1, 0])
    np.testing.assert_array_equal(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_shapenets_axes_are_y_up_and_front_minus_z() -> None:
    points = np.eye(3)
    np.testing.assert_array_equal(points @ axes_to_object("y", "-z").T, shapenet_to_object(points))


def test_an_invalid_axis() -> None:
    with pytest.raises(ValueError, match="'w' is not one of x, -x"):
        axes_to_object("w", "y")  # type: ignore[arg-type]  # what a caller without a type checker may do


@pytest.mark.parametrize(
    ("azimuth", "elevation", "expected"),
    [
        (0, 0, [0, 1, 0]),  # in front
        (90, 0, [-1, 0, 0]),
        (-90, 0, [1, 0, 0]),
        (180, 0, [0, -1, 0]),
        (0, 90, [0, 0, 1]),  # above
        (45, 30, [-np.sqrt(0.375), np.sqrt(0.375), 0.5]),
    ],
)
def test_where_the_camera_stands(azimuth: float, elevation: float, expected: list[float]) -> None:
    direction = camera_direction(np.deg2rad(azimuth), np.deg2rad(elevation))
    np.testing.assert_allclose(direction, expected, atol=1e-12)


@given(azimuth=st.floats(-179.9, 179.9), elevation=st.floats(-89.9, 89.9), distance=st.floats(0.1, 100))
def test_viewpoint_and_direction_are_inverse(azimuth: float, elevation: float, distance: float) -> None:
    direction = distance * camera_direction(np.deg2rad(azimuth), np.deg2rad(elevation))
    back = np.rad2deg(viewpoint_of_direction(direction))
    np.testing.assert_allclose(back, [azimuth, elevation], atol=1e-6)


@pytest.mark.parametrize("resolution", [2, 32, 101, 128])
def test_voxels_fill_the_cube_from_corner_to_corner(resolution: int) -> None:
    positions = voxel_to_object(np.arange(resolution), resolution)
    np.testing.assert_allclose(positions, np.linspace(-1, 1, resolution), atol=1e-12)
    np.testing.assert_allclose(object_to_voxel(positions, resolution), np.arange(resolution), atol=1e-9)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
