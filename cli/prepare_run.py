"""Shared by the `von prepare` verbs: options, a run of the pipeline, its result as table, JSON and exit code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.command import option
from voncli.options import json_option
from voncli.output import EXIT_INTERRUPTED, cli_error, disk_errors, local_copy, print_json
from voncli.settings import FiniteRange, folder_option

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from voncli.output import ProgressReporter

    from vondata.classes import ObjectClass
    from vondata.io.fs import DataFolder
    from vondata.matching import MatchCount
    from vondata.pipeline.plan import PrepareOptions
    from vondata.pipeline.run import PreparationResult, Review
    from vondata.types import Event, Item, Kind, Work

    # Matches viewpoints after a run: its result and a callback for events to counts by class.
    Match = Callable[[PreparationResult, Callable[[Event], None]], dict[str, MatchCount]]


MIN_MEMORY_BYTES = 300_000_000  # a worker process takes two thirds of it after its imports


@dataclass(frozen=True)
class RejectLimit:
    """The largest acceptable number of rejected items, absolute or as a share of those found."""

    number: float
    is_share: bool

    def is_exceeded(self, rejected: int, found: int) -> bool:
        """Whether more items were rejected."""
        return rejected > (self.number * found / 100 if self.is_share else self.number)


class RejectLimitType(click.ParamType[RejectLimit]):
    """Reads `20` or `5%`."""

    name = "N or N%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> RejectLimit:
        """Parses the option's text."""
        text = str(value)
        is_share = text.endswith("%")
        digits = text.removesuffix("%")
        if not digits.isdecimal() or (is_share and int(digits) > 100):
            self.fail(f"{text!r} is neither a number such as 20 nor a share such as 5%", param, ctx)
        return RejectLimit(float(digits), is_share)


@dataclass(frozen=True)
class PrepareCommand:
    """The options common to all preparation verbs.

    Attributes:
        class_names: given by --class; empty for all known classes.
        data: the dataset.
        options: limits of the run.
        max_rejected: exit with code 3 if more items are rejected.
        report: whether to write the page; None writes it unless a large dataset has to be copied for it.
        as_json: print the result as JSON.
    """

    class_names: tuple[str, ...]
    data: DataFolder
    options: PrepareOptions
    max_rejected: RejectLimit | None
    report: bool | None
    as_json: bool

    def classes(self) -> tuple[ObjectClass, ...]:
        """The classes asked for, or all known ones."""
        from vondata.classes import UnknownClassError, known_classes, load_class

        try:
            return tuple(load_class(name) for name in dict.fromkeys(self.class_names)) or known_classes()
        except UnknownClassError as error:
            raise cli_error(error) from error


def _checked_memory_limit(text: str) -> str:
    from dask.utils import parse_bytes

    try:
        if text != "auto" and parse_bytes(text) < MIN_MEMORY_BYTES:
            raise ValueError(f"{text} is too little for a process to start in")
    except ValueError as error:
        raise click.UsageError(f"--memory-limit: {error}; write it as 4GB, or auto") from error
    return text


def _worker_count(workers: int | None) -> int:
    from dask.system import CPU_COUNT

    return int(CPU_COUNT) if workers is None else workers


