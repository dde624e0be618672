"""Lines of metrics.jsonl in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vonmodel.evaluation.paper_table import Row

Line = Mapping[str, Any]


def describe(line: Line) -> str:
    """A metric line in words."""
    match line["metric"]:
        case "fid":
            return _frechet(line)
        case "kid":
            spread = f"± {line['spread']:.2g} over {line['subsets']} subsets of {line['subset_size']}"
            return f"KID: {line['value']:.4g} {spread} ({_measured_on(line)})"
        case "precision_recall":
            scores = ", ".join(f"{name} {line[name]:.3f}" for name in ("precision", "recall", "density", "coverage"))
            return f"Images: {scores} ({_measured_on(line)})"
        case "shapes":
            return (
                f"Shapes: {line['over_half']} of {line['generated']} overlap a training shape with IoU over 0.5, the "
                f"two most alike each other with {line['pairwise_iou_max']:.2f} ({line['training']} training shapes)"
            )
        case "shape_points":
            return _points(line)
        case "shape_fid":
            return _shape_frechet(line)
        case name:
            raise AssertionError(f"no words for the metric {name}")


def _frechet(line: Line) -> str:
    name = {"tensorflow": "FID", "clean": "FID (clean)"}[line["resize"]] if line["comparable"] else "Fréchet distance"
    text = f"{name}: {line['value']:.4g} ({_measured_on(line)})" + _beside_untrained(line)
    if not line["comparable"]:
        text += f"\n     {_alone(line)}"
    return text


def _alone(line: Line) -> str:
    if line["features"].startswith("random-"):
        return "random features: not comparable with published values"
    return f"compares with scores of the same network file alone, SHA-256 {line['features_sha256'][:16]}…"


def _points(line: Line) -> str:
    nearest = line["minimum_matching_distance"]
    text = (
        f"Points: minimum matching distance {'none' if nearest is None else f'{nearest:.4g}'}, coverage "
        f"{line['coverage']:.3f}, 1-nearest-neighbour accuracy {line['nearest_neighbour_accuracy']:.3f} "
        f"({line['generated']} generated shapes, {line['real']} of split {line['split']}, {line['points']} points "
        "each)"
    )
    return text + (f"\n     {line['empty']} generated shapes have no surface" if line["empty"] else "")


def _shape_frechet(line: Line) -> str:
    classifier = line["classifier"]
    held_out = sum(classifier["held_out"].values())
    text = (
        f"Shape FID: {line['value']:.4g} ({line['generated']} generated shapes, {line['real']} of split "
        f"{line['split']}, features {line['features']}, a classifier of {', '.join(classifier['classes'])} with "
        f"accuracy {classifier['accuracy']:.1%} on {held_out} held-out shapes)"
    )
    return text + _beside_untrained(line)


def _beside_untrained(line: Line) -> str:
    if line["untrained"] is None:
        return ""
    share = line["value"] / line["untrained"]
    return f"\n     {line['untrained']:.4g} for the untrained model, of which this is {share:.1%}"


def _measured_on(line: Line) -> str:
    return (
        f"{line['generated']} generated images, {line['real']} photos of split {line['split']}, "
        f"features {line['features']}, {line['resize']} resizing"
    )


def table_text(rows: Sequence[Row]) -> str:
    """The paper's table as lines of text; reported rows come last, under a line that says so."""
    from vonmodel.evaluation.paper_table import COLUMNS, used_columns

    columns = used_columns(rows)
    body = [["", *(COLUMNS[name] for name in columns)]]
    body += [[row.title, *(_cell(row.values.get(name)) for name in columns)] for row in rows]
    widths = [max(len(line[index]) for line in body) for index in range(len(body[0]))]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in body]
    measured = sum(not row.reported for row in rows)
    images = next((row.images for row in rows if row.images is not None), None)
    if measured < len(rows):
        text.insert(1 + measured, "As reported by Zhu et al. 2018, on their photos at 128 pixels, with Inception:")
    if images is not None:
        beside = "" if images["comparable"] else "; not comparable with reported figures"
        text.insert(0, f"Images of {images['image_size']} pixels, {_measured_on(images)}{beside}:")
    return "\n".join(["", *text, ""])


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
