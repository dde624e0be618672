"""The release's data archive becomes a prepared dataset: axes, lists, pose pools, and faulty files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt

from vondata.classes import load_class
from vondata.dataset.manifest import output_path, read_manifest
from vondata.dataset.shape_file import load_shape
from vondata.images.prepare import prepare_image
from vondata.images.settings import ImageSettings
from vondata.io.listing import CollectionMissingError
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import prepare
from vondata.published import (
    PublishedShapeSettings,
    archive_classes,
    archive_folder,
    distance_items,
    image_items,
    prepare_distance,
    published_to_object,
    read_pose_pool,
)
from vondata.types import Rejected

CAR = [load_class("car")]
SIZE = 32


def solid(size: int = SIZE) -> np.ndarray:
    """A car of two boxes in the object frame, y to the front, z up; the cabin sits behind, off the middle."""
    volume = np.zeros((size, size, size), dtype=bool)
    volume[8:24, 3:29, 6:14] = True
    volume[10:20, 5:15, 14:22] = True
    return volume


def to_published(volume: np.ndarray) -> np.ndarray:
    """The inverse of the release's own steps, one after the other, that its loader takes from a file to a volume."""
    volume = np.flip(volume, 1)  # undoes the last flip
    volume = volume.swapaxes(1, 2)
    volume = np.flip(volume, 0)
    return volume.swapaxes(0, 1)


def write_archive(root: Path) -> Path:
    """The layout of the archive beside the release's lists: two cars, three photos."""
    (root / "objects" / "df" / "car").mkdir(parents=True)
    (root / "images" / "car").mkdir(parents=True)
    body = solid()
    distance = np.where(body, distance_transform_edt(body), distance_transform_edt(~body)) - 0.5
    names = ("1a2b_df", "3c4d_df")
    for name in names:
        np.savez_compressed(root / f"objects/df/car/{name}.npz", df=to_published(distance / (SIZE - 1)))
    (root / "objects" / "df_car.txt").write_text("".join(f"objects/df/car/{name}.npz\n" for name in names))
    for number in range(3):
        rgba = np.zeros((60, 90, 4), dtype=np.uint8)
        rgba[20:45, 15 + number : 75] = [40 * number, 90, 200 - 60 * number, 255]
        rgba[10:20, 30:60] = [200, 60 * number, 50, 255]
        Image.fromarray(rgba).save(root / f"images/car/mask_Acura_{number}.png")
    (root / "images" / "imgs_car.txt").write_text("".join(f"images/car/mask_Acura_{n}.png\n" for n in range(3)))
    np.savez(root / "images" / "pose_car.npz", azs=np.array([40, -45, 30]), eles=np.array([0, 4, 2]))
    return root


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "data")


def test_axes_are_those_of_the_release() -> None:
    volume = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(published_to_object(to_published(volume)), volume)
    # The first axis of a file points up.
    file = np.zeros((4, 4, 4))
    file[3, 0, 0] = 1.0
    assert np.argwhere(published_to_object(file)).tolist() == [[3, 3, 3]]


def test_an_archive_becomes_a_dataset(archive: Path, tmp_path: Path) -> None:
    found = archive_folder(tmp_path)
    assert found == archive
    assert archive_classes(archive) == ("car",)
    dataset, options = tmp_path / "prepared", PrepareOptions(workers=0)
    shapes = prepare(
        "shapes", distance_items(archive, CAR), prepare_distance, PublishedShapeSettings(), dataset, options
    )
    pictures = ImageSettings(size=32, keep_duplicates=True)
    images = prepare("images", image_items(archive, CAR), prepare_image, pictures, dataset, options)
    assert (shapes.classes["car"].prepared, images.classes["car"].prepared) == (2, 3)

    shape = load_shape(output_path(dataset, "car", "shapes", "1a2b"))
    body = solid()
    assert shape.resolution == SIZE
    # Surface voxels lie on both sides of the surface, the solid is everything inside of them.
    assert shape.occupancy[body].all()
    assert (shape.occupancy & ~body).sum() < 0.5 * body.sum()
    assert not shape.occupancy[distance_transform_edt(~body) > 1.5].any()
    assert shape.distance[0, 0, 0] > 0.1

    rows = read_manifest(dataset, "car", "images").sort_values("id")
    assert rows["azimuth_deg"].tolist() == [40.0, -45.0, 30.0]
    assert rows["elevation_deg"].tolist() == [0.0, 4.0, 2.0]
    assert set(rows["viewpoint_origin"]) == {"annotated"}
    again = prepare(
        "shapes", distance_items(archive, CAR), prepare_distance, PublishedShapeSettings(), dataset, options
    )
    assert again.classes["car"].worked == 0