def run_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Adds the common options of preparation to a verb, passed to it as one `command`."""
    page = option(
        "--report/--no-report",
        default=None,
        heading="Output",
        help="Write the HTML page. [default: yes; for a URL, if at most 1 GB has to be downloaded]",
    )
    data = folder_option(
        "data",
        "-o",
        "--output",
        "--data",
        help="Write the prepared dataset into this folder, or to this URL.",
        urls="used",
        heading="Output",
    )
    return data(page(job_options(verb)))


def job_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of any job over a collection; the verb has its own option for the output folder, `data`."""

    @option(
        "--class",
        "class_names",
        multiple=True,
        metavar="NAME",
        help="Process this class; repeat for more. [default: all known classes found]",
    )
    @option("--limit", type=click.IntRange(min=1), help="Process at most this many items of each class.")
    @option("--force", is_flag=True, help="Process items again that are already done.")
    @option(
        "--max-rejected",
        type=RejectLimitType(),
        help="End with exit code 3 when more items are rejected: a number, or a share such as 5%.",
    )
    @option(
        "--workers",
        type=click.IntRange(min=0),
        heading="Processes",
        help="Use this many local processes; 0 runs in this one. [default: one per core]",
    )
    @option(
        "--scheduler",
        metavar="ADDRESS",
        heading="Processes",
        help="Run on a Dask cluster, tcp://host:port. [default: on this machine]",
    )
    @option(
        "--item-timeout",
        type=FiniteRange(min=0, min_open=True),
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        heading="Processes",
        help="Reject an item that takes longer than this.",
    )
    @option(
        "--memory-limit",
        default="auto",
        show_default=True,
        metavar="SIZE",
        heading="Processes",
        help="Allow each local process this much memory, such as 4GB; an item that takes more is rejected.",
    )
    @json_option
    @functools.wraps(verb)
    def wrapper(
        data: DataFolder | Path,
        class_names: tuple[str, ...],
        workers: int | None,
        scheduler: str | None,
        limit: int | None,
        force: bool,
        item_timeout: float,
        memory_limit: str,
        max_rejected: RejectLimit | None,
        as_json: bool,
        report: bool | None = False,
        **own: Any,
    ) -> None:
        from vondata.io.fs import DataFolder
        from vondata.pipeline.plan import PrepareOptions

        verb(
            command=PrepareCommand(
                class_names=class_names,
                data=DataFolder.at(data),
                options=PrepareOptions(
                    workers=_worker_count(workers),
                    timeout_s=item_timeout,
                    memory_limit=_checked_memory_limit(memory_limit),
                    scheduler=scheduler,
                    limit=limit,
                    force=force,
                ),
                max_rejected=max_rejected,
                report=report,
                as_json=as_json,
            ),
            **own,
        )

    return wrapper


