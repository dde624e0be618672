import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.frames import camera_direction, object_to_shapenet
from vondata.images.pix3d_camera import CameraPose, camera_of, viewpoint_of_pix3d

poses = st.builds(
    CameraPose,
    azimuth=st.floats(-3.1, 3.1),
    elevation=st.floats(-0.2, 1.2),
    distance=st.floats(0.8, 4.0),
    shift=st.tuples(st.floats(-0.45, 0.45), st.floats(-0.45, 0.45)),
    roll=st.floats(-0.6, 0.6),
    focal_length_mm=st.floats(20.0, 80.0),
    size=st.sampled_from([(192, 192), (224, 168), (168, 224)]),
)


@given(poses)
def test_the_annotated_viewpoint_is_the_one_drawn(pose):
    camera = camera_of(pose)
    seen = viewpoint_of_pix3d(camera.rotation, camera.translation, camera.position)
    assert (seen.azimuth, seen.elevation, seen.roll) == pytest.approx((pose.azimuth, pose.elevation, pose.roll))
    assert camera.inplane_rotation == pytest.approx(pose.roll)


@given(poses)
def test_the_camera_stands_at_its_viewpoint_and_sees_the_origin_where_asked(pose):
    camera = camera_of(pose)
    direction = object_to_shapenet(camera_direction(np.array(pose.azimuth), np.array(pose.elevation)))
    np.testing.assert_allclose(camera.position, pose.distance * direction, atol=1e-9)
    assert np.linalg.det(camera.rotation) == pytest.approx(1.0)
    pixel, depth = camera.project(np.zeros(3))
    width, height = pose.size
    np.testing.assert_allclose(pixel, [width * (0.5 + pose.shift[0]), height / 2 + width * pose.shift[1]], atol=1e-6)
    assert depth > 0


@given(poses, st.tuples(st.floats(0, 224), st.floats(0, 224)), st.floats(0.5, 3.0))
def test_rays_go_where_pixels_are(pose, pixel, distance):
    camera = camera_of(pose)
    ray = camera.directions(np.array(pixel, dtype=np.float32))
    assert np.linalg.norm(ray) == pytest.approx(1.0, abs=1e-5)
    back, _ = camera.project(camera.position + distance * ray.astype(float))
    np.testing.assert_allclose(back, pixel, atol=0.01)


def test_pix3ds_axes():
    front = camera_of(CameraPose(0.0, 0.0, 2.0, (0.0, 0.0), 0.0, 32.0, (100, 50)))
    np.testing.assert_allclose(front.position, [0.0, 0.0, -2.0], atol=1e-12)
    np.testing.assert_allclose(front.rotation, np.eye(3), atol=1e-12)
    # A focal length as long as the sensor is wide: at distance 2 the picture is 2 wide; +x is left, +y up.
    pixels, depths = front.project(np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(pixels, [[0.0, 25.0], [50.0, 0.0], [50.0, 25.0]], atol=1e-9)
    np.testing.assert_allclose(depths, [2.0, 2.0, 3.0])


def test_a_camera_rolled_clockwise_sees_the_world_turned_the_other_way():
    rolled = camera_of(CameraPose(0.0, 0.0, 2.0, (0.0, 0.0), np.pi / 2, 32.0, (100, 100)))
    above, _ = rolled.project(np.array([0.0, 0.5, 0.0]))
    np.testing.assert_allclose(above, [25.0, 50.0], atol=1e-9)


def test_from_azimuth_90_the_cameras_place_is_model_left():
    # The object's +x is image-left at the front view; azimuth turns the camera towards -x.
    side = camera_of(CameraPose(np.pi / 2, 0.0, 2.0, (0.0, 0.0), 0.0, 32.0, (100, 100)))
    np.testing.assert_allclose(side.position, [-2.0, 0.0, 0.0], atol=1e-12)
