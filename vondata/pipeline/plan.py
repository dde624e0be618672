"""Planning: sorts the items of a collection into done, rejected, and still to be prepared."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from vondata.dataset.manifest import SUFFIX
from vondata.io.files import scratch_errors, scratch_file
from vondata.io.fs import exists, fetched, is_url
from vondata.pipeline.executor import ExecutorOptions
from vondata.pipeline.journal import Entry, Journal
from vondata.pipeline.store import Store
from vondata.pipeline.task import PlannedItem, hash_content, settings_hash, stamp_inputs
from vondata.types import Item, Kind, Rejected, file_safe, printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# These depend on the machine as well as on the item, so they are valid only for the limits they were found with.
LIMIT_REASONS = ("timed_out", "worker_died")
ALWAYS_RETRIED = ("internal_error", "source_unreadable")


@dataclass(frozen=True)
class PrepareOptions(ExecutorOptions):
    """Options of a preparation that do not change the result of an item.

    Attributes:
        limit: maximum number of items of each class, in the order of planning; None for all.
        force: prepare every item again, even if the journal has it.
    """

    limit: int | None = None
    force: bool = False


@dataclass
class ClassCount:
    """Counts of the items of one class in a run.

    Attributes:
        found: planned items.
        worked: of these, prepared or rejected in this run; the others were done before.
        prepared: with an output file, from this run or an earlier one.
        reasons: rejected items by reason.
        vanished: rows removed from the manifest because their item is no longer in its collection.
        other_settings: rows of the manifest, of items that were not planned, that were made with other settings.
    """

    found: int = 0
    worked: int = 0
    prepared: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    vanished: int = 0
    other_settings: int = 0

    @property
    def rejected(self) -> int:
        """Items without an output file."""
        return self.reasons.total()

    def add(self, reason: str) -> None:
        """Counts an item by its reason of rejection, "" for a prepared one."""
        if reason:
            self.reasons[reason] += 1
        else:
            self.prepared += 1


@dataclass(frozen=True)
class SettingsKey:
    """Hashes of a run's settings: for outputs, and, with the run's limits, for rejections that depend on these."""

    output: str
    limits: str

    @classmethod
    def of(cls, kind: Kind, settings: DataclassInstance, options: PrepareOptions) -> Self:
        """The key of a run."""
        limits = (options.timeout_s, options.memory_limit, options.scheduler or options.workers)
        return cls(settings_hash(kind, settings), settings_hash(kind, settings, *limits))

    def for_reason(self, reason: str) -> str:
        """The hash that a row with this reason is recorded with."""
        return self.limits if reason in LIMIT_REASONS else self.output


class Spool:
    """A queue of planned items on disk, so that memory does not grow with the number of items."""

    def __init__(self) -> None:
        self._file = scratch_file()
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[PlannedItem]:
        with scratch_errors():
            self._file.seek(0)
        for _ in range(self._length):
            task: PlannedItem = pickle.load(self._file)  # our own file, unlinked since its creation
            yield task

    def add(self, task: PlannedItem) -> None:
        """Appends a planned item."""
        with scratch_errors():
            pickle.dump(task, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        self._length += 1


class Plan:
    """The items found, sorted into done, rejected in planning, and to be prepared.

    Args:
        kind: shapes or images.
        store: of the dataset.
        key: of the settings.
        options: limit, force, and the limits that settings are hashed with.
        stack: closes the journals and spools.
    """

    def __init__(self, kind: Kind, store: Store, key: SettingsKey, options: PrepareOptions, stack: ExitStack) -> None:
        self.kind = kind
        self.store = store
        self.key = key
        self.options = options
        self.journals: dict[str, Journal] = {}
        self.counts: dict[str, ClassCount] = {}
        self.rejected = stack.enter_context(Spool())
        self.tasks = stack.enter_context(Spool())
        self._stack = stack
        self._sources: dict[str, dict[str, str]] = {}  # class -> id -> source, of the items planned
        self._collections: dict[str, set[str]] = {}
        self._output_prefixes: dict[str, str] = {}
        self._truncated: set[str] = set()  # classes cut short by the limit

    def add(self, item: Item) -> None:
        """Plans one item."""
        if item.class_name not in self.journals:
            self._open_class(item.class_name)
        count = self.counts[item.class_name]
        sources = self._sources[item.class_name]
        if self.options.limit is not None and count.found >= self.options.limit:
            self._truncated.add(item.class_name)
            return
        self._collections[item.class_name].add(item.collection)
        if sources.get(item.id) == item.source:  # the same file, named twice
            return
        item = self._with_own_id(item)
        sources[item.id] = item.source
        count.found += 1
        self._sort(item, count)

    def _sort(self, item: Item, count: ClassCount) -> None:
        entry = self.journals[item.class_name].entries.get(item.id)
        output = f"{self._output_prefixes[item.class_name]}{item.id}{SUFFIX[self.kind]}"
        stamp = stamp_inputs(item)
        holds = entry is not None and self._still_holds(entry, output)
        if entry is not None and holds and entry.present and entry.stamp == stamp:
            count.add(entry.reason)
            return
        recorded = entry.content.hex() if entry is not None and holds and entry.content is not None else None
        count.worked += 1
        spool = self.tasks if item.rejected is None else self.rejected
        spool.add(PlannedItem(item, output, stamp, recorded))

    def forget_vanished(self) -> None:
        """Removes items from the manifest that a completely planned collection no longer has."""
        for class_name in self.journals.keys() - self._truncated:
            journal, planned = self.journals[class_name], self._sources[class_name]
            gone = [
                id
                for id, entry in journal.entries.items()
                if entry.present and id not in planned and entry.collection in self._collections[class_name]
            ]
            for id in gone:
                journal.mark_vanished(id)
            self.counts[class_name].vanished = len(gone)

    def recount(self, class_name: str, rejected: Iterable[str], restored: Iterable[str], reason: str) -> None:
        """Updates the counts for planned items that a review has rejected for a reason, or restored."""
        count, planned = self.counts[class_name], self._sources[class_name]
        change = sum(id in planned for id in rejected) - sum(id in planned for id in restored)
        count.prepared -= change
        count.reasons[reason] += change
        count.reasons += Counter()  # without those that are 0

    def _open_class(self, class_name: str) -> None:
        self.store.open_part(class_name, self.kind)
        self.journals[class_name] = self._stack.enter_context(Journal(self.store.folder, class_name, self.kind))
        self.counts[class_name] = ClassCount()
        self._sources[class_name] = {}
        self._collections[class_name] = set()
        # str, not Path: a million Path objects would take longer than the rest of planning.
        self._output_prefixes[class_name] = self.store.output_prefix(class_name, self.kind)

    def _still_holds(self, entry: Entry, output: str) -> bool:
        """Whether a recorded result is valid if the content is still the same."""
        return (
            not self.options.force
            and entry.reason not in ALWAYS_RETRIED
            and entry.settings == self.key.for_reason(entry.reason)
            and (bool(entry.reason) or self.store.has(output))
        )

    def _with_own_id(self, item: Item) -> Item:
        """The item itself, or a rejected `duplicate` under another id if another item has its id."""
        keeper = self._sources[item.class_name].get(item.id) or self._keeper_elsewhere(item)
        if keeper is None:
            return item
        digest = hashlib.sha256(item.source.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        detail = f"the id {item.id} belongs to {printable(keeper)}; rename one of the two to have both"
        return replace(item, id=file_safe(f"{item.id}-{digest}"), rejected=("duplicate", detail))

    def _keeper_elsewhere(self, item: Item) -> str | None:
        """The source of a prepared item of another collection with this id and other content, if it still exists."""
        journal = self.journals[item.class_name]
        entry = journal.entries.get(item.id)
        if entry is None or not entry.present or entry.reason or entry.collection == item.collection:
            return None
        line = journal.line(item.id)
        if not exists(line["input"]) or _is_same_file(item, line["input"]):
            return None
        try:
            with fetched(item) as here:
                same = entry.has_content(hash_content(here)[1])
        except Rejected:
            same = False
        return None if same else str(line["row"]["source"])


def _is_same_file(item: Item, path: str) -> bool:
    if not item.inputs or is_url(item.inputs[0]) or is_url(path):
        return path in item.inputs
    return os.path.exists(item.inputs[0]) and os.path.samefile(item.inputs[0], path)
