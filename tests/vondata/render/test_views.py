"""Views against closed forms: the pixel of a corner, the depth of a wall, the coverage of a plate."""

import dataclasses
import json

import numpy as np
import pytest
import trimesh

from vondata.classes import load_class
from vondata.frames import axes_to_object, shapenet_to_object
from vondata.render.caster import Caster
from vondata.render.textured_mesh import load_render_mesh
from vondata.render.views import (
    RenderSettings,
    RenderSettingsError,
    camera_at,
    nerf_matrix,
    render_views,
    transforms_json,
    viewpoints_of,
)

BOX = np.array([0.4, 0.6, 0.3])  # along x, y (up) and z of the file


@pytest.fixture(scope="module")
def box_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("box") / "box.obj"
    trimesh.creation.box(BOX).export(path)
    return path


@pytest.fixture(scope="module")
def box(box_file) -> Caster:
    return Caster(load_render_mesh(box_file))


def one_view(caster, azimuth, elevation, **settings):
    settings = RenderSettings(views=1, size=settings.pop("size", 64), **settings)
    return next(render_views(caster, [(azimuth, elevation)], settings)), settings


def pixel_of(matrix, info, point):
    """The pixel (column, row) of a point of the world by transforms.json alone, as NeRF readers do it."""
    x, y, z, _ = np.linalg.inv(matrix) @ [*point, 1.0]
    return info["cx"] + info["fl_x"] * x / -z, info["cy"] - info["fl_y"] * y / -z


def test_the_front_wall_is_as_far_as_it_is(box) -> None:
    view, _ = one_view(box, 0.0, 0.0, fov_deg=40.0)
    diagonal = np.linalg.norm(BOX)
    distance = np.linalg.norm(view.camera.position)
    assert view.depth[32, 32] == pytest.approx(distance - BOX[2] / 2 / diagonal, abs=1e-5)
    np.testing.assert_allclose(view.normals[32, 32], [0, 1, 0], atol=1e-6)  # the front faces +y
    assert view.depth[0, 0] == 0.0
    assert np.linalg.norm(view.normals, axis=2)[view.depth > 0] == pytest.approx(1.0, abs=1e-5)


def test_a_plate_covers_its_share_of_the_picture(box) -> None:
    view, _ = one_view(box, 0.0, 0.0, size=96, samples=4)
    face = BOX[:2] / np.linalg.norm(BOX)  # the front face, seen straight on
    near = view.depth[48, 48]
    width, height = face * view.camera.focal_px / near
    assert view.coverage.sum() == pytest.approx(width * height, rel=0.01)


def test_a_known_corner_lands_in_its_pixel(box) -> None:
    for azimuth, elevation in ((30.0, 20.0), (-100.0, 5.0), (170.0, -30.0)):
        view, _ = one_view(box, azimuth, elevation)
        info = json.loads(json.dumps(transforms_json([view], [{"file_path": "000.png"}])))
        matrix = np.array(info["frames"][0]["transform_matrix"])
        corner = shapenet_to_object(BOX / 2 / np.linalg.norm(BOX))
        by_camera, _ = view.camera.project(BOX / 2 / np.linalg.norm(BOX))
        np.testing.assert_allclose(pixel_of(matrix, info, corner), by_camera, atol=1e-9)


def test_depth_and_pose_together_give_the_position(box) -> None:
    view, _ = one_view(box, 40.0, 25.0)
    info = transforms_json([view], [{}])
    matrix = nerf_matrix(view.camera)
    rows, columns = np.nonzero(view.depth)
    depth = view.depth[rows, columns]
    across, up = (columns + 0.5 - info["cx"]) / info["fl_x"], (info["cy"] - rows - 0.5) / info["fl_y"]
    points = np.stack([across * depth, up * depth, -depth, np.ones_like(depth)], axis=1) @ matrix.T
    np.testing.assert_allclose(points[:, :3], view.position[rows, columns], atol=1e-5)
    half = shapenet_to_object(BOX / 2 / np.linalg.norm(BOX))
    assert np.abs(np.abs(points[:, :3]) / np.abs(half)).max() <= 1.0 + 1e-4


def test_depth_equals_open3d(box_file, box) -> None:
    import open3d

    mesh = load_render_mesh(box_file)
    scene = open3d.t.geometry.RaycastingScene()
    vertices = mesh.corners.reshape(-1, 3).astype(np.float32)
    scene.add_triangles(vertices, np.arange(len(vertices), dtype=np.uint32).reshape(-1, 3))
    view, _ = one_view(box, -35.0, 30.0)
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    directions = view.camera.directions(np.stack([columns, rows], axis=-1).astype(np.float32))
    origins = np.broadcast_to(view.camera.position.astype(np.float32), directions.shape)
    hit = scene.cast_rays(np.concatenate([origins, directions], axis=-1))["t_hit"].numpy()
    forward = np.where(np.isfinite(hit), hit * (directions @ view.camera.rotation[2]), 0.0)
    np.testing.assert_allclose(view.depth, forward, atol=1e-4)


