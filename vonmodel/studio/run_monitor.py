"""What a run folder tells of its training while it goes on: losses, scores, sample sheets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vonmodel.config import STAGES
from vonmodel.reports.metrics_log import figures_of

POINTS_OF_A_CURVE = 400
_SHEET = re.compile(r"([a-z]+)-(\d{1,12})\.png")


class GrowingFile:
    """The complete JSON lines of a file that is being appended to; only what is new is read.

    A line without its end is not there yet, one that is damaged is passed over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[Mapping[str, Any]] = []
        self._read = 0
        self._identity: tuple[int, int] | None = None

    def lines(self) -> Sequence[Mapping[str, Any]]:
        """All lines there are now."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if self._identity != (found.st_dev, found.st_ino) or found.st_size < self._read:
                    self._lines, self._read = [], 0  # a resumed run wrote it anew
                self._identity = (found.st_dev, found.st_ino)
                file.seek(self._read)
                new = file.read()
        except OSError:
            self._lines, self._read, self._identity = [], 0, None
            return self._lines
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        self._lines += [line for text in whole.splitlines() if (line := _parse(text)) is not None]
        return self._lines


class Chronicle:
    """The story of one run, as often as somebody asks."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._stats = GrowingFile(run / "stats.jsonl")
        self._metrics = GrowingFile(run / "metrics.jsonl")

    def tell(self) -> Mapping[str, Any]:
        """Everything the page shows of a training.

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
        """The sample sheets, oldest first."""
        found = [match for file in (self._run / "samples").glob("*.png") if (match := _SHEET.fullmatch(file.name))]
        known = [match for match in found if match[1] in STAGES]
        return [match[0] for match in sorted(known, key=lambda each: (STAGES.index(each[1]), int(each[2])))]

    def sheet(self, name: str) -> bytes | None:
        """A sample sheet as PNG; None where there is none of this name."""
        if not _SHEET.fullmatch(name):
            return None
        try:
            return (self._run / "samples" / name).read_bytes()
        except OSError:
            return None


def _parse(text: bytes) -> Mapping[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
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
    """The reports of a stage as curves of at most 400 points, the newest among them.

    Returns:
        `steps` of the points, and `losses`: by term its value at each, null where it has none.
    """
    stride = -(-len(reports) // POINTS_OF_A_CURVE)
    shown = reports[::-1][::stride][::-1]
    terms = dict.fromkeys(term for report in shown for term in report["losses"])
    return {
        "steps": [report["step"] for report in shown],
        "losses": {term: [report["losses"].get(term) for report in shown] for term in terms},
    }


def _scores(metrics: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The figures of every checkpoint that was scored, newest first."""
    by_checkpoint: dict[str, list[Mapping[str, Any]]] = {}
    for line in metrics:
        checkpoint = line.get("checkpoint")
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get("name"), str):
            by_checkpoint.setdefault(checkpoint["name"], []).append(line)
    scores = list[Mapping[str, Any]]()
    for name, lines in by_checkpoint.items():
        try:
            figures = [vars(figure) for figure in figures_of(lines)]
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
            continue  # lines of another version
        scores.append({"checkpoint": name, "figures": figures})
    return scores[::-1]


def _modified(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None
