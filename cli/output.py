"""Terminal output: progress bars, tables, JSON, error messages with the options that help; and Ctrl-C."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from voncli.command import is_quiet

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from vondata.errors import VonError
    from vondata.io.fs import DataFolder
    from vondata.types import Event
    from vonmodel.reports.metrics_page import Row


NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
EXIT_INTERRUPTED = 130  # exit code after Ctrl-C or a termination signal; finished work is kept


class StopRequest:
    """Whether a running verb should stop: after Ctrl-C, a signal, or when its output is no longer read.

    Attributes:
        requested: whether it should.
    """

    def __init__(self) -> None:
        self.requested = False

    def receive(self, number: int, _: object) -> None:
        """Handles a signal: the first one requests a stop, the second one stops at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if os.environ.get("RANK", "0") == "0":
            self.print("\nStopping after this step and saving; once more to stop at once.", err=True)

    def print(self, text: str, *, err: bool = False) -> None:
        """Prints a line; a closed pipe or a lost terminal requests a stop, as a signal does."""
        try:
            click.echo(text, err=err)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.requested = True
            discard_output()


def discard_output() -> None:
    """Redirects further output to the null device, including what Python flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def end_signals() -> list[signal.Signals]:
    """The termination signals that this system has and that are not ignored (as under nohup)."""
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    return [each for each in known if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN]


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns Ctrl-C, termination signals and a lost terminal into a `StopRequest` within the block."""
    stop = StopRequest()
    before = {each: signal.signal(each, stop.receive) for each in end_signals()}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def thread_errors_once() -> Iterator[None]:
    """Prints OSErrors of TensorBoard's writer thread once: it raises them in the main thread as well."""
    before = threading.excepthook

    def print_others(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            before(arguments)

    threading.excepthook = print_others
    try:
        yield
    finally:
        threading.excepthook = before


LINE_EVERY_S = 10.0
PIPE_WIDTH = 200


class ProgressReporter:
    """Shows the progress of a preparation: a bar on a terminal, elsewhere a line every `LINE_EVERY_S`."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self._quiet = is_quiet()
        self._bar = _progress_bar(self.console) if self.console.is_terminal and not self._quiet else None
        self._task = self._bar.add_task("Finding items", total=None, rejected="") if self._bar else None
        self._rejected = 0
        self._line_due = time.monotonic() + LINE_EVERY_S

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        if event.row is not None and event.row["status"] == "rejected":
            self._rejected += 1
        if self._bar is not None and self._task is not None:
            self._move(self._bar, event)
        elif event.stage == "finished" and time.monotonic() > self._line_due and not self._quiet:
            self._line_due = time.monotonic() + LINE_EVERY_S
            self.print_line(f"{event.done} of {event.total} done, {self._rejected} rejected")

    def print_line(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _move(self, bar: Progress, event: Event) -> None:
        assert self._task is not None
        match event.stage:
            case "planning":
                bar.update(self._task, description="Finding items", completed=event.done)
            case "running":
                bar.reset(self._task, description="Preparing", total=event.total)
            case "finished":
                rejected = f"{self._rejected} rejected" if self._rejected else ""
                bar.update(self._task, completed=event.done, total=event.total, rejected=rejected)
            case "writing":
                bar.update(self._task, description="Writing the manifest")
            case "sketching":
                bar.update(self._task, description="Sketching shapes", completed=event.done, total=event.total)
            case "matching":
                bar.update(self._task, description="Matching viewpoints", completed=event.done, total=event.total)
            case "packing":
                bar.update(self._task, description="Packing", completed=event.done)
            case "merging":
                bar.update(self._task, description="Joining", completed=event.done, total=event.total)
            case "verifying":
                bar.update(self._task, description="Verifying", completed=event.done)
            case "drawing":
                bar.update(self._task, description="Drawing the page", completed=event.done, total=event.total)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on standard output; columns whose cells are numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="dim")
    for position, name in enumerate(columns):
        numeric = all(_is_number(row[position]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH  # the default, 80, would fold cells
    console.print(table)


@contextmanager
def logs_to(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Logs vondata's warnings and errors to a file, and passes the first line of each to `say`, within the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = logging.getLogger("vondata")
    to_file = logging.FileHandler(path, encoding="utf-8", delay=True)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_screen = _FirstLineHandler(say)
    for handler in (to_file, to_screen):
        handler.setLevel(logging.WARNING)
        ours.addHandler(handler)
    try:
        yield
    finally:
        for handler in (to_file, to_screen):
            ours.removeHandler(handler)
            handler.close()


class _FirstLineHandler(logging.Handler):
    """Passes on the first line of each message; tracebacks are in the file."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage().partition("\n")[0])


def _progress_bar(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("[yellow]{task.fields[rejected]}"),
        console=console,
        transient=True,
    )


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "", 1).isdigit() or not cell


