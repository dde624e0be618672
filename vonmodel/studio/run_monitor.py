"""Run monitor: losses, scores and sample sheets of a run folder, read while the training writes them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vonmodel.config import STAGES
from vonmodel.reports.metrics_log import figures_of
from vonmodel.run_files import UnsafeFileError, open_run_file, read_run_file

MAX_CURVE_POINTS = 400
MAX_SHEET_BYTES = 64 * 2**20
MAX_LINES_BYTES = 256 * 2**20
"""No more of a log is read at a time; the rest follows with the next requests."""
MAX_LINE_BYTES = 2**20
_SHEET = re.compile(r"([a-z]+)-(\d{1,12})\.png")


class JsonLinesTail:
    """The complete JSON lines of a file that is being appended to; only new bytes are read.

    An unfinished last line is read once it is finished. Damaged lines are skipped.
    """

    def __init__(self, run: Path, name: str) -> None:
        """Takes the run folder and the file's name in it."""
        self._run, self._name = run, name
        self._lines: list[Mapping[str, Any]] = []
        self._read = 0
        self._identity: tuple[int, int] | None = None

    def lines(self) -> Sequence[Mapping[str, Any]]:
        """All complete lines of the file; none where it is missing or not a regular file of the run."""
        try:
            with open(open_run_file(self._run, self._name), "rb") as file:
                found = os.fstat(file.fileno())
                if self._identity != (found.st_dev, found.st_ino) or found.st_size < self._read:
                    self._lines, self._read = [], 0  # a resumed run has rewritten it
                self._identity = (found.st_dev, found.st_ino)
                file.seek(self._read)
                new = file.read(MAX_LINES_BYTES)
        except (OSError, ValueError):
            self._lines, self._read, self._identity = [], 0, None
            return self._lines
        complete = new[: new.rfind(b"\n") + 1]
        self._read += len(complete) or (len(new) if len(new) == MAX_LINES_BYTES else 0)
        self._lines += [line for text in complete.splitlines() if (line := _parse_object(text)) is not None]
        return self._lines


class RunMonitor:
    """Reads the training state of one run folder."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._stats = JsonLinesTail(run, "stats.jsonl")
        self._metrics = JsonLinesTail(run, "metrics.jsonl")

    def snapshot(self) -> Mapping[str, Any]:
        """The training state as JSON values.

        Returns:
            `stages`: by name the curves (see `_curves`); `latest`: the newest line of stats.jsonl; `scores`: by
            checkpoint its figures, newest first; `sheets`: names of sample sheets, oldest first; `nonfinite`:
            whether a loss was not finite; `reported`: when the training last wrote, in seconds since 1970, or null.
        """
        stats = [line for line in self._stats.lines() if _is_report(line)]
        return {
            "stages": {
                stage: _curves([line for line in stats if line["stage"] == stage])
                for stage in dict.fromkeys(line["stage"] for line in stats)
            },
            "latest": {key: value for key, value in stats[-1].items() if key != "losses"} if stats else None,
            "scores": _scores(self._metrics.lines()),
            "sheets": self.sheets(),
            "nonfinite": (self._run / "nonfinite.json").is_file(),
            "reported": _modified(self._run / "stats.jsonl"),
        }

    def sheets(self) -> list[str]:
        """The names of the sample sheets, oldest first."""
        found = [match for file in (self._run / "samples").glob("*.png") if (match := _SHEET.fullmatch(file.name))]
        known = [match for match in found if match[1] in STAGES]
        return [match[0] for match in sorted(known, key=lambda each: (STAGES.index(each[1]), int(each[2])))]

    def sheet(self, name: str) -> bytes | None:
        """A sample sheet as PNG; None if there is none of this name or it is not a regular file of the run."""
        if not _SHEET.fullmatch(name):
            return None
        try:
            return read_run_file(self._run, "samples", name, max_bytes=MAX_SHEET_BYTES)
        except (OSError, UnsafeFileError):
            return None


def _parse_object(text: bytes) -> Mapping[str, Any] | None:
    if len(text) > MAX_LINE_BYTES:
        return None
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _is_report(line: Mapping[str, Any]) -> bool:
    losses = line.get("losses")
    return (
        isinstance(line.get("stage"), str)
        and isinstance(line.get("step"), int)
        and isinstance(losses, dict)
        and all(isinstance(value, int | float | None) for value in losses.values())
    )


def _curves(reports: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The losses of a stage as curves of at most `MAX_CURVE_POINTS` points, the newest included.

    Returns:
        `steps` of the points, and `losses`: by term its value at each step, null where it has none.
    """
    stride = -(-len(reports) // MAX_CURVE_POINTS)
    shown = reports[::-1][::stride][::-1]
    terms = dict.fromkeys(term for report in shown for term in report["losses"])
    return {
        "steps": [report["step"] for report in shown],
        "losses": {term: [report["losses"].get(term) for report in shown] for term in terms},
    }


def _scores(metrics: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The figures of every scored checkpoint, newest first."""
    by_checkpoint: dict[str, list[Mapping[str, Any]]] = {}
    for line in metrics:
        checkpoint = line.get("checkpoint")
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get("name"), str):
            by_checkpoint.setdefault(checkpoint["name"], []).append(line)
    scores: list[Mapping[str, Any]] = [
        {"checkpoint": name, "figures": [vars(figure) for figure in figures_of(lines)]}
        for name, lines in by_checkpoint.items()
    ]
    return [each for each in scores if each["figures"]][::-1]


def _modified(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None
