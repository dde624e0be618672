"""The log of metrics: reading of metrics.jsonl, and the names and presentation of all metrics.

A metric is one entry of `METRICS`: its curves, its figures on pages, its sentence at the terminal and its columns in
the paper's table. Pages, the studio, the command line and the table all use it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vonmodel.config import STAGES

Line = Mapping[str, Any]
"""One line of metrics.jsonl: `metric`, `checkpoint` (name, stage, step, sha256) and what the metric measured."""
METRICS_FILE = "metrics.jsonl"
MAX_FILE_BYTES = 256 * 2**20
MAX_LINE_BYTES = 2**20


# Errors of reading a line that is damaged or of another version.
_OTHER_VERSION = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Quantity:
    """A number of a metric that is drawn as a curve over the checkpoints.

    Attributes:
        metric: name of the metric it belongs to.
        title: its name.
        better: the better direction, as text.
        take: takes it from a whole line; None if the line has none.
    """

    metric: str
    title: str
    better: str
    take: Callable[[Line], float | None]

    def read(self, line: Line) -> float | None:
        """The number of a line; None if it has none, or an invalid one."""
        with suppress(*_OTHER_VERSION):
            value = self.take(line)
            return value if value is None or math.isfinite(value) else None
        return None


@dataclass(frozen=True)
class Figure:
    """One number on a page.

    Attributes:
        value: the number.
        unit: small text after it.
        label: its name.
        note: how it was measured.
        share: length of a bar, in [0, 1]; None for no bar.
    """

    value: str
    unit: str
    label: str
    note: str
    share: float | None = None


@dataclass(frozen=True)
class Metric:
    """The presentation of one metric.

    Attributes:
        name: its name in lines.
        quantities: its curves.
        figures: its numbers on a page, from a line.
        sentence: a line as a sentence for the terminal.
        columns: its columns in the paper's table: the column's key, its heading, and the line's key.
    """

    name: str
    quantities: tuple[Quantity, ...]
    figures: Callable[[Line], list[Figure]]
    sentence: Callable[[Line], str]
    columns: tuple[tuple[str, str, str], ...] = ()


def read_lines(run: Path) -> list[Line]:
    """The lines of a run's metrics.jsonl, oldest first; damaged and overlong ones are left out."""
    file = run / METRICS_FILE
    if not file.is_file():
        return []
    with file.open("rb") as opened:
        texts = opened.read(MAX_FILE_BYTES).splitlines()
    return [line for text in texts if (line := _parse(text)) is not None]


def read_metrics(run: Path, checkpoint_sha256: str) -> list[Line]:
    """The lines of one checkpoint, oldest first."""
    return [line for line in read_lines(run) if line["checkpoint"]["sha256"] == checkpoint_sha256]


def newest(lines: Sequence[Line], name: str) -> Line | None:
    """The newest line of one metric."""
    return next((line for line in reversed(lines) if line.get("metric") == name), None)


def figures_of(lines: Sequence[Line]) -> list[Figure]:
    """A checkpoint's figures on a page: those of the newest line of each metric; damaged lines have none."""
    figures = list[Figure]()
    for metric in METRICS:
        line = newest(lines, metric.name)
        if line is not None:
            with suppress(*_OTHER_VERSION):
                figures += metric.figures(line)
    return figures


def describe(line: Line) -> str:
    """A line as a sentence for the terminal; verbatim if it is damaged or of another version."""
    known = next((metric for metric in METRICS if metric.name == line["metric"]), None)
    if known is not None:
        with suppress(*_OTHER_VERSION):
            return known.sentence(line)
    return f"{line['metric']}: {json.dumps(dict(line))}"


def image_setting(line: Line) -> str:
    """The settings of a metric of images, as text."""
    return (
        f"{line['generated']} generated images, {line['real']} photos of split {line['split']}, "
        f"features {line['features']}, {line['resize']} resizing"
    )


def _parse(text: bytes) -> Line | None:
    try:
        if len(text) > MAX_LINE_BYTES:
            return None
        line = json.loads(text)
        checkpoint = line["checkpoint"]
        complete = isinstance(line["metric"], str) and checkpoint["stage"] in STAGES
        named = all(isinstance(checkpoint[name], str) for name in ("name", "sha256"))
        return line if complete and named and isinstance(checkpoint["step"], int) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _number(metric: str, key: str, title: str, better: str) -> Quantity:
    def read(line: Line) -> float | None:
        value = line.get(key)
        return None if value is None else float(value)

    return Quantity(metric, title, better, read)


def _measured_on(line: Line) -> str:
    measured = (
        f"{line['generated']} generated images against {line['real']} photos, seed {line['seed']}, "
        f"features {line['features']}, {line['resize']} resizing."
    )
    return measured if line["comparable"] else f"{measured} Random features: not comparable with published values."


def _beside_untrained(line: Line) -> str:
    if line["untrained"] is None:
        return ""
    share = line["value"] / line["untrained"]
    return f"\n     {line['untrained']:.4g} for the untrained model, of which this is {share:.1%}"


