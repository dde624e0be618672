"""The preparation run: every item is a row; nothing is repeated, lost or overwritten."""

import errno
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vondata.dataset.manifest import manifest_path, output_path, prepared, read_manifest
from vondata.dataset.metadata import DatasetFormatError, read_dataset
from vondata.dataset.schema import ColumnTypeError, UnknownColumnError, UnknownReasonError
from vondata.images.settings import ImageSettings
from vondata.io.files import atomic_path
from vondata.io.lease import DatasetBusyError
from vondata.pipeline.journal import Journal, journal_path
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import DataFolderError, PreparationResult, prepare
from vondata.shapes.prepare import ShapeSettings
from vondata.types import Event, Item, Rejected, file_safe, printable


@dataclass(frozen=True)
class Settings:
    """Of the toy preparation below."""

    times: int = 2
    at_most: int = field(default=100, metadata={"planning": True})


def double(item: Item, settings: Settings, output: Path) -> dict[str, Any]:
    """A toy preparation: the text as often as asked, and as many faces as it has letters."""
    text = Path(item.inputs[0]).read_text("utf-8")
    match text:
        case "empty":
            raise Rejected("empty_mesh", "no faces")
        case "bug":
            raise ZeroDivisionError("no luck")
        case "die":
            with atomic_path(output) as temporary:
                temporary.write_text("half of it", "utf-8")
                os._exit(1)
    with atomic_path(output) as temporary:
        temporary.write_text(text * settings.times, "utf-8")
    return {"faces": len(text)}


@dataclass
class Bench:
    """A folder with sources and a dataset."""

    root: Path
    events: list[Event] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.root / "data"

    def item(self, name: str, text: str | None = None, *, folder: str = "a", **changes: Any) -> Item:
        path = self.root / folder / f"{name}.obj"
        if text is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        item = Item(name, "chair", str(path), (str(path),), collection=f"meshes {self.root / folder}")
        return replace(item, **changes)

    def run(
        self,
        *items: Item,
        settings: Settings | ShapeSettings | ImageSettings | None = None,
        work: Any = double,
        **options: Any,
    ) -> PreparationResult:
        self.events.clear()
        return prepare(
            "shapes", items, work, settings or Settings(), self.data, PrepareOptions(**options), self.events.append
        )

    def worked(self) -> list[str]:
        return sorted(str(event.row["id"]) for event in self.events if event.row is not None)

    def rows(self, class_name: str = "chair") -> pd.DataFrame:
        return read_manifest(self.data, class_name, "shapes").set_index("id")

    def output(self, id: str) -> Path:
        return output_path(self.data, "chair", "shapes", id)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_item_is_a_row(bench: Bench) -> None:
    missing = bench.item("missing")
    known = bench.item("known", "xyz", rejected=("no_mesh", "the folder holds no mesh"))
    result = bench.run(bench.item("good", "ab"), bench.item("bad", "empty"), missing, known)

    rows = bench.rows()
    assert list(rows.index) == ["bad", "good", "known", "missing"]
    assert rows["reason"].fillna("").to_dict() == {
        "bad": "empty_mesh",
        "good": "",
        "known": "no_mesh",
        "missing": "source_missing",
    }
    assert rows.loc["bad", "detail"] == "no faces"
    assert rows.loc["good", "faces"] == 2
    assert rows.loc["good", "sha256"] == "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603"
    assert isinstance(rows.loc["known", "sha256"], str)
    assert pd.isna(rows.loc["missing", "sha256"])
    assert bench.output("good").read_text("utf-8") == "abab"
    assert list(prepared(read_manifest(bench.data, "chair", "shapes"))["id"]) == ["good"]
    count = result.classes["chair"]
    assert (count.found, count.worked, count.prepared, count.rejected) == (4, 4, 1, 3)
    assert read_dataset(bench.data)["chair"]["shapes"].prepared == 1


