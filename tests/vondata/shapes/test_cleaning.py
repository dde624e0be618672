"""Cleaning: dropped faces, normalisation, and the edges, parts and fins of meshes."""

import numpy as np
import pytest
import trimesh
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vondata.frames import axes_to_object
from vondata.shapes.cleaning import (
    RADIUS,
    clean_mesh,
    find_fins,
    find_parts,
    find_topology,
    first_of_equal,
    first_of_equal_faces,
    has_outlier,
)
from vondata.shapes.polygons import TriangleSoup
from vondata.shapes.reading import read_triangles
from vondata.shapes.source_file import Limits
from vondata.types import Rejected

IDENTITY = np.eye(3)
SHAPENET = axes_to_object("y", "-z")


def soup(mesh):
    return TriangleSoup(np.asarray(mesh.vertices, dtype=float), np.asarray(mesh.faces, dtype=np.int64))


def reason(vertices, faces):
    with pytest.raises(Rejected) as caught:
        clean_mesh(TriangleSoup(np.array(vertices, dtype=float), np.array(faces, dtype=np.int64)), IDENTITY)
    assert caught.value.detail
    return caught.value.reason


@given(
    points=hnp.arrays(np.float64, (12, 3), elements=st.floats(-1, 1)),
    offset=hnp.arrays(np.float64, 3, elements=st.floats(-1e3, 1e3)),
    factor=st.floats(1e-6, 1e6),
)
def test_the_unit_sphere_holds_whatever_came(points, offset, factor):
    faces = np.arange(12).reshape(4, 3)
    vertices = (points + offset) * factor
    try:
        mesh = clean_mesh(TriangleSoup(vertices, faces), SHAPENET)
    except Rejected as rejected:
        assume(rejected.reason not in ("flat_mesh", "empty_mesh"))
        raise
    radii = np.linalg.norm(mesh.vertices, axis=1)
    assert radii.max() < 1
    assert radii.max() == pytest.approx(RADIUS, abs=1e-5)
    np.testing.assert_allclose(mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0), 0, atol=1e-5)
    size = np.ptp(vertices, axis=0).max()
    back = mesh.to_source(mesh.vertices)
    gaps = np.linalg.norm(back[:, None] - vertices[None], axis=2).min(axis=1)
    assert gaps.max() < 1e-5 * size  # every vertex is one of the source's


def test_axes_become_those_of_the_object():
    """A chair's back: behind and above. In ShapeNet's frame behind is +z and above is +y."""
    seat = trimesh.creation.box((1, 0.1, 1))
    back = trimesh.creation.box((1, 1, 0.1)).apply_translation([0, 0.5, 0.5])
    mesh = clean_mesh(soup(trimesh.util.concatenate([seat, back])), SHAPENET)
    high = mesh.vertices[mesh.vertices[:, 2] > 0.9 * mesh.vertices[:, 2].max()]
    assert np.all(high[:, 1] < 0)


def test_the_way_back_is_the_stated_one():
    box = trimesh.creation.box((1, 2, 4)).apply_translation([10, 20, 30])
    mesh = clean_mesh(soup(box), SHAPENET)
    np.testing.assert_allclose(mesh.centre, [10, 20, 30])
    expected = (SHAPENET.T @ mesh.vertices.T).T / mesh.scale + np.array(mesh.centre)
    np.testing.assert_allclose(mesh.to_source(mesh.vertices), expected)
    np.testing.assert_allclose(sorted(map(tuple, expected)), sorted(map(tuple, box.vertices)), atol=1e-5)


def test_degenerate_and_duplicate_faces_are_dropped_and_counted():
    vertices = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0], [0, 0, 0]]
    good = [[0, 1, 2], [0, 1, 3]]
    degenerate = [[0, 0, 1], [0, 4, 1], [0, 5, 2], [3, 3, 3]]  # 4 lies on an edge, 5 on vertex 0
    duplicate = [[2, 1, 0], [1, 2, 5], [3, 0, 1]]  # turned over, over the other vertex, rotated
    faces = np.array(good + degenerate + duplicate)
    mesh = clean_mesh(TriangleSoup(np.array(vertices, dtype=float), faces, broken_faces=2), IDENTITY)
    assert len(mesh.faces) == 2
    assert mesh.degenerate_faces == 6
    assert mesh.duplicate_faces == 3
    assert mesh.source_faces == 11
    assert mesh.source_vertices == 6


def test_seams_are_welded():
    box = trimesh.creation.box((1, 2, 3))
    split = TriangleSoup(box.vertices[box.faces.reshape(-1)], np.arange(36).reshape(12, 3))
    noise = np.random.default_rng(0).uniform(-1e-8, 1e-8, split.vertices.shape)
    mesh = clean_mesh(TriangleSoup(split.vertices + noise, split.faces), IDENTITY)
    assert len(mesh.vertices) == 8
    assert find_topology(mesh.faces).watertight


def test_unused_vertices_do_not_count():
    box = trimesh.creation.box((1, 1, 1))
    far = np.concatenate([box.vertices, [[100, 0, 0], [np.nan, 0, 0], [np.inf, 0, 0]]])
    mesh = clean_mesh(TriangleSoup(far, box.faces), IDENTITY)
    assert mesh.scale == pytest.approx(RADIUS / np.sqrt(0.75))
    assert mesh.centre == pytest.approx((0, 0, 0))