def _fid_figures(line: Line) -> list[Figure]:
    value, untrained, title = f"{line['value']:.4g}", line.get("untrained"), _fid_title(line)
    if untrained is None:
        return [Figure(value, "", title, _measured_on(line))]
    share = line["value"] / untrained
    label = f"{title}, {share:.0%} of the untrained model's {untrained:.4g}"
    return [Figure(value, "lower is better", label, _measured_on(line), min(1.0, share))]


def _fid_title(line: Line) -> str:
    """The name of a Fréchet distance; only comparable ones are called FID."""
    if line["comparable"]:
        return "FID (clean)" if line["resize"] == "clean" else "FID"
    return "Distance under random features" if line["features"].startswith("random-") else "Fréchet distance"


def _fid_sentence(line: Line) -> str:
    text = f"{_fid_title(line)}: {line['value']:.4g} ({image_setting(line)})" + _beside_untrained(line)
    if line["comparable"]:
        return text
    if line["features"].startswith("random-"):
        return f"{text}\n     random features: not comparable with published values"
    alone = f"compares with scores of the same network file alone, SHA-256 {line['features_sha256'][:16]}…"
    return f"{text}\n     {alone}"


def _kid_figures(line: Line) -> list[Figure]:
    note = f"{line['subsets']} subsets of {line['subset_size']} images. {_measured_on(line)}"
    label = "Kernel distance of images (KID)"
    return [Figure(f"{line['value']:.4g}", f"± {line['spread']:.2g}", label, note)]


def _kid_sentence(line: Line) -> str:
    spread = f"± {line['spread']:.2g} over {line['subsets']} subsets of {line['subset_size']}"
    return f"KID: {line['value']:.4g} {spread} ({image_setting(line)})"


def _manifold_figures(line: Line) -> list[Figure]:
    label = f"precision and recall of images, with density {line['density']:.2f} and coverage {line['coverage']:.2f}"
    return [Figure(f"{line['precision']:.2f}", f"and {line['recall']:.2f}", label, _measured_on(line))]


def _manifold_sentence(line: Line) -> str:
    scores = ", ".join(f"{name} {line[name]:.3f}" for name in ("precision", "recall", "density", "coverage"))
    return f"Images: {scores} ({image_setting(line)})"


def _overlap_figures(line: Line) -> list[Figure]:
    overlaps, over_half = line["nearest_iou"], line["over_half"]
    count = len(overlaps)
    against = f"{count} generated shapes, seed {line['seed']}, against {line['training']} training shapes."
    label = "generated shapes overlap a training shape with IoU over 0.5"
    spread = f"{min(overlaps):.2f} to {max(overlaps):.2f}"
    median = f"{statistics.median(overlaps):.2f}"
    pairs = f"All {count} shapes in pairs; 1 would be the same shape twice."
    return [
        Figure(str(over_half), f"of {count}", label, against, over_half / count),
        Figure(
            median, spread, "median IoU with the nearest training shape", "1 would be a copy of a training shape."
        ),
        Figure(f"{line['pairwise_iou_max']:.2f}", "IoU", "of the two generated shapes most alike", pairs),
        *_piece_figures(line),
    ]


def _piece_figures(line: Line) -> list[Figure]:
    median = _median_piece(line)
    if median is None:  # not measured by older versions
        return []
    shares = line["largest_piece"]
    whole = sum(share >= 1.0 for share in shares)
    note = f"{whole} of {len(shares)} generated shapes are in one piece before loose ones are dropped."
    return [Figure(f"{median:.1%}", "in the median", "of a generated shape in its largest piece", note, median)]


def _overlap_sentence(line: Line) -> str:
    whole = _median_piece(line)
    text = (
        f"Shapes: {line['over_half']} of {line['generated']} overlap a training shape with IoU over 0.5, the "
        f"two most alike each other with {line['pairwise_iou_max']:.2f} ({line['training']} training shapes)"
    )
    return text if whole is None else f"{text}; in the median {whole:.1%} of a shape lie in its largest piece"


def _points_figures(line: Line) -> list[Figure]:
    against = f"{line['generated']} generated shapes against {line['real']}, {line['points']} points each."
    accuracy = f"{line['nearest_neighbour_accuracy']:.2f}"
    return [
        Figure(f"{line['coverage']:.2f}", "", "coverage of real shapes by generated ones", against, line["coverage"]),
        Figure(accuracy, "0.5 is best", "1-nearest-neighbour accuracy of shapes", against),
    ]


def _points_sentence(line: Line) -> str:
    nearest = line["minimum_matching_distance"]
    text = (
        f"Points: minimum matching distance {'none' if nearest is None else f'{nearest:.4g}'}, coverage "
        f"{line['coverage']:.3f}, 1-nearest-neighbour accuracy {line['nearest_neighbour_accuracy']:.3f} "
        f"({line['generated']} generated shapes, {line['real']} of split {line['split']}, {line['points']} points "
        "each)"
    )
    return text + (f"\n     {line['empty']} generated shapes have no surface" if line["empty"] else "")


def _shape_fid_figures(line: Line) -> list[Figure]:
    note = f"{line['generated']} generated shapes against {line['real']}, features {line['features']}."
    return [Figure(f"{line['value']:.4g}", "lower is better", "Fréchet distance of shapes", note)]


