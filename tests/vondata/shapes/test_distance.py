"""Distances against brute force in double precision, and against each other on real meshes."""

import numpy as np
import pytest
import trimesh
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vondata.frames import axes_to_object
from vondata.shapes import distance
from vondata.shapes.cleaning import clean_mesh
from vondata.shapes.distance import BAND_VOXELS, distance_field, nearest_point, product_table
from vondata.shapes.nearest import LANES, closest_points, mark_band
from vondata.shapes.nearest import triangle_table as nearest_table
from vondata.shapes.reading import read_triangles
from vondata.shapes.source_file import Limits, read_bytes
from vondata.shapes.voxelize import to_voxels

NEAR_ERROR, MEAN_ERROR, LARGEST_ERROR = 0.01, 1e-3, 0.5  # promised, in voxels
ROUNDING = 3e-5  # of single precision, in voxels


def centres(resolution):
    ticks = np.arange(resolution, dtype=np.float64)
    return np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)


def to_segment(points, start, end):
    way = end - start
    along = np.clip((points - start) @ way / (way @ way), 0, 1)
    return np.linalg.norm(points - start - along[:, None] * way, axis=1)


def to_triangle(points, corners):
    """By definition: the plane's distance above the inside, else the nearest of the three edges."""
    edges = [(corners[side], corners[(side + 1) % 3]) for side in range(3)]
    nearest = np.min([to_segment(points, *edge) for edge in edges], axis=0)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    above = np.all([(points - start) @ np.cross(normal, end - start) >= 0 for start, end in edges], axis=0)
    height = np.abs((points - corners[0]) @ normal) / np.linalg.norm(normal)
    return np.where(above, np.minimum(nearest, height), nearest)


def brute_force(vertices, faces, resolution):
    points = centres(resolution)
    return np.min([to_triangle(points, vertices[face]) for face in faces], axis=0).reshape((resolution,) * 3)


