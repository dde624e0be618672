"""The figures of a checkpoint, read from its run's metrics.jsonl, in words for a page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        if (line := _parse(text)) is not None and line["checkpoint"]["sha256"] == checkpoint_sha256
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


def _parse(text: str) -> Metric | None:
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
    ]
