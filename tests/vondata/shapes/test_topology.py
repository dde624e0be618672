"""Edges, parts and fins of meshes."""

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from vondata.shapes.topology import find_fins, find_parts, find_topology


def faces_of(mesh):
    return np.asarray(mesh.faces, dtype=np.int64)


SPHERE = trimesh.creation.icosphere(subdivisions=2)


@given(seed=st.integers(0, 2**32 - 1), dropped=st.floats(0, 0.5))
def test_open_edges_are_what_trimesh_counts(seed, dropped):
    rng = np.random.default_rng(seed)
    faces = faces_of(SPHERE)[rng.random(len(SPHERE.faces)) >= dropped]
    mesh = trimesh.Trimesh(SPHERE.vertices, faces, process=False)
    topology = find_topology(faces)
    assert topology.watertight == mesh.is_watertight
    assert topology.open_edges == len(trimesh.grouping.group_rows(mesh.edges_sorted, require_count=1))


@given(seed=st.integers(0, 2**32 - 1))
def test_order_and_orientation_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    faces = faces_of(SPHERE)[10:]
    shuffled = rng.permutation(faces)
    shuffled = np.where(rng.random((len(faces), 1)) < 0.5, shuffled[:, ::-1], shuffled)
    one, other = find_topology(faces), find_topology(shuffled)
    assert (one.open_edges, one.watertight) == (other.open_edges, other.watertight)


def test_parts_are_what_trimesh_splits():
    boxes = [trimesh.creation.box().apply_translation([3 * i, 0, 0]) for i in range(4)]
    faces = faces_of(trimesh.util.concatenate(boxes))
    parts = find_parts(find_topology(faces))
    np.testing.assert_array_equal(parts, np.repeat([0, 12, 24, 36], 12))


def test_boxes_that_touch_in_a_vertex_are_two():
    faces = np.array([[0, 1, 2], [2, 3, 4]])
    assert len(set(find_parts(find_topology(faces)).tolist())) == 2


@pytest.fixture
def finned():
    """A sphere with a fin on each of five edges, and a sheet of two triangles on another one."""
    faces = faces_of(SPHERE)
    edges = SPHERE.edges_unique[[0, 50, 100, 150, 200]]
    count = len(SPHERE.vertices)
    fins = [[a, b, count + i] for i, (a, b) in enumerate(edges)]
    a, b = SPHERE.edges_unique[300]
    sheet = [[a, b, count + 10], [a, count + 10, count + 11]]
    return faces, np.array(fins), np.array(sheet)


def test_fins_are_found_and_sheets_are_not(finned):
    faces, fins, sheet = finned
    found = find_fins(find_topology(np.concatenate([faces, fins, sheet])))
    np.testing.assert_array_equal(np.flatnonzero(found), len(faces) + np.arange(5))


def test_a_closed_or_open_surface_has_no_fins():
    assert not find_fins(find_topology(faces_of(SPHERE))).any()
    assert not find_fins(find_topology(faces_of(SPHERE)[::2])).any()
    assert not find_fins(find_topology(np.array([[0, 1, 2]]))).any()


def test_real_meshes_have_no_fins(realdata):
    from vondata.shapes.cleaning import clean_mesh
    from vondata.shapes.reading import Limits, read_triangles

    for path in sorted(realdata.glob("ShapeNetCore.v2/*/*/models/*.obj"))[::6]:
        mesh = clean_mesh(read_triangles(path.read_bytes(), path, Limits()), np.eye(3))
        assert not find_fins(find_topology(mesh.faces)).any()
