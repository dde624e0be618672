"""Shape files: atomic writes, exact solids, distances within their error bounds, detection of damage."""

import os
import zipfile

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt

from vondata.dataset.distance_codec import (
    FAR_COMPRESSION,
    MAX_ERROR_VOXELS,
    NEAR_VOXELS,
    decode_distance,
    encode_distance,
)
from vondata.dataset.shape_file import (
    PreparedShape,
    ShapeFileError,
    load_distance,
    load_occupancy,
    load_shape,
    save_shape,
)
from vondata.io.files import atomic_path


def ball(resolution: int, radius: float = 0.6) -> PreparedShape:
    """A solid ball around the origin with its exact distances."""
    ticks = np.linspace(-1, 1, resolution)
    radii = np.linalg.norm(np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1), axis=-1)
    distance = np.abs(radii - radius) / 2
    surface = distance <= 0.5 / (resolution - 1)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return PreparedShape(
        (radii < radius) | surface, surface, distance.astype(np.float32), 2.5, (1.0, -2.0, 3.0), turn
    )


@pytest.mark.parametrize("resolution", [32, 45, 64])
def test_a_shape_comes_back(tmp_path, resolution):
    shape = ball(resolution)
    save_shape(tmp_path / "ball.npz", shape)
    loaded = load_shape(tmp_path / "ball.npz")
    np.testing.assert_array_equal(loaded.occupancy, shape.occupancy)
    np.testing.assert_array_equal(loaded.surface, shape.surface)
    np.testing.assert_array_equal(loaded.rotation, shape.rotation)
    assert (loaded.scale, loaded.centre, loaded.resolution) == (shape.scale, shape.centre, resolution)
    assert loaded.distance.dtype == np.float32
    error = np.abs(loaded.distance - shape.distance) * (resolution - 1)
    assert error[shape.distance * (resolution - 1) <= 6].max() < 0.03
    assert error.max() < 0.3


def test_parts_can_be_read_separately(tmp_path):
    save_shape(tmp_path / "ball.npz", ball(32))
    whole = load_shape(tmp_path / "ball.npz")
    np.testing.assert_array_equal(load_occupancy(tmp_path / "ball.npz"), whole.occupancy)
    np.testing.assert_array_equal(load_distance(tmp_path / "ball.npz"), whole.distance)


def test_the_same_shape_is_the_same_file(tmp_path):
    save_shape(tmp_path / "a.npz", ball(32))
    save_shape(tmp_path / "b.npz", ball(32))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_shape_needs_no_pickle(tmp_path):
    save_shape(tmp_path / "ball.npz", ball(32))
    with np.load(tmp_path / "ball.npz", allow_pickle=False) as members:
        assert {"surface", "interior", "distance_fine", "scale", "centre"} <= set(members)
        assert all(members[name].dtype != object for name in members)


@given(points=hnp.arrays(np.float64, (5, 3), elements=st.floats(-10, 10)))
def test_points_go_to_the_source_and_back(points):
    shape = ball(32)
    np.testing.assert_allclose(shape.to_object(shape.to_source(points)), points, atol=1e-12)
    expected = (shape.rotation.T @ points.T).T / shape.scale + np.array(shape.centre)
    np.testing.assert_allclose(shape.to_source(points), expected, atol=1e-12)


@settings(max_examples=25)
@given(
    field=hnp.arrays(np.float32, st.integers(2, 12).map(lambda n: (n, n, n)), elements=st.floats(0, 2, width=32)),
    seed=st.integers(0, 2**31),
)
def test_any_field_is_right_within_the_bounds(field, seed):
    """Also fields that jump, and whatever solid they are said to belong to."""
    rng = np.random.default_rng(seed)
    inside, shell = rng.random((2, *field.shape)) < 0.3
    size = len(field)
    for encoded in (
        encode_distance(field),
        encode_distance(field, inside & ~shell, shell),
    ):
        error = np.abs(decode_distance(encoded, size) - field) * (size - 1)
        near = field * (size - 1) <= NEAR_VOXELS - MAX_ERROR_VOXELS
        assert np.all(error[near] <= MAX_ERROR_VOXELS + 1e-4)
        assert np.all(error <= MAX_ERROR_VOXELS * FAR_COMPRESSION + 1e-3)