@pytest.mark.parametrize(("up", "front"), [("z", "-y"), ("y", "x"), ("-x", "z")])
def test_other_axes_give_the_same_views(tmp_path, box, up, front) -> None:
    mesh = trimesh.creation.box(BOX)
    turned = axes_to_object(up, front).T @ axes_to_object("y", "-z")
    mesh.vertices = mesh.vertices @ turned.T
    mesh.export(tmp_path / "turned.obj")
    view, _ = one_view(Caster(load_render_mesh(tmp_path / "turned.obj", up, front)), 30.0, 20.0)
    same, _ = one_view(box, 30.0, 20.0)
    np.testing.assert_allclose(view.depth, same.depth, atol=1e-4)


def test_a_view_does_not_depend_on_how_many_there_are() -> None:
    few, many = RenderSettings(views=3), RenderSettings(views=8)
    chair = load_class("chair")
    np.testing.assert_array_equal(viewpoints_of(few, chair), viewpoints_of(many, chair)[:3])
    assert (viewpoints_of(few, chair) != viewpoints_of(dataclasses.replace(few, seed=1), chair)).any()


def test_cameras_on_a_sphere_are_even_and_a_turntable_closes() -> None:
    angles = np.radians(viewpoints_of(RenderSettings(views=400, cameras="sphere"), None))
    points = np.stack(
        [
            np.cos(angles[:, 1]) * np.cos(angles[:, 0]),
            np.cos(angles[:, 1]) * np.sin(angles[:, 0]),
            np.sin(angles[:, 1]),
        ]
    )
    np.testing.assert_allclose(points.mean(axis=1), 0.0, atol=0.01)
    np.testing.assert_allclose(points @ points.T / 400, np.eye(3) / 3, atol=0.01)
    turn = viewpoints_of(RenderSettings(views=4, cameras="turntable", elevation_deg=12.0), None)
    np.testing.assert_allclose(turn, [[0, 12], [90, 12], [180, 12], [270, 12]])
    with pytest.raises(RenderSettingsError, match="need a class"):
        viewpoints_of(RenderSettings(), None)


def test_the_whole_object_is_in_the_picture(box) -> None:
    settings = RenderSettings(views=40, size=48, cameras="sphere", fov_deg=55.0)
    for view in render_views(box, viewpoints_of(settings, None), settings):
        border = np.concatenate([view.coverage[[0, -1]].ravel(), view.coverage[:, [0, -1]].ravel()])
        assert border.max() == 0.0
        assert view.coverage.max() == 1.0


def test_grounds(box) -> None:
    white, _ = one_view(box, 30.0, 20.0)
    assert (white.image[white.coverage == 0] == 255).all()
    clear, _ = one_view(box, 30.0, 20.0, background="transparent")
    np.testing.assert_array_equal(clear.image[..., 3], np.rint(255 * clear.coverage))
    shadowed, _ = one_view(box, 30.0, 20.0, shadow=True)
    ground = shadowed.image[shadowed.coverage == 0]
    assert ground.min() < 200
    assert (ground.max(axis=0) == 255).all()
    np.testing.assert_array_equal(shadowed.image[white.coverage == 1], white.image[white.coverage == 1])
    room, _ = one_view(box, 30.0, 20.0, background="room")
    assert (room.image[0, 0] != 255).any()
    np.testing.assert_array_equal(room.depth, white.depth)


@pytest.mark.parametrize("lighting", ["studio", "environment", "random"])
def test_every_light_shows_the_object_without_burning_it(box, lighting) -> None:
    view, _ = one_view(box, 30.0, 20.0, lighting=lighting)
    seen = view.image[view.coverage == 1].astype(float).mean(axis=1)
    assert 60 < seen.mean() < 230
    assert seen.std() > 2


@pytest.mark.parametrize(
    "wrong",
    [{"views": 0}, {"size": 4}, {"samples": 0}, {"fov_deg": 0.0}, {"fov_deg": float("nan")}, {"distance": 0.2}],
)
def test_settings_that_make_no_picture(wrong) -> None:
    with pytest.raises(RenderSettingsError):
        RenderSettings(**wrong)


def test_the_camera_stands_at_the_given_viewpoint() -> None:
    settings = RenderSettings(distance=3.0)
    matrix = nerf_matrix(camera_at(90.0, 0.0, settings))
    np.testing.assert_allclose(matrix[:3, 3], [-3.0, 0.0, 0.0], atol=1e-12)  # azimuth 90 sees the object's left, -x
    np.testing.assert_allclose(np.linalg.det(matrix[:3, :3]), 1.0)
    np.testing.assert_allclose(matrix[:3, 1], [0.0, 0.0, 1.0], atol=1e-12)  # up is up
