"""What the `von prepare` commands share: options, a run of the pipeline, its result as table, JSON and exit code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.options import FiniteRange, folder_option, json_option, print_json
from voncli.output import disk_errors, local_copy

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from voncli.output import ProgressReporter

    from vondata.classes import ObjectClass
    from vondata.io.fs import RemoteFolder
    from vondata.matching import MatchCount
    from vondata.pipeline.run import PreparationResult, Review
    from vondata.types import Event, Item, Kind, RunOptions, Work

    # What became of the photos of each class, given the ledger's result and whom to tell of the progress.
    Match = Callable[[PreparationResult, Callable[[Event], None]], dict[str, MatchCount]]


LEAST_MEMORY = 300_000_000  # bytes; a process that has imported what it works with takes two thirds of it


@dataclass(frozen=True)
class RejectLimit:
    """How many rejected items are still fine: a number, or a share of those found."""

    number: float
    is_share: bool

    def is_exceeded(self, rejected: int, found: int) -> bool:
        """Whether there are more rejected items than that."""
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
class Running:
    """The options that all preparation commands have."""

    class_names: tuple[str, ...]
    data: Path | RemoteFolder
    workers: int | None
    limit: int | None
    force: bool
    item_timeout: float
    memory_limit: str
    max_rejected: RejectLimit | None
    report: bool | None
    as_json: bool
    scheduler: str | None

    def classes(self) -> tuple[ObjectClass, ...]:
        """The classes asked for, or all known ones."""
        from vondata.classes import UnknownClassError, known_classes, load_class

        try:
            return tuple(load_class(name) for name in dict.fromkeys(self.class_names)) or known_classes()
        except UnknownClassError as error:
            raise click.UsageError(f"--class: {error}") from error

    def options(self) -> RunOptions:
        """How the ledger is to run."""
        from dask.system import CPU_COUNT
        from dask.utils import parse_bytes

        from vondata.types import RunOptions

        try:
            if self.memory_limit != "auto" and parse_bytes(self.memory_limit) < LEAST_MEMORY:
                raise ValueError(f"{self.memory_limit} is too little for a process to start in")
        except ValueError as error:
            raise click.UsageError(f"--memory-limit: {error}; write it as 4GB, or auto") from error
        workers = CPU_COUNT if self.workers is None else self.workers
        return RunOptions(
            workers, self.item_timeout, self.memory_limit, self.limit, self.force, scheduler=self.scheduler
        )


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the common options to a command, which gets them together as `running`."""

    @folder_option("data", help="Folder of the prepared dataset, or its URL.", urls="used")
    @click.option(
        "--class",
        "class_names",
        multiple=True,
        metavar="NAME",
        help="Class to prepare; repeat for more. [default: all known classes found]",
    )
    @click.option(
        "--workers", type=click.IntRange(min=0), help="Local processes; 0 works in this one. [default: one per core]"
    )
    @click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Work on a running Dask cluster, tcp://host:port. [default: on this machine]",
    )
    @click.option("--limit", type=click.IntRange(min=1), help="At most this many items of each class.")
    @click.option("--force", is_flag=True, help="Prepare again what is done already.")
    @click.option(
        "--item-timeout",
        type=FiniteRange(min=0, min_open=True),
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        help="Give an item up after this time.",
    )
    @click.option(
        "--memory-limit",
        default="auto",
        show_default=True,
        metavar="SIZE",
        help="Memory of each local process, such as 4GB; an item that takes more is given up.",
    )
    @click.option(
        "--max-rejected",
        type=RejectLimitType(),
        help="Exit with code 3 when more items are rejected: a number, or a share such as 5%.",
    )
    @click.option(
        "--report/--no-report",
        default=None,
        help="Write the page to look at. [default: yes; for a URL, where at most 1 GB has to be copied here]",
    )
    @json_option
    @functools.wraps(command)
    def wrapper(
        data: Path | RemoteFolder,
        class_names: tuple[str, ...],
        workers: int | None,
        scheduler: str | None,
        limit: int | None,
        force: bool,
        item_timeout: float,
        memory_limit: str,
        max_rejected: RejectLimit | None,
        report: bool | None,
        as_json: bool,
        **own: Any,
    ) -> None:
        command(
            running=Running(
                class_names=class_names,
                data=data,
                workers=workers,
                limit=limit,
                force=force,
                item_timeout=item_timeout,
                memory_limit=memory_limit,
                max_rejected=max_rejected,
                report=report,
                as_json=as_json,
                scheduler=scheduler,
            ),
            **own,
        )

    return wrapper


