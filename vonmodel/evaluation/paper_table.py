"""The paper's table: a run's model, the baselines trained beside it, and the figures the paper reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vonmodel.baselines.models import BASELINES, CONFIGS, BaselineName
from vonmodel.reports.metrics_log import TABLE_COLUMNS, Line, table_values

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
        checkpoint: which one was measured; None for reported ones.
        images: what scores of images were measured with: features, resizing, numbers; None where there are none.
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
    """The columns that hold anything, in order."""
    return [name for name in TABLE_COLUMNS if any(name in row.values for row in rows)]


def title_of(model: str) -> str:
    """What a model is called in a table."""
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
