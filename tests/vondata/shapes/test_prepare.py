"""From a model's file to its shape and row: conventions, methods, and that the same input gives the same file."""

import numpy as np
import pytest
import trimesh

from vondata.dataset.shape_file import load_shape
from vondata.frames import voxel_to_object
from vondata.shapes.prepare import ShapeSettings, prepare_shape
from vondata.types import Item


def item(path, up="z", front="y"):
    return Item(id="a", class_name="chair", source=str(path), inputs=(str(path),), fields={"up": up, "front": front})


def chair():
    """A seat, a back at -y and a box on one side, so that every turn shows."""
    seat = trimesh.creation.box((1.0, 1.0, 0.2))
    back = trimesh.creation.box((1.0, 0.2, 1.0)).apply_translation([0, -0.4, 0.5])
    side = trimesh.creation.box((0.2, 0.3, 0.3)).apply_translation([0.4, 0.1, 0.2])
    return trimesh.util.concatenate([seat, back, side])


TO_AXES = {  # the object frame's x, y, z in the coordinates of a file with these axes
    ("z", "y"): lambda p: p,
    ("y", "-z"): lambda p: np.stack([p[:, 0], p[:, 2], -p[:, 1]], axis=1),
    ("z", "x"): lambda p: np.stack([p[:, 1], -p[:, 0], p[:, 2]], axis=1),
    ("x", "-y"): lambda p: np.stack([p[:, 2], -p[:, 1], p[:, 0]], axis=1),
}


@pytest.mark.parametrize("axes", TO_AXES)
def test_stated_axes_give_the_same_shape(tmp_path, axes):
    mesh = chair()
    prepare_shape(item(save(mesh, tmp_path / "plain.obj")), ShapeSettings(resolution=48), tmp_path / "plain.npz")
    turned = trimesh.Trimesh(TO_AXES[axes](mesh.vertices), mesh.faces, process=False)
    prepare_shape(item(save(turned, tmp_path / "t.obj"), *axes), ShapeSettings(resolution=48), tmp_path / "t.npz")
    one, other = load_shape(tmp_path / "plain.npz"), load_shape(tmp_path / "t.npz")
    assert np.count_nonzero(one.occupancy != other.occupancy) < 0.002 * np.count_nonzero(one.occupancy)
    np.testing.assert_allclose(one.distance, other.distance, atol=0.6 / 47)


def save(mesh, path):
    mesh.export(path, digits=9)
    return path


@pytest.mark.parametrize("resolution", [32, 61, 256])
def test_shape_and_row_agree(tmp_path, resolution):
    mesh = chair().apply_scale(3.0).apply_translation([10, 20, 30])
    row = prepare_shape(
        item(save(mesh, tmp_path / "a.obj")), ShapeSettings(resolution=resolution), tmp_path / "a.npz"
    )
    shape = load_shape(tmp_path / "a.npz")
    assert shape.occupancy.shape == shape.surface.shape == shape.distance.shape == (resolution,) * 3
    assert row["resolution"] == resolution
    assert row["fill"] == pytest.approx(shape.occupancy.mean())
    assert (row["centre_x"], row["centre_y"], row["centre_z"]) == shape.centre
    assert row["scale"] == shape.scale
    assert row["watertight"]
    assert not row["leak"]
    assert row["open_edges"] == 0
    np.testing.assert_allclose(
        shape.to_object(mesh.vertices), (mesh.vertices - shape.centre) * shape.scale, atol=1e-9
    )
    assert np.linalg.norm(shape.to_object(mesh.vertices), axis=1).max() == pytest.approx(1, abs=1e-5)


def test_the_distance_is_that_to_the_surface_in_cube_edges(tmp_path):
    ball = trimesh.creation.icosphere(5, radius=1.0)
    prepare_shape(item(save(ball, tmp_path / "a.obj")), ShapeSettings(resolution=64), tmp_path / "a.npz")
    shape = load_shape(tmp_path / "a.npz")
    ticks = voxel_to_object(np.arange(64), 64)
    radius = np.linalg.norm(np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1), axis=-1)
    np.testing.assert_allclose(shape.distance, np.abs(radius - 1) / 2, atol=0.4 / 63)
    near = np.abs(radius - 1) / 2 * 63 < 6
    np.testing.assert_allclose(shape.distance[near], np.abs(radius - 1)[near] / 2, atol=0.1 / 63)


def test_the_method_of_distance_decides_the_file(tmp_path):
    path = save(chair(), tmp_path / "a.obj")
    for name, method in (("fast", "fast"), ("exact", "exact"), ("again", "fast")):
        prepare_shape(item(path), ShapeSettings(resolution=32, distance=method), tmp_path / f"{name}.npz")
    assert (tmp_path / "fast.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    fast, exact = load_shape(tmp_path / "fast.npz"), load_shape(tmp_path / "exact.npz")
    np.testing.assert_allclose(fast.distance, exact.distance, atol=0.7 / 31)


@pytest.mark.parametrize("resolution", [31, 257])
def test_resolutions_out_of_range_are_refused(resolution):
    with pytest.raises(ValueError, match="between 32 and 256"):
        ShapeSettings(resolution=resolution)
