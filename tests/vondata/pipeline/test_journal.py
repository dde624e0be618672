"""Damaged journals: for any flipped bit, no wrong line is read and no intact one is lost."""

import json
import os
import random
import zlib
from pathlib import Path
from typing import Any

import pytest

from vondata.io.files import NotRegularFileError
from vondata.pipeline.journal import Journal, JournalDamagedError, damaged_lines, journal_path

ROW = {"collection": "meshes /a", "reason": None, "faces": 3}


def write(data: Path, *, count: int = 3) -> Path:
    with Journal(data, "chair", "shapes") as journal:
        for number in range(count):
            journal.record(f"m{number}", stamp=number, content="ab" * 32, settings="s", input=f"/a/{number}", row=ROW)
        journal.mark_vanished("m0")
    return journal_path(data, "chair", "shapes")


def read(data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entries without their offsets, and rows."""
    with Journal(data, "chair", "shapes") as journal:
        rows = {row["id"]: row for row in journal.rows()}
        return {id: entry._replace(offset=0) for id, entry in journal.entries.items()}, rows


def test_any_flipped_bit_costs_only_the_items_of_its_lines(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole, (entries, rows) = path.read_bytes(), read(tmp_path)
    rng = random.Random(0)
    for bit in rng.sample(range(8 * len(whole)), 400):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        found, found_rows = read(tmp_path)
        line = whole[: bit // 8].count(b"\n")
        lost = {f"m{line}", f"m{line + 1}"} if whole[bit // 8 : bit // 8 + 1] == b"\n" else {f"m{line}"}
        if line == 3:  # that of the vanished item
            lost = {"m0"}
        if bit // 8 - (whole.rfind(b"\n", 0, bit // 8) + 1) in (
            7,
            8,
        ):  # its id, which may be that of another item now
            lost = set(entries)
        assert {id: entry for id, entry in found.items() if id not in lost} == {
            id: entry for id, entry in entries.items() if id not in lost
        }, bit
        assert all(entry in (entries[id], entries[id]._replace(present=True)) for id, entry in found.items())
        assert all(rows[id] == row for id, row in found_rows.items() if id in rows)


def test_a_damaged_line_takes_older_ones_of_its_item_along(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Journal(tmp_path, "chair", "shapes") as journal:
        for stamp in (1, 2):
            journal.record("m", stamp=stamp, content="ab", settings="s", input="", row=ROW)
    path = journal_path(tmp_path, "chair", "shapes")
    content = path.read_bytes()
    place = content.rindex(b'"stamp":2') + len(b'"stamp":')
    path.write_bytes(content[:place] + b"3" + content[place + 1 :])
    assert damaged_lines(path) == [content.index(b"\n") + 1]
    with Journal(tmp_path, "chair", "shapes") as journal:
        assert journal.entries == {}
    assert "dropped the damaged line of item m at byte" in caplog.text


def test_lines_of_version_0_1_are_read(tmp_path: Path) -> None:
    path = journal_path(tmp_path, "chair", "shapes")
    path.parent.mkdir()
    row = b'{"class":"chair","faces":3}'
    known = {"id": "old", "stamp": 7, "content": "ab", "settings": "s", "input": "/a", "collection": "", "reason": ""}
    first = (
        json.dumps(known | {"check": zlib.crc32(row)}, separators=(",", ":")).encode()[:-1]
        + b',"row":'
        + row
        + b"}\n"
    )
    gone = first.replace(b'"old"', b'"gone"') + b'{"id":"gone","vanished":true,"row":{}}\n'
    path.write_bytes(first + gone)
    with Journal(tmp_path, "chair", "shapes") as journal:
        assert {id: entry.present for id, entry in journal.entries.items()} == {"old": True, "gone": False}
        assert journal.line("old")["row"]["faces"] == 3
    for damaged in (first.replace(b'"faces":3', b'"faces":4'), first.replace(b'"stamp":7', b'"stamp":"7"')):
        path.write_bytes(damaged)
        assert damaged_lines(path) == [0]


@pytest.mark.parametrize(
    "line",
    [b"null", b"[" * 100_000, b'{"id":1}', b"{}", b'{"id":"a","vanished":true,"row":{}}', b"\xff\xfe", b"1e999"],
)
def test_foreign_lines_are_dropped(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path, count=1)
    whole = path.read_bytes()
    path.write_bytes(line + b"\n" + whole)
    assert read(tmp_path)[0].keys() == {"m0"}


def test_the_revision_is_of_the_content(tmp_path: Path) -> None:
    write(tmp_path / "a"), write(tmp_path / "b")
    with Journal(tmp_path / "a", "chair", "shapes") as one, Journal(tmp_path / "b", "chair", "shapes") as other:
        assert one.revision == other.revision
        one.mark_vanished("m1")
        other.mark_vanished("m2")
        assert one.revision != other.revision
        written = one.revision
    with Journal(tmp_path / "a", "chair", "shapes") as again:
        assert again.revision == written


def test_damage_during_a_run_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    with Journal(tmp_path, "chair", "shapes") as journal:
        path.write_bytes(path.read_bytes().replace(b'"faces":3', b'"faces":4'))
        with pytest.raises(JournalDamagedError, match="was damaged at byte"):
            list(journal.rows())


def test_what_is_no_file_is_refused_and_leaves_no_lock(tmp_path: Path) -> None:
    path = journal_path(tmp_path, "chair", "shapes")
    path.mkdir(parents=True)
    with pytest.raises(NotRegularFileError, match="is not a regular file"):
        Journal(tmp_path, "chair", "shapes")
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(NotRegularFileError):
        Journal(tmp_path, "chair", "shapes")
    path.unlink()
    with Journal(tmp_path, "chair", "shapes"):
        pass
