"""One item's way through a run: is it done already, doing it, and what came out."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from vondata.dataset.metadata import FORMAT_VERSION
from vondata.io.fs import delivered, fetched
from vondata.types import Item, Kind, Rejected, Work

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_CHUNK = 1 << 20


@dataclass(frozen=True)
class PlannedItem:
    """An item on its way to a worker.

    Attributes:
        item: what to work on.
        output: path or URL of its file.
        stamp: of its inputs when it was planned.
        recorded: hash of the content for which the journal has a result under the same settings; None without one.
    """

    item: Item
    output: str
    stamp: int
    recorded: str | None


@dataclass(frozen=True)
class Outcome:
    """What a worker found.

    Attributes:
        sha256: of the first input; None when it cannot be read.
        content: hash of all that decides the result; None when it cannot be read.
        unchanged: the content is the recorded one, so nothing was done.
        values: what the work function returned.
        rejected: reason and detail, None for a prepared item.
        seconds: time spent.
    """

    sha256: str | None
    content: str | None
    unchanged: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    rejected: tuple[str, str] | None = None
    seconds: float = 0.0


def run_task(task: PlannedItem, *, work: Work, settings: DataclassInstance) -> Outcome:
    """Prepares one item; runs in a worker.

    Only what is wrong with the item is caught here; any other exception is a bug of ours and is left to the engine.
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
    except Rejected as verdict:
        reason, detail = task.item.rejected or (verdict.reason, verdict.detail)
        return Outcome(*hashes, rejected=(reason, detail), seconds=time.perf_counter() - started)
    except MemoryError as error:
        detail = f"asked for more memory than there is: {error}"
        return Outcome(*hashes, rejected=("too_large", detail), seconds=time.perf_counter() - started)
    return Outcome(*hashes, values=values, seconds=time.perf_counter() - started)


def settings_hash(kind: Kind, settings: DataclassInstance, *limits: object) -> str:
    """Identifies the settings that decide an output.

    Fields with `metadata={"planning": True}` only choose items, which shows in the items themselves; they do not
    count.

    Args:
        kind: what is prepared.
        settings: the work function's settings.
        limits: what else a result depends on.
    """
    values = asdict(settings)
    for each in fields(settings):
        if each.metadata.get("planning"):
            del values[each.name]
    return hashlib.sha256(_canonical([FORMAT_VERSION, kind, values, *limits])).hexdigest()[:16]


def stamp_inputs(item: Item) -> int:
    """A number that changes with the item's description and its files' sizes and times; reads no file."""
    states: list[object] = list(item.versions)
    for path in () if states else item.inputs:
        try:
            state = os.stat(path)
        except (OSError, ValueError):  # ValueError: a NUL in a path that an annotation made up
            states.append(None)
        else:
            states.append((state.st_size, state.st_mtime_ns))
    # repr is many times faster than JSON, and a needless difference would only cost a look into the file.
    described = repr((item.source, item.collection, item.inputs, item.fields, item.rejected, states))
    return int.from_bytes(hashlib.blake2b(described.encode("utf-8"), digest_size=8).digest(), "big")


def hash_content(item: Item) -> tuple[str, str]:
    """SHA-256 of the first input, and of all that decides the result: the bytes of every input and the fields.

    Raises:
        Rejected: source_missing or source_unreadable.
    """
    digests = [_hash_file(path) for path in item.inputs]
    content = hashlib.sha256(_canonical([digests, item.fields, item.rejected])).hexdigest()
    return digests[0] if digests else "", content


def _hash_file(path: str) -> str:
    digest = hashlib.sha256()
    try:
        # A pipe or a device would make the run wait for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Rejected("source_unreadable", f"{path} is not a file")
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Rejected("source_missing", f"{path} is not there") from error
    except (OSError, ValueError) as error:
        raise Rejected("source_unreadable", f"{path} cannot be read: {error}") from error
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode("ascii")
