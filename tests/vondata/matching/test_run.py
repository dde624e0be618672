"""Matched viewpoints are recorded once, survive runs of the ledger, and follow the shapes they came from."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vondata.classes import load_class
from vondata.dataset.manifest import ManifestMissingError, output_path, read_manifest
from vondata.dataset.shape_file import ShapeFileError
from vondata.io.fs import DataFolder, file_system, mirror
from vondata.matching import (
    BankSettings,
    MatchingSettings,
    NoShapesError,
    build_bank,
    choose_shapes,
    match_photos,
    match_photos_at,
    run,
)
from vondata.matching.run import match_rows
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import prepare
from vondata.types import Item

from .conftest import DESIGNS, photograph, union_distance, write_photo

COARSE = MatchingSettings(sketches=BankSettings(azimuth_step_deg=15.0, elevation_step_deg=12.0))
VIEWS_DEG = {"a": (35.0, 20.0), "b": (-60.0, 12.0), "c": (100.0, 30.0)}


@dataclass(frozen=True)
class Settings:
    size: int = 64


def copy_photo(item, settings, output):
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(item.inputs[0], output)
    known = item.fields.get("azimuth_deg")
    origin = "none" if known is None else "annotated"
    return {"azimuth_deg": known, "elevation_deg": known, "viewpoint_origin": origin}


@pytest.fixture(scope="module")
def drawn(chairs, tmp_path_factory):
    """The prepared chairs with their sketches."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    shutil.copytree(chairs, folder)
    cache = folder / "chair" / "sketches.npz"
    build_bank(choose_shapes(folder, "chair"), load_class("chair"), COARSE.sketches, cache=cache)
    return folder


