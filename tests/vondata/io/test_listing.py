import os
from pathlib import PurePosixPath

import pytest

from vondata.io.listing import TOP, Verdict, open_tree, relative_id
from vondata.types import file_safe


def test_files_come_in_order_hidden_ones_and_linked_folders_stay_out(tmp_path):
    for name in ("b/2.jpg", "b/1.JPG", "a.jpg", "a.txt", ".hidden.jpg", ".git/c.jpg", "empty.jpg/x/y.png"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(b"x")
    (tmp_path / "root" / "folder.jpg").mkdir()
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root", target_is_directory=True)
    skipped = list[tuple[PurePosixPath, Verdict]]()
    found = [str(file) for file in open_tree(tmp_path / "root").walk(TOP, (".jpg",), skipped)]
    assert found == ["a.jpg", "a.txt", "b/1.JPG", "b/2.jpg", "empty.jpg/x/y.png", "folder.jpg"]
    assert [(str(file), verdict[0]) for file, verdict in skipped] == [("loop", "linked_folder")]


def test_a_missing_folder_is_reported(tmp_path):
    skipped = list[tuple[PurePosixPath, Verdict]]()
    assert list(open_tree(tmp_path).walk(TOP / "missing", (".jpg",), skipped)) == []
    assert [(file.name, verdict[0]) for file, verdict in skipped] == [("missing", "source_unreadable")]


def test_ids_are_different_for_different_paths_and_safe():
    paths = [
        "a/b.jpg",
        "a_b.jpg",
        "a_b.png",
        "A/b.jpg",
        "ü.jpg",
        "x" * 300 + ".jpg",
        "x" * 301 + ".jpg",
        "-.jpg",
        "a b.jpg",
    ]
    ids = [relative_id(PurePosixPath(path)) for path in paths]
    assert len(set(ids)) == len(paths)
    assert all(file_safe(id) == id for id in ids)
    assert relative_id(PurePosixPath("a/b.jpg")) == ids[0]
    assert ids[0].startswith("a_b-")


def test_names_that_are_not_utf8_have_ids():
    assert relative_id(PurePosixPath(os.fsdecode(b"\xff\xfe.jpg"))) != relative_id(
        PurePosixPath(os.fsdecode(b"\xff\xfd.jpg"))
    )


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (root / "photo.jpg").write_bytes(b"x")
    (root / "inside.jpg").symlink_to("photo.jpg")
    (root / "outside.jpg").symlink_to("../secret.jpg")
    (root / "nowhere.jpg").symlink_to("nothing.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    return root


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("photo.jpg", None),
        ("inside.jpg", None),
        ("outside.jpg", "outside_root"),
        ("../secret.jpg", "outside_root"),
        ("../root/photo.jpg", None),
        ("nowhere.jpg", "source_missing"),
        ("missing.jpg", "source_missing"),
        ("photo.jpg/x.jpg", "source_missing"),
        ("folder.jpg", "source_unreadable"),
        ("pipe.jpg", "source_unreadable"),
        ("a\0b.jpg", "source_unreadable"),
        ("x" * 5000 + ".jpg", "source_unreadable"),
        ("\ud800.jpg", "source_unreadable"),
    ],
)
def test_what_may_be_read(root, name, reason):
    verdict = open_tree(root).why_not_usable(TOP / name)
    assert (verdict and verdict[0]) == reason


def test_a_link_that_leads_in_circles_is_not_usable(root):
    verdict = open_tree(root).why_not_usable(TOP / "loop.jpg")
    assert verdict
    assert verdict[0] in ("source_missing", "source_unreadable")


def test_the_root_may_itself_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    assert open_tree(tmp_path / "link").why_not_usable(TOP / "photo.jpg") is None