def test_a_closed_shell_is_filled_and_an_open_one_is_not(tmp_path: Path) -> None:
    for opened in (False, True):
        shell = np.zeros((SIZE, SIZE, SIZE), dtype=bool)
        shell[6:26, 6:26, 6:26] = True
        shell[7:25, 7:25, 7:25] = False
        if opened:
            shell[12:20, 12:20, 25] = False
        distance = distance_transform_edt(~shell) / (SIZE - 1)
        path, output = tmp_path / "x_df.npz", tmp_path / "x.npz"
        np.savez(path, df=to_published(distance))
        (item,) = items_of(tmp_path, path)
        row = prepare_distance(item, PublishedShapeSettings(), output)
        assert load_shape(output).occupancy[16, 16, 16] == (not opened)
        assert (row["enclosed_voxels"] > 1000) == (not opened)


def items_of(root: Path, path: Path) -> list:
    (root / "objects").mkdir(exist_ok=True)
    (root / "objects" / "df_car.txt").write_text(f"{path.relative_to(root)}\n\n")
    return list(distance_items(root, CAR))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"df": np.ones((8, 8, 8))}, "file_corrupt"),
        ({"df": np.ones((32, 32, 16))}, "file_corrupt"),
        ({"df": np.ones((32, 32))}, "file_corrupt"),
        ({"distance": np.ones((32, 32, 32))}, "file_corrupt"),
        ({"df": np.full((32, 32, 32), np.nan)}, "not_finite"),
        ({"df": np.full((32, 32, 32), -1.0)}, "not_finite"),
        ({"df": np.ones((32, 32, 32), dtype=np.int64)}, "not_finite"),
        ({"df": np.ones((32, 32, 32))}, "empty_mesh"),
        ({"df": np.array([{"a": 1}], dtype=object)}, "file_corrupt"),
    ],
)
def test_what_is_no_distance_file_is_rejected(tmp_path: Path, content: dict, reason: str) -> None:
    path = tmp_path / "a_df.npz"
    np.savez(path, **content)
    (item,) = items_of(tmp_path, path)
    with pytest.raises(Rejected) as verdict:
        prepare_distance(item, PublishedShapeSettings(), tmp_path / "out.npz")
    assert verdict.value.reason == reason
    assert not (tmp_path / "out.npz").exists()


def test_a_damaged_file_is_rejected_and_a_missing_or_strange_one_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a_df.npz"
    np.savez_compressed(path, df=np.ones((32, 32, 32)))
    path.write_bytes(path.read_bytes()[:200])
    (item,) = items_of(tmp_path, path)
    with pytest.raises(Rejected):
        prepare_distance(item, PublishedShapeSettings(), tmp_path / "out.npz")
    (tmp_path / "objects" / "df_car.txt").write_text("objects/gone_df.npz\n../../etc/passwd\n/etc/passwd\n")
    assert [each.rejected[0] for each in distance_items(tmp_path, CAR)] == [
        "source_missing",
        "outside_root",
        "outside_root",
    ]


def test_without_lists_all_files_are_taken(archive: Path) -> None:
    (archive / "objects" / "df_car.txt").unlink()
    (archive / "images" / "imgs_car.txt").unlink()
    assert [each.id for each in distance_items(archive, CAR)] == ["1a2b", "3c4d"]
    assert len(list(image_items(archive, CAR))) == 3
    assert archive_classes(archive) == ("car",)


def test_a_pose_pool_of_another_length_is_left_out(archive: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.savez(archive / "images" / "pose_car.npz", azs=np.zeros(2), eles=np.zeros(2))
    assert all(not each.fields for each in image_items(archive, CAR))
    assert "2 viewpoints for 3 photos" in caplog.text
    np.savez(archive / "images" / "pose_car.npz", azs=np.zeros(2), eles=np.zeros(3))
    with pytest.raises(CollectionMissingError, match="is not a pose pool"):
        read_pose_pool(archive / "images" / "pose_car.npz")
    (archive / "images" / "pose_car.npz").write_bytes(b"PK no")
    with pytest.raises(CollectionMissingError, match="cannot be read as a pose pool"):
        list(image_items(archive, CAR))
    assert read_pose_pool(archive / "none.npz") is None