def test_a_resume_reads_no_file_and_works_on_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [bench.item(f"m{number}", "x" * number) for number in range(1, 5)]
    bench.run(*items)
    written = manifest_path(bench.data, "chair", "shapes").stat().st_mtime_ns

    monkeypatch.setattr("vondata.pipeline.task.file_sha256", _refuse)
    result = bench.run(*items)
    assert bench.worked() == []
    assert result.classes["chair"].prepared == 4
    assert manifest_path(bench.data, "chair", "shapes").stat().st_mtime_ns == written


def _refuse(path: Path, max_bytes: int) -> str:
    raise AssertionError(f"{path} was read")


def test_only_what_changed_is_done_again(bench: Bench) -> None:
    items = [bench.item(name, name * 3) for name in ("a", "b", "c", "d")]
    bench.run(*items)
    bench.item("a", "new")
    os.utime(items[1].inputs[0], ns=(0, 0))  # touched, but the same bytes
    bench.output("c").unlink()
    outputs = {name: bench.output(name).stat().st_mtime_ns for name in ("b", "d")}
    bench.run(*items)
    assert bench.worked() == ["a", "b", "c"]
    assert bench.output("a").read_text("utf-8") == "newnew"
    assert bench.output("c").exists()
    assert {name: bench.output(name).stat().st_mtime_ns for name in ("b", "d")} == outputs  # b was only looked at
    bench.run(*items)
    assert bench.worked() == []


def test_other_settings_do_all_again_but_not_those_of_planning(bench: Bench) -> None:
    items = [bench.item(name, name) for name in ("a", "b")]
    bench.run(*items)
    bench.run(*items, settings=Settings(at_most=5))
    assert bench.worked() == []
    bench.run(*items, settings=Settings(times=3))
    assert bench.worked() == ["a", "b"]
    assert bench.output("a").read_text("utf-8") == "aaa"
    assert bench.rows()["settings"].nunique() == 1


def faces(item: Item, settings: object, output: Path) -> dict[str, Any]:
    """As `double`, for any settings."""
    return double(item, Settings(), output)


@pytest.mark.parametrize("settings", [ShapeSettings(), ImageSettings()])
def test_what_an_older_version_prepared_or_rejected_is_done_again_once(
    bench: Bench, settings: ShapeSettings | ImageSettings
) -> None:
    older = replace(settings)
    object.__setattr__(older, "method", settings.method - 1)
    items = bench.item("good", "abc"), bench.item("bad", "empty")
    bench.run(*items, settings=older, work=faces)
    bench.run(*items, settings=older, work=faces)
    assert bench.worked() == []
    bench.run(*items, settings=settings, work=faces)
    assert bench.worked() == ["bad", "good"]
    bench.run(*items, settings=settings, work=faces)
    assert bench.worked() == []


def test_rows_of_other_settings_are_counted(bench: Bench) -> None:
    items = [bench.item(name, name) for name in ("a", "b", "c")]
    bench.run(*items)
    result = bench.run(*items, settings=Settings(times=3), limit=1)
    assert result.classes["chair"].other_settings == 2
    assert len(bench.rows()) == 3


def test_facts_of_the_annotation_are_part_of_the_key(bench: Bench) -> None:
    item = bench.item("a", "a", fields={"up": "y"})
    bench.run(item)
    bench.run(replace(item, fields={"up": "z"}))
    assert bench.worked() == ["a"]


def test_force_does_all_again(bench: Bench) -> None:
    items = [bench.item("a", "a"), bench.item("b", "empty")]
    bench.run(*items)
    bench.run(*items, force=True)
    assert bench.worked() == ["a", "b"]


def test_a_row_that_turns_bad_loses_its_output(bench: Bench) -> None:
    bench.run(bench.item("a", "a"))
    bench.run(bench.item("a", "empty"))
    assert bench.rows().loc["a", "status"] == "rejected"
    assert not bench.output("a").exists()


