"""Voxel files: both ways against the package and trimesh, in place, and within bounds."""

import numpy as np
import pytest
import trimesh
from binvox import Binvox
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

from vondata.dataset.shape_file import load_shape
from vondata.frames import voxel_to_object
from vondata.shapes import binvox
from vondata.shapes.prepare import ShapeSettings, prepare_shape
from vondata.shapes.source_file import Limits
from vondata.types import Item, Rejected


def random_grid(size, seed):
    return np.random.default_rng(seed).random((size,) * 3) < 0.4


def block(size=32):
    """An object without rotational or mirror symmetry."""
    grid = np.zeros((size,) * 3, dtype=bool)
    grid[4:28, 8:20, 6:12] = True
    grid[4:9, 8:13, 12:26] = True
    return grid


@settings(max_examples=15)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_written_grids_come_back(tmp_path_factory, size, seed):
    path = tmp_path_factory.mktemp("grids") / "a.binvox"
    grid = random_grid(size, seed)
    binvox.export_binvox(path, grid, translate=(0.5, -1.0, 2.0), scale=3.0)
    read = binvox.read_binvox(path, Limits())
    np.testing.assert_array_equal(read.occupancy, grid)
    assert read.translate == (0.5, -1.0, 2.0)
    assert read.scale == 3.0


def test_the_package_and_trimesh_read_the_same_voxels(tmp_path):
    path, grid = tmp_path / "a.binvox", random_grid(16, 1)
    binvox.export_binvox(path, grid)
    np.testing.assert_array_equal(Binvox.read(str(path), mode="dense").numpy(), grid)
    np.testing.assert_array_equal(trimesh.load(path).matrix, grid)


def test_what_the_package_and_trimesh_write_is_read(tmp_path):
    grid = random_grid(12, 2)
    Binvox(grid, (12, 12, 12), (0.0, 0.0, 0.0), 1.0, "xyz").write(str(tmp_path / "package.binvox"))
    (tmp_path / "trimesh.binvox").write_bytes(trimesh.voxel.VoxelGrid(grid).export(file_type="binvox"))
    for name in ("package", "trimesh"):
        np.testing.assert_array_equal(binvox.read_binvox(tmp_path / f"{name}.binvox", Limits()).occupancy, grid)


@given(st.integers(1, 100))
def test_places_go_there_and_back(size):
    grid = binvox.VoxelGrid(np.ones((size,) * 3, dtype=bool), (1.0, 2.0, 3.0), 7.0)
    indices = np.random.default_rng(size).uniform(0, size, (5, 3))
    np.testing.assert_allclose(grid.from_model(grid.to_model(indices)), indices, atol=1e-9)
    np.testing.assert_allclose(grid.to_model(np.full(3, -0.5)), (1.0, 2.0, 3.0))
    np.testing.assert_allclose(grid.to_model(np.full(3, size - 0.5)), (8.0, 9.0, 10.0))


def test_exported_voxels_lie_where_the_object_frame_has_them(tmp_path):
    path = tmp_path / "a.binvox"
    binvox.export_binvox(path, block())
    read = binvox.read_binvox(path, Limits())
    ticks = np.arange(32.0)
    np.testing.assert_allclose(read.to_model(np.stack([ticks] * 3, axis=-1))[:, 0], voxel_to_object(ticks, 32))


def item(path, up="z", front="y"):
    return Item(id="a", class_name="chair", source=str(path), inputs=(str(path),), fields={"up": up, "front": front})


@pytest.mark.parametrize("hollow", [False, True])
def test_voxels_become_a_shape_in_their_place(tmp_path, hollow):
    """The file's voxels, centred and scaled to the unit sphere; a file of the surface alone is filled."""
    grid = block()
    if hollow:
        grid[6:26, 10:18, 8:10] = False
    binvox.export_binvox(tmp_path / "a.binvox", grid, translate=(5.0, 6.0, 7.0), scale=32.0)
    row = prepare_shape(item(tmp_path / "a.binvox"), ShapeSettings(resolution=64), tmp_path / "a.npz")
    assert row["source_format"] == "binvox"
    shape = load_shape(tmp_path / "a.npz")
    np.testing.assert_allclose(shape.centre, (5 + 16, 6 + 14, 7 + 16), atol=1e-6)
    ticks = voxel_to_object(np.arange(64), 64)
    places = shape.to_source(np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)) - (5.5, 6.5, 7.5)
    cells = np.rint(places).astype(int)
    within = ((cells >= 0) & (cells < 32)).all(axis=-1)
    expected = np.zeros((64,) * 3, dtype=bool)
    expected[within] = block()[tuple(cells[within].T)]
    both = np.count_nonzero(shape.occupancy & expected)
    assert both / np.count_nonzero(shape.occupancy | expected) > 0.97
    assert not (shape.surface & ~shape.occupancy).any()


def test_comments_and_odd_headers_are_read(tmp_path):
    path = tmp_path / "a.binvox"
    path.write_bytes(
        b"#binvox 1\n# made by hand\ndim 2 2 2\n# more\nscale 2.5\ntranslate 1 2 3\ndata\n\x01\x03\x00\x05"
    )
    read = binvox.read_binvox(path, Limits())
    assert read.occupancy.sum() == 3
    assert (read.translate, read.scale) == ((1.0, 2.0, 3.0), 2.5)


def test_a_byte_behind_the_runs(tmp_path):
    path = tmp_path / "a.binvox"
    for tail in (b"\n", b"\0"):
        path.write_bytes(b"#binvox 1\ndim 2 2 2\ndata\n\x01\x03\x00\x05" + tail)
        assert binvox.read_binvox(path, Limits()).occupancy.sum() == 3
    path.write_bytes(b"#binvox 1\ndim 2 2 2\ndata\n\x01\x03\x00\x05\x01")
    with pytest.raises(Rejected, match="5 bytes of runs, which come in pairs"):
        binvox.read_binvox(path, Limits())


def test_noise_of_voxels_is_too_large(tmp_path):
    """A chequered grid: few bytes, millions of faces."""
    path = tmp_path / "a.binvox"
    path.write_bytes(b"#binvox 1\ndim 128 128 128\ndata\n" + b"\x01\x01\x00\x01" * (128**3 // 2))
    with pytest.raises(Rejected) as caught:
        prepare_shape(item(path), ShapeSettings(resolution=32, max_faces=1_000_000), tmp_path / "a.npz")
    assert caught.value.reason == "too_large"


def test_only_cubes_are_written(tmp_path):
    with pytest.raises(ValueError, match="holds a cube"):
        binvox.export_binvox(tmp_path / "a.binvox", np.ones((2, 3, 2), dtype=bool))


@pytest.mark.parametrize("side", [17, 40])
def test_a_full_grid_is_a_cube(tmp_path, side):
    """What touches the border of its grid is as solid there as elsewhere, but for the bevel of the isosurface."""
    binvox.export_binvox(tmp_path / "a.binvox", np.ones((side,) * 3, dtype=bool))
    prepare_shape(item(tmp_path / "a.binvox"), ShapeSettings(resolution=64), tmp_path / "a.npz")
    shape = load_shape(tmp_path / "a.npz")
    places = np.argwhere(shape.occupancy)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    assert (high - low >= 36).all()  # of the 36.4 voxels of a cube in the unit sphere
    assert shape.occupancy.sum() > 0.99 * np.prod(high - low)
    hull = shape.occupancy & ~binary_erosion(shape.occupancy)
    assert shape.surface[hull].all()
