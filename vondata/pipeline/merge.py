"""Merges datasets into a new one: every row once, files linked or copied, and a journal to resume from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vondata.dataset.manifest import DATASET_KINDS, dataset_classes, output_path, write_manifest
from vondata.dataset.metadata import FILE_NAME, PartRecord, read_dataset, record_part
from vondata.errors import VonError
from vondata.io.files import atomic_path
from vondata.pipeline.journal import Entry, Journal, journal_path
from vondata.types import Event, Kind

SHOWN_CONFLICTS = 5


class MergeError(VonError, RuntimeError):
    """The datasets cannot be merged; the message says why."""


class MixedSettingsError(MergeError):
    """Datasets were prepared with different settings."""


class MergeTargetError(MergeError):
    """The folder for the merged dataset is not empty."""


class IdConflictError(MergeError):
    """Datasets have different items under the same id."""


@dataclass
class MergedPart:
    """Counts of one class and kind of the merged dataset.

    Attributes:
        class_name: the class.
        kind: shapes or images.
        prepared: rows with a file.
        rejected: rows without a file.
        taken: rows from each dataset, in the given order.
        same: items that several datasets have with the same content and settings.
        settled: items that several datasets have in different versions, of which one was chosen.
    """

    class_name: str
    kind: Kind
    prepared: int = 0
    rejected: int = 0
    taken: list[int] = field(default_factory=list)
    same: int = 0
    settled: int = 0


@dataclass(frozen=True)
class MergeOptions:
    """Options of a merge.

    Attributes:
        mixed_settings: accept parts that were prepared with different settings.
        prefer_first: of different versions of an item take the first dataset's; otherwise they are an error.
        copy: copy files instead of linking them.
    """

    mixed_settings: bool = False
    prefer_first: bool = False
    copy: bool = False


def merge(
    datasets: Sequence[Path],
    into: Path,
    options: MergeOptions,
    on_event: Callable[[Event], None] | None = None,
) -> list[MergedPart]:
    """Merges datasets into a new one, whose preparation can be resumed like any other.

    All parts are checked before anything is written.

    Args:
        datasets: two or more local folders.
        into: a new or empty folder.
        options: how conflicts are resolved.
        on_event: called with the progress.

    Raises:
        MergeError: a folder is not a dataset, settings differ, or datasets have different items under one id.
        DatasetBusyError: one of them is being written.
    """
    _check_folders(datasets, into)
    with ExitStack() as stack:
        parts = [
            _PartMerge(name, kind, datasets, options, stack)
            for name in sorted({name for data in datasets for name in dataset_classes(data)})
            for kind in DATASET_KINDS
        ]
        parts = [part for part in parts if any(part.journals)]
        done = 0
        for part in parts:
            for _ in part.write(into):
                done += 1
                if on_event is not None:
                    on_event(Event("merging", done, sum(len(each.chosen) for each in parts)))
    return [part.counts for part in parts]


class _PartMerge:
    """Merge of one class and kind; raises MergeError if it is not possible."""

    def __init__(
        self, class_name: str, kind: Kind, datasets: Sequence[Path], options: MergeOptions, stack: ExitStack
    ) -> None:
        self.counts = MergedPart(class_name, kind, taken=[0] * len(datasets))
        self.options = options
        self.datasets = datasets
        self.journals = [
            stack.enter_context(Journal(data, class_name, kind, read_only=True))
            if journal_path(data, class_name, kind).is_file()
            else None
            for data in datasets
        ]
        self.records = [read_dataset(data).get(class_name, {}).get(kind) for data in datasets]
        for data, journal, record in zip(datasets, self.journals, self.records, strict=True):
            if journal is not None and record is None:
                raise MergeError(
                    f"the preparation of the {kind} of class {class_name} in {data} was interrupted",
                    hint="prepare them to the end",
                )
        self._check_settings()
        self.chosen = self._choose()

    def write(self, into: Path) -> Iterator[None]:
        """Writes files, journal, tables and record."""
        counts = self.counts
        place = (into, counts.class_name, counts.kind)
        with Journal(*place) as merged:
            for id, number in sorted(self.chosen.items()):
                journal = self.journals[number]
                assert journal is not None
                line = journal.line(id)
                if not line["reason"]:
                    source = output_path(self.datasets[number], counts.class_name, counts.kind, id)
                    _link(source, output_path(*place, id), copy=self.options.copy)
                known = {name: line[name] for name in ("stamp", "content", "settings", "input", "row")}
                merged.record(id, **known)
                counts.taken[number] += 1
                yield
            rejected = sum(bool(entry.reason) for entry in merged.entries.values())
            counts.prepared, counts.rejected = len(self.chosen) - rejected, rejected
            rows = list[dict[str, Any]]() if not self.chosen else merged.rows()
            write_manifest(*place, rows, merged.revision)
        record = next(each for each in self.records if each is not None)
        record_part(*place, PartRecord(record.settings, record.settings_hash, counts.prepared, counts.rejected))

    def _check_settings(self) -> None:
        known = [(data, record) for data, record in zip(self.datasets, self.records, strict=True) if record]
        for data, record in known[1:]:
            first_data, first = known[0]
            if record.settings_hash != first.settings_hash and not self.options.mixed_settings:
                names = [name for name, value in record.settings.items() if first.settings.get(name) != value]
                raise MixedSettingsError(
                    f"the {self.counts.kind} of class {self.counts.class_name} in {first_data} and {data} were "
                    f"prepared with different settings ({', '.join(names) or 'of another version'})",
                    hint="prepare one of them again, or allow mixed settings",
                )

    def _choose(self) -> dict[str, int]:
        """The dataset to take each item from."""
        chosen: dict[str, int] = {}
        conflicts: list[str] = []
        for number, journal in enumerate(self.journals):
            for id, entry in journal.entries.items() if journal is not None else ():
                if not entry.present:
                    continue
                if id not in chosen:
                    chosen[id] = number
                    continue
                kept = self._entry(chosen[id], id)
                if _is_same(kept, entry):
                    self.counts.same += 1
                elif kept.content == entry.content and bool(kept.reason) != bool(entry.reason):
                    # The same file was prepared on one machine and rejected on the other, such as by a time limit.
                    self.counts.settled += 1
                    chosen[id] = number if kept.reason else chosen[id]
                elif self.options.prefer_first:
                    self.counts.settled += 1
                else:
                    conflicts.append(id)
        if conflicts:
            shown = ", ".join(conflicts[:SHOWN_CONFLICTS]) + (", ..." if len(conflicts) > SHOWN_CONFLICTS else "")
            raise IdConflictError(
                f"{len(conflicts):,} {self.counts.kind} of class {self.counts.class_name} have the same id and are "
                f"not the same ({shown})",
                hint="rename the sources, or prefer those of the first dataset",
            )
        return chosen

    def _entry(self, number: int, id: str) -> Entry:
        journal = self.journals[number]
        assert journal is not None
        return journal.entries[id]


def _is_same(one: Entry, other: Entry) -> bool:
    return (one.content, one.settings, one.reason) == (other.content, other.settings, other.reason)


def _link(source: Path, target: Path, *, copy: bool) -> None:
    """Links a file under a second name, or copies it where links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_file():
        raise MergeError(f"{source} is in the journal but not there", hint="prepare its dataset again")
    if not copy:
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            copy = True
    if copy:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def _check_folders(datasets: Sequence[Path], into: Path) -> None:
    if len(datasets) < 2:
        raise MergeError("name two or more datasets to merge")
    for data in datasets:
        if not (data / FILE_NAME).is_file() or not dataset_classes(data):
            raise MergeError(
                f"{data} holds no prepared dataset (no {FILE_NAME})", hint="name a folder of a prepared dataset"
            )
        if any(data.glob("*/*.index.parquet")):
            raise MergeError(f"{data} has shards and no journal", hint="merge the datasets they were written from")
    places = [data.resolve() for data in datasets]
    for data, place in zip(datasets, places, strict=True):
        if places.count(place) > 1:
            raise MergeError(f"{data} is named twice", hint="name each dataset once")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise MergeTargetError(f"{into} is not {'empty' if into.is_dir() else 'a folder'}", hint="name a new folder")
