"""A run's metrics.jsonl: the scores of its checkpoints as curves, and as numbers in words for pages."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vonmodel.config import STAGES

Line = Mapping[str, Any]
_SETTING = ("features", "resize", "split", "real", "generated", "points", "dataset_sha256", "seed")
"""Lines that agree in these were measured alike, and make one curve."""


@dataclass(frozen=True)
class Quantity:
    """A number to follow.

    Attributes:
        metric: the lines it comes from.
        title: what it is.
        better: which way is better, in words.
        read: takes it from a line; None where the line has none.
    """

    metric: str
    title: str
    better: str
    read: Callable[[Line], float | None]


def _of(metric: str, key: str, title: str, better: str) -> Quantity:
    def read(line: Line) -> float | None:
        value = line.get(key)
        return None if value is None else float(value)

    return Quantity(metric, title, better, read)


QUANTITIES: tuple[Quantity, ...] = (
    _of("fid", "value", "Fréchet distance of images (FID)", "lower is better"),
    _of("kid", "value", "Kernel distance of images (KID)", "lower is better"),
    _of("precision_recall", "precision", "Precision of images", "higher is better"),
    _of("precision_recall", "recall", "Recall of images", "higher is better"),
    _of("precision_recall", "density", "Density of images", "higher is better"),
    _of("precision_recall", "coverage", "Coverage of images", "higher is better"),
    _of("shape_fid", "value", "Fréchet distance of shapes", "lower is better"),
    _of("shape_points", "minimum_matching_distance", "Minimum matching distance of shapes", "lower is better"),
    _of("shape_points", "coverage", "Coverage of shapes", "higher is better"),
    _of("shape_points", "nearest_neighbour_accuracy", "1-nearest-neighbour accuracy of shapes", "0.5 is best"),
    Quantity(
        "shapes",
        "Median IoU with the nearest training shape",
        "1 would be copies",
        lambda line: float(statistics.median(line["nearest_iou"])) if line.get("nearest_iou") else None,
    ),
    _of("shapes", "pairwise_iou_max", "IoU of the two shapes most alike", "1 would be one shape twice"),
    Quantity(
        "shapes",
        "Median share of a shape in its largest piece",
        "1 is best",
        lambda line: float(statistics.median(line["largest_piece"])) if line.get("largest_piece") else None,
    ),
)


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


def read_lines(run: Path) -> list[Line]:
    """The lines of metrics.jsonl, oldest first, without damaged ones."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        return []
    lines = (_parse(text) for text in file.read_text("utf-8", errors="replace").splitlines())
    return [line for line in lines if line is not None]


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
    parts = [f"{line['generated']} generated"]
    if "real" in line:
        parts.append(f"{line['real']} of split {line['split']}")
    if "features" in line:
        parts.append(str(line["features"]))
    if "resize" in line:
        parts.append(f"{line['resize']} resizing")
    if "points" in line:
        parts.append(f"{line['points']} points")
    return ", ".join([*parts, f"seed {line['seed']}"])


def _parse(text: str) -> Line | None:
    try:
        line = json.loads(text)
        complete = isinstance(line["metric"], str) and line["checkpoint"]["stage"] in STAGES
        return line if complete and isinstance(line["checkpoint"]["sha256"], str) and "generated" in line else None
    except (ValueError, TypeError, KeyError):
        return None


Metric = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One number to show.

    Attributes:
        value: the number.
        unit: what stands small behind it.
        label: what it is.
        note: how it was measured.
        share: of a bar, in [0, 1]; None draws no bar.
    """

    value: str
    unit: str
    label: str
    note: str
    share: float | None = None


def read_metrics(run: Path, checkpoint_sha256: str) -> list[Metric]:
    """The metric lines of one checkpoint, oldest first; none where nothing has been measured.

    Lines that are damaged, or that name their checkpoint otherwise, are left out.
    """
    file = run / "metrics.jsonl"
    if not file.is_file():
        return []
    return [
        line
        for text in file.read_text("utf-8", errors="replace").splitlines()
        if (line := _parse_metric(text)) is not None and line["checkpoint"]["sha256"] == checkpoint_sha256
    ]


def newest(metrics: Sequence[Metric], name: str) -> Metric | None:
    """The newest line of one metric."""
    return next((line for line in reversed(metrics) if line["metric"] == name), None)


def figures_of(metrics: Sequence[Metric]) -> list[Figure]:
    """What a page says of a checkpoint: its image score and what its shapes are like."""
    figures = []
    if fid := newest(metrics, "fid"):
        figures.append(_image_score(fid))
    if kid := newest(metrics, "kid"):
        note = f"{kid['subsets']} subsets of {kid['subset_size']} images. {_measured_on(kid)}"
        figures.append(
            Figure(f"{kid['value']:.4g}", f"± {kid['spread']:.2g}", "Kernel distance of images (KID)", note)
        )
    if manifold := newest(metrics, "precision_recall"):
        figures.append(
            Figure(
                f"{manifold['precision']:.2f}",
                f"and {manifold['recall']:.2f}",
                "precision and recall of images, "
                f"with density {manifold['density']:.2f} and coverage {manifold['coverage']:.2f}",
                _measured_on(manifold),
            )
        )
    if shapes := newest(metrics, "shapes"):
        figures += _shape_figures(shapes)
    return figures


def _parse_metric(text: str) -> Metric | None:
    try:
        line = json.loads(text)
        return line if isinstance(line["checkpoint"]["sha256"], str) else None
    except (ValueError, TypeError, KeyError):
        return None


def _image_score(line: Metric) -> Figure:
    measured = _measured_on(line)
    untrained = line.get("untrained")
    if untrained is None:
        return Figure(f"{line['value']:.4g}", "", "Fréchet distance of images (FID)", measured)
    share = line["value"] / untrained
    label = f"Fréchet distance of images (FID), {share:.0%} of the untrained model's {untrained:.4g}"
    return Figure(f"{line['value']:.4g}", "lower is better", label, measured, min(1.0, share))


def _measured_on(line: Metric) -> str:
    measured = (
        f"{line['generated']} generated images against {line['real']} photos, seed {line['seed']}, "
        f"features {line['features']}, {line['resize']} resizing."
    )
    return measured if line["comparable"] else f"{measured} Random features: not comparable with published values."


def _shape_figures(line: Metric) -> list[Figure]:
    count = len(line["nearest_iou"])
    seed = f"{count} generated shapes, seed {line['seed']}, against {line['training']} training shapes."
    return [
        Figure(
            str(line["over_half"]),
            f"of {count}",
            "generated shapes overlap a training shape with IoU over 0.5",
            seed,
            line["over_half"] / count,
        ),
        Figure(
            f"{statistics.median(line['nearest_iou']):.2f}",
            f"{min(line['nearest_iou']):.2f} to {max(line['nearest_iou']):.2f}",
            "median IoU with the nearest training shape",
            "1 would be a copy of a training shape.",
        ),
        Figure(
            f"{line['pairwise_iou_max']:.2f}",
            "IoU",
            "of the two generated shapes most alike",
            f"All {count} shapes in pairs; 1 would be the same shape twice.",
        ),
        *_piece_figures(line),
    ]


def _piece_figures(line: Metric) -> list[Figure]:
    shares = line.get("largest_piece")  # not measured by older versions
    if not shares:
        return []
    whole = sum(share >= 1.0 for share in shares)
    note = f"{whole} of {len(shares)} generated shapes are in one piece before loose ones are dropped."
    median = statistics.median(shares)
    return [Figure(f"{median:.1%}", "in the median", "of a generated shape in its largest piece", note, median)]
