"""Triangulated polygons: the right number of triangles, covering the polygon."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.shapes.polygons import Polygons, triangulate
from vondata.types import Rejected


def polygon(points):
    points = np.asarray(points, dtype=float)
    return Polygons(points, np.arange(len(points)), np.array([0, len(points)]))


def area(vertices, faces):
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def star(rng, corners):
    """A random polygon around the origin that sees all its corners from there, mostly concave; and its area."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    angles += np.linspace(0, 1e-3, corners)
    radii = rng.uniform(0.2, 1.0, corners)
    x, y = radii * np.cos(angles), radii * np.sin(angles)
    return np.stack([x, y, np.zeros(corners)], axis=1), abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


@given(seed=st.integers(0, 2**32 - 1), corners=st.integers(4, 60), reverse=st.booleans(), start=st.integers(0, 59))
def test_the_area_stays(seed, corners, reverse, start):
    rng = np.random.default_rng(seed)
    flat, expected = star(rng, corners)
    gaps = np.diff(np.arctan2(flat[:, 1], flat[:, 0]), append=np.arctan2(flat[0, 1], flat[0, 0]) + 2 * np.pi)
    if np.max(gaps) > np.pi:
        return  # the origin is outside: such a polygon may cross itself
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    points = np.roll(flat[::-1] if reverse else flat, start, axis=0) @ turn + rng.normal(size=3)
    faces, broken = triangulate(polygon(points))
    assert faces.shape == (corners - 2, 3)
    assert broken == 0
    np.testing.assert_allclose(area(points, faces), expected, rtol=1e-9)


def test_a_concave_quad_is_cut_at_its_notch():
    faces, _ = triangulate(polygon([[0, 0, 0], [1, 0, 0], [0.1, 0.1, 0], [0, 1, 0]]))
    assert {frozenset(face) for face in faces.tolist()} == {frozenset({0, 1, 2}), frozenset({0, 2, 3})}
    faces, _ = triangulate(polygon([[1, 0, 0], [0.1, 0.1, 0], [0, 1, 0], [0, 0, 0]]))
    assert {frozenset(face) for face in faces.tolist()} == {frozenset({0, 1, 3}), frozenset({1, 2, 3})}


def test_orientation_is_kept():
    faces, _ = triangulate(polygon([[0, 0, 0], [2, 0, 0], [2, 2, 0], [1, 0.5, 0], [0, 2, 0]]))
    points = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [1, 0.5, 0], [0, 2, 0]])
    a, b, c = points[faces].transpose(1, 0, 2)
    assert np.all(np.cross(b - a, c - a)[:, 2] > 0)


def test_a_hole_joined_to_the_rim_stays_open():
    """A frame drawn as one polygon with a bridge, whose corners touch."""
    outer = [[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0], [0, 0, 0]]
    inner = [[1, 1, 0], [1, 3, 0], [3, 3, 0], [3, 1, 0], [1, 1, 0]]
    points = np.array(outer + inner, dtype=float)
    faces, _ = triangulate(polygon(points))
    np.testing.assert_allclose(area(points, faces), 12.0)


def test_fewer_than_three_corners_are_counted():
    vertices = np.eye(3)
    polygons = Polygons(vertices, np.array([0, 1, 0, 1, 2, 2]), np.array([0, 2, 5, 6, 6]))
    faces, broken = triangulate(polygons)
    np.testing.assert_array_equal(faces, [[0, 1, 2]])
    assert broken == 3


def test_polygons_that_cross_themselves_end():
    rng = np.random.default_rng(0)
    for corners in (5, 50, 300):
        faces, _ = triangulate(polygon(rng.normal(size=(corners, 3))))
        assert faces.shape == (corners - 2, 3)
        assert set(np.unique(faces)) <= set(range(corners))


CORNERS = 20_000
ANGLES = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
TURNS = np.linspace(0, 40 * np.pi, CORNERS // 2)
ARMS = np.concatenate([(1 + TURNS) * np.exp(1j * TURNS), ((3 + TURNS) * np.exp(1j * TURNS))[::-1]])
TEETH = np.repeat(np.arange(CORNERS // 2), 2) + 1j * np.tile([0, 5, 5, 0], CORNERS // 4)
INTRICATE = {
    "round": np.exp(1j * ANGLES),
    "wavy": (1 + 0.3 * np.sin(9 * ANGLES)) * np.exp(1j * ANGLES),
    "gear": np.where(np.arange(CORNERS) // 2 % 2, 1.0, 0.9) * np.exp(1j * ANGLES),
    "spiral": ARMS,
    "comb": np.concatenate([TEETH, [CORNERS / 2 - 1j, -1j]]),
    "flat comb": np.concatenate([TEETH.real + 1e-7j * TEETH.imag, [CORNERS / 2 - 1j, -1j]]),
}


@pytest.mark.parametrize("kind", list(INTRICATE))
@pytest.mark.parametrize("start", [0, 777])
def test_polygons_of_many_corners_keep_their_area(kind, start):
    flat = np.roll(INTRICATE[kind], start)
    points = np.stack([flat.real, flat.imag, np.zeros(len(flat))], axis=1)
    x, y, _ = points.T
    expected = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    faces, _ = triangulate(polygon(points))
    assert len(faces) == len(points) - 2
    assert area(points, faces) == pytest.approx(expected)


def test_a_polygon_that_crosses_itself_everywhere_is_refused():
    with pytest.raises(Rejected, match="face 1 has 30,000 corners and is too intricate") as caught:
        triangulate(polygon(np.random.default_rng(0).normal(size=(30_000, 3))))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("corners", [50, 5000])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_corners_that_are_not_finite_end(corners, value):
    assert len(triangulate(polygon(np.full((corners, 3), value)))[0]) == corners - 2
    points = np.stack([np.cos(ANGLES), np.sin(9 * ANGLES), ANGLES], axis=1)[:corners]
    points[corners // 2] = value
    assert len(triangulate(polygon(points))[0]) == corners - 2
