"""Resumable preparation: plan, run what is not done yet, record each item in the journal, write the manifests.

An item is done if the journal has a line for it with the same content and settings, and its output exists. Content is
compared by size and time of the files first, so that a resume reads no file; if those differ, by hash. An id belongs
to the item that had it first: a second file with the same id becomes a row `duplicate` under another id and
overwrites nothing. Rows of classes and collections that are not planned in a run are unchanged; an item that has
vanished from a collection is removed from the manifest when that collection is planned completely.
"""

from __future__ import annotations

import errno
import gc
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from vondata.dataset.manifest import manifest_is_current, output_folder, split_of, write_manifest
from vondata.dataset.metadata import PartRecord, plain_settings, read_dataset
from vondata.dataset.schema import load_reason, plain_row
from vondata.errors import VonError
from vondata.io.files import FULL, NotRegularFileError, ScratchError, remove_leftovers
from vondata.io.fs import DataFolder, DeliveryError, FolderLike, fetched
from vondata.pipeline.executor import ExecutorOptions, Failure, run_tasks
from vondata.pipeline.journal import Journal
from vondata.pipeline.plan import ClassCount, Plan, PrepareOptions, SettingsKey
from vondata.pipeline.store import open_store
from vondata.pipeline.task import Outcome, PlannedItem, hash_content, run_task
from vondata.types import Event, Item, Kind, Rejected, Work, printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


PLANNING_EVENTS_EVERY = 64
DISK_ERRORS = (*FULL, errno.EROFS)

OnEvent = Callable[[Event], None]
Records = Mapping[str, Mapping[Kind, PartRecord]]  # by class and kind, as they were before the run

logger = logging.getLogger(__name__)


class DataFolderError(VonError, RuntimeError):
    """No more files can be written to the dataset."""


class DataFolderFullError(DataFolderError):
    """The disk of the data folder is full or read-only."""

    def __init__(self, folder: str, why: str) -> None:
        super().__init__(
            f"{folder} takes no more files ({why})",
            hint="make room or choose another data folder, then run again: what is done stays done",
        )


@dataclass(frozen=True)
class PreparationResult:
    """Counts of a run by class."""

    kind: Kind
    classes: dict[str, ClassCount]
    seconds: float


def prepare(
    kind: Kind,
    items: Iterable[Item],
    work: Work,
    settings: DataclassInstance,
    data: FolderLike,
    options: PrepareOptions,
    on_event: OnEvent | None = None,
    review: Review | None = None,
) -> PreparationResult:
    """Prepares items that are not done yet and updates the manifests of their classes.

    Args:
        kind: shapes or images.
        items: in any order; taken one by one and never held in memory together.
        work: prepares one item.
        settings: passed to `work`; an item is prepared again when they change.
        data: folder of the dataset, created if need be, or its URL.
        options: how to run.
        on_event: called with the progress, in this thread.
        review: checks the rows of a class together, after its items are done.

    Raises:
        DatasetBusyError: another process prepares the same class and kind.
        ShardedDatasetError: the folder holds shards.
        DatasetFormatError: the folder was written by a newer version.
        DataFolderError: the disk is full or read-only (DataFolderFullError), or the URL accepts no file.
        ScratchError: the temporary folder is full.
        RemoteError: the URL cannot be used.
        NoWorkersError, SchedulerUnreachableError, UnfitWorkersError: no worker can run the tasks.
        UnknownColumnError, ColumnTypeError, UnknownReasonError: `work` returned values that the manifests do not
            describe.
    """
    started = time.perf_counter()
    notify = on_event or (lambda event: None)
    with ExitStack() as stack:
        store = stack.enter_context(open_store(DataFolder.at(data)))
        before = read_dataset(store.folder)  # before anything is written, so a newer format is refused
        plan = Plan(kind, store, SettingsKey.of(kind, settings, options), options, stack)
        with _no_garbage_collection():
            for number, item in enumerate(items):
                if number % PLANNING_EVENTS_EVERY == 0:
                    notify(Event("planning", number))
                plan.add(item)
            plan.forget_vanished()
        try:
            _run_planned(plan, work, settings, notify)
        except KeyboardInterrupt:  # what is done so far is a usable dataset
            _write_manifests(plan, settings, notify, before)
            raise
        if review is not None:
            _review(plan, review, settings, before)
        _write_manifests(plan, settings, notify, before)
    return PreparationResult(kind, plan.counts, time.perf_counter() - started)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Planning creates millions of small objects and no cycles: garbage collection would take a fifth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _run_planned(plan: Plan, work: Work, settings: DataclassInstance, notify: OnEvent) -> None:
    """Runs the planned items and records each as it ends."""
    call = partial(run_task, work=work, settings=settings)
    here = ExecutorOptions(timeout_s=plan.options.timeout_s)
    total, done = len(plan.rejected) + len(plan.tasks), 0
    notify(Event("running", 0, total))
    # The file of a rejected item is only hashed, which needs no processes.
    for spool, options in ((plan.rejected, here), (plan.tasks, plan.options)):
        if not len(spool):
            continue
        with closing(run_tasks(call, spool, options, plan.store.shared_folder)) as results:
            for task, result in results:
                done += 1
                notify(Event("finished", done, total, _record(plan, task, result)))