def run_preparation(
    running: Running,
    kind: Kind,
    items: Iterable[Item],
    work: Work,
    settings: DataclassInstance,
    review: Review | None = None,
    match: Match | None = None,
) -> None:
    """Runs the ledger with progress, matches viewpoints, writes the page, and tells the result.

    Ends the program with the exit code that the result calls for.
    """
    from voncli.output import ProgressReporter, cli_error, logs_to

    from vondata.errors import VonError
    from vondata.pipeline.run import prepare

    options = running.options()
    log = log_file(running.data)
    try:
        with ProgressReporter() as progress, disk_errors(f"--data {running.data}"), logs_to(log, progress.say):
            result = prepare(kind, items, work, settings, running.data, options, progress, review)
            matches = {} if match is None else match(result, progress)
            page = _write_report(running, progress) if result.classes else None
    except KeyboardInterrupt:
        click.echo("\nStopped. What is done stays done; the same command goes on from here.", err=True)
        raise click.exceptions.Exit(1) from None
    except VonError as error:
        raise cli_error(error) from error
    if running.as_json:
        print_json(
            result_as_json(result, running.data, page)
            | {"viewpoints": {name: asdict(count) for name, count in matches.items()}}
        )
    else:
        print_preparation(result, running.data, page)
        print_matches(matches)
    end(result, running, log)


def _write_report(running: Running, progress: ProgressReporter) -> Path | None:
    """The page, of this machine's copy where the dataset is behind a URL."""
    from vondata.report.page import write_report

    why = "No page is written; --report does it"
    if running.report is False or (copy := local_copy(running.data, asked=running.report is True, why=why)) is None:
        return None
    return write_report(copy, workers=running.options().workers, on_event=progress)


DONE_WITH_REJECTS = 3
LOG_FILE = "prepare.log"


def log_file(data: Path | RemoteFolder) -> Path:
    """Where warnings go, and tracebacks of bugs."""
    from vondata.io.files import cache_folder

    return (data / "journal" if isinstance(data, Path) else cache_folder()) / LOG_FILE


def _manifest(data: Path | RemoteFolder, class_name: str, kind: Kind) -> str:
    from vondata.dataset.manifest import manifest_path

    return str(
        manifest_path(data, class_name, kind) if isinstance(data, Path) else data / class_name / f"{kind}.parquet"
    )


def result_as_json(result: PreparationResult, data: Path | RemoteFolder, page: Path | None) -> dict[str, Any]:
    """The result for machines."""
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


def print_preparation(result: PreparationResult, data: Path | RemoteFolder, page: Path | None) -> None:
    """The result for people."""
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
            click.echo(f"  {count.vanished:,} rows left it: their items are not in the collection any more.")
        if count.other_settings:
            click.echo(
                f"  {count.other_settings:,} of its items were prepared with other settings, outside of this run."
            )
    if page is not None:
        click.echo(f"{page}  is the page to look at.")
    elif not isinstance(data, Path):
        click.echo(f"von inspect {data}  copies it here and writes the page to look at.")
    click.echo(f"Done in {_duration(result.seconds)}.")


def end(result: PreparationResult, running: Running, log: Path) -> None:
    """Says what went wrong, and ends the program with the exit code that the result calls for."""
    counts: Sequence[Any] = list(result.classes.values())
    for name in dict.fromkeys(running.class_names):
        if name not in result.classes:
            click.echo(f"Nothing was found of class {name}.", err=True)
    bugs = sum(count.reasons["internal_error"] for count in counts)
    if bugs:
        click.echo(f"VON failed on {bugs} items, which is a bug; {log} has the tracebacks.", err=True)
        raise click.exceptions.Exit(1)
    found, rejected = sum(count.found for count in counts), sum(count.rejected for count in counts)
    if running.max_rejected is not None and running.max_rejected.is_exceeded(rejected, found):
        click.echo(f"{rejected} of {found} items were rejected, more than --max-rejected allows.", err=True)
        raise click.exceptions.Exit(DONE_WITH_REJECTS)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def print_matches(counts: dict[str, MatchCount]) -> None:
    """Tells, for each class with photos that asked for a viewpoint, how many got one."""
    for name, count in counts.items():
        if count.matched or count.unreadable:
            words = (
                f"{name}: {count.matched:,} viewpoints matched against shapes, {count.worked:,} of them in this run"
            )
            lost = f"; {count.unreadable:,} pictures could not be read" if count.unreadable else ""
            click.echo(f"{words}{lost}.")