def table_text(rows: Sequence[Row]) -> str:
    """The paper's table as lines of text; reported rows come last, under a line that says so."""
    from vonmodel.reports.metrics_log import TABLE_COLUMNS, image_setting
    from vonmodel.reports.metrics_page import used_columns

    columns = used_columns(rows)
    body = [["", *(TABLE_COLUMNS[name] for name in columns)]]
    body += [[row.title, *(_cell(row.values.get(name)) for name in columns)] for row in rows]
    widths = [max(len(line[index]) for line in body) for index in range(len(body[0]))]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in body]
    measured = sum(not row.reported for row in rows)
    images = next((row.images for row in rows if row.images is not None), None)
    if measured < len(rows):
        text.insert(1 + measured, "As reported by Zhu et al. 2018, on their photos at 128 pixels, with Inception:")
    if images is not None:
        beside = "" if images["comparable"] else "; not comparable with reported figures"
        text.insert(0, f"Images of {images['image_size']} pixels, {image_setting(images)}{beside}:")
    return "\n".join(["", *text, ""])


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


MAX_UNASKED_COPY_BYTES = 1_000_000_000


def local_copy(data: DataFolder, *, asked: bool, why: str) -> Path | None:
    """A local dataset itself, or an updated local copy of a remote one; None if the copy would be large and unasked.

    Args:
        data: the dataset.
        asked: download whatever is missing; otherwise at most `MAX_UNASKED_COPY_BYTES`.
        why: beginning of the message printed where nothing is copied.

    Raises:
        RemoteError: the URL cannot be read.
    """
    from vondata.io.fs import MirrorTooLargeError, mirror

    def report(here: int, total: int) -> None:
        note(f"{data}: {here / 1e6:,.1f} of {total / 1e6:,.1f} MB are here")

    try:
        return mirror(data, report, max_bytes=None if asked else MAX_UNASKED_COPY_BYTES)
    except MirrorTooLargeError as error:
        click.echo(f"{why}: {error}.", err=True)
        return None


@contextmanager
def disk_errors(place: object) -> Iterator[None]:
    """Turns errors of the operating system, such as a full disk, into a message that names the place."""
    from vondata.errors import VonError
    from vondata.io.files import FULL

    try:
        yield
    except (VonError, BrokenPipeError):
        raise
    except OSError as error:
        if error.errno is None:
            raise
        file = str(error.filename or place)
        belongs = _belongs_to(Path(file).absolute(), Path(str(place)).absolute())
        subject, named = (place, "" if file == str(place) else f": {file}") if belongs else (file, "")
        what_to_do = "make room, or name another folder" if error.errno in FULL else "name another folder"
        raise click.ClickException(
            f"{subject} cannot be written ({error.strerror}{named}); {what_to_do}, then run the same command again"
        ) from error


def _belongs_to(file: Path, place: Path) -> bool:
    """Whether a file is a result's folder, within it, above it, or a temporary file or folder beside it."""
    if place.is_relative_to(file) or file.is_relative_to(place):
        return True
    return file.is_relative_to(place.parent) and file.relative_to(place.parent).parts[0].startswith(".")


