"""The journal: an append-only JSON Lines file per class and kind, from which manifests are written.

A line holds the fields that a resume compares (id, stamp, hashes, ...), then the row without empty and repeated
values, then a CRC-32 of the preceding bytes. A resume parses the first part only. Lines of version 0.1 have a
checksum of the row only, named `check`, and are read as well.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from filelock import FileLock, Timeout

from vondata.dataset.schema import known_columns, renamed_columns
from vondata.errors import VonError
from vondata.io.files import require_regular
from vondata.io.lease import DatasetBusyError
from vondata.types import Kind

_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
SYNC_EVERY_S = 2.0
MAX_LINE_BYTES = 1 << 20
_ROW = b',"row":'  # cannot occur within a JSON string, where quotes are escaped
_CRC = b',"crc":"'
_CRC_END = _CRC + b'%08x"}\n'
_CRC_LENGTH = len(_CRC) + 8 + len(b'"}\n')
_decode = json.JSONDecoder().raw_decode
_ID = re.compile(rb'\{"id":"([A-Za-z0-9._-]+)"')
_TYPES = {"id": str, "stamp": int, "settings": str, "input": str, "collection": str, "reason": str}

logger = logging.getLogger(__name__)


class JournalDamagedError(VonError, ValueError):
    """A line of a journal was damaged while the journal was in use."""

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(f"{path} was damaged at byte {offset} during this run", hint="prepare again")


class Entry(NamedTuple):
    """The fields of an item's newest line that a resume needs; the row stays on disk.

    Attributes:
        offset: of its line in bytes.
        stamp: of the inputs, see `task.stamp_inputs`.
        content: hash of the inputs' content; None if it could not be read.
        settings: hash of the settings it was prepared with.
        collection: where the item was found.
        reason: of its rejection; "" for a prepared item.
        present: False if it has since vanished from its collection.
    """

    offset: int
    stamp: int
    content: bytes | None
    settings: str
    collection: str
    reason: str
    present: bool

    def has_content(self, content: str) -> bool:
        """Whether the item was prepared from this content."""
        return self.content is not None and self.content.hex() == content


class Journal:
    """The journal of one class and kind, open in one process at a time.

    A line is written after the output is in place. Lines are passed to the operating system at once and flushed to
    disk every two seconds; after a power cut the items of the last seconds are prepared again. An unfinished last
    line is cut off. A damaged line is dropped and named in the log, together with older lines of its item, which is
    then prepared again.

    Args:
        data: folder of the dataset.
        class_name: class.
        kind: shapes or images.
        read_only: never change the file: an unfinished last line is passed over. The dataset may be on a read-only
            file system, where no lock is taken.

    Attributes:
        entries: the newest line of every item by id.
        appended: lines written by this process.
        damaged: lines dropped on opening.

    Raises:
        DatasetBusyError: another process has it open.
        NotRegularFileError: it is a folder, pipe or device.
    """

    def __init__(self, data: Path, class_name: str, kind: Kind, *, read_only: bool = False) -> None:
        self.path = journal_path(data, class_name, kind)
        self.entries: dict[str, Entry] = {}
        self.appended = 0
        self.damaged = 0
        self._chain = 0  # CRC-32 over the ends of all lines
        self._renamed = renamed_columns(kind)
        self._empty_row = {column.name: None for column in known_columns(kind)} | {"class": class_name}
        self._read_only = read_only
        if not read_only:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        require_regular(self.path)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), blocking=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise DatasetBusyError(self.path) from error
        except OSError as error:
            if not read_only or error.errno not in _NOT_WRITABLE:
                raise
        try:
            self._file = open(self.path, "rb" if read_only else "a+b")  # noqa: SIM115 - closed by __exit__
            self._end = self._load()
        except BaseException:
            self._lock.release()
            raise
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.appended:
                os.fsync(self._file.fileno())
            self._file.close()
        finally:
            self._lock.release()

    @property
    def revision(self) -> str:
        """Identifies the recorded content: equal for equal lines, independent of when they were written."""
        return f"{self._end}-{self._chain:08x}-{self.damaged}"

    def record(
        self, id: str, *, stamp: int, content: str | None, settings: str, input: str, row: Mapping[str, Any]
    ) -> None:
        """Appends the outcome of an item; `input` is the path of its first file."""
        known = {"id": id, "stamp": stamp, "content": content, "settings": settings, "input": input}
        known |= {"collection": row["collection"], "reason": row["reason"] or ""}
        rest = _json(
            {
                name: value
                for name, value in row.items()
                if value is not None and name != "class" and known.get("input" if name == "source" else name) != value
            }
        )
        self._append(known, rest)

    def mark_vanished(self, id: str) -> None:
        """Removes an item from the manifest but keeps its line, in case it reappears."""
        self._append({"id": id, "vanished": True}, b"{}")

    def line(self, id: str) -> dict[str, Any]:
        """The newest line of an item."""
        with open(self.path, "rb") as file:
            return self._line_at(file, self.entries[id].offset)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of all present items, ordered by id, one at a time."""
        with open(self.path, "rb") as file:
            for id in sorted(id for id, entry in self.entries.items() if entry.present):
                row: dict[str, Any] = self._line_at(file, self.entries[id].offset)["row"]
                yield row

    def _append(self, known: dict[str, Any], rest: bytes) -> None:
        content = _json(known)[:-1] + _ROW + rest
        line = content + _CRC_END % zlib.crc32(content)
        self._file.write(line)
        self._file.flush()
        self._apply(known, self._end)
        self._end += len(line)
        self._chain = zlib.crc32(line[-_CRC_LENGTH:], self._chain)
        self.appended += 1
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def _load(self) -> int:
        """Reads all lines, without an unfinished last one; returns their length in bytes."""
        self._file.seek(0)
        offset = 0
        apply, chain = self._apply, self._chain  # looked up once for millions of lines
        for line in iter(partial(self._file.readline, MAX_LINE_BYTES), b""):
            if line[-1:] != b"\n" and len(line) < MAX_LINE_BYTES:
                logger.warning("%s: cut off the last line, which a crash left unfinished", self.path)
                if not self._read_only:
                    self._file.truncate(offset)
                break
            try:
                apply(_parse(line), offset)
            except (ValueError, KeyError, TypeError, RecursionError):
                self._drop(line, offset)
            offset += len(line)
            chain = zlib.crc32(line[-_CRC_LENGTH:], chain)
        self._chain = chain
        self._file.seek(0, os.SEEK_END)
        return offset

    def _drop(self, line: bytes, offset: int) -> None:
        """Forgets the item of a damaged line, as its older line may describe an output that was replaced."""
        self.damaged += 1
        found = _ID.match(line)
        id = found[1].decode("ascii", "replace") if found else ""
        self.entries.pop(id, None)
        whose = f"of item {id}" if id else "of an unknown item"
        logger.warning("%s: dropped the damaged line %s at byte %d; it is prepared again", self.path, whose, offset)

    def _apply(self, known: dict[str, Any], offset: int) -> None:
        """Makes a line the newest entry of its item."""
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

    def _line_at(self, file: BinaryIO, offset: int) -> dict[str, Any]:
        """A line with its full row.

        Raises:
            JournalDamagedError: its bytes have changed since they were read or written.
        """
        file.seek(offset)
        content = file.readline(MAX_LINE_BYTES)
        try:
            _check_crc(content)
            line: dict[str, Any] = json.loads(content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise JournalDamagedError(self.path, offset) from error
        known = {name: line[name] for name in ("id", "settings", "collection")} | {"reason": line["reason"] or None}
        known["source"] = line["input"]
        row = {self._renamed.get(name, name): value for name, value in line["row"].items()}
        return line | {"row": self._empty_row | known | row}


def damaged_lines(path: Path) -> list[int]:
    """Offsets of a journal's damaged lines, an unfinished last one included; empty without a journal."""
    if not path.is_file():
        return []
    offset, damaged = 0, list[int]()
    with open(path, "rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("unfinished")
                _parse(line)
            except (ValueError, KeyError, TypeError, RecursionError):
                damaged.append(offset)
            offset += len(line)
    return damaged


def _parse(line: bytes) -> dict[str, Any]:
    """The fields of a line before its row.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: the line is damaged.
    """
    has_crc = _check_crc(line)
    head, _, rest = line.partition(_ROW)
    text = (head + b"}").decode("ascii")
    known: dict[str, Any]
    known, end = _decode(text)
    if end != len(text):
        raise ValueError("there is more than one value")
    if not has_crc:
        _check_old_line(known, rest)
    return known


def _check_crc(line: bytes) -> bool:
    """Whether a line has a checksum of all of its bytes, unlike lines of version 0.1.

    Raises:
        ValueError: it has one that does not match its bytes.
    """
    end = line[-_CRC_LENGTH:]
    if not end.startswith(_CRC):
        return False
    if end != _CRC_END % zlib.crc32(line[:-_CRC_LENGTH]):
        raise ValueError("the checksum differs")
    return True


def _check_old_line(known: dict[str, Any], rest: bytes) -> None:
    """Checks a line of version 0.1: the checksum of its row, and the types of the other fields."""
    if known.get("vanished") is True and rest == b"{}}\n" and isinstance(known["id"], str):
        return
    if known["check"] != zlib.crc32(rest[:-2]) or rest[-2:] != b"}\n":
        raise ValueError("the checksum of its row differs")
    if not all(isinstance(known[name], kind) for name, kind in _TYPES.items()):
        raise TypeError("a value has another type")


def journal_path(data: Path, class_name: str, kind: Kind) -> Path:
    """The journal of a class and kind."""
    return data / "journal" / f"{class_name}-{kind}.jsonl"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