def test_a_far_face_without_area_does_not_shrink_the_object():
    box = trimesh.creation.box((1, 1, 1))
    vertices = np.concatenate([box.vertices, [[100, 0, 0], [100, 1, 0]]])
    mesh = clean_mesh(TriangleSoup(vertices, np.concatenate([box.faces, [[8, 9, 8]]])), IDENTITY)
    assert mesh.scale == pytest.approx(RADIUS / np.sqrt(0.75))


def test_reasons():
    triangle = [[0, 1, 2]]
    assert reason(np.zeros((0, 3)), np.zeros((0, 3))) == "empty_mesh"
    assert reason([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.zeros((0, 3))) == "empty_mesh"
    assert reason([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 2, 2]]) == "empty_mesh"
    assert reason([[0, 0, 0], [np.nan, 0, 0], [0, 1, 0]], triangle) == "not_finite"
    assert reason([[0, 0, 0], [np.inf, 0, 0], [0, 1, 0]], triangle) == "not_finite"
    assert reason([[5, 5, 5]] * 3, triangle) == "flat_mesh"
    assert reason([[0, 0, 0], [1, 1, 1], [3, 3, 3]], triangle) == "flat_mesh"
    assert reason([[1e9, 0, 0], [1e9 + 1e-7, 0, 0], [1e9, 1e-7, 0]], triangle) == "flat_mesh"


@pytest.mark.parametrize("size", [1e-150, 1e-30, 1e30, 1e150, 1e300])
def test_any_unit_will_do(size):
    box = trimesh.creation.box((1, 2, 3))
    mesh = clean_mesh(TriangleSoup(box.vertices * size, box.faces), IDENTITY)
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(RADIUS)
    assert mesh.scale * size == pytest.approx(RADIUS / np.sqrt(3.5))


def test_a_flat_sheet_is_a_mesh():
    mesh = clean_mesh(
        TriangleSoup(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]])),
        IDENTITY,
    )
    assert len(mesh.faces) == 2


@given(hnp.arrays(np.int64, st.integers(0, 300), elements=st.integers(-20, 20)))
def test_first_of_equal_is_what_unique_finds(keys):
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(first_of_equal(keys), first[inverse] if len(keys) else [])


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(0, 6)))
def test_equal_faces_are_found_by_their_vertices(faces):
    seen, expected = set(), []
    for row, face in enumerate(np.sort(faces, axis=1).tolist()):
        if tuple(face) not in seen:
            expected.append(row)
        seen.add(tuple(face))
    np.testing.assert_array_equal(first_of_equal_faces(faces), expected)


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
    for path in sorted(realdata.glob("ShapeNetCore.v2/*/*/models/*.obj"))[::6]:
        mesh = clean_mesh(read_triangles(path.read_bytes(), path, Limits()), np.eye(3))
        assert not find_fins(find_topology(mesh.faces)).any()


def with_stray(mesh, far, size=0.01):
    """The mesh with a triangle so far from its middle, in its own extents."""
    corner = np.array([far, 0, 0]) * np.ptp(mesh.vertices, axis=0).max()
    stray = trimesh.Trimesh(corner + size * np.eye(3), [[0, 1, 2]])
    return trimesh.util.concatenate([mesh, stray])


@pytest.mark.parametrize("far", [2, 5, -5, 1000])
def test_a_stray_triangle_is_an_outlier(far):
    for mesh in (trimesh.creation.box((1, 2, 3)), trimesh.creation.icosphere()):
        assert has_outlier(clean_mesh(soup(with_stray(mesh, far)), IDENTITY))


@pytest.mark.parametrize("count", [1, 2])
def test_damaged_corners_that_pull_spikes_are_outliers(count):
    for mesh in (trimesh.creation.box((1, 2, 3)).subdivide(), trimesh.creation.icosphere()):
        mesh.vertices[:count] = [[40, 0, 0], [0, -40, 0]][:count]
        assert has_outlier(clean_mesh(soup(mesh), IDENTITY))


def test_shapes_with_thin_parts_have_no_outlier():
    lamp = trimesh.util.concatenate(
        [
            trimesh.creation.cylinder(0.2, 0.05),
            trimesh.creation.cylinder(0.01, 1.5).apply_translation([0, 0, 0.75]),
            trimesh.creation.cone(0.3, 0.3).apply_translation([0, 0, 1.4]),
        ]
    )
    cone = trimesh.creation.cone(0.5, 2.5)  # its point is a single vertex
    for mesh in (
        lamp,
        cone,
        trimesh.creation.box((1, 2, 3)),
        with_stray(SPHERE, 0.9),
        trimesh.creation.box((1, 1, 100)),
    ):
        assert not has_outlier(clean_mesh(soup(mesh), IDENTITY))


def test_real_meshes_have_no_outlier(realdata):
    for path in sorted(realdata.glob("ShapeNetCore.v2/*/*/models/*.obj"))[::4]:
        assert not has_outlier(clean_mesh(read_triangles(path.read_bytes(), path, Limits()), IDENTITY))
