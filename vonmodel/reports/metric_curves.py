"""Curves of metrics over the checkpoints of a run: what was measured alike, in order of training steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vonmodel.config import STAGES
from vonmodel.reports.metrics_log import QUANTITIES, Line, Quantity

_SETTING = ("features", "resize", "split", "real", "generated", "points", "dataset_sha256", "seed")
"""Lines that agree in these were measured alike, and make one curve."""


@dataclass(frozen=True)
class Point:
    """A score of one checkpoint.

    Attributes:
        position: steps since the beginning of the first stage.
        value: the score.
        spread: its standard deviation; None where it has none.
        checkpoint: name.
    """

    position: int
    value: float
    spread: float | None
    checkpoint: str


@dataclass(frozen=True)
class Curve:
    """Scores that were measured alike.

    Attributes:
        label: how they were measured.
        points: by position.
    """

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """All curves of one quantity.

    Attributes:
        quantity: what they show.
        curves: each measured in its own way.
        references: (title, value) of generators to compare with, measured as the newest curve.
    """

    quantity: Quantity
    curves: tuple[Curve, ...]
    references: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Timeline:
    """Where the stages of a run begin and end.

    Attributes:
        stages: (name, first position, last position) of those with a score.
    """

    stages: tuple[tuple[str, int, int], ...]

    @property
    def end(self) -> int:
        """The last position."""
        return self.stages[-1][2] if self.stages else 1

    def position(self, checkpoint: Mapping[str, Any]) -> int:
        """Where a checkpoint lies."""
        starts = {name: start for name, start, _ in self.stages}
        return starts[checkpoint["stage"]] + int(checkpoint["step"])


def timeline_of(lines: Iterable[Line]) -> Timeline:
    """The stages in their order, each as long as it was planned, or as its newest score where nobody said."""
    lengths: dict[str, int] = {}
    for line in lines:
        checkpoint = line["checkpoint"]
        known = max(int(checkpoint["step"]), int(checkpoint.get("steps", 0)))
        lengths[checkpoint["stage"]] = max(known, lengths.get(checkpoint["stage"], 0))
    stages, start = [], 0
    for name in STAGES:
        if name in lengths:
            stages.append((name, start, start + lengths[name]))
            start += lengths[name]
    return Timeline(tuple(stages))


def charts_of(lines: Sequence[Line], others: Mapping[str, Sequence[Line]]) -> list[Chart]:
    """The charts that anything was measured for.

    Args:
        lines: of the run.
        others: of generators to compare with, by their titles.
    """
    timeline = timeline_of(lines)
    charts = []
    for quantity in QUANTITIES:
        groups: dict[tuple[Any, ...], dict[str, Line]] = {}
        for line in lines:
            if line["metric"] == quantity.metric and quantity.read(line) is not None:
                group = groups.setdefault(_setting(line), {})
                group[line["checkpoint"]["sha256"]] = line  # measured again: the newest counts
        if groups:
            curves = tuple(_curve(quantity, list(group.values()), timeline) for group in groups.values())
            charts.append(Chart(quantity, curves, _references(quantity, list(groups)[-1], others)))
    return charts


def _curve(quantity: Quantity, lines: Sequence[Line], timeline: Timeline) -> Curve:
    points = []
    for line in lines:
        value = quantity.read(line)
        assert value is not None
        points.append(
            Point(timeline.position(line["checkpoint"]), value, line.get("spread"), line["checkpoint"]["name"])
        )
    return Curve(_label(lines[-1]), tuple(sorted(points, key=lambda point: point.position)))


def _references(
    quantity: Quantity, setting: tuple[Any, ...], others: Mapping[str, Sequence[Line]]
) -> tuple[tuple[str, float], ...]:
    found = []
    for title, lines in others.items():
        alike = [line for line in lines if line["metric"] == quantity.metric and _setting(line) == setting]
        value = quantity.read(alike[-1]) if alike else None
        if value is not None:
            found.append((title, value))
    return tuple(found)


def _setting(line: Line) -> tuple[Any, ...]:
    return tuple(line.get(name) for name in _SETTING)


def _label(line: Line) -> str:
    """How a line was measured, in words."""
    parts = [f"{line['generated']} generated"] if "generated" in line else []
    if "real" in line:
        parts.append(f"{line['real']} of split {line['split']}")
    if "features" in line:
        parts.append(str(line["features"]))
    if "resize" in line:
        parts.append(f"{line['resize']} resizing")
    if "points" in line:
        parts.append(f"{line['points']} points")
    return ", ".join([*parts, f"seed {line.get('seed', '?')}"])