def describe_os_error(error: OSError) -> str:
    """The message of an operating system error, with its file where that is known."""
    from vondata.io.files import FULL

    file = Path(error.filename) if isinstance(error.filename, str | Path) else None
    if (
        file is not None
        and error.errno in NOT_WRITABLE
        and not os.path.exists(file)
        and os.access(file.parent, os.X_OK)
    ):
        place = file.parent  # the file itself may be a temporary one
        return f"{place} cannot be written to ({error.strerror}); name another folder, or make it writable"
    where = f"{error.filename}: " if error.filename else ""
    what = f"{where}{error.strerror or error}"
    # The error of a failed write does not name the file.
    return f"{what}; make room where the command writes, then run it again" if error.errno in FULL else what


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns `VonError`, `OSError` and Ctrl-C into messages with an exit code."""
    from vondata.errors import VonError

    try:
        yield
    except VonError as error:
        raise cli_error(error) from error
    except KeyboardInterrupt:
        click.echo("\nStopped.", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        raise
    except OSError as error:
        raise click.ClickException(describe_os_error(error)) from error


# Options and verbs that the command line adds to an error message of the libraries, by the error's class. Fields in
# braces are attributes of the error.
ADVICE: Mapping[str, str] = {
    "BaselineMissingError": "von train --baseline {name}",
    "CodeNotTrustedError": "--trust-code",
    "CheckpointMissingError": "von train",
    "ClassifierMissingError": "von train-classifier",
    "ClassifierMismatchError": "von train-classifier --resolution {resolution} --representation {representation}",
    "ConfigChangedError": "--run names another one",
    "DataFolderFullError": "--output",
    "EmptyDatasetError": "von inspect shows the reasons",
    "EmptySplitError": "von train --set data.split=all; --split all elsewhere",
    "EmptyShapeError": "von prepare with --force",
    "IdConflictError": "--prefer-first",
    "ListenError": "--port",
    "ManifestMissingError": "von prepare {source} --class {class_name}",
    "MergeTargetError": "--output",
    "MixedSettingsError": "--mixed-settings",
    "NoSurfaceError": "--level",
    "NonFiniteLossError": "--run and --skip-nonfinite",
    "PathTooShortError": "--shape or --texture, twice or more",
    "PhotoUnreadableError": "von prepare images --force",
    "ReconstructionMissingError": "von reconstruct",
    "RemoteHostError": "--allow-host NAME",
    "ResolutionError": "von prepare with {option} {wanted}, or von train --set {field}={prepared}",
    "RunFolderTakenError": "--run",
    "RunMissingError": "von train --class CLASS",
    "SchedulerUnreachableError": "--scheduler ADDRESS, or leave it out",
    "ShapeFileError": "von prepare with --force",
    "ShardTargetError": "--output",
    "StageBegunError": "--run names another one",
    "StageOrderError": "leave --stage out, or --stage {before}",
    "TargetTakenError": "--overwrite",
    "UnfitWorkersError": "--scheduler",
    "WeightsMissingError": "--download, --inception-weights FILE or --features random",
    "WorkersNotStartedError": "--workers 0",
}


def cli_error(error: VonError) -> click.ClickException:
    """The error as a click exception: `error_text` and its exit code."""
    from vondata.classes import UnknownClassError

    if isinstance(error, UnknownClassError):
        context = click.get_current_context(silent=True)
        takes_none = context is not None and not any("--class" in each.opts for each in context.command.params)
        return click.UsageError(str(error) if takes_none else f"--class: {error}")
    text = error_text(error)
    return click.UsageError(text) if error.exit_code == 2 else click.ClickException(text)


def error_text(error: VonError) -> str:
    """The error's message, and the options that help."""
    advice = next((ADVICE[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in ADVICE), None)
    return str(error) if advice is None else f"{error} ({advice.format(**_fields_of(error))})"


def _fields_of(error: VonError) -> dict[str, Any]:
    """The error's attributes, and what the command line calls them."""
    words = dict(vars(error))
    match words:
        case {"kind": kind}:
            words["source"] = "shapenet or meshes" if kind == "shapes" else "images"
        case {"field": field}:
            words["option"] = "--size" if field == "model.image_size" else "--resolution"
    return words


@contextmanager
def progress_bar(hidden: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on standard error if that is a terminal; yields `report(task, done, total)`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=hidden or is_quiet() or not console.is_terminal
    ) as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield report


def print_json(result: Any) -> None:
    """Prints a result as JSON."""
    click.echo(json.dumps(result, indent=2, default=str))


def print_result(result: dict[str, Any], output: Path, as_json: bool, summary: str) -> None:
    """Prints the result of a verb: as JSON, or a summary line and the page to open."""
    page = output / "index.html"
    if as_json:
        print_json({"page": page, "folder": output, **result})
        return
    note(f"{summary} with checkpoint {result['checkpoint']['name']}; open", err=False)
    click.echo(str(page))


def counted(count: int, noun: str) -> str:
    """A count and its noun: 1 image, 2 images. The noun is given in the singular, with a regular plural."""
    return f"{count} {noun if count == 1 else noun + ('es' if noun.endswith(('s', 'sh', 'ch', 'x')) else 's')}"


def note(text: str, *, err: bool = True) -> None:
    """Prints a line that -q leaves out."""
    if not is_quiet():
        click.echo(text, err=err)
