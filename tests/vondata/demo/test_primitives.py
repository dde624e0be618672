from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.demo.primitives import box, circle, column, cushion, lathe, loft, rectangle, rounded_path, swept, tube
from vondata.render.mesh import boundary_edges, face_normals, face_vectors, signed_volume

sizes = st.floats(0.05, 3.0)


def polygon_area(outline):
    following = np.roll(outline, -1, axis=0)
    return 0.5 * (outline[:, 0] * following[:, 1] - outline[:, 1] * following[:, 0]).sum()


def assert_solid(mesh):
    assert boundary_edges(mesh) == 0
    assert signed_volume(mesh) > 0
    assert mesh.uvs.shape == (len(mesh.faces), 3, 2)
    assert (np.linalg.norm(face_vectors(mesh), axis=1) > 0).all()


@given(st.tuples(sizes, sizes, sizes), st.tuples(sizes, sizes, sizes))
def test_boxes_are_where_and_as_large_as_asked(size, centre):
    mesh = box(size, centre)
    assert_solid(mesh)
    assert signed_volume(mesh) == pytest.approx(np.prod(size))
    np.testing.assert_allclose(mesh.vertices.min(axis=0), np.subtract(centre, np.divide(size, 2)), atol=1e-12)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), np.add(centre, np.divide(size, 2)), atol=1e-12)


def test_normals_of_a_box_point_away_from_its_middle():
    mesh = box((1.0, 2.0, 3.0))
    centres = mesh.vertices[mesh.faces].mean(axis=1)
    assert (np.einsum("ij,ij->i", face_normals(mesh), centres) > 0.4).all()


@given(sizes, sizes, st.floats(0.01, 0.4))
def test_rounded_rectangles_lose_their_corners(width, depth, share):
    rounding = share * min(width, depth)
    outline = rectangle(width, depth, rounding, steps=64)
    expected = width * depth - (4 - np.pi) * rounding**2
    assert polygon_area(outline) == pytest.approx(expected, rel=1e-3)


@given(st.integers(3, 40), sizes)
def test_circles_are_regular_polygons(sides, radius):
    expected = 0.5 * sides * radius**2 * np.sin(2 * np.pi / sides)
    assert polygon_area(circle(sides, radius)) == pytest.approx(expected)


@given(st.integers(3, 24), sizes, sizes, sizes)
def test_tapered_tubes_are_frustums(sides, length, start, end):
    mesh = tube(np.array([[0.0, 0.0, 0.0], [0.0, length, 0.0]]), np.array([start, end]), sides)
    assert_solid(mesh)
    area = 0.5 * sides * np.sin(2 * np.pi / sides)
    assert signed_volume(mesh) == pytest.approx(area * length * (start**2 + start * end + end**2) / 3)


def test_lathe_turns_a_profile_about_z():
    profile = [(0.2, 0.0), (0.5, 0.1), (0.1, 1.0)]
    mesh = lathe(profile, (1.0, 2.0, 3.0), sides=200)
    assert_solid(mesh)
    expected = sum(np.pi * (b - a) * (r**2 + r * s + s**2) / 3 for (r, a), (s, b) in pairwise(profile))
    assert signed_volume(mesh) == pytest.approx(expected, rel=1e-3)
    assert mesh.vertices[:, 2].min() == 3.0


def test_a_profile_from_top_to_bottom_looks_outwards_too():
    assert_solid(lathe([(0.1, 1.0), (0.5, 0.1), (0.2, 0.0)]))


def test_loops_are_tori():
    angle = 2 * np.pi * np.arange(120) / 120
    path = np.stack([np.cos(angle), np.sin(angle), np.zeros(120)], axis=1)
    mesh = tube(path, 0.1, sides=60, endless=True)
    assert_solid(mesh)
    assert signed_volume(mesh) == pytest.approx(2 * np.pi**2 * 0.1**2, rel=5e-3)


def test_leaning_posts_stay_level():
    path = np.array([[0.0, 0.0, 0.0], [0.3, 0.1, 1.0]])
    mesh = column(path, np.stack([rectangle(0.1, 0.1)] * 2))
    assert_solid(mesh)
    assert signed_volume(mesh) == pytest.approx(0.01)  # sheared, not stretched
    assert np.ptp(mesh.vertices[:4, 2]) == 0.0


def test_swept_sections_keep_their_upper_side_up():
    path = rounded_path([(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0)], radius=0.3)
    mesh = swept(path, rectangle(0.1, 0.02)[None], up=(0.0, 0.0, 1.0))
    assert_solid(mesh)
    assert np.ptp(mesh.vertices[:, 2]) == pytest.approx(0.02)


def test_rounded_paths_cut_corners_and_keep_ends():
    corners = np.array([(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0)])
    path = rounded_path(corners, radius=0.2, steps=8)
    np.testing.assert_array_equal(path[[0, -1]], corners[[0, -1]])
    nearest = np.linalg.norm(path - corners[1], axis=1).min()
    assert 0.0 < nearest < 0.2
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() < 2.0


@given(sizes, sizes, st.floats(0.05, 0.4), st.floats(0.05, 0.5))
def test_cushions_fill_their_box_but_for_the_edges(width, depth, height, share):
    rounding = share * height
    corner = 0.3 * min(width, depth)
    mesh = cushion((width, depth, height), (0.0, 0.0, 0.0), min(rounding, 0.9 * corner), corner)
    assert_solid(mesh)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [width, depth, height], rtol=1e-9)
    assert 0.6 * width * depth * height < signed_volume(mesh) < width * depth * height


def test_lofts_without_caps_are_open_at_both_ends():
    rings = np.stack([np.column_stack([circle(8), np.full(8, z)]) for z in (0.0, 1.0)])
    assert boundary_edges(loft(rings, caps=False)) == 16
    assert_solid(loft(rings[::-1]))


def test_texture_coordinates_are_metres():
    mesh = box((0.1, 0.2, 1.0))
    sides = mesh.uvs[:8]
    assert sides[..., 1].max() == pytest.approx(1.0)  # the grain runs along the longest side
    assert sides[..., 0].max() == pytest.approx(0.6)  # once around