def run_preparation(
    command: PrepareCommand,
    kind: Kind,
    items: Iterable[Item],
    work: Work,
    settings: DataclassInstance,
    review: Review | None = None,
    match: Match | None = None,
) -> None:
    """Runs the preparation with progress, matches viewpoints, writes the page and prints the result.

    Exits with code 1 after bugs, 3 if more items were rejected than allowed, 130 if stopped.
    """
    from voncli.output import ProgressReporter, logs_to

    from vondata.errors import VonError
    from vondata.pipeline.run import prepare

    log = log_file(command.data)
    try:
        with ProgressReporter() as progress, disk_errors(command.data), logs_to(log, progress.print_line):
            result = prepare(kind, items, work, settings, command.data, command.options, progress, review)
            matches = {} if match is None else match(result, progress)
            page = _write_report(command, progress) if result.classes else None
    except KeyboardInterrupt:
        click.echo("\nStopped. Finished items are kept; the same command resumes from here.", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    except VonError as error:
        raise cli_error(error) from error
    if command.as_json:
        print_json(
            result_as_json(result, command.data, page)
            | {"viewpoints": {name: asdict(count) for name, count in matches.items()}}
        )
    else:
        print_preparation(result, command.data, page)
        print_matches(matches)
    end(result, command, log)


def _write_report(command: PrepareCommand, progress: ProgressReporter) -> Path | None:
    """Writes the page; that of a remote dataset from a local copy."""
    from vondata.report.page import write_report

    why = "No page is written; --report writes it"
    if command.report is False or (copy := local_copy(command.data, asked=command.report is True, why=why)) is None:
        return None
    return write_report(copy, workers=command.options.workers, on_event=progress)


DONE_WITH_REJECTS = 3
LOG_FILE = "prepare.log"


def log_file(data: DataFolder) -> Path:
    """The log file for warnings, and for tracebacks of bugs."""
    from vondata.io.files import cache_folder

    return (cache_folder() if data.is_remote else data.path / "journal") / LOG_FILE


def _manifest(data: DataFolder, class_name: str, kind: Kind) -> str:
    from vondata.dataset.manifest import manifest_path

    return str(data / manifest_path(Path(), class_name, kind).as_posix())


def result_as_json(result: PreparationResult, data: DataFolder, page: Path | None) -> dict[str, Any]:
    """The result as JSON values."""
    return {
        "kind": result.kind,
        "data": str(data),
        "seconds": round(result.seconds, 3),
        "report": None if page is None else str(page),
        "classes": {
            name: {
                "found": count.found,
                "worked": count.worked,
                "prepared": count.prepared,
                "rejected": count.rejected,
                "reasons": dict(count.reasons.most_common()),
                "vanished": count.vanished,
                "other_settings": count.other_settings,
                "manifest": _manifest(data, name, result.kind),
            }
            for name, count in result.classes.items()
        },
    }


def print_preparation(result: PreparationResult, data: DataFolder, page: Path | None) -> None:
    """Prints the result as tables."""
    from voncli.output import print_table

    rows = [
        [name, *(f"{number:,}" for number in (count.found, count.worked, count.prepared, count.rejected))]
        for name, count in sorted(result.classes.items())
    ]
    print_table(
        f"{result.kind.capitalize()} in {data}", ["class", "found", "worked on", "prepared", "rejected"], rows
    )
    reasons = [
        [name, reason, f"{number:,}"]
        for name, count in sorted(result.classes.items())
        for reason, number in count.reasons.most_common()
    ]
    if reasons:
        click.echo()
        print_table("Rejected", ["class", "reason", "items"], reasons)
        click.echo(f"von prepare --explain {reasons[0][1]} says what a reason means.")
    click.echo()
    for name, count in sorted(result.classes.items()):
        click.echo(_manifest(data, name, result.kind))
        if count.vanished:
            click.echo(f"  {count.vanished:,} rows removed: their items are no longer in the collection.")
        if count.other_settings:
            click.echo(
                f"  {count.other_settings:,} of its items were prepared with other settings, outside of this run."
            )
    if page is not None:
        click.echo(f"{page}  is the page to open.")
    elif result.kind == "renders":
        click.echo(f"von prepare images --renders {data}  reads them as photos.")
    elif data.is_remote:
        click.echo(f"von inspect {data}  downloads it and writes the page to open.")
    click.echo(f"Done in {_duration(result.seconds)}.")


def end(result: PreparationResult, command: PrepareCommand, log: Path) -> None:
    """Prints what went wrong, and exits with code 1 or 3 for it."""
    counts: Sequence[Any] = list(result.classes.values())
    for name in dict.fromkeys(command.class_names):
        if name not in result.classes:
            click.echo(f"Nothing was found of class {name}.", err=True)
    bugs = sum(count.reasons["internal_error"] for count in counts)
    if bugs:
        click.echo(f"VON failed on {bugs} items, which is a bug; {log} has the tracebacks.", err=True)
        raise click.exceptions.Exit(1)
    found, rejected = sum(count.found for count in counts), sum(count.rejected for count in counts)
    if command.max_rejected is not None and command.max_rejected.is_exceeded(rejected, found):
        click.echo(f"{rejected} of {found} items were rejected, more than --max-rejected allows.", err=True)
        raise click.exceptions.Exit(DONE_WITH_REJECTS)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def print_matches(counts: dict[str, MatchCount]) -> None:
    """Prints how many photos of each class have a matched viewpoint."""
    for name, count in counts.items():
        if count.matched or count.unreadable:
            words = (
                f"{name}: {count.matched:,} viewpoints matched against shapes, {count.worked:,} of them in this run"
            )
            lost = f"; {count.unreadable:,} pictures could not be read" if count.unreadable else ""
            click.echo(f"{words}{lost}.")
