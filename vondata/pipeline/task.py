"""Preparation of one item in a worker: content hash, comparison with the journal, outcome."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vondata.dataset.metadata import FORMAT_VERSION
from vondata.io.files import FileTooLargeError, file_sha256
from vondata.io.fs import MAX_INPUT_BYTES, delivered, fetched
from vondata.types import Item, Kind, Rejected, Work

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class PlannedItem:
    """An item that may have to be prepared.

    Attributes:
        item: the item.
        output: path or URL of its prepared file.
        stamp: of its inputs at the time of planning.
        recorded: hash of the content for which the journal has a result with the same settings; None if it has none.
    """

    item: Item
    output: str
    stamp: int
    recorded: str | None


@dataclass(frozen=True)
class Outcome:
    """The result of work on an item.

    Attributes:
        sha256: of the first input; None if it cannot be read.
        content: hash of everything that determines the result; None if it cannot be read.
        unchanged: whether the content is the recorded one, so that nothing was done.
        values: returned by the work function.
        output_sha256: of the prepared file; None for a rejected item.
        rejected: reason and detail; None for a prepared item.
        seconds: time spent.
    """

    sha256: str | None
    content: str | None
    unchanged: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    output_sha256: str | None = None
    rejected: tuple[str, str] | None = None
    seconds: float = 0.0


def run_task(task: PlannedItem, *, work: Work, settings: DataclassInstance) -> Outcome:
    """Prepares one item; runs in a worker.

    Only errors of the item are caught here; any other exception is a bug and is left to the executor.
    """
    started = time.perf_counter()
    hashes: tuple[str | None, str | None] = (None, None)
    try:
        with fetched(task.item) as item:
            hashes = hash_content(item)
            if task.recorded is not None and hashes[1] == task.recorded:
                return Outcome(*hashes, unchanged=True)
            if item.rejected is not None:
                raise Rejected(*item.rejected)
            with delivered(task.output) as output:
                values = work(item, settings, output)
                output_sha256 = file_sha256(output)
    except Rejected as verdict:
        reason, detail = task.item.rejected or (verdict.reason, verdict.detail)
        return Outcome(*hashes, rejected=(reason, detail), seconds=time.perf_counter() - started)
    except MemoryError as error:
        detail = f"more memory was requested than is available: {error}"
        return Outcome(*hashes, rejected=("too_large", detail), seconds=time.perf_counter() - started)
    return Outcome(*hashes, values=values, output_sha256=output_sha256, seconds=time.perf_counter() - started)


def settings_hash(kind: Kind, settings: DataclassInstance, *limits: object) -> str:
    """A hash of the settings that determine an output.

    Fields with `metadata={"planning": True}` only select items and are left out; so are those with
    `metadata={"optional": True}` that have their default value, which gives the outputs of versions without them.

    Args:
        kind: what is prepared.
        settings: the work function's settings.
        limits: further values that a result depends on.
    """
    values = asdict(settings)
    for each in fields(settings):
        if each.metadata.get("planning") or (each.metadata.get("optional") and values[each.name] == each.default):
            del values[each.name]
    return hashlib.sha256(_canonical([FORMAT_VERSION, kind, values, *limits])).hexdigest()[:16]


def stamp_inputs(item: Item) -> int:
    """A 64-bit hash of the item's description and the sizes and times of its files, without reading them."""
    states: list[object] = list(item.versions)
    for path in () if states else item.inputs:
        try:
            state = os.stat(path)
        except (OSError, ValueError):  # ValueError: a NUL in a path from an annotation
            states.append(None)
        else:
            states.append((state.st_size, state.st_mtime_ns))
    # repr is much faster than JSON; if it differs needlessly, the content is hashed and found equal.
    described = repr((item.source, item.collection, item.inputs, item.fields, item.rejected, states))
    return int.from_bytes(hashlib.blake2b(described.encode("utf-8"), digest_size=8).digest(), "big")


def hash_content(item: Item) -> tuple[str, str]:
    """SHA-256 of the first input, and of everything that determines the result: bytes of all inputs and the fields.

    Raises:
        Rejected: source_missing, source_unreadable, or too_large, which is checked before anything is read.
    """
    digests = [_hash_file(path) for path in item.inputs]
    content = hashlib.sha256(_canonical([digests, item.fields, item.rejected])).hexdigest()
    return digests[0] if digests else "", content


def _hash_file(path: str) -> str:
    try:
        state = os.stat(path)
        # A pipe or a device would block the run for ever.
        if not stat.S_ISREG(state.st_mode):
            raise Rejected("source_unreadable", f"{path} is not a file")
        if state.st_size > MAX_INPUT_BYTES:
            raise _too_large(path, state.st_size)
        return file_sha256(Path(path), MAX_INPUT_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Rejected("source_missing", f"{path} is not there") from error
    except FileTooLargeError as error:  # it grows, or its stated size is wrong
        raise _too_large(path, MAX_INPUT_BYTES) from error
    except (OSError, ValueError) as error:
        raise Rejected("source_unreadable", f"{path} cannot be read: {error}") from error


def _too_large(path: str, size: int) -> Rejected:
    return Rejected(
        "too_large", f"{path} has {size / 2**20:,.0f} MB; at most {MAX_INPUT_BYTES / 2**20:,.0f} are read"
    )


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode("ascii")
