"""Meshes of 3D views, read back as viewer.js reads them."""

import base64
import struct

import numpy as np

from vondata.frames import object_to_gltf
from vonmodel.mesh import SurfaceMesh, surface_mesh
from vonmodel.reports.html import CLAY, MAX_VERTICES, decimated, viewer_mesh


def ball(size, colours=False):
    axes = np.linspace(-1, 1, size)
    x, y, z = np.meshgrid(axes, axes, axes, indexing="ij")
    mesh = surface_mesh(np.clip(0.5 + 4 * (0.8 - np.sqrt(x**2 + (y / 0.7) ** 2 + z**2)), 0, 1), 0.5)
    if not colours:
        return mesh
    painted = np.where(mesh.vertices[:, :1] > 0, [200, 30, 30], [30, 30, 200]).astype(np.uint8)
    return SurfaceMesh(mesh.vertices, mesh.faces, painted)


def read(text):
    content = base64.urlsafe_b64decode(text)
    vertices, faces, *numbers = struct.unpack("<2I6f", content[:32])
    low, extent = np.array(numbers[:3]), np.array(numbers[3:])
    positions = np.frombuffer(content, "<u2", 3 * vertices, 32).reshape(-1, 3) / 65535 * extent + low
    indices = np.frombuffer(content, "<u2", 3 * faces, 32 + 6 * vertices).reshape(-1, 3)
    colours = np.frombuffer(content, np.uint8, offset=32 + 6 * vertices + 6 * faces).reshape(-1, 3)
    return positions, indices, colours


def test_a_mesh_is_read_as_it_was():
    mesh = ball(16, colours=True)
    positions, indices, colours = read(viewer_mesh(mesh))
    np.testing.assert_allclose(positions, object_to_gltf(mesh.vertices), atol=4e-5)
    np.testing.assert_array_equal(indices, mesh.faces)
    np.testing.assert_array_equal(colours, mesh.colours)


def test_a_mesh_without_colours_is_clay():
    assert (read(viewer_mesh(ball(8)))[2] == CLAY).all()


def test_an_empty_mesh_has_no_view():
    assert viewer_mesh(SurfaceMesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int64))) is None


def test_a_large_mesh_is_decimated_and_keeps_shape_and_colours():
    mesh = ball(48, colours=True)
    assert len(mesh.faces) > 4000
    small = decimated(mesh, 1000)
    assert 500 < len(small.faces) <= 1000
    np.testing.assert_allclose(small.vertices.min(0), mesh.vertices.min(0), atol=0.03)
    np.testing.assert_allclose(small.vertices.max(0), mesh.vertices.max(0), atol=0.03)
    clear = np.abs(small.vertices[:, 0]) > 0.2
    right = small.vertices[clear, 0] > 0
    assert (small.colours[clear][right, 0] > 150).mean() > 0.97
    assert (small.colours[clear][~right, 2] > 150).mean() > 0.97
    assert len(read(viewer_mesh(mesh, max_faces=1000))[1]) <= 1000


def test_indices_fit_into_16_bits():
    assert MAX_VERTICES < 2**16