def test_limit_counts_per_class_and_drops_nothing(bench: Bench) -> None:
    chairs = [bench.item(f"c{number}", "x") for number in range(5)]
    cars = [bench.item(f"k{number}", "x", class_name="car") for number in range(5)]
    bench.run(*chairs, *cars, limit=2)
    assert bench.worked() == ["c0", "c1", "k0", "k1"]
    bench.run(*chairs, *cars, limit=3)
    assert bench.worked() == ["c2", "k2"]
    bench.run(*chairs)
    bench.run(*chairs, limit=1)
    assert len(bench.rows()) == 5
    assert len(bench.rows("car")) == 3


def test_what_vanished_leaves_the_manifest_and_may_come_back(bench: Bench) -> None:
    kept, gone = bench.item("kept", "a"), bench.item("gone", "b")
    other = bench.item("other", "c", folder="b")
    bench.run(kept, gone)
    bench.run(other)
    assert list(bench.rows().index) == ["gone", "kept", "other"]

    result = bench.run(kept)
    assert result.classes["chair"].vanished == 1
    assert list(bench.rows().index) == ["kept", "other"]  # another collection is not touched
    stamp = bench.output("gone").stat().st_mtime_ns
    bench.run(kept, gone)
    assert list(bench.rows().index) == ["gone", "kept", "other"]
    assert bench.output("gone").stat().st_mtime_ns == stamp  # found unchanged, not prepared again


def test_an_id_is_never_overwritten(bench: Bench) -> None:
    first = bench.item("same", "one")
    second = replace(bench.item("same", "two", folder="b"), collection=first.collection)
    bench.run(first, second)
    rows = bench.rows()
    (duplicate,) = rows.index[rows["reason"] == "duplicate"]
    assert duplicate.startswith("same-")
    assert first.source in rows.loc[duplicate, "detail"]
    assert bench.output("same").read_text("utf-8") == "oneone"
    bench.run(first, second)
    assert bench.worked() == []


def test_an_id_of_another_collection_is_never_overwritten(bench: Bench) -> None:
    first, second = bench.item("same", "one"), bench.item("same", "two", folder="b")
    bench.run(first)
    bench.run(second)
    assert bench.output("same").read_text("utf-8") == "oneone"
    assert sorted(bench.rows()["reason"].fillna("")) == ["", "duplicate"]

    Path(first.inputs[0]).unlink()  # the first one is gone: the second takes its place
    bench.run(second)
    assert bench.output("same").read_text("utf-8") == "twotwo"
    assert bench.rows()["status"].to_dict() == {"same": "prepared"}


def test_a_moved_collection_is_recognised_by_content(bench: Bench) -> None:
    bench.run(bench.item("m", "text"))
    (bench.root / "a").rename(bench.root / "b")
    stamp = bench.output("m").stat().st_mtime_ns
    moved = bench.item("m", folder="b")
    bench.run(moved)
    assert bench.output("m").stat().st_mtime_ns == stamp
    assert bench.rows()["source"].to_dict() == {"m": moved.source}


def test_verdicts_on_the_machine_hold_under_their_limits_only(bench: Bench, travelling: None) -> None:
    item = bench.item("m", "die")
    bench.run(item, workers=1, timeout_s=600.0)
    assert bench.rows().loc["m", "reason"] == "worker_died"
    assert isinstance(bench.rows().loc["m", "sha256"], str)
    assert not any(bench.output("m").parent.iterdir())  # nor a temporary file of the dead process
    bench.run(item, workers=1, timeout_s=600.0)
    assert bench.worked() == []
    bench.item("m", "fine")
    bench.run(item, workers=1, timeout_s=600.0)
    assert bench.rows().loc["m", "status"] == "prepared"


def test_bugs_are_rows_and_are_tried_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    items = [bench.item("a", "bug"), bench.item("b", "fine")]
    bench.run(*items)
    assert bench.rows()["reason"].fillna("").to_dict() == {"a": "internal_error", "b": ""}
    assert bench.rows().loc["a", "detail"] == "ZeroDivisionError: no luck"
    assert "in double" in caplog.text
    bench.run(*items)
    assert bench.worked() == ["a"]