@st.composite
def scenes(draw):
    """A few triangles of any size in a small grid, also needles and specks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    resolution, count = draw(st.integers(5, 30)), draw(st.integers(1, 7))
    size = draw(st.sampled_from([0.01, 1.0, 4.0, 12.0, 40.0]))
    corners = rng.uniform(0, resolution - 1, (count, 1, 3)) + rng.uniform(-size / 2, size / 2, (count, 3, 3))
    if draw(st.booleans()):
        corners[0, 2] = corners[0, :2].mean(axis=0) + rng.normal(scale=1e-6 * size, size=3)
    vertices, faces = np.clip(corners.reshape(-1, 3), 0, resolution - 1), np.arange(3 * count).reshape(-1, 3)
    edges = vertices[faces[:, 1:]] - vertices[faces[:, :1]]
    assume(np.all(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) > 1e-8 * size**2))
    return vertices, faces, resolution


@settings(max_examples=60)
@given(scenes())
def test_the_fast_way_keeps_its_promises(scene):
    vertices, faces, resolution = scene
    expected = brute_force(*scene)
    error = np.abs(distance_field(vertices, faces, resolution) * (resolution - 1) - expected)
    assert np.all(error[expected <= BAND_VOXELS] < ROUNDING)
    assert error.mean() < MEAN_ERROR
    assert error.max() < LARGEST_ERROR


@settings(max_examples=60)
@given(scenes())
def test_the_exact_way_is_exact(scene):
    vertices, faces, resolution = scene
    found = distance_field(vertices, faces, resolution, "exact") * (resolution - 1)
    np.testing.assert_allclose(found, brute_force(*scene), atol=ROUNDING)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1e-3, 1.0, 50.0]))
def test_nearest_points_lie_on_the_triangle_and_nowhere_nearer(seed, size):
    rng = np.random.default_rng(seed)
    corners = rng.normal(scale=size, size=(3, 3)) + rng.normal(scale=20, size=3)
    points = rng.normal(scale=20, size=(50, 3))
    table = product_table(corners, np.array([[0, 1, 2]]))
    found = np.array([nearest_point(table, 0, *point) for point in points])
    np.testing.assert_allclose(to_triangle(found, corners), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(points - found, axis=1), to_triangle(points, corners), atol=1e-9)


@settings(max_examples=30)
@given(scenes())
def test_the_band_knows_the_points_that_are_nearest(scene):
    vertices, faces, resolution = scene
    table, width = nearest_table(vertices, faces), -(-resolution // LANES) * LANES
    squared = np.full((resolution, resolution, width), BAND_VOXELS**2, dtype=np.float32)
    nearest = np.full(squared.shape, -1, dtype=np.int32)
    mark_band(table, BAND_VOXELS, squared, nearest)
    expected = brute_force(*scene)
    found = np.sqrt(squared[..., :resolution])
    np.testing.assert_allclose(found, np.minimum(expected, BAND_VOXELS), atol=ROUNDING)
    voxels = np.flatnonzero(nearest >= 0)
    points = np.empty((len(voxels), 3), dtype=np.float32)
    closest_points(table, voxels, nearest, points)
    for point, place in list(zip(points, voxels, strict=True))[:: max(len(voxels) // 20, 1)]:
        corners = vertices[faces[nearest.ravel()[place]]]
        assert to_triangle(point[None].astype(np.float64), corners)[0] < ROUNDING
        away = np.linalg.norm(point - np.array(np.unravel_index(place, squared.shape)))
        np.testing.assert_allclose(away, np.sqrt(squared.ravel()[place]), atol=ROUNDING)


def test_triangles_without_area_are_never_nearest():
    vertices = np.array([[2.0, 3, 4], [12, 3, 6], [5, 13, 8], [7, 3, 5]])
    with_flat = np.array([[0, 3, 1], [0, 1, 2], [3, 3, 3]])
    expected = brute_force(vertices, with_flat[1:2], 16)
    np.testing.assert_allclose(distance_field(vertices, with_flat, 16) * 15, expected, atol=LARGEST_ERROR)


def test_grids_larger_than_rows_have_room_for_are_refused():
    with pytest.raises(ValueError, match="at most 256 voxels along an edge, not 257"):
        distance.spread(
            np.zeros((257, 1, 1), dtype=np.int32), np.zeros(1, dtype=np.int64), np.zeros((1, 3), np.float32)
        )


def test_a_finer_mesh_of_the_same_surface_is_as_far():
    ball = trimesh.creation.icosphere(2, radius=11.0)
    vertices, faces, resolution = ball.vertices + 16.2, np.asarray(ball.faces, dtype=np.int64), 34
    fine = ball.subdivide()
    finer = np.asarray(fine.faces, dtype=np.int64)
    for method in ("fast", "exact"):
        coarse_field = distance_field(vertices, faces, resolution, method) * (resolution - 1)
        fine_field = distance_field(fine.vertices + 16.2, finer, resolution, method) * (resolution - 1)
        np.testing.assert_allclose(fine_field, coarse_field, atol=LARGEST_ERROR if method == "fast" else ROUNDING)


@pytest.mark.parametrize("faces", [[[0, 1, 2], [0, 2, 1]], [[0, 1, 2], [1, 2, 3]]])
def test_the_order_of_faces_does_not_matter(faces):
    vertices = np.array([[2.0, 3, 4], [12, 3, 6], [5, 13, 8], [9, 9, 1]])
    one = distance_field(vertices, np.array(faces), 16, "exact")
    np.testing.assert_array_equal(one, distance_field(vertices, np.array(faces[::-1]), 16, "exact"))


def test_real_meshes_keep_the_promises(realdata):
    files = sorted(realdata.glob("ShapeNetCore.v2/*/*/models/*.obj"), key=lambda path: path.stat().st_size)
    resolution = 64
    for path in files[:20:4]:
        mesh = clean_mesh(read_triangles(read_bytes(path, Limits()), path, Limits()), axes_to_object("y", "-z"))
        vertices = to_voxels(mesh.vertices, resolution)
        fast = distance_field(vertices, mesh.faces, resolution) * (resolution - 1)
        exact = distance_field(vertices, mesh.faces, resolution, "exact") * (resolution - 1)
        error = np.abs(fast - exact)
        assert error[exact <= BAND_VOXELS].max() < NEAR_ERROR
        assert error.mean() < MEAN_ERROR
        assert error.max() < LARGEST_ERROR


def test_more_triangles_than_single_precision_counts_are_refused():
    nearest = np.full((4, 4, 4), -1, dtype=np.int32)
    nearest[1, 1, 1] = distance.MAX_FACES
    with pytest.raises(ValueError, match="at most 16777216 triangles"):
        distance.spread(nearest, np.array([21]), np.ones((1, 3), dtype=np.float32))
