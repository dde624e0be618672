"""The camera's numbers and the viewpoint's rotation, from their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.geometry import Camera, rotate_points, viewpoint_rotation

angles = st.floats(-10.0, 10.0)


def _rotation(azimuth: float, elevation: float) -> torch.Tensor:
    return viewpoint_rotation(*torch.tensor([[azimuth], [elevation]], dtype=torch.float64))[0]


@given(angles, angles)
def test_the_rotation_is_the_product_of_its_three_turns(azimuth: float, elevation: float) -> None:
    ca, sa, ce, se = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
    about_z = np.array([[ca, -sa, 0], [sa, ca, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, ce, -se], [0, se, ce]])
    to_the_front = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(_rotation(azimuth, elevation), about_z @ about_x @ to_the_front, atol=1e-12)


@given(angles, angles)
def test_the_rotation_is_proper(azimuth: float, elevation: float) -> None:
    rotation = _rotation(azimuth, elevation)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0)


@given(angles, angles)
def test_the_camera_stands_where_preparation_says(azimuth: float, elevation: float) -> None:
    direction = [
        -math.sin(azimuth) * math.cos(elevation),
        math.cos(azimuth) * math.cos(elevation),
        math.sin(elevation),
    ]
    position = _rotation(azimuth, elevation) @ torch.tensor([-2.0, 0.0, 0.0], dtype=torch.float64)
    np.testing.assert_allclose(position, 2.0 * np.array(direction), atol=1e-12)


def test_the_front_view_shows_the_left_hand_on_the_right() -> None:
    # An object facing +y has +x at its right; seen from the front, that side is on the image's left.
    right_of_image = _rotation(0.0, 0.0) @ torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    np.testing.assert_allclose(right_of_image, [-1.0, 0.0, 0.0], atol=1e-12)


def test_the_rotation_has_gradients_in_both_angles() -> None:
    azimuth = torch.tensor([0.3, -2.0], dtype=torch.float64, requires_grad=True)
    elevation = torch.tensor([0.1, 0.6], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(viewpoint_rotation, (azimuth, elevation))


def test_matches_the_published_rotations(golden) -> None:
    for name in ("projection_occupancy_32", "projection_distance_32", "projection_occupancy_64"):
        arrays = np.load(golden / f"{name}.npz")
        radians = torch.deg2rad(torch.from_numpy(arrays["azimuth_elevation_deg"]).double())
        np.testing.assert_allclose(viewpoint_rotation(*radians.T), arrays["rotation"], atol=1e-6)


def test_rays_pass_through_the_pixels_of_the_sensor() -> None:
    camera, size = Camera(), 5
    directions = camera.ray_directions(size, torch.empty(0, dtype=torch.float64))
    for row in range(size):
        for column in range(size):
            z = 0.0612 / 2 - 0.0612 * row / (size - 1)
            y = 0.0612 / 2 - 0.0612 * column / (size - 1)
            np.testing.assert_allclose(directions[row, column] * 0.05, [0.05, y, z], atol=1e-15)


def test_the_published_camera_sees_half_an_angle_of_31_degrees() -> None:
    camera = Camera()
    assert math.degrees(math.atan(camera.half_width)) == pytest.approx(31.5, abs=0.05)
    assert (camera.near, camera.far) == (1.0, 3.0)


@pytest.mark.parametrize(("resolution", "count"), [(128, 320), (33, 82), (5, 12)])
def test_samples_stop_one_step_short_and_weights_reach_the_end(resolution: int, count: int) -> None:
    camera, like = Camera(), torch.empty(0, dtype=torch.float64)
    depths, weights = camera.sample_depths(resolution, like), camera.depth_weights(resolution, like)
    np.testing.assert_allclose(depths, 1.0 + 2.0 * np.arange(count) / count, atol=1e-15)
    np.testing.assert_allclose(weights, np.linspace(1.0, 3.0, count), atol=1e-15)


def test_points_turn_as_by_the_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    rotations = viewpoint_rotation(*torch.randn(2, 3, generator=generator))
    points = torch.randn(4, 5, 3, generator=generator)
    expected = torch.einsum("nij,abj->nabi", rotations, points)
    torch.testing.assert_close(rotate_points(rotations, points), expected)


@pytest.mark.parametrize(
    "field", [{"distance": 1.0}, {"focal_length": 0.0}, {"sensor": -1.0}, {"samples_per_voxel": 0.0}]
)
def test_impossible_cameras_are_refused_by_name(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        Camera(**field)