def _shape_fid_sentence(line: Line) -> str:
    classifier = line["classifier"]
    held_out = sum(classifier["held_out"].values())
    text = (
        f"Shape FID: {line['value']:.4g} ({line['generated']} generated shapes, {line['real']} of split "
        f"{line['split']}, features {line['features']}, a classifier of {', '.join(classifier['classes'])} with "
        f"accuracy {classifier['accuracy']:.1%} on {held_out} held-out shapes)"
    )
    return text + _beside_untrained(line)


def _consistency_figures(line: Line) -> list[Figure]:
    note = f"{line['generated']} objects, seed {line['seed']}; 0 is best: nothing changes when the object is turned."
    return [
        Figure(f"{line[f'difference_{angle}']:.3f}", "of 1", f"colour difference at {angle} degrees apart", note)
        for angle in (15, 30)
        if line[f"difference_{angle}"] is not None
    ]


def _consistency_sentence(line: Line) -> str:
    parts = [
        f"{line[f'difference_{angle}']:.4f} ± {line[f'error_{angle}'] or 0.0:.4f} at {angle} degrees"
        for angle in (15, 30)
        if line[f"difference_{angle}"] is not None
    ]
    found = " and ".join(parts) or "nothing to compare, as no object has a solid surface"
    return f"View consistency: mean colour difference {found} ({line['generated']} objects, seed {line['seed']})"


def _median_piece(line: Line) -> float | None:
    return float(statistics.median(line["largest_piece"])) if line.get("largest_piece") else None


def _median_overlap(line: Line) -> float | None:
    return float(statistics.median(line["nearest_iou"])) if line.get("nearest_iou") else None


METRICS: tuple[Metric, ...] = (
    Metric(
        "fid",
        (_number("fid", "value", "Fréchet distance of images", "lower is better"),),
        _fid_figures,
        _fid_sentence,
        (("fid", "FID ↓", "value"),),
    ),
    Metric(
        "kid",
        (_number("kid", "value", "Kernel distance of images (KID)", "lower is better"),),
        _kid_figures,
        _kid_sentence,
        (("kid", "KID ↓", "value"),),
    ),
    Metric(
        "precision_recall",
        tuple(
            _number("precision_recall", name, f"{name.capitalize()} of images", "higher is better")
            for name in ("precision", "recall", "density", "coverage")
        ),
        _manifold_figures,
        _manifold_sentence,
        (("precision", "precision ↑", "precision"), ("recall", "recall ↑", "recall")),
    ),
    Metric(
        "consistency",
        (
            _number("consistency", "difference_15", "Colour difference 15 degrees apart", "lower is better"),
            _number("consistency", "difference_30", "Colour difference 30 degrees apart", "lower is better"),
        ),
        _consistency_figures,
        _consistency_sentence,
        (
            ("difference_15", "15° difference ↓", "difference_15"),
            ("difference_30", "30° difference ↓", "difference_30"),
        ),
    ),
    Metric(
        "shape_fid",
        (_number("shape_fid", "value", "Fréchet distance of shapes", "lower is better"),),
        _shape_fid_figures,
        _shape_fid_sentence,
        (("shape_fid", "shape FID ↓", "value"),),
    ),
    Metric(
        "shape_points",
        (
            _number(
                "shape_points", "minimum_matching_distance", "Minimum matching distance of shapes", "lower is better"
            ),
            _number("shape_points", "coverage", "Coverage of shapes", "higher is better"),
            _number(
                "shape_points", "nearest_neighbour_accuracy", "1-nearest-neighbour accuracy of shapes", "0.5 is best"
            ),
        ),
        _points_figures,
        _points_sentence,
        (
            ("minimum_matching_distance", "MMD ↓", "minimum_matching_distance"),
            ("shape_coverage", "coverage ↑", "coverage"),
            ("nearest_neighbour_accuracy", "1-NNA → 0.5", "nearest_neighbour_accuracy"),
        ),
    ),
    Metric(
        "shapes",
        (
            Quantity("shapes", "Median IoU with the nearest training shape", "1 would be copies", _median_overlap),
            _number("shapes", "pairwise_iou_max", "IoU of the two shapes most alike", "1 would be one shape twice"),
            Quantity("shapes", "Median share of a shape in its largest piece", "1 is best", _median_piece),
        ),
        _overlap_figures,
        _overlap_sentence,
    ),
)
QUANTITIES: tuple[Quantity, ...] = tuple(quantity for metric in METRICS for quantity in metric.quantities)
TABLE_COLUMNS: Mapping[str, str] = {key: title for metric in METRICS for key, title, _ in metric.columns}
"""The columns of the paper's table by key, with their headings; the arrow points to better values."""


def table_values(lines: Iterable[Line]) -> dict[str, float]:
    """The values of a generator in the paper's table, by the keys of `TABLE_COLUMNS`."""
    columns = {metric.name: metric.columns for metric in METRICS}
    found = [(key, line.get(name)) for line in lines for key, _, name in columns.get(line["metric"], ())]
    return {key: value for key, value in found if isinstance(value, int | float)}