def _record(plan: Plan, task: PlannedItem, result: Outcome | Failure) -> dict[str, Any]:
    """Records the outcome of an item in the journal; returns its row."""
    item, journal = task.item, plan.journals[task.item.class_name]
    outcome = _outcome_of_failure(task, result) if isinstance(result, Failure) else result
    if outcome.unchanged:
        row = {**journal.line(item.id)["row"], "source": printable(item.source), "collection": item.collection}
    else:
        row = _row(plan, item, outcome)
    reason = row["reason"] or ""
    if reason and not outcome.unchanged:
        plan.store.remove(task.output)  # of an earlier run with other content or settings
    journal.record(
        item.id,
        stamp=task.stamp,
        content=outcome.content,
        settings=plan.key.for_reason(reason),
        input=item.inputs[0] if item.inputs else "",
        row=row,
    )
    plan.store.save()
    plan.counts[item.class_name].add(reason)
    return row


def _row(plan: Plan, item: Item, outcome: Outcome) -> dict[str, Any]:
    reason, detail = outcome.rejected or (None, None)
    if reason is not None and plan.kind not in load_reason(reason).kinds:
        raise ValueError(f"manifests/reasons.toml does not list {reason} for {plan.kind}")
    return plain_row(
        plan.kind,
        {
            **outcome.values,
            "id": item.id,
            "class": item.class_name,
            "source": item.source,
            "sha256": outcome.sha256,
            "output_sha256": outcome.output_sha256,
            "status": "prepared" if reason is None else "rejected",
            "reason": reason,
            "detail": detail,
            "split": split_of(item.id),
            "seconds": round(outcome.seconds, 4),
            "collection": item.collection,
            "settings": plan.key.output,
        },
    )


def _outcome_of_failure(task: PlannedItem, failure: Failure) -> Outcome:
    """The outcome of an item whose task failed.

    Raises:
        DataFolderError: no more files can be written to the dataset, so every other item would fail, too.
        ScratchError: the temporary folder is full.
        NotRegularFileError: there is a folder in place of its file.
    """
    if isinstance(failure.error, ScratchError | NotRegularFileError):
        raise failure.error
    if isinstance(failure.error, DeliveryError):
        hint = "put that right, then run again: what is done stays done"
        raise DataFolderError(str(failure.error.strerror), hint=hint) from failure.error
    if isinstance(failure.error, OSError) and failure.error.errno in DISK_ERRORS:
        raise DataFolderFullError(task.output.rpartition("/")[0], str(failure.error.strerror)) from failure.error
    if failure.reason == "internal_error":
        logger.error("%s %s: internal error\n%s", task.item.class_name, task.item.id, failure.trace)
    try:
        with fetched(task.item) as item:
            hashes: tuple[str | None, str | None] = hash_content(item)
    except Rejected:
        hashes = (None, None)
    return Outcome(*hashes, rejected=(failure.reason, failure.detail), seconds=failure.seconds)