def test_processes_and_this_process_give_the_same_manifest(bench: Bench, travelling: None) -> None:
    texts = {"a": "one", "b": "empty", "c": "bug", "d": "four"}
    items = [bench.item(name, text) for name, text in texts.items()]
    bench.run(*items)
    here = bench.rows().drop(columns="seconds")
    bench.run(*items, workers=2, force=True)
    pd.testing.assert_frame_equal(bench.rows().drop(columns="seconds"), here)


@pytest.fixture
def travelling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets worker processes, which get this one's path, import this module, however the tests were started."""
    root, depth = Path(__file__).resolve(), __name__.count(".") + 1
    monkeypatch.setattr(sys, "path", [str(root.parents[depth - 1]), *sys.path])


def test_an_interrupted_run_goes_on_where_it_stopped(bench: Bench) -> None:
    items = [bench.item(f"m{number}", "x") for number in range(6)]

    def interrupt(event: Event) -> None:
        if event.stage == "finished" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("shapes", items, double, Settings(), bench.data, PrepareOptions(), interrupt)
    assert list(bench.rows().index) == ["m0", "m1", "m2"]
    bench.run(*items)
    assert bench.worked() == ["m3", "m4", "m5"]


def test_a_full_disk_stops_the_run_in_words(bench: Bench) -> None:
    def work(item: Item, settings: Settings, output: Path) -> Mapping[str, Any]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DataFolderError, match="make room"):
        bench.run(bench.item("a", "a"), work=work)
    bench.run(bench.item("a", "a"))
    assert bench.worked() == ["a"]


def test_the_work_must_keep_to_the_tables(bench: Bench) -> None:
    item = bench.item("a", "a")
    with pytest.raises(UnknownColumnError, match="colour"):
        bench.run(item, work=lambda *arguments: double(*arguments) | {"colour": "red"})
    with pytest.raises(ColumnTypeError, match="faces holds int, not str"):
        bench.run(item, work=lambda *arguments: double(*arguments) | {"faces": "3"})
    with pytest.raises(UnknownReasonError, match="did you mean 'empty_mesh'"):
        bench.run(replace(item, rejected=("empty_mush", "?")))
    with pytest.raises(ValueError, match="truncated"):
        bench.run(replace(item, rejected=("truncated", "of photos alone")))


def test_a_torn_or_damaged_journal_costs_only_its_items(bench: Bench) -> None:
    items = [bench.item(f"m{number}", "x") for number in range(4)]
    bench.run(*items)
    path = journal_path(bench.data, "chair", "shapes")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"\0" * (len(lines[1]) - 1) + b"\n"
    path.write_bytes(b"".join(lines)[:-5])
    bench.run(*items)
    assert bench.worked() == ["m1", "m3"]
    assert len(bench.rows()) == 4
    bench.run(*items)
    assert bench.worked() == []


