"""Surface voxels: the same cells as open3d finds, for any mesh."""

import numpy as np
import open3d as o3d
import pytest
import trimesh
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vondata.shapes.cleaning import clean_mesh
from vondata.shapes.reading import read_triangles
from vondata.shapes.source_file import Limits
from vondata.shapes.voxelize import surface_voxels, to_voxels


def peer(vertices, faces, resolution):
    """open3d's exact voxelisation of the same cells."""
    mesh = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
    grid = o3d.geometry.VoxelGrid.create_from_triangle_mesh_within_bounds(
        mesh, 1.0, np.full(3, -0.5), np.full(3, resolution - 0.5)
    )
    marked = np.zeros((resolution,) * 3, dtype=bool)
    for voxel in grid.get_voxels():
        marked[tuple(voxel.grid_index)] = True
    return marked


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1), resolution=st.integers(4, 20), size=st.floats(0.01, 30), count=st.integers(1, 6)
)
def test_random_triangles_mark_what_open3d_marks(seed, resolution, size, count):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, resolution - 1, (count, 1, 3)) + rng.uniform(-size / 2, size / 2, (count, 3, 3))
    vertices, faces = _folded(corners.reshape(-1, 3), resolution - 1), np.arange(3 * count).reshape(-1, 3)
    np.testing.assert_array_equal(surface_voxels(vertices, faces, resolution), peer(vertices, faces, resolution))


def _folded(positions, size):
    """Positions reflected into [0, size]; cut off there, planes would run exactly through corners of cells."""
    return size - np.abs(np.mod(positions, 2 * size) - size)


def touching(triangle, size):
    """Brute force in whole numbers, for vertices on halves: cells that none of the thirteen axes separates."""
    doubled = np.rint(2 * triangle).astype(int)
    edges = np.roll(doubled, -1, axis=0) - doubled
    axes = [*np.eye(3, dtype=int), np.cross(edges[0], edges[1])]
    axes += [np.cross(axis, edge) for axis in np.eye(3, dtype=int) for edge in edges]
    cells = 2 * np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
    marked = np.ones((size,) * 3, dtype=bool)
    for axis in axes:
        shadow, middle, half = doubled @ axis, cells @ axis, np.abs(axis).sum()
        marked &= (middle + half >= shadow.min()) & (middle - half <= shadow.max())
    return marked


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_triangles_on_the_borders_of_cells(seed):
    """Vertices on halves: faces lie exactly between cells, and all touched count (open3d leaves some out)."""
    triangle = np.random.default_rng(seed).integers(2, 12, (3, 3)) / 2.0
    assume(np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0]).any())  # cleaning leaves no others
    np.testing.assert_array_equal(surface_voxels(triangle, np.array([[0, 1, 2]]), 8), touching(triangle, 8))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_sampled_points_lie_in_marked_cells(seed):
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(0, 9, (3, 3))
    marked = surface_voxels(vertices, np.array([[0, 1, 2]]), 10)
    weights = rng.dirichlet(np.ones(3), 500)
    cells = np.rint(weights @ vertices).astype(int)
    assert marked[tuple(cells.T)].all()


def test_what_lies_outside_is_left_out():
    vertices = np.array([[-20.0, 3, 3], [30, 3, 3], [3, 30, 3]])
    marked = surface_voxels(vertices, np.array([[0, 1, 2]]), 8)
    assert marked[:, :, 3].sum() > 0
    assert marked.sum() == marked[:, :, 3].sum()
    assert not surface_voxels(vertices + 100, np.array([[0, 1, 2]]), 8).any()


def test_order_and_orientation_do_not_matter():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.8)
    vertices, faces = to_voxels(mesh.vertices, 32), np.asarray(mesh.faces)
    marked = surface_voxels(vertices, faces, 32)
    shuffled = np.random.default_rng(0).permutation(faces)[:, ::-1]
    np.testing.assert_array_equal(surface_voxels(vertices, shuffled, 32), marked)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_mesh_marks_mirrored_voxels(axis):
    mesh = trimesh.creation.torus(0.6, 0.25)
    vertices = np.asarray(mesh.vertices) @ np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    mirrored = vertices.copy()
    mirrored[:, axis] *= -1
    marked = surface_voxels(to_voxels(vertices, 33), mesh.faces, 33)
    np.testing.assert_array_equal(surface_voxels(to_voxels(mirrored, 33), mesh.faces, 33), np.flip(marked, axis))


def test_a_symmetric_object_is_symmetric():
    """The middle plane of an even grid lies between two voxels: both belong to a sheet there."""
    sheet = np.array([[0.0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0, 0.7]])
    marked = surface_voxels(to_voxels(sheet, 32), np.array([[0, 1, 2]]), 32)
    np.testing.assert_array_equal(np.flatnonzero(marked.any(axis=(1, 2))), [15, 16])


@pytest.mark.parametrize("index", [3, 20, 40])
def test_real_meshes_mark_what_open3d_marks(realdata, index):
    path = sorted(realdata.glob("ShapeNetCore.v2/*/*/models/*.obj"))[index]
    mesh = clean_mesh(read_triangles(path.read_bytes(), path, Limits()), np.eye(3))
    vertices = to_voxels(mesh.vertices, 64)
    np.testing.assert_array_equal(surface_voxels(vertices, mesh.faces, 64), peer(vertices, mesh.faces, 64))
