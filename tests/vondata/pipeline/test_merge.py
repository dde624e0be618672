"""Merging datasets of several machines: nothing is lost or repeated, and the next run resumes."""

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from vondata.dataset.manifest import output_path, read_manifest
from vondata.dataset.metadata import read_dataset
from vondata.io.lease import DatasetBusyError
from vondata.pipeline.journal import Journal, journal_path
from vondata.pipeline.merge import MergeError, MergeOptions, merge
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import PreparationResult, prepare
from vondata.types import Item, Rejected


@dataclass(frozen=True)
class Settings:
    resolution: int = 32


def copy_text(item: Item, settings: Settings, output: Path) -> dict[str, Any]:
    text = Path(item.inputs[0]).read_text("utf-8")
    if text.startswith("bad") or (text == "slow" and output.parts[-4] == "b"):
        raise Rejected("file_corrupt", text)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, "utf-8")
    return {"faces": len(text)}


class Bench:
    def __init__(self, root: Path) -> None:
        self.root = root

    def items(self, folder: str, **texts: str) -> list[Item]:
        (self.root / folder).mkdir(exist_ok=True)
        for name, text in texts.items():
            (self.root / folder / name).write_text(text, "utf-8")
        return [
            Item(name, "chair", str(path := self.root / folder / name), (str(path),), collection=f"meshes {folder}")
            for name in texts
        ]

    def prepare(self, data: str, items: list[Item], resolution: int = 32) -> PreparationResult:
        return prepare("shapes", items, copy_text, Settings(resolution), self.root / data, PrepareOptions())

    def merge(self, **options: bool) -> Any:
        return merge([self.root / "a", self.root / "b"], self.root / "c", MergeOptions(**options))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_rows_and_files_of_both_are_there_once(bench: Bench) -> None:
    ours, theirs = bench.items("x", one="1", two="bad 2", both="3"), bench.items("y", four="4", five="bad")
    shared = [item for item in ours if item.id == "both"]
    bench.prepare("a", ours)
    bench.prepare("b", theirs + shared)
    (part,) = bench.merge()
    assert (part.prepared, part.rejected, part.taken, part.same) == (3, 2, [3, 2], 1)
    rows = read_manifest(bench.root / "c", "chair", "shapes").set_index("id")
    for data, ids in (("a", ["one", "two", "both"]), ("b", ["four", "five"])):
        assert rows.loc[ids].equals(read_manifest(bench.root / data, "chair", "shapes").set_index("id").loc[ids])
    for id, text in (("one", "1"), ("both", "3"), ("four", "4")):
        assert output_path(bench.root / "c", "chair", "shapes", id).read_text("utf-8") == text
    record = read_dataset(bench.root / "c")["chair"]["shapes"]
    assert (record.prepared, record.rejected) == (3, 2)
    # The joined dataset resumes: nothing of either collection is done again.
    assert bench.prepare("c", ours + theirs).classes["chair"].worked == 0


def test_files_are_linked_unless_copies_are_asked_for(bench: Bench) -> None:
    bench.prepare("a", bench.items("x", one="1"))
    bench.prepare("b", bench.items("y", two="2"))
    bench.merge()
    assert os.stat(output_path(bench.root / "c", "chair", "shapes", "one")).st_nlink == 2
    merge([bench.root / "a", bench.root / "b"], bench.root / "d", MergeOptions(copy=True))
    assert os.stat(output_path(bench.root / "d", "chair", "shapes", "one")).st_nlink == 1


def test_different_things_of_one_id_are_refused_or_the_first_is_taken(bench: Bench) -> None:
    bench.prepare("a", bench.items("x", one="1", two="2"))
    bench.prepare("b", bench.items("y", one="other", three="3"))
    with pytest.raises(MergeError, match=r"1 shapes of class chair have the same id and are not the same \(one\)"):
        bench.merge()
    assert not (bench.root / "c").exists()
    (part,) = bench.merge(prefer_first=True)
    assert (part.prepared, part.settled) == (3, 1)
    assert output_path(bench.root / "c", "chair", "shapes", "one").read_text("utf-8") == "1"


