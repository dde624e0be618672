"""What has been done: one append-only file of JSON lines per class and kind, from which manifests are made."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from vondata.item import Kind

SYNC_EVERY_S = 2.0

logger = logging.getLogger(__name__)


class DatasetBusyError(RuntimeError):
    """Another process prepares the same class and kind."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"another von prepare is writing {path}; wait until it ends or stop it")


@dataclass(frozen=True, slots=True)
class Entry:
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")  # noqa: SIM115 - closed by __exit__
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise DatasetBusyError(self.path) from error
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

    def record(
        self, id: str, *, stamp: int, content: str | None, settings: str, input: str, row: Mapping[str, Any]
    ) -> None:
        """Appends what became of an item; `input` is the path of its first file."""
        self._append({"id": id, "stamp": stamp, "content": content, "settings": settings, "input": input, "row": row})

    def mark_vanished(self, id: str) -> None:
        """Takes an item out of the manifest but remembers it, in case it comes back."""
        self._append({"id": id, "vanished": True})

    def line(self, id: str) -> dict[str, Any]:
        """The newest recorded line of an item."""
        with open(self.path, "rb") as file:
            return _line_at(file, self.entries[id])

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of all present items, ordered by id; one is in memory at a time."""
        with open(self.path, "rb") as file:
            for id in sorted(id for id, entry in self.entries.items() if entry.present):
                yield _line_at(file, self.entries[id])["row"]

    def _append(self, fields: dict[str, Any]) -> None:
        line = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
        self._file.write(line)
        self._file.flush()
        self._learn(fields, self._end)
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
                self._learn(json.loads(line), offset)
            except (ValueError, KeyError, TypeError):
                logger.warning("%s: passed over damaged bytes at %d; their item is done again", self.path, offset)
            offset += len(line)
        self._file.seek(0, os.SEEK_END)
        return offset

    def _learn(self, fields: dict[str, Any], offset: int) -> None:
        id = fields["id"]
        if fields.get("vanished"):
            self.entries[id] = replace(self.entries[id], present=False)
            return
        row = fields["row"]
        content = fields["content"]
        self.entries[id] = Entry(
            offset=offset,
            stamp=fields["stamp"],
            content=None if content is None else bytes.fromhex(content),
            settings=sys.intern(fields["settings"]),
            collection=sys.intern(row["collection"]),
            reason=sys.intern(row["reason"] or ""),
            present=True,
        )


def journal_path(data: Path, class_name: str, kind: Kind) -> Path:
    """The journal of a class and kind."""
    return data / "journal" / f"{class_name}-{kind}.jsonl"


def _line_at(file: BinaryIO, entry: Entry) -> dict[str, Any]:
    file.seek(entry.offset)
    line: dict[str, Any] = json.loads(file.readline())
    return line