@pytest.fixture
def data(drawn, tmp_path):
    """A copy of them, to which photos can be added."""
    shutil.copytree(drawn, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def prepare_photos(data, tmp_path):
    plain = union_distance(DESIGNS["plain"])

    def run(ids, settings=Settings(), annotated=()):
        items = []
        for id in ids:
            path = tmp_path / "photos" / f"{id}.png"
            if not path.is_file():
                write_photo(path, photograph(plain, *VIEWS_DEG[id], size=64))
            fields = {"azimuth_deg": 7.0} if id in annotated else {}
            items.append(Item(id, "chair", str(path), (str(path),), fields, collection="photos"))
        return prepare("images", items, copy_photo, settings, data, PrepareOptions())

    return run


@pytest.fixture
def asked(monkeypatch):
    """The ids that are really matched."""
    ids = []

    def watched(rows, *arguments):
        ids.extend(row["id"] for row in rows)
        return match_rows(rows, *arguments)

    monkeypatch.setattr(run, "match_rows", watched)
    return ids


def viewpoints(data):
    return read_manifest(data, "chair", "images").set_index("id")


def test_a_remote_dataset_is_matched_on_a_copy_and_sent_back(data, prepare_photos, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepare_photos("ac")
    system, _ = file_system("memory://there")
    system.store.clear()
    system.put(str(data), "/there/data", recursive=True)
    there = DataFolder.at("memory://there/data")
    copy = mirror(there)
    assert not (copy / "journal").exists()
    assert match_photos_at(there, copy, "chair", COARSE).worked == 2
    before = system.find("/there/data", detail=True)
    assert match_photos_at(there, copy, "chair", COARSE).worked == 0
    assert system.find("/there/data", detail=True) == before
    assert set(viewpoints(mirror(there))["viewpoint_origin"]) == {"matched"}
    assert (copy / "chair" / "sketches.npz").is_file()  # a new copy does not throw them away
    lines = system.cat_file("/there/data/journal/chair-images.jsonl").splitlines()
    assert len(lines) == 4
    system.store.clear()


def test_matches_are_in_the_manifest_and_right(data, prepare_photos):
    prepare_photos("abc", annotated="b")
    (data / "chair" / "sketches.npz").unlink()
    events = []
    count = match_photos(data, "chair", COARSE, on_event=events.append)
    assert (count.matched, count.worked, count.unreadable) == (2, 2, 0)
    rows = viewpoints(data)
    assert rows["viewpoint_origin"].to_dict() == {"a": "matched", "b": "annotated", "c": "matched"}
    assert rows.loc["b", "azimuth_deg"] == 7.0
    for id in "ac":
        assert rows.loc[id, "azimuth_deg"] == pytest.approx(VIEWS_DEG[id][0], abs=8.0)
        assert rows.loc[id, "elevation_deg"] == pytest.approx(VIEWS_DEG[id][1], abs=10.0)
        assert rows.loc[id, "viewpoint_shape"] in DESIGNS
    assert [event.stage for event in events] == ["sketching"] * 4 + ["matching"]


def test_a_run_again_matches_nothing_and_loses_nothing(data, prepare_photos, asked):
    prepare_photos("ab")
    match_photos(data, "chair", COARSE)
    before = viewpoints(data)
    assert prepare_photos("ab").classes["chair"].worked == 0
    assert match_photos(data, "chair", COARSE).worked == 0
    assert asked == ["a", "b"]
    assert viewpoints(data).equals(before)


def test_only_added_photos_are_matched(data, prepare_photos, asked):
    prepare_photos("ab")
    match_photos(data, "chair", COARSE)
    before = viewpoints(data).loc[["a", "b"]]
    prepare_photos("abc")
    count = match_photos(data, "chair", COARSE)
    assert asked == ["a", "b", "c"]
    assert (count.matched, count.worked) == (3, 1)
    after = viewpoints(data)
    assert after.loc[["a", "b"]].equals(before)
    assert after.loc["c", "viewpoint_origin"] == "matched"


def test_a_touched_file_keeps_its_match_and_a_changed_one_is_matched_anew(data, prepare_photos, asked, tmp_path):
    prepare_photos("ab")
    match_photos(data, "chair", COARSE)
    photo = tmp_path / "photos" / "a.png"
    content = photo.read_bytes()
    photo.unlink()
    photo.write_bytes(content)
    prepare_photos("ab")
    assert match_photos(data, "chair", COARSE).worked == 0
    write_photo(photo, photograph(union_distance(DESIGNS["plain"]), -20.0, 20.0, size=64))
    prepare_photos("ab")
    assert match_photos(data, "chair", COARSE).worked == 1
    assert asked == ["a", "b", "a"]
    assert viewpoints(data).loc["a", "azimuth_deg"] == pytest.approx(-20.0, abs=8.0)


def test_other_shapes_and_settings_ask_again(data, prepare_photos, asked):
    prepare_photos("a")
    match_photos(data, "chair", COARSE)
    key = viewpoints(data).loc["a", "viewpoint_bank"]
    few = MatchingSettings(shapes=2, sketches=COARSE.sketches)
    assert match_photos(data, "chair", few).worked == 1
    assert viewpoints(data).loc["a", "viewpoint_bank"] != key
    assert asked == ["a", "a"]


def test_an_interruption_keeps_what_is_matched(data, prepare_photos, monkeypatch):
    monkeypatch.setattr(run, "BATCH", 1)
    prepare_photos("abc")

    def stop(event):
        if event.stage == "matching" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        match_photos(data, "chair", COARSE, on_event=stop)
    assert (viewpoints(data)["viewpoint_origin"] == "matched").sum() == 2
    assert match_photos(data, "chair", COARSE).worked == 1


def test_a_damaged_picture_is_named_and_the_others_are_matched(data, prepare_photos, caplog):
    prepare_photos("abc")
    output_path(data, "chair", "images", "b").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        count = match_photos(data, "chair", COARSE)
    assert (count.matched, count.unreadable) == (2, 1)
    assert "b.png" in caplog.text
    assert viewpoints(data).loc["b", "viewpoint_origin"] == "none"
    assert np.isnan(viewpoints(data).loc["b", "azimuth_deg"])


def test_without_shapes_or_photos_it_says_what_to_do(data, prepare_photos, tmp_path):
    with pytest.raises(ManifestMissingError, match=r"no images of class .*prepare them first"):
        match_photos(data, "chair", COARSE)
    prepare_photos("a")
    shape = next((data / "chair" / "shapes").glob("*.npz"))
    shape.write_bytes(b"no shape")
    with pytest.raises(ShapeFileError, match=shape.name):
        match_photos(data, "chair", COARSE)
    Path(data / "chair" / "shapes.parquet").unlink()
    with pytest.raises(ManifestMissingError, match=r"no shapes of class .*prepare them first"):
        match_photos(data, "chair", COARSE)


def test_all_shapes_rejected(data, prepare_photos):
    prepare_photos("a")
    frame = read_manifest(data, "chair", "shapes").assign(status="rejected")
    frame.to_parquet(data / "chair" / "shapes.parquet")
    with pytest.raises(NoShapesError, match="no prepared shape"):
        match_photos(data, "chair", COARSE)
