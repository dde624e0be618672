"""HTML page of a run's scores: curves over its checkpoints, all measurements, and the paper's table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vonmodel.baselines.models import BASELINES, CONFIGS, BaselineName
from vonmodel.baselines.training import baseline_folder
from vonmodel.config import STAGES
from vonmodel.reports.html import Page
from vonmodel.reports.metrics_log import QUANTITIES, TABLE_COLUMNS, Line, Quantity, read_lines, table_values

REPORTED: Mapping[str, Mapping[str, float]] = {
    "car": {"dcgan": 130.5, "lsgan": 171.4, "wgan-gp": 123.4, "occupancy": 81.6, "distance": 83.3},
    "chair": {"dcgan": 225.0, "lsgan": 225.3, "wgan-gp": 184.9, "occupancy": 58.0, "distance": 51.8},
}
"""FID of images as Zhu et al. 2018 report it: Inception, 128 pixels, their photos, their number of images."""


@dataclass(frozen=True)
class Row:
    """A generator's scores.

    Attributes:
        title: its name.
        values: by the keys of `TABLE_COLUMNS`.
        reported: the numbers are the paper's.
        checkpoint: the measured one; None for reported ones.
        images: settings of the scores of images: features, resizing, numbers; None without such scores.
    """

    title: str
    values: Mapping[str, float]
    reported: bool = False
    checkpoint: Mapping[str, Any] | None = None
    images: Mapping[str, Any] | None = None


def build_table(scored: Iterable[Sequence[Line]], class_name: str) -> list[Row]:
    """The rows of a table: measured ones in the order given, then the reported ones of the class.

    Args:
        scored: the metric lines of each generator; one without lines has no row.
        class_name: the class.
    """
    rows = [_measured(lines) for lines in scored if lines]
    return [*rows, *_reported(class_name)]


def used_columns(rows: Iterable[Row]) -> list[str]:
    """The non-empty columns, in order."""
    return [name for name in TABLE_COLUMNS if any(name in row.values for row in rows)]


def title_of(model: str) -> str:
    """The name of a model in a table."""
    for name in BASELINES:
        if name == model:
            return CONFIGS[name].title
    return "VON"


def _measured(lines: Sequence[Line]) -> Row:
    images = next(({name: line[name] for name in _ABOUT_IMAGES} for line in lines if "resize" in line), None)
    return Row(title_of(lines[0]["model"]), table_values(lines), checkpoint=lines[0]["checkpoint"], images=images)


def _reported(class_name: str) -> list[Row]:
    figures = REPORTED.get(class_name, {})
    titles: dict[str, str] = {name: CONFIGS[name].title for name in _REPORTED_BASELINES}
    titles |= {"occupancy": "VON, voxels", "distance": "VON, distance functions"}
    return [Row(titles[name], {"fid": value}, reported=True) for name, value in figures.items()]


_ABOUT_IMAGES = ("features", "resize", "comparable", "generated", "real", "split", "image_size")
_REPORTED_BASELINES: tuple[BaselineName, ...] = ("dcgan", "lsgan", "wgan-gp")


_SETTING = ("class", "features", "resize", "split", "real", "generated", "points", "dataset_sha256", "seed")
"""Lines that agree in these were measured in the same way, and form one curve."""


@dataclass(frozen=True)
class Point:
    """A score of one checkpoint.

    Attributes:
        position: steps since the beginning of the first stage.
        value: the score.
        spread: its standard deviation; None if it has none.
        checkpoint: name.
    """

    position: int
    value: float
    spread: float | None
    checkpoint: str


@dataclass(frozen=True)
class Curve:
    """Scores that were measured in the same way.

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
        quantity: the quantity.
        curves: one for each way of measuring.
        references: (title, value) of generators to compare with, measured like the newest curve.
    """

    quantity: Quantity
    curves: tuple[Curve, ...]
    references: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Timeline:
    """The extent of a run's stages along the axis.

    Attributes:
        stages: (name, first position, last position) of those with a score.
    """

    stages: tuple[tuple[str, int, int], ...]

    @property
    def end(self) -> int:
        """The last position."""
        return self.stages[-1][2] if self.stages else 1

    def position(self, checkpoint: Mapping[str, Any]) -> int:
        """The position of a checkpoint."""
        starts = {name: start for name, start, _ in self.stages}
        return starts[checkpoint["stage"]] + int(checkpoint["step"])


def timeline_of(lines: Iterable[Line]) -> Timeline:
    """The stages in their order, each with its planned length, or up to its newest score if unknown."""
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
    """The charts of all measured quantities.

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
    """How a line was measured, as text."""
    parts = [str(line["class"])] if line.get("classes") else []
    if "generated" in line:
        parts.append(f"{line['generated']} generated")
    if "real" in line:
        parts.append(f"{line['real']} of split {line['split']}")
    if "features" in line:
        parts.append(str(line["features"]))
    if "resize" in line:
        parts.append(f"{line['resize']} resizing")
    if "points" in line:
        parts.append(f"{line['points']} points")
    return ", ".join([*parts, f"seed {line.get('seed', '?')}"])


WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 34
LABEL_WIDTH, LABEL_HEIGHT = 48, 13
COLOURS = 4
HEADS = ("Time", "Model", "Checkpoint", "Score", "Generated", "Real", "Seed", "Features", "Hashes", "Versions")


def draw(chart: Chart, timeline: Timeline) -> str:
    """A chart as an SVG element.

    Args:
        chart: the chart.
        timeline: its horizontal axis.
    """
    values = [value for curve in chart.curves for point in curve.points for value in _ends(point.value, point.spread)]
    values += [value for _, value in chart.references]
    axis = _Axis(values, timeline.end)
    parts = [_grid(axis), _stages(axis, timeline)]
    parts.append(_reference_lines(axis, chart.references))
    parts += [_draw_curve(axis, curve, index % COLOURS) for index, curve in enumerate(chart.curves)]
    label = f"{chart.quantity.title} over the steps of training, {chart.quantity.better}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`, some `count` of them.

    Steps are 1, 2 or 5 times a power of ten.
    """
    span = high - low or abs(high) or 1.0
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


class _Axis:
    """Maps positions and values to SVG coordinates."""

    def __init__(self, values: Sequence[float], end: int) -> None:
        self.ticks = ticks(min(values), max(values))
        self.end = max(end, 1)

    def x(self, position: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * position / self.end

    def y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)


def _grid(axis: _Axis) -> str:
    lines = []
    for value in axis.ticks:
        y = axis.y(value)
        lines.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        lines.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    return "".join(lines)


def _stages(axis: _Axis, timeline: Timeline) -> str:
    """The stages along the bottom, each between two lines, with the steps at their ends if there is room."""
    bottom = HEIGHT - BOTTOM
    parts, free_to = [], float(WIDTH)
    for name, start, end in reversed(timeline.stages):
        middle, right = (axis.x(start) + axis.x(end)) / 2, axis.x(end)
        parts.append(f'<path class="stage" d="M{right:.1f} {TOP}V{bottom + 6}"/>')
        parts.append(f'<text class="tick" x="{middle:.1f}" y="{bottom + 16}" text-anchor="middle">{name}</text>')
        if right <= free_to:
            parts.append(f'<text class="tick" x="{right:.1f}" y="{bottom + 30}" text-anchor="end">{end:,}</text>')
            free_to = right - LABEL_WIDTH
    return "".join(parts)


def _reference_lines(axis: _Axis, references: Sequence[tuple[str, float]]) -> str:
    """A horizontal line for each; those too close for labels of their own share one."""
    parts, labels = [], list[tuple[float, list[str]]]()
    for title, value in sorted(references, key=lambda reference: reference[1]):
        y, said = axis.y(value), escape(f"{title}: {value:.4g}")
        parts.append(f'<path class="reference" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"><title>{said}</title></path>')
        if labels and labels[-1][0] - y < LABEL_HEIGHT:
            labels[-1][1].append(title)
        else:
            labels.append((y, [title]))
    for y, titles in labels:
        said = escape(", ".join(titles))
        parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{y - 4:.1f}" text-anchor="end">{said}</text>')
    return "".join(parts)


def _draw_curve(axis: _Axis, curve: Curve, colour: int) -> str:
    places = [(axis.x(point.position), axis.y(point.value)) for point in curve.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [f'<g class="colour{colour}"><path class="curve" d="M{path}"/>']
    for (x, y), point in zip(places, curve.points, strict=True):
        if point.spread is not None:
            low, high = (axis.y(end) for end in _ends(point.value, point.spread))
            parts.append(f'<path class="spread" d="M{x:.1f} {low:.1f}V{high:.1f}"/>')
        spread = "" if point.spread is None else f" ± {point.spread:.2g}"
        said = escape(f"{point.checkpoint}: {point.value:.4g}{spread}")
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{said}</title></circle>')
    return "".join(parts) + "</g>"


def _ends(value: float, spread: float | None) -> tuple[float, ...]:
    return (value,) if spread is None else (value - spread, value + spread)


PAGE = "metrics.html"


def write_metrics_page(run: Path) -> Path:
    """Writes RUN/metrics.html from RUN/metrics.jsonl and those of the baselines beside the run.

    Returns:
        The page to open.
    """
    lines = read_lines(run)
    others = {CONFIGS[name].title: read_lines(baseline_folder(run, name).path) for name in BASELINES}
    return metrics_page(run.name, lines, others).write(run / PAGE)


def metrics_page(name: str, lines: Sequence[Line], others: Mapping[str, Sequence[Line]]) -> Page:
    """The page of a run.

    Args:
        name: of the run.
        lines: its scores, oldest first.
        others: those of generators to compare with, by their titles.
    """
    timeline, charts = timeline_of(lines), charts_of(lines, others)
    checkpoints = len({line["checkpoint"]["sha256"] for line in lines})
    lead = (
        f"{len(lines)} measurements of {checkpoints} {'checkpoint' if checkpoints == 1 else 'checkpoints'}. "
        "The horizontal axis counts steps, stage after stage; a dashed line across is a baseline."
    )
    every = [*lines, *(line for each in others.values() for line in each)]
    return Page(
        "metrics.html",
        {
            "title": f"Scores of {name}",
            "lead": lead,
            "charts": [_chart(chart, timeline) for chart in charts],
            "colours": COLOURS,
            "heads": HEADS,
            "rows": [_row(line) for line in sorted(every, key=lambda line: str(line.get("time", "")), reverse=True)],
        },
    )


def _chart(chart: Chart, timeline: Timeline) -> dict[str, Any]:
    return {
        "title": chart.quantity.title,
        "better": chart.quantity.better,
        "drawing": Markup(draw(chart, timeline)),  # it escapes what it writes
        "labels": [curve.label for curve in chart.curves],
    }


def _row(line: Line) -> tuple[str, ...]:
    """The cells of a measurement in the table, newlines between the lines of a cell."""
    numbers = [
        f"{quantity.title}: {value:.4g}"
        for quantity in QUANTITIES
        if quantity.metric == line["metric"] and (value := quantity.read(line)) is not None
    ]
    features = " ".join(str(line[name]) for name in ("features", "resize") if name in line)
    if "classifier" in line:
        features += f", accuracy {line['classifier']['accuracy']:.1%}"
    hashes = {"checkpoint": line["checkpoint"]["sha256"], "data": line.get("dataset_sha256")}
    hashes["features"] = line.get("features_sha256")
    return (
        str(line.get("time", "")).removesuffix("+00:00").replace("T", " "),
        str(line.get("model", "von")),
        line["checkpoint"]["name"],
        "\n".join(numbers),
        str(line.get("generated", "")),
        f"{line['real']} {line['split']}" if "real" in line else f"{line.get('training', '')} train",
        str(line.get("seed", "")),
        features,
        "\n".join(f"{name} {value[:12]}" for name, value in hashes.items() if value),
        ", ".join(f"{name} {version}" for name, version in line.get("versions", {}).items()),
    )
