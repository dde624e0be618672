import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.frames import camera_direction, object_to_shapenet
from vondata.images.pix3d_camera import ViewpointError, viewpoint_of_pix3d


def _camera(azimuth, elevation, roll=0.0, distance=2.0, pan=(0.0, 0.0)):
    """Pix3D's camera built axis by axis: its left, up and forward directions in the model's frame.

    Args:
        roll: clockwise as seen from behind the camera.
        pan: how far the camera then looks past the model, to its left and up, radians.
    """
    position = distance * object_to_shapenet(camera_direction(np.array(azimuth), np.array(elevation)))
    forward = -position / np.linalg.norm(position)
    left = np.cross([0.0, 1.0, 0.0], forward)
    left /= np.linalg.norm(left)
    up = np.cross(forward, left)
    # Turning the camera clockwise takes its up towards its right.
    left, up = math.cos(roll) * left + math.sin(roll) * up, math.cos(roll) * up - math.sin(roll) * left
    rotation = np.stack([left, up, forward])
    towards = np.array([math.tan(pan[0]), math.tan(pan[1]), 1.0])
    towards /= np.linalg.norm(towards)
    axis = np.cross(towards, [0.0, 0.0, 1.0])  # looking there turns this direction onto the optical axis
    angle, length = math.acos(towards[2]), np.linalg.norm(axis)
    if length > 0:
        k = np.cross(np.eye(3), axis / length)
        rotation = (np.eye(3) - math.sin(angle) * k + (1 - math.cos(angle)) * k @ k) @ rotation
    return rotation, -rotation @ position, position


angles = st.floats(-3.1, 3.1)
heights = st.floats(-1.45, 1.45)


def test_the_front_is_azimuth_0():
    rotation, position = np.eye(3), np.array([0.0, 0.0, -2.0])
    seen = viewpoint_of_pix3d(rotation, -rotation @ position, position)
    assert (seen.azimuth, seen.elevation, seen.roll) == pytest.approx((0.0, 0.0, 0.0))


def test_closed_forms_of_the_dataset():
    """azimuth = atan2(-c_x, -c_z), elevation = asin(c_y / |c|) for a camera at c in the model's frame."""
    for azimuth, elevation in ((0.4, 0.3), (-2.0, -0.2), (1.5, 1.2)):
        rotation, translation, c = _camera(azimuth, elevation)
        seen = viewpoint_of_pix3d(rotation, translation, c)
        assert seen.azimuth == pytest.approx(math.atan2(-c[0], -c[2]))
        assert seen.elevation == pytest.approx(math.asin(c[1] / np.linalg.norm(c)))


@given(azimuth=angles, elevation=heights, roll=angles, distance=st.floats(0.5, 20.0))
def test_viewpoints_come_back(azimuth, elevation, roll, distance):
    seen = viewpoint_of_pix3d(*_camera(azimuth, elevation, roll, distance))
    assert (seen.azimuth, seen.elevation, seen.roll) == pytest.approx((azimuth, elevation, roll), abs=1e-7)


@given(
    azimuth=angles, elevation=heights, roll=st.floats(-0.5, 0.5), across=st.floats(-0.4, 0.4), up=st.floats(-0.4, 0.4)
)
def test_looking_past_the_object_is_no_roll(azimuth, elevation, roll, across, up):
    seen = viewpoint_of_pix3d(*_camera(azimuth, elevation, roll, pan=(across, up)))
    assert (seen.azimuth, seen.elevation, seen.roll) == pytest.approx((azimuth, elevation, roll), abs=1e-6)


def test_a_camera_rolled_clockwise_sees_the_object_turned_counterclockwise():
    rotation, translation, position = _camera(0.3, 0.2, roll=math.radians(20))
    assert math.degrees(viewpoint_of_pix3d(rotation, translation, position).roll) == pytest.approx(20)
    top = rotation @ [0.0, 0.3, 0.0] + translation
    image_right, image_up = -top[0] / top[2], top[1] / top[2]  # +x is to the left in the image
    assert image_up > 0
    assert image_right < 0


def test_straight_above_has_a_viewpoint():
    position = np.array([0.0, 2.0, 0.0])
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    seen = viewpoint_of_pix3d(rotation, -rotation @ position, position)
    assert seen.elevation == pytest.approx(math.pi / 2)
    assert math.isfinite(seen.roll)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r, t, c: (2 * r, t, c), "not a rotation"),
        (lambda r, t, c: (np.diag([1.0, 1.0, -1.0]) @ r, t, c), "not a rotation"),
        (lambda r, t, c: (np.full((3, 3), 1e5), t, c), "not a rotation"),
        (lambda r, t, c: (r, -t, -c), "behind"),
        (lambda r, t, c: (r, 0 * t, 0 * c), "behind"),
        (lambda r, t, c: (r, t, c + 0.1), "contradicts"),
    ],
)
def test_cameras_that_make_no_sense(change, words):
    with pytest.raises(ViewpointError, match=words):
        viewpoint_of_pix3d(*change(*_camera(0.5, 0.3)))
