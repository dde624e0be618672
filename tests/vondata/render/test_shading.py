import cv2
import numpy as np
import pytest

from vondata.demo.collection import OCCLUDER, render_mesh
from vondata.demo.primitives import box
from vondata.images.pix3d_camera import CameraPose, camera_of
from vondata.render.caster import Caster
from vondata.render.mesh import Material
from vondata.render.shading import Light, Plane, Room, render

GREY = Material((0.6, 0.6, 0.6), np.full((128, 128, 3), 153, np.uint8), tile_m=1.0)
POSE = CameraPose(0.5, 0.4, 2.0, (0.0, 0.0), 0.0, 40.0, (120, 90))
ABOVE = np.array([0.0, 1.0, 0.0], dtype=np.float32)
WHITE = np.ones(3, dtype=np.float32)


def light(width=0.0, towards=ABOVE, key=0.6, fill=0.4):
    return Light(towards, width, key, fill, WHITE)


@pytest.fixture
def cube(make_scene):
    return Caster(render_mesh(make_scene(box((1.0, 1.0, 1.0)).of("matt"))))


def test_coverage_is_the_projected_hull(cube, rng):
    camera = camera_of(POSE)
    picture = render(cube, camera, light(), None, rng, samples=8)
    corners, _ = camera.project(cube.vertices)
    hull = cv2.convexHull(corners.astype(np.float32))
    area = cv2.contourArea(hull)
    assert picture.coverage.sum() == pytest.approx(area, rel=2e-3)
    inside = np.array([[cv2.pointPolygonTest(hull, (x + 0.5, y + 0.5), True) for x in range(120)] for y in range(90)])
    assert (picture.coverage[inside > 1.0] == 1.0).all()
    assert (picture.coverage[inside < -1.0] == 0.0).all()
    edge = picture.coverage[np.abs(inside) < 0.3]
    assert ((edge > 0.0) & (edge < 1.0)).mean() > 0.8  # anti-aliased


def test_white_is_white_and_the_cut_out_has_no_halo(cube, rng):
    picture = render(cube, camera_of(POSE), light(), None, rng)
    assert (picture.image[picture.coverage == 0] == 255).all()
    part = (picture.coverage > 0) & (picture.coverage < 1)
    solid = picture.cut_out[picture.coverage == 1]
    assert picture.cut_out[part].max() <= solid.max() + 1
    assert picture.image[part].mean() > picture.cut_out[part].mean() + 20


def test_faces_towards_the_light_are_brighter(cube, rng):
    camera = camera_of(POSE)
    picture = render(cube, camera, light(), None, rng)
    (top, side), _ = camera.project(np.array([[0.0, 0.288, 0.0], [0.0, 0.0, -0.288]]))
    bright, dark = (picture.image[int(y), int(x)].astype(int).mean() for x, y in (top, side))
    assert bright > dark + 40


def test_a_hard_shadow_lies_straight_under_the_object(make_scene, rng):
    plate = Caster(render_mesh(make_scene(box((0.4, 0.4, 0.02)).of("matt"), normalise=False)))
    floor = Room((Plane(np.array([0.0, 1.0, 0.0]), -0.5, GREY),))
    camera = camera_of(CameraPose(0.0, 0.5, 3.0, (0.0, 0.0), 0.0, 40.0, (160, 120)))
    picture = render(plate, camera, light(), floor, rng)
    pixels, _ = camera.project(
        np.array([[0.15, -0.5, 0.15], [0.15, -0.5, -0.15], [0.3, -0.5, 0.0], [0.0, -0.5, 0.35]])
    )
    values = [int(picture.image[int(y), int(x)].mean()) for x, y in pixels]
    assert max(values[:2]) < min(values[2:]) - 30


def test_wide_lights_have_soft_shadows(make_scene, rng):
    plate = Caster(render_mesh(make_scene(box((0.4, 0.4, 0.02)).of("matt"), normalise=False)))
    floor = Room((Plane(np.array([0.0, 1.0, 0.0]), -0.5, GREY),))
    camera = camera_of(CameraPose(0.0, 0.5, 3.0, (0.0, 0.0), 0.0, 40.0, (160, 120)))

    def half_shadows(width):
        image = render(plate, camera, light(width), floor, rng).image[90:].astype(int).mean(axis=-1)
        low, high = image.min(), image.max()
        return ((image > low + 0.25 * (high - low)) & (image < high - 0.25 * (high - low))).sum()

    assert half_shadows(0.3) > 3 * half_shadows(0.0)


def test_what_stands_in_front_hides_but_is_not_the_object(make_scene, rng):
    alone = make_scene(box((0.4, 0.4, 0.4)).of("matt"), normalise=False)
    red = Material((1.0, 0.0, 0.0), gloss=0.0)
    camera = camera_of(CameraPose(0.0, 0.0, 3.0, (0.0, 0.0), 0.0, 40.0, (120, 90)))
    in_front = alone.with_part(box((0.2, 0.02, 0.4), (0.1, 0.5, 0.0)).of(OCCLUDER), red)
    behind = alone.with_part(box((0.2, 0.02, 0.4), (0.1, -0.5, 0.0)).of(OCCLUDER), red)
    whole = render(Caster(render_mesh(alone)), camera, light(), None, rng)
    hidden = render(Caster(render_mesh(in_front)), camera, light(), None, rng)
    shown = render(Caster(render_mesh(behind)), camera, light(), None, rng)
    np.testing.assert_array_equal(shown.coverage, whole.coverage)
    left = hidden.coverage[:, : 60 - 4].sum() / whole.coverage[:, : 60 - 4].sum()
    right = hidden.coverage[:, 60:].sum() / whole.coverage[:, 60:].sum()
    assert (left < 0.1, right > 0.99) == (True, True)  # +x is to the left in the picture
    covered = (whole.coverage == 1) & (hidden.coverage == 0)
    assert (hidden.image[covered][:, 0] > hidden.image[covered][:, 1] + 50).all()


def test_hits_lie_on_the_surface_with_its_normal_and_texture(make_scene):
    texture = np.zeros((128, 128, 3), np.uint8)
    texture[:64] = 255
    sheet = box((1.0, 0.001, 1.0)).of("matt")
    caster = Caster(
        render_mesh(make_scene(sheet, normalise=False, matt=Material((1.0, 1.0, 1.0), texture, tile_m=1.0)))
    )
    directions = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=np.float32)
    hits = caster.cast(np.array([0.1, 0.2, -2.0]), directions)
    assert hits.rays.tolist() == [0]
    np.testing.assert_allclose(hits.points, [[0.1, 0.2, -0.0005]], atol=1e-6)
    np.testing.assert_allclose(hits.normals, [[0.0, 0.0, -1.0]], atol=1e-6)
    assert set(np.unique(hits.albedo)) <= {0.0, 1.0}


def test_corners_are_less_open_than_free_faces(make_scene):
    scene = Caster(render_mesh(make_scene(box((1.0, 1.0, 0.1)), box((1.0, 0.1, 1.0), (0.0, -0.5, 0.5)))))
    up = np.array([[0.0, 1.0, 0.0]], dtype=np.float32)
    top = float(scene.vertices[:, 1].max())
    corner, free = np.array([[0.0, -0.1, 0.2]], np.float32), np.array([[0.0, top, 0.29]], np.float32)
    assert scene.openness(free, up)[0] > scene.openness(corner, up)[0] + 0.1
