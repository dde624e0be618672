import os

import pytest

from vondata.classes import known_classes, load_class
from vondata.images.folder_source import photo_items
from vondata.io.listing import CollectionMissingError


def _fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_folder_per_class(tmp_path):
    _fill(tmp_path, "chair/a.jpg", "chair/sub/a.png", "chair/notes.txt", "car/b.webp", "spoon/c.jpg", "d.jpg")
    items = list(photo_items(tmp_path, known_classes()))
    assert [(item.class_name, os.path.relpath(item.source, tmp_path)) for item in items] == [
        ("car", "car/b.webp"),
        ("chair", "chair/a.jpg"),
        ("chair", "chair/sub/a.png"),
    ]
    assert all(item.inputs == (item.source,) and item.rejected is None for item in items)
    assert len({item.id for item in items}) == 3


def test_only_the_classes_asked_for(tmp_path):
    _fill(tmp_path, "chair/a.jpg", "car/b.webp")
    assert [item.class_name for item in photo_items(tmp_path, [load_class("chair")])] == ["chair"]


def test_a_flat_folder_is_of_the_one_class_asked_for_or_of_its_name(tmp_path):
    _fill(tmp_path / "crawl", "a.jpg", "x/b.jpg")
    _fill(tmp_path / "sofa", "c.jpg")
    assert [item.class_name for item in photo_items(tmp_path / "crawl", [load_class("car")])] == ["car", "car"]
    assert [item.class_name for item in photo_items(tmp_path / "sofa", known_classes())] == ["sofa"]
    with pytest.raises(CollectionMissingError, match="all of its photos are of one class, name that class"):
        list(photo_items(tmp_path / "crawl", known_classes()))


def test_photos_beside_folders_of_other_classes_are_not_taken_for_the_class_asked_for(tmp_path):
    _fill(tmp_path, "car/a.jpg")
    with pytest.raises(CollectionMissingError, match="chair"):
        list(photo_items(tmp_path, [load_class("chair")]))


def test_links_out_of_the_folder_and_things_that_are_no_files_are_rows(tmp_path):
    _fill(tmp_path, "secret.jpg", "chair/good.jpg")
    (tmp_path / "chair" / "away.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "chair" / "broken.jpg").symlink_to("nothing")
    (tmp_path / "chair" / "folder.jpg").mkdir()
    found = {os.path.basename(item.source): item for item in photo_items(tmp_path, [load_class("chair")])}
    assert {name: item.rejected and item.rejected[0] for name, item in found.items()} == {
        "away.jpg": "outside_root",
        "broken.jpg": "source_missing",
        "folder.jpg": "source_unreadable",
        "good.jpg": None,
    }
    assert found["away.jpg"].inputs == ()


def test_names_that_are_not_utf8_are_items(tmp_path):
    (tmp_path / "chair").mkdir()
    with open(os.fsencode(tmp_path) + b"/chair/\xff.jpg", "wb") as file:
        file.write(b"x")
    (item,) = photo_items(tmp_path, [load_class("chair")])
    assert item.source.endswith("\\xff.jpg")
    assert os.path.exists(item.inputs[0])


def test_an_empty_or_missing_folder_is_told(tmp_path):
    (tmp_path / "chair").mkdir()
    with pytest.raises(CollectionMissingError, match="no photo"):
        list(photo_items(tmp_path, known_classes()))
    with pytest.raises(CollectionMissingError, match="not a folder"):
        list(photo_items(tmp_path / "missing", known_classes()))