def test_what_came_out_on_one_machine_only_is_taken_from_there(bench: Bench) -> None:
    items = bench.items("x", one="slow", two="2")
    bench.prepare("b", items)
    bench.prepare("a", items)
    for order in (["a", "b"], ["b", "a"]):
        into = bench.root / "".join(order)
        (part,) = merge([bench.root / name for name in order], into, MergeOptions())
        assert (part.prepared, part.rejected, part.settled) == (2, 0, 1)
        assert output_path(into, "chair", "shapes", "one").read_text("utf-8") == "slow"


def test_settings_must_be_the_same_or_be_waived(bench: Bench) -> None:
    bench.prepare("a", bench.items("x", one="1"))
    bench.prepare("b", bench.items("y", two="2"), resolution=64)
    with pytest.raises(MergeError, match=r"different settings \(resolution\)"):
        bench.merge()
    (part,) = bench.merge(mixed_settings=True)
    assert part.prepared == 2
    assert read_manifest(bench.root / "c", "chair", "shapes")["settings"].nunique() == 2


def test_folders_that_cannot_be_joined_are_named(bench: Bench) -> None:
    bench.prepare("a", bench.items("x", one="1"))
    a = bench.root / "a"
    for folders, into, words in (
        ([a], bench.root / "c", "two or more"),
        ([a, a], bench.root / "c", "a is named twice"),
        ([a, bench.root / "x"], bench.root / "c", "holds no prepared dataset"),
        ([a, bench.root / "b"], a, "is not empty"),
    ):
        if folders[-1].name == "b":
            bench.prepare("b", bench.items("y", two="2"))
        with pytest.raises(MergeError, match=words):
            merge(folders, into, MergeOptions())


def test_a_dataset_on_a_read_only_file_system_is_merged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates the file system, also for root: nothing below the dataset can be opened for writing or linked."""
    bench.prepare("a", bench.items("x", one="1", two="bad 2"))
    bench.prepare("b", bench.items("y", three="3"))
    source, opened, linked = bench.root / "a", os.open, os.link

    def refuse(path: object) -> None:
        if Path(os.fsdecode(path)).is_relative_to(source):  # type: ignore[arg-type]
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def open_readable(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse(path)
        return opened(path, flags, *args, **options)

    def link_elsewhere(path: Any, target: Any, **options: Any) -> None:
        refuse(path)
        linked(path, target, **options)

    monkeypatch.setattr(os, "open", open_readable)
    monkeypatch.setattr(os, "link", link_elsewhere)
    for file in source.glob("journal/.*.lock"):
        file.unlink()
    (part,) = bench.merge()
    assert (part.prepared, part.rejected, part.taken) == (2, 1, [2, 1])
    assert output_path(bench.root / "c", "chair", "shapes", "one").read_text("utf-8") == "1"
    assert not list(source.glob("journal/.*.lock"))


def test_a_merge_leaves_an_interrupted_journal_as_it_was(bench: Bench) -> None:
    bench.prepare("a", bench.items("x", one="1"))
    bench.prepare("b", bench.items("y", two="2"))
    journal = journal_path(bench.root / "a", "chair", "shapes")
    journal.write_bytes(before := journal.read_bytes() + b'{"id":"unfinished')
    (part,) = bench.merge()
    assert (part.prepared, journal.read_bytes()) == (2, before)


def test_a_dataset_that_is_being_written_is_not_merged(bench: Bench) -> None:
    bench.prepare("a", bench.items("x", one="1"))
    bench.prepare("b", bench.items("y", two="2"))
    with Journal(bench.root / "a", "chair", "shapes"), pytest.raises(DatasetBusyError, match="wait until it ends"):
        bench.merge()


def test_the_command_joins_and_says_what(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.root)
    bench.prepare("a", bench.items("x", one="1"))
    bench.prepare("b", bench.items("y", two="2"))
    done = harness.von("merge", "a", "b", "--output", "c", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["parts"][0]["taken"] == [1, 1]
    again = harness.von("merge", "a", "b", "--output", "c")
    assert again.exit_code == 1
    assert "c is not empty" in again.output
    words = harness.von("merge", "a", "b", "--output", "d")
    assert "from a" in words.output
