"""Two or more datasets joined into one: every row once, every file linked or copied, and the journal that resumes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vondata.dataset.manifest import SUFFIX, dataset_classes, output_path, write_manifest
from vondata.dataset.metadata import FILE_NAME, PartRecord, read_dataset, record_part
from vondata.errors import VonError
from vondata.io.files import atomic_path
from vondata.pipeline.journal import Entry, Journal, journal_path
from vondata.types import Event, Kind

SHOWN_CONFLICTS = 5


class MergeError(VonError, RuntimeError):
    """The datasets cannot be joined; the message says what to do."""


class MixedSettingsError(MergeError):
    """The datasets were prepared with different settings."""


class IdConflictError(MergeError):
    """An id stands for different things in the datasets."""


@dataclass
class MergedPart:
    """One class and kind of the joined dataset.

    Attributes:
        class_name: the class.
        kind: shapes or images.
        prepared: rows with a file.
        rejected: rows without.
        taken: rows from each dataset, in the order given.
        same: items that several datasets have, made from the same content with the same settings.
        settled: items that several datasets have in different versions, of which one was taken.
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
    """How to join.

    Attributes:
        mixed_settings: take parts that were prepared with different settings together.
        prefer_first: of an item's different versions take that of the first dataset instead of refusing.
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
    """Joins datasets into a new one, which goes on like any other: preparing with `into` as data folder resumes.

    Nothing is written before all parts have been found to agree.

    Args:
        datasets: two or more, of this machine.
        into: a new or empty folder.
        options: how.
        on_event: told of the progress.

    Raises:
        MergeError: a folder is no dataset, settings differ, or an id stands for different things.
        DatasetBusyError: one of them is being written.
    """
    _check_folders(datasets, into)
    with ExitStack() as stack:
        joins = [
            _Join(name, kind, datasets, options, stack)
            for name in sorted({name for data in datasets for name in dataset_classes(data)})
            for kind in SUFFIX
        ]
        joins = [join for join in joins if any(join.journals)]
        done = 0
        for join in joins:
            for _ in join.write(into):
                done += 1
                if on_event is not None:
                    on_event(Event("merging", done, sum(len(each.chosen) for each in joins)))
    return [join.part for join in joins]


class _Join:
    """One class and kind of all datasets; made only if they agree."""

    def __init__(
        self, class_name: str, kind: Kind, datasets: Sequence[Path], options: MergeOptions, stack: ExitStack
    ) -> None:
        self.part = MergedPart(class_name, kind, taken=[0] * len(datasets))
        self.options = options
        self.datasets = datasets
        self.journals = [
            stack.enter_context(Journal(data, class_name, kind))
            if journal_path(data, class_name, kind).is_file()
            else None
            for data in datasets
        ]
        self.records = [read_dataset(data).get(class_name, {}).get(kind) for data in datasets]
        for data, journal, record in zip(datasets, self.journals, self.records, strict=True):
            if journal is not None and record is None:
                raise MergeError(
                    f"the {kind} of class {class_name} in {data} were broken off: prepare them to the end"
                )
        self._check_settings()
        self.chosen = self._choose()

    def write(self, into: Path) -> Iterator[None]:
        """Writes files, journal, tables and record."""
        part = self.part
        place = (into, part.class_name, part.kind)
        with Journal(*place) as joined:
            for id, number in sorted(self.chosen.items()):
                journal = self.journals[number]
                assert journal is not None
                line = journal.line(id)
                if not line["reason"]:
                    source = output_path(self.datasets[number], part.class_name, part.kind, id)
                    _link(source, output_path(*place, id), copy=self.options.copy)
                known = {name: line[name] for name in ("stamp", "content", "settings", "input", "row")}
                joined.record(id, **known)
                part.taken[number] += 1
                yield
            rejected = sum(bool(entry.reason) for entry in joined.entries.values())
            part.prepared, part.rejected = len(self.chosen) - rejected, rejected
            rows = list[dict[str, Any]]() if not self.chosen else joined.rows()
            write_manifest(*place, rows)
        record = next(each for each in self.records if each is not None)
        record_part(*place, PartRecord(record.settings, record.settings_hash, part.prepared, part.rejected))

    def _check_settings(self) -> None:
        known = [(data, record) for data, record in zip(self.datasets, self.records, strict=True) if record]
        for data, record in known[1:]:
            first_data, first = known[0]
            if record.settings_hash != first.settings_hash and not self.options.mixed_settings:
                names = [name for name, value in record.settings.items() if first.settings.get(name) != value]
                raise MixedSettingsError(
                    f"the {self.part.kind} of class {self.part.class_name} in {first_data} and {data} were prepared "
                    f"with different settings ({', '.join(names) or 'of another version'}): prepare one of them "
                    "again, or take them together as they are"
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
                    self.part.same += 1
                elif kept.content == entry.content and bool(kept.reason) != bool(entry.reason):
                    # The same file came out on one machine only, as one that was too slow on the other.
                    self.part.settled += 1
                    chosen[id] = number if kept.reason else chosen[id]
                elif self.options.prefer_first:
                    self.part.settled += 1
                else:
                    conflicts.append(id)
        if conflicts:
            shown = ", ".join(conflicts[:SHOWN_CONFLICTS]) + (", ..." if len(conflicts) > SHOWN_CONFLICTS else "")
            raise IdConflictError(
                f"{len(conflicts):,} {self.part.kind} of class {self.part.class_name} have the same id and are not "
                f"the same ({shown}): rename the sources, or take those of the first dataset"
            )
        return chosen

    def _entry(self, number: int, id: str) -> Entry:
        journal = self.journals[number]
        assert journal is not None
        return journal.entries[id]


def _is_same(one: Entry, other: Entry) -> bool:
    return (one.content, one.settings, one.reason) == (other.content, other.settings, other.reason)


def _link(source: Path, target: Path, *, copy: bool) -> None:
    """Makes a file appear under a second name, or copies it where that cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_file():
        raise MergeError(f"{source} is in the journal but not there; prepare its dataset again")
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
        raise MergeError("name two or more datasets to join")
    for data in datasets:
        if not (data / FILE_NAME).is_file() or not dataset_classes(data):
            raise MergeError(f"{data} holds no prepared dataset (no {FILE_NAME}): name the folder of a prepared one")
        if any(data.glob("*/*.index.parquet")):
            raise MergeError(f"{data} is packed and has no journal; join the datasets it was packed from")
    if len({data.resolve() for data in datasets}) < len(datasets):
        raise MergeError("a dataset is named twice")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise MergeError(f"{into} is not empty; name a new folder")