def test_a_field_is_decoded_in_memory_that_is_there():
    """Also where the last planes are worked out in the memory of the first ones."""
    for size in (2, 3, 7, 32):
        field = np.random.default_rng(size).random((size,) * 3, dtype=np.float32)
        encoded, memory = encode_distance(field), np.full((size,) * 3, np.nan, dtype=np.float32)
        assert decode_distance(encoded, size, memory) is memory
        np.testing.assert_array_equal(memory, decode_distance(encoded, size))


def test_smooth_fields_take_a_tenth_of_a_byte(tmp_path):
    shape = ball(64)
    save_shape(tmp_path / "ball.npz", shape)
    assert (tmp_path / "ball.npz").stat().st_size < 0.1 * shape.occupancy.size


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5])
def test_fields_that_are_no_distances_are_refused(value):
    field = np.zeros((4, 4, 4), dtype=np.float32)
    field[1, 2, 3] = value
    with pytest.raises(ValueError, match="finite values that are not negative"):
        encode_distance(field)


def test_fields_that_are_no_cubes_are_refused():
    with pytest.raises(ValueError, match="three equal edges"):
        encode_distance(np.zeros((4, 4, 5), dtype=np.float32))


def test_codes_of_another_resolution_are_refused():
    with pytest.raises(ValueError, match="do not belong"):
        decode_distance(encode_distance(np.zeros((16,) * 3, dtype=np.float32)), 32)


def _without(path, name):
    with np.load(path) as members:
        rest = {key: members[key] for key in members if key != name}
    np.savez(path, **rest)


def _changed(path, **values):
    with np.load(path) as members:
        np.savez(path, **({key: members[key] for key in members} | values))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no zip"),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe")),
        lambda path: _without(path, "distance_fine"),
        lambda path: _without(path, "resolution"),
        lambda path: _changed(path, format_version=np.array(99)),
        lambda path: _changed(path, resolution=np.array(33)),
        lambda path: _changed(path, distance_coarse=np.frombuffer(zstandard.compress(b"x" * 2**27), np.uint8)),
        lambda path: _changed(path, distance_fine_bytes=np.array(7)),
        lambda path: _changed(path, resolution=np.array(1_000_000)),
        lambda path: _changed(path, scale=np.array(1, dtype=np.int32)),
        lambda path: _changed(path, rotation=np.eye(2)),
    ],
    ids=[
        "empty",
        "no zip",
        "cut",
        "flipped",
        "no codes",
        "no size",
        "newer",
        "other size",
        "bomb",
        "odd width",
        "vast",
        "other kind",
        "other shape",
    ],
)
def test_damaged_files_say_so(tmp_path, damage):
    path = tmp_path / "ball.npz"
    save_shape(path, ball(32))
    damage(path)
    with pytest.raises(ShapeFileError, match=r"ball\.npz is not a prepared shape"):
        load_shape(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_shape(tmp_path / "none.npz")


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["a.txt"]


def test_an_error_leaves_what_was_there(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_path(target) as temporary:
        temporary.write_text("half \udcff", encoding="utf-8")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_name_as_long_as_names_may_be(tmp_path):
    target = tmp_path / ("x" * 250 + ".npz")
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"1")
    assert target.exists()


def test_files_get_the_usual_permissions(tmp_path):
    save_shape(tmp_path / "ball.npz", ball(32))
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "ball.npz").stat().st_mode == plain.stat().st_mode


def test_a_solid_of_voxels_survives(tmp_path):
    """Distances that a transform gives, which are kinked everywhere."""
    rng = np.random.default_rng(3)
    solid = rng.random((32, 32, 32)) < 0.05
    distance = (distance_transform_edt(~solid) / 31).astype(np.float32)
    save_shape(tmp_path / "dust.npz", PreparedShape(solid, solid, distance, 1.0, (0.0,) * 3, np.eye(3)))
    assert np.abs(load_distance(tmp_path / "dust.npz") - distance).max() * 31 < 0.3


def test_members_that_expand_and_files_too_large_are_refused(tmp_path):
    """A member of zeros, compressed twice, is small in the file and large in memory."""
    path = tmp_path / "a.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("format_version.npy", "w") as member,
    ):
        for _ in range(64):
            member.write(bytes(2**20))
    with pytest.raises(ShapeFileError, match="compressed twice"):
        load_shape(path)
    with open(path, "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(ShapeFileError, match=r"1,099,511,627,776 bytes"):
        load_shape(path)