def _review(plan: Plan, review: Review, settings: DataclassInstance, before: Records) -> None:
    """Reviews the classes in which items or settings have changed."""
    for class_name, journal in plan.journals.items():
        if not _is_current(plan, class_name, settings, before):
            plan.recount(class_name, *apply_review(review, journal), review.reason)


def _is_current(plan: Plan, class_name: str, settings: DataclassInstance, before: Records) -> bool:
    """Whether manifests and record are up to date with the journal and these settings."""
    record = before.get(class_name, {}).get(plan.kind)
    if record is None or record.settings != plain_settings(settings):
        return False
    return manifest_is_current(plan.store.folder, class_name, plan.kind, plan.journals[class_name].revision)


def _write_manifests(plan: Plan, settings: DataclassInstance, notify: OnEvent, before: Records) -> None:
    folder = plan.store.folder
    for class_name, journal in plan.journals.items():
        entries = [entry for entry in journal.entries.values() if entry.present]
        made = [entry for entry in entries if not entry.reason]
        if plan.counts[class_name].worked:
            remove_leftovers(output_folder(folder, class_name, plan.kind))
        remove_leftovers(folder / class_name, plan.kind, "sketches" if plan.kind == "images" else plan.kind)
        plan.counts[class_name].other_settings = sum(entry.settings != plan.key.output for entry in made)
        if _is_current(plan, class_name, settings, before):
            continue
        notify(Event("writing", len(entries)))
        write_manifest(folder, class_name, plan.kind, journal.rows(), journal.revision)
        plan.store.close_part(class_name, plan.kind)
        record = PartRecord(plain_settings(settings), plan.key.output, len(made), len(entries) - len(made))
        plan.store.record(class_name, plan.kind, record)


Verdict = tuple[str, str]  # reason and detail


@dataclass(frozen=True)
class Review:
    """A check of all rows of a class together, such as for near-duplicates.

    Attributes:
        reason: of every rejection by the review; not used by any work function.
        find: maps the rows of a class to rejections by id.
        change: maps the rows of a class to new values of columns by id; None changes none.
    """

    reason: str
    find: Callable[[Iterable[Mapping[str, Any]]], Mapping[str, Verdict]]
    change: Callable[[Iterable[Mapping[str, Any]]], Mapping[str, Mapping[str, Any]]] | None = None


def apply_review(review: Review, journal: Journal) -> tuple[list[str], list[str]]:
    """Records changes since the last review; returns the ids now rejected, and the ids no longer rejected."""
    for id, values in (review.change(journal.rows()) if review.change else {}).items():
        _record_again(journal, id, values)
    verdicts = review.find(journal.rows())
    rejected = [id for id in sorted(verdicts) if _judge(journal, id, verdicts[id])]
    judged = [id for id, entry in journal.entries.items() if entry.present and entry.reason == review.reason]
    restored = [id for id in sorted(judged) if id not in verdicts]
    for id in restored:
        _judge(journal, id, None)
    return rejected, restored


def _judge(journal: Journal, id: str, verdict: Verdict | None) -> bool:
    """Records a verdict unless it is already recorded; returns whether a prepared row became a rejected one."""
    line = journal.line(id)
    reason, detail = verdict or (None, None)
    if (line["row"]["reason"], line["row"]["detail"]) == (reason, detail):
        return False
    status = "prepared" if verdict is None else "rejected"
    _record_again(journal, id, {"status": status, "reason": reason, "detail": detail})
    return verdict is not None and line["row"]["status"] == "prepared"


def _record_again(journal: Journal, id: str, values: Mapping[str, Any]) -> None:
    """Records a row once more, with other values of some columns."""
    line = journal.line(id)
    journal.record(
        id,
        stamp=line["stamp"],
        content=line["content"],
        settings=line["settings"],
        input=line["input"],
        row={**line["row"], **values},
    )
