import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vondata.demo.primitives import box, lathe
from vondata.render.mesh import (
    boundary_edges,
    concatenated,
    corner_normals,
    distinct_rows,
    face_normals,
    mirrored_pair,
    signed_volume,
)


def test_mirror_images_look_outwards_too():
    part = lathe([(0.3, 0.0), (0.2, 1.0)]).moved(x=2.0)
    right, left = mirrored_pair(part)
    assert signed_volume(left) == pytest.approx(signed_volume(right))
    np.testing.assert_allclose(left.vertices.mean(axis=0) * [-1, 1, 1], right.vertices.mean(axis=0))
    assert signed_volume(concatenated([right, left])) == pytest.approx(2 * signed_volume(right))


def test_flipped_and_open_meshes():
    part = box((1.0, 1.0, 1.0))
    assert signed_volume(part.flipped()) == pytest.approx(-1.0)
    assert boundary_edges(part) == 0
    assert boundary_edges(part.keeping(np.arange(len(part.faces)) > 0)) == 3


def test_turning_keeps_volume_and_centre():
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    part = box((1.0, 2.0, 3.0), (1.0, 0.0, 0.0)).turned(turn, about=(1.0, 0.0, 0.0))
    assert signed_volume(part) == pytest.approx(6.0)
    np.testing.assert_allclose(np.ptp(part.vertices, axis=0), [2.0, 1.0, 3.0])
    np.testing.assert_allclose(part.vertices.mean(axis=0), [1.0, 0.0, 0.0], atol=1e-12)


def test_edges_of_a_box_stay_sharp():
    part = box((1.0, 2.0, 3.0))
    np.testing.assert_allclose(corner_normals(part), np.repeat(face_normals(part)[:, None], 3, axis=1), atol=1e-12)


def test_round_walls_are_shaded_round():
    tall = lathe([(0.5, 0.0), (0.5, 1.0)], sides=16)
    normals, corners = corner_normals(tall), tall.vertices[tall.faces]
    wall = np.abs(face_normals(tall)[:, 2]) < 0.5
    radial = corners[wall] * [1.0, 1.0, 0.0]
    radial /= np.linalg.norm(radial, axis=-1, keepdims=True)
    np.testing.assert_allclose(normals[wall], radial, atol=1e-9)


def test_coinciding_faces_of_opposite_sides_do_not_cancel():
    part = box((1.0, 1.0, 1.0))
    doubled = concatenated([part, part.flipped()])
    np.testing.assert_allclose(corner_normals(doubled)[: len(part.faces)], corner_normals(part), atol=1e-12)


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30), elements=st.floats(-9, 9)))
def test_distinct_rows_agree_with_numpy(rows):
    rows = rows.round(1)
    found, index = distinct_rows(rows)
    expected = np.unique(rows + 0.0, axis=0)
    np.testing.assert_allclose(found[index], rows, atol=1e-9)
    assert len(found) == len(expected)