def test_no_clock_decides(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(bench.item("m1", "x"))
    future = 2**32 * 10**9
    for path in (manifest_path(bench.data, "chair", "shapes"), bench.data / "chair" / "shapes.csv"):
        os.utime(path, ns=(future, future))  # as if the clock had been set back since
    bench.run(bench.item("m1"), bench.item("m2", "xyz"))
    assert sorted(bench.rows().index) == ["m1", "m2"]
    assert "m2" in (bench.data / "chair" / "shapes.csv").read_text("utf-8")
    os.utime(manifest_path(bench.data, "chair", "shapes"), ns=(future, future))
    bench.item("m2", "xyzxyz")
    bench.run(bench.item("m1"), bench.item("m2"), force=True)
    assert bench.rows().loc["m2", "faces"] == 6
    written = manifest_path(bench.data, "chair", "shapes").stat().st_mtime_ns
    os.utime(journal_path(bench.data, "chair", "shapes"), ns=(2 * future, 2 * future))
    bench.run(bench.item("m1"), bench.item("m2"))
    assert manifest_path(bench.data, "chair", "shapes").stat().st_mtime_ns == written


def test_a_file_of_a_tebibyte_is_a_row_at_once(bench: Bench) -> None:
    item = bench.item("huge", "x")
    os.truncate(item.inputs[0], 1 << 40)
    for options in ({}, {"workers": 1, "timeout_s": 600.0}):
        bench.run(item, force=True, **options)
        assert bench.rows().loc["huge", "reason"] == "too_large"
        assert bench.rows().loc["huge", "detail"].endswith("has 1,048,576 MB; at most 2,048 are read")


def test_every_prepared_file_has_its_checksum(bench: Bench) -> None:
    bench.run(bench.item("good", "abc"), bench.item("bad", "empty"))
    rows = bench.rows()
    assert rows.loc["good", "output_sha256"] == hashlib.sha256(b"abcabc").hexdigest()
    assert pd.isna(rows.loc["bad", "output_sha256"])


@pytest.mark.parametrize("cut", range(0, 400, 37))
def test_a_journal_cut_anywhere_is_read(tmp_path: Path, cut: int) -> None:
    row = {"collection": "", "reason": None}
    with Journal(tmp_path, "chair", "shapes") as journal:
        for number in range(3):
            journal.record(f"m{number}", stamp=number, content="ab", settings="s", input="", row=row)
    path = journal_path(tmp_path, "chair", "shapes")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    with Journal(tmp_path, "chair", "shapes") as journal:
        expected = whole[: len(whole) - cut].count(b"\n")
        assert list(journal.entries) == [f"m{number}" for number in range(expected)]
        journal.record("new", stamp=1, content=None, settings="s", input="", row=row)
        assert journal.line("new")["stamp"] == 1
    assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()][-1] == "new"


def test_two_runs_at_once_are_refused(bench: Bench) -> None:
    with Journal(bench.data, "chair", "shapes"), pytest.raises(DatasetBusyError, match="wait"):
        bench.run(bench.item("a", "a"))


def test_a_newer_dataset_is_refused_before_anything_is_written(bench: Bench) -> None:
    bench.data.mkdir()
    (bench.data / "von-dataset.json").write_text('{"format_version": 99, "classes": {}}', "utf-8")
    with pytest.raises(DatasetFormatError, match="newer"):
        bench.run(bench.item("a", "a"))
    assert not (bench.data / "journal").exists()


def test_names_that_are_not_utf8(bench: Bench) -> None:
    name = os.fsdecode(b"caf\xe9")
    item = replace(bench.item("x"), id=file_safe(name))
    path = bench.root / f"{name}.obj"
    path.write_text("x", "utf-8")
    bench.run(replace(item, source=str(path), inputs=(str(path),)))
    (row,) = bench.rows().reset_index().to_dict("records")
    assert row["status"] == "prepared"
    assert row["source"].endswith("caf\\xe9.obj")
    assert printable(name) == "caf\\xe9"


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../../etc/passwd", "-rf", "a b", "ü", "x" * 300, "\udce9", "a\0b", "a/b"]
)
def test_file_safe_names_stay_in_their_folder(text: str) -> None:
    name = file_safe(text)
    assert name not in ("", ".", "..")
    assert "/" not in name
    assert "\0" not in name
    assert len(name) <= 120
    assert not name.startswith(("-", "."))
    assert file_safe(name) == name


def test_file_safe_keeps_different_names_apart() -> None:
    assert file_safe("chair_1.v2-b") == "chair_1.v2-b"
    names = ["a b", "a_b", "a  b", "ä b"]
    assert len({file_safe(name) for name in names}) == len(names)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_a_row(bench: Bench, make: Any) -> None:
    item = bench.item("a", "a")
    Path(item.inputs[0]).unlink()
    make(Path(item.inputs[0]))
    bench.run(item)
    assert bench.rows().loc["a", "reason"] == "source_unreadable"
