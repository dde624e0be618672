"""What a person at a terminal sees of a run: progress on standard error, a table at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from vondata.types import Event

LINE_EVERY_S = 10.0
PIPE_WIDTH = 200


class ProgressReporter:
    """Shows the events of a preparation: a moving bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self._bar = _progress_bar(self.console) if self.console.is_terminal else None
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
        elif event.stage == "finished" and time.monotonic() > self._line_due:
            self._line_due = time.monotonic() + LINE_EVERY_S
            self.say(f"{event.done} of {event.total} done, {self._rejected} rejected")

    def say(self, text: str) -> None:
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
        console.width = PIPE_WIDTH  # 80 would fold cells for nobody's sake
    console.print(table)


@contextmanager
def logs_to(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Writes our warnings and errors to a file, and says the first line of each, while the block runs."""
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
    """Says one line per message; tracebacks are in the file."""

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
