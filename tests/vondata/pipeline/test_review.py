"""A review rejects rows once all are known, survives resumes, and reverses its rejections."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from vondata.dataset.manifest import output_path, read_manifest
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import Review, prepare
from vondata.types import Item

REASON = "duplicate_photo"


@dataclass(frozen=True)
class Settings:
    size: int = 8


def copy(item, settings, output):
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(Path(item.inputs[0]).read_bytes())
    return {"phash": Path(item.inputs[0]).read_text("utf-8")}


def find(rows):
    """Of the rows with the same text the first one stays."""
    keeper, found = {}, {}
    for row in rows:
        kept = keeper.setdefault(row["phash"], row["id"])
        if kept != row["id"]:
            found[row["id"]] = REASON, f"like {kept}"
    return found


REVIEW = Review(REASON, find)


@pytest.fixture
def run(tmp_path):
    """Prepares photos, given as texts by id, and returns the counts."""

    def prepared(texts, review=REVIEW, collection="photos", **options):
        items = []
        for id, text in texts.items():
            path = tmp_path / collection / f"{id}.txt"
            path.parent.mkdir(exist_ok=True)
            if not path.is_file() or path.read_text("utf-8") != text:
                path.write_text(text, "utf-8")
            items.append(Item(id, "chair", str(path), (str(path),), collection=collection))
        data = tmp_path / "data"
        return prepare("images", items, copy, Settings(), data, PrepareOptions(**options), review=review).classes[
            "chair"
        ]

    return prepared


def rows(tmp_path):
    return read_manifest(tmp_path / "data", "chair", "images").set_index("id")


def test_rows_are_rejected_and_counted(run, tmp_path):
    count = run({"a": "x", "b": "x", "c": "y"})
    assert (count.found, count.prepared, dict(count.reasons)) == (3, 2, {REASON: 1})
    assert rows(tmp_path)["status"].to_dict() == {"a": "prepared", "b": "rejected", "c": "prepared"}
    assert rows(tmp_path).loc["b", "detail"] == "like a"
    assert output_path(tmp_path / "data", "chair", "images", "b").is_file()


def test_a_run_again_does_and_changes_nothing(run, tmp_path):
    texts = {"a": "x", "b": "x", "c": "y"}
    run(texts)
    journal = (tmp_path / "data" / "journal" / "chair-images.jsonl").read_bytes()
    asked = []
    count = run(texts, Review(REASON, lambda rows: asked.append(1) or find(rows)))
    assert (count.worked, count.prepared, dict(count.reasons)) == (0, 2, {REASON: 1})
    assert (tmp_path / "data" / "journal" / "chair-images.jsonl").read_bytes() == journal
    assert asked == []


def test_a_row_comes_back_when_its_keeper_goes(run, tmp_path):
    run({"a": "x", "b": "x"})
    count = run({"b": "x"})
    assert (count.worked, count.vanished, count.prepared, dict(count.reasons)) == (0, 1, 1, {})
    assert rows(tmp_path)["status"].to_dict() == {"b": "prepared"}
    assert output_path(tmp_path / "data", "chair", "images", "b").is_file()


def test_a_touched_repeat_keeps_its_picture(run, tmp_path):
    run({"a": "x", "b": "x"})
    path = tmp_path / "photos" / "b.txt"
    path.write_text("x", "utf-8")
    path.touch()
    run({"a": "x", "b": "x"})
    assert output_path(tmp_path / "data", "chair", "images", "b").is_file()
    assert run({"b": "x"}).prepared == 1


def test_a_changed_file_is_judged_anew(run, tmp_path):
    run({"a": "x", "b": "x"})
    assert run({"a": "x", "b": "other"}).prepared == 2
    assert rows(tmp_path)["status"].to_dict() == {"a": "prepared", "b": "prepared"}


def test_collections_are_reviewed_together_and_counts_are_of_the_run(run, tmp_path):
    run({"b": "x", "d": "z"})
    count = run({"a": "x"}, collection="more")
    assert (count.found, count.prepared, dict(count.reasons)) == (1, 1, {})
    assert rows(tmp_path)["status"].to_dict() == {"a": "prepared", "b": "rejected", "d": "prepared"}


def test_verdicts_are_those_of_all_rows_together_however_they_came(run, tmp_path):
    run({"c": "x"})
    run({"b": "x", "c": "x"})
    run({"a": "x", "b": "x", "c": "x"})
    assert rows(tmp_path)["detail"].fillna("").to_dict() == {"a": "", "b": "like a", "c": "like a"}
