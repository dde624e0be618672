"""The scores of shapes that need no network: overlap with the training shapes, distances of surface points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from vonmodel.data.datasets import ShapeDataset
from vonmodel.evaluation.image_scores import Progress, told
from vonmodel.evaluation.point_distance import point_scores
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.evaluation.shapes import shape_overlap
from vonmodel.evaluation.subject import Subject
from vonmodel.evaluation.surface_points import point_sets
from vonmodel.evaluation.volumes import RealShapes
from vonmodel.export import surface_level

MOST_SHAPES = 32
"""How many shapes are compared unless somebody asks for more: every one is compared with every other."""


def shape_scores(
    subject: Subject, settings: ScoreSettings, progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Measures the shapes that are drawn against those of the class.

    Args:
        subject: what to score; one that draws no shapes gets no score.
        settings: how many shapes and points.
        progress: told after every shape.

    Yields:
        overlap, then distances of surface points, each with what it was measured on.
    """
    config = subject.config
    real = RealShapes(subject.data, config.class_name, config.model, split=settings.split)
    count = settings.shape_samples or min(len(real), MOST_SHAPES)
    generated = subject.shapes(count, settings.seed)
    if generated is None:
        return
    level = surface_level(config.model.representation, config.model.resolution)
    training = ShapeDataset(
        subject.data,
        config.class_name,
        resolution=config.model.resolution,
        representation=config.model.representation,
    )
    overlap = shape_overlap(generated, training, level, told(progress, "training shapes"))
    about = {"seed": settings.seed, "resolution": config.model.resolution}
    yield {
        "metric": "shapes",
        "features": "voxels",
        "over_half": overlap.over_half,
        "nearest_iou": list(overlap.nearest_iou),
        "nearest": list(overlap.nearest),
        "pairwise_iou_max": overlap.pairwise_iou_max,
        "generated": count,
        "training": overlap.training,
        "split": "train",
        "dataset_sha256": RealShapes(subject.data, config.class_name, config.model, split="train").sha256,
    } | about
    equal = min(count, len(real))
    generated = subject.shapes(equal, settings.seed)
    real = RealShapes(subject.data, config.class_name, config.model, split=settings.split, maximum=equal)
    assert generated is not None
    drawn, found = (
        list(point_sets(side, level, points=settings.points, seed=settings.seed)) for side in (generated, real)
    )
    yield {
        "metric": "shape_points",
        "features": "surface points",
        **asdict(point_scores(drawn, found, told(progress, "distances of surface points"))),
        "distance": "chamfer",
        "points": settings.points,
        "generated": equal,
        "real": equal,
        "split": settings.split or "all",
        "dataset_sha256": real.sha256,
    } | about
