"""Broken and foreign files: every file is a row with the right reason, and nothing outside the folders is opened."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vondata.classes import known_classes, load_class
from vondata.dataset.manifest import output_path, read_manifest
from vondata.images.prepare import prepare_image
from vondata.images.settings import ImageSettings
from vondata.images.sources import photo_items, pix3d_items
from vondata.io.listing import open_tree
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import prepare
from vondata.types import printable

from .bad_photos import OK, Expected, write_annotation, write_liars, write_mutated, write_places, write_strangers

SETTINGS = ImageSettings(size=32)
MEMORY_BYTES = 700 * 2**20  # of a worker; its imports alone take 250 MB


@pytest.fixture
def small_photo(chair, paint):
    return np.ascontiguousarray(paint(chair)[::2, ::2])


@pytest.fixture
def outside(tmp_path, small_photo):
    """A photo outside the folders, which must not be opened."""
    path = tmp_path / "private" / "secret.png"
    path.parent.mkdir()
    Image.fromarray(small_photo).save(path)
    return path


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collects every path that Python opens in this process."""
    opened: list[str] = []
    active = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if active and event == "open" and isinstance(arguments[0], str | bytes):
            opened.append(os.fsdecode(arguments[0]))

    sys.addaudithook(hook)  # stays for the life of the process, so it can be put to sleep
    try:
        yield opened
    finally:
        active = False


def reasons_of_photos(data: Path, folder: Path) -> dict[str, str]:
    rows = read_manifest(data, "chair", "images")
    assert rows["source"].is_unique
    for row in rows.itertuples():
        assert row.status == ("prepared" if row.reason is None or row.reason != row.reason else "rejected")
        picture = output_path(data, "chair", "images", row.id)
        assert picture.is_file() == (row.status == "prepared")
        if row.status == "prepared":
            with Image.open(picture) as image:
                assert image.size == (SETTINGS.size, SETTINGS.size)
        else:
            assert row.detail
    names = [Path(source).name for source in rows["source"]]
    return dict(zip(names, rows["reason"].fillna(OK), strict=True))


def check(found: dict[str, str], expected: Expected) -> None:
    shown = {printable(name): reasons for name, reasons in expected.items()}
    assert found.keys() == shown.keys()
    wrong = {name: found[name] for name, reasons in shown.items() if found[name] not in reasons}
    assert wrong == {}


def write_photos(folder: Path, photo: np.ndarray, outside: Path, mutated: int, seed: int) -> Expected:
    folder.mkdir(parents=True)
    expected = write_mutated(folder, photo, mutated, seed)
    return expected | write_liars(folder) | write_strangers(folder) | write_places(folder, photo, outside)


def test_every_bad_photo_is_a_row_with_a_right_reason(tmp_path, small_photo, outside):
    expected = write_photos(tmp_path / "photos" / "chair", small_photo, outside, mutated=20, seed=1)
    items = photo_items(open_tree(tmp_path / "photos"), [load_class("chair")])
    with watched() as opened:
        prepare("images", items, prepare_image, SETTINGS, tmp_path / "data", PrepareOptions())
    check(reasons_of_photos(tmp_path / "data", tmp_path / "photos"), expected)
    assert opened
    assert [path for path in opened if "secret" in path or path.startswith("/dev/zero")] == []


def test_a_lying_annotation_leads_nowhere(tmp_path, chair, small_photo, outside):
    mask = (255 * (chair[::2, ::2] > 0.5)).astype(np.uint8)
    root = tmp_path / "pix3d"
    expected = write_annotation(root, small_photo, mask, outside)
    items = list(pix3d_items(open_tree(root), known_classes(), SETTINGS))
    with watched() as opened:
        prepare("images", items, prepare_image, SETTINGS, tmp_path / "data", PrepareOptions())
    allowed = (str(root), str(tmp_path / "data"))
    assert [path for path in opened if path.startswith(str(tmp_path)) and not path.startswith(allowed)] == []
    assert "/etc/passwd" not in opened
    rows = read_manifest(tmp_path / "data", "chair", "images").set_index("id")
    assert len(rows) == len(items) == len(expected)
    found = {f"{index}": rows["reason"].fillna(OK)[item.id] for index, item in enumerate(items)}
    check(found, expected)


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path, small_photo, outside):
    folder = tmp_path / "photos" / "chair"
    folder.mkdir(parents=True)
    Image.fromarray(small_photo).save(folder / "closed.png")
    (folder / "closed.png").chmod(0)
    prepare(
        "images",
        photo_items(open_tree(tmp_path / "photos"), [load_class("chair")]),
        prepare_image,
        SETTINGS,
        tmp_path / "data",
        PrepareOptions(),
    )
    check(reasons_of_photos(tmp_path / "data", folder), {"closed.png": {"source_unreadable"}})


@pytest.mark.slow
def test_300_bad_photos_in_processes_of_little_memory(tmp_path, chair, paint, outside):
    """With the limits of a real run: no photo times out or exceeds the memory."""
    photo = cv2.resize(paint(chair), (160, 120), interpolation=cv2.INTER_AREA)
    expected = write_photos(tmp_path / "photos" / "chair", photo, outside, mutated=280, seed=2)
    assert len(expected) >= 300
    items = photo_items(open_tree(tmp_path / "photos"), [load_class("chair")])
    options = PrepareOptions(workers=2, timeout_s=60.0, memory_limit=f"{MEMORY_BYTES}B")
    prepare("images", items, prepare_image, SETTINGS, tmp_path / "data", options)
    check(reasons_of_photos(tmp_path / "data", tmp_path / "photos"), expected)
