import os

import pytest

from vondata.classes import known_classes, load_class
from vondata.images.sources import photo_items
from vondata.io.listing import CollectionMissingError, open_tree


def _fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_folder_per_class(tmp_path):
    _fill(tmp_path, "chair/a.jpg", "chair/sub/a.png", "chair/notes.txt", "car/b.webp", "spoon/c.jpg", "d.jpg")
    items = list(photo_items(open_tree(tmp_path), known_classes()))
    assert [(item.class_name, os.path.relpath(item.source, tmp_path)) for item in items] == [
        ("car", "car/b.webp"),
        ("chair", "chair/a.jpg"),
        ("chair", "chair/notes.txt"),
        ("chair", "chair/sub/a.png"),
    ]
    photos = [item for item in items if not item.source.endswith(".txt")]
    assert all(item.inputs == (item.source,) and item.rejected is None for item in photos)
    assert len({item.id for item in items}) == 4


def test_bytes_tell_what_is_a_photo_and_every_other_file_is_a_row_with_a_reason(tmp_path):
    folder = tmp_path / "chair"
    folder.mkdir()
    starts = {
        "4f9c2ab1": b"\xff\xd8\xff\xe0" + bytes(20),
        "photo.jpg?w=1200&h=900": b"\xff\xd8\xff\xe1" + bytes(20),
        "a.pjpeg": b"\xff\xd8\xff\xdb" + bytes(20),
        "b.img": b"\x89PNG\r\n\x1a\n" + bytes(20),
        "c.data": b"RIFF\0\0\0\0WEBPVP8 ",
        "d": b"\0\0\0\x20ftypavif\0\0\0\0",
        "e.bin": bytes(100),  # as the listing of a URL lays files out
        "f.txt": b"a chair",
        "g.json": b'{"caption": "a chair"}',
        "h.svgz": b"\x1f\x8b\x08",
        "i": b"",
        "j.jpg": b"<html>",  # by its name a photo: its work says what is wrong with it
    }
    for name, start in starts.items():
        (folder / name).write_bytes(start)
    found = {
        os.path.basename(item.source): item.rejected
        for item in photo_items(open_tree(tmp_path), [load_class("chair")])
    }
    assert found.keys() == starts.keys()
    others = {name for name, rejected in found.items() if rejected}
    assert others == {"f.txt", "g.json", "h.svgz", "i"}
    assert {found[name][0] for name in others} == {"not_a_photo"}
    assert "gzip" in found["h.svgz"][1]


def test_only_the_classes_asked_for(tmp_path):
    _fill(tmp_path, "chair/a.jpg", "car/b.webp")
    assert [item.class_name for item in photo_items(open_tree(tmp_path), [load_class("chair")])] == ["chair"]


def test_a_flat_folder_is_of_the_one_class_asked_for_or_of_its_name(tmp_path):
    _fill(tmp_path / "crawl", "a.jpg", "x/b.jpg")
    _fill(tmp_path / "sofa", "c.jpg")
    assert [item.class_name for item in photo_items(open_tree(tmp_path / "crawl"), [load_class("car")])] == [
        "car",
        "car",
    ]
    assert [item.class_name for item in photo_items(open_tree(tmp_path / "sofa"), known_classes())] == ["sofa"]
    with pytest.raises(CollectionMissingError, match="all of its photos are of one class, name that class"):
        list(photo_items(open_tree(tmp_path / "crawl"), known_classes()))


def test_photos_beside_folders_of_other_classes_are_not_taken_for_the_class_asked_for(tmp_path):
    _fill(tmp_path, "car/a.jpg")
    with pytest.raises(CollectionMissingError, match="chair"):
        list(photo_items(open_tree(tmp_path), [load_class("chair")]))


def test_links_out_of_the_folder_and_things_that_are_no_files_are_rows(tmp_path):
    _fill(tmp_path, "secret.jpg", "chair/good.jpg")
    (tmp_path / "chair" / "away.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "chair" / "broken.jpg").symlink_to("nothing")
    (tmp_path / "chair" / "folder.jpg").mkdir()
    found = {os.path.basename(item.source): item for item in photo_items(open_tree(tmp_path), [load_class("chair")])}
    assert {name: item.rejected and item.rejected[0] for name, item in found.items()} == {
        "away.jpg": "outside_root",
        "broken.jpg": "source_missing",
        "folder.jpg": "source_unreadable",
        "good.jpg": None,
    }
    assert found["away.jpg"].inputs == ()


def test_linked_folders_are_rows(tmp_path):
    _fill(tmp_path, "other/a.jpg", "root/chair/good.jpg", "root/chair/b/c.jpg", "root/.store/d.jpg")
    chair = tmp_path / "root" / "chair"
    (chair / "round").symlink_to(chair)
    (chair / "inside").symlink_to(chair / "b")
    (chair / "store").symlink_to(tmp_path / "root" / ".store")
    (chair / "outside").symlink_to(tmp_path / "other")
    (chair / "gone").symlink_to(chair / "nothing")
    items = list(photo_items(open_tree(tmp_path / "root"), [load_class("chair")]))
    assert {os.path.relpath(item.source, chair): item.rejected and item.rejected[0] for item in items} == {
        "good.jpg": None,
        "b/c.jpg": None,
        "round": "linked_folder",
        "inside": "linked_folder",
        "store": "linked_folder",
        "outside": "outside_root",
        "gone": "source_missing",
    }


def test_names_that_are_not_utf8_are_items(tmp_path):
    (tmp_path / "chair").mkdir()
    with open(os.fsencode(tmp_path) + b"/chair/\xff.jpg", "wb") as file:
        file.write(b"x")
    (item,) = photo_items(open_tree(tmp_path), [load_class("chair")])
    assert item.source.endswith("\\xff.jpg")
    assert os.path.exists(item.inputs[0])


def test_an_empty_or_missing_folder_is_reported(tmp_path):
    (tmp_path / "chair").mkdir()
    with pytest.raises(CollectionMissingError, match="no photo"):
        list(photo_items(open_tree(tmp_path), known_classes()))
    with pytest.raises(CollectionMissingError, match="not a folder"):
        list(photo_items(open_tree(tmp_path / "missing"), known_classes()))
