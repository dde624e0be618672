"""What has been done: one append-only file of JSON lines per class and kind, from which manifests are made.

A line begins with what a resume needs to know and ends with the row, without its empty values and what stands before
it. A resume reads the beginnings only; a checksum tells whether the row is whole.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from filelock import FileLock, Timeout

from vondata.dataset.schema import known_columns, renamed_columns
from vondata.io.lease import DatasetBusyError
from vondata.types import Kind

SYNC_EVERY_S = 2.0
_ROW = b',"row":'  # cannot stand within a JSON string, where quotes are escaped

logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """The newest line of an item, as far as a resume needs it; the row stays on disk.

    Attributes:
        offset: where its line begins.
        stamp: of the inputs, see `task.stamp_inputs`.
        content: hash of the inputs' content; None when it could not be read.
        settings: hash of the settings it was prepared with.
        collection: where the item was found.
        reason: why it was rejected; "" for a prepared item.
        present: False when it has vanished from its collection since.
    """

    offset: int
    stamp: int
    content: bytes | None
    settings: str
    collection: str
    reason: str
    present: bool

    def has_content(self, content: str) -> bool:
        """Whether the item was made from this content."""
        return self.content is not None and self.content.hex() == content


class Journal:
    """The journal of one class and kind, opened for this process alone.

    A line is written after the output is in place, so what it says is true. Lines reach the operating system at once
    and the disk every two seconds; after a power cut the items of the last seconds are done again. A torn last line
    is cut off.

    Args:
        data: folder of the dataset.
        class_name: class.
        kind: shapes or images.

    Raises:
        DatasetBusyError: another process has it open.
    """

    def __init__(self, data: Path, class_name: str, kind: Kind) -> None:
        self.path = journal_path(data, class_name, kind)
        self.entries: dict[str, Entry] = {}
        self.appended = 0
        self._renamed = renamed_columns(kind)
        self._empty_row = {column.name: None for column in known_columns(kind)} | {"class": class_name}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), blocking=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise DatasetBusyError(self.path) from error
        self._file = open(self.path, "a+b")  # noqa: SIM115 - closed by __exit__
        self._end = self._load()
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.appended:
            os.fsync(self._file.fileno())
        self._file.close()
        self._lock.release()

    def record(
        self, id: str, *, stamp: int, content: str | None, settings: str, input: str, row: Mapping[str, Any]
    ) -> None:
        """Appends what became of an item; `input` is the path of its first file."""
        known = {"id": id, "stamp": stamp, "content": content, "settings": settings, "input": input}
        known |= {"collection": row["collection"], "reason": row["reason"] or ""}
        rest = _json(
            {
                name: value
                for name, value in row.items()
                if value is not None and name != "class" and known.get("input" if name == "source" else name) != value
            }
        )
        self._append(known | {"check": zlib.crc32(rest)}, rest)

    def mark_vanished(self, id: str) -> None:
        """Takes an item out of the manifest but remembers it, in case it comes back."""
        self._append({"id": id, "vanished": True}, b"{}")

    def line(self, id: str) -> dict[str, Any]:
        """The newest recorded line of an item."""
        with open(self.path, "rb") as file:
            return self._line_at(file, self.entries[id])

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of all present items, ordered by id; one is in memory at a time."""
        with open(self.path, "rb") as file:
            for id in sorted(id for id, entry in self.entries.items() if entry.present):
                row: dict[str, Any] = self._line_at(file, self.entries[id])["row"]
                yield row

    def _append(self, known: dict[str, Any], rest: bytes) -> None:
        line = _json(known)[:-1] + _ROW + rest + b"}\n"
        self._file.write(line)
        self._file.flush()
        self._learn(known, self._end)
        self._end += len(line)
        self.appended += 1
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def _load(self) -> int:
        """Reads all lines and cuts off a torn last one; returns the length of the file."""
        self._file.seek(0)
        offset = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                logger.warning("%s: cut off the last line, which a crash left unfinished", self.path)
                self._file.truncate(offset)
                break
            try:
                known, _, rest = line.partition(_ROW)
                fields = json.loads((known + b"}").decode("ascii"))
                if fields.get("check", 0) != zlib.crc32(rest[:-2]) and "vanished" not in fields:
                    raise ValueError("the row is damaged")
                self._learn(fields, offset)
            except (ValueError, KeyError, TypeError):
                logger.warning("%s: passed over damaged bytes at %d; their item is done again", self.path, offset)
            offset += len(line)
        self._file.seek(0, os.SEEK_END)
        return offset

    def _learn(self, known: dict[str, Any], offset: int) -> None:
        id = known["id"]
        if "vanished" in known:
            self.entries[id] = self.entries[id]._replace(present=False)
            return
        content = known["content"]
        self.entries[id] = Entry(
            offset,
            known["stamp"],
            None if content is None else bytes.fromhex(content),
            sys.intern(known["settings"]),
            sys.intern(known["collection"]),
            sys.intern(known["reason"]),
            True,
        )

    def _line_at(self, file: BinaryIO, entry: Entry) -> dict[str, Any]:
        """A line with its row in full."""
        file.seek(entry.offset)
        line: dict[str, Any] = json.loads(file.readline())
        known = {name: line[name] for name in ("id", "settings", "collection")} | {"reason": line["reason"] or None}
        known["source"] = line["input"]
        row = {self._renamed.get(name, name): value for name, value in line["row"].items()}
        return line | {"row": self._empty_row | known | row}


def journal_path(data: Path, class_name: str, kind: Kind) -> Path:
    """The journal of a class and kind."""
    return data / "journal" / f"{class_name}-{kind}.jsonl"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
