"""The Fréchet distance of shapes, on the features of a shape classifier."""

from __future__ import annotations

import dataclasses
from typing import Any

from vonmodel.config import TrainConfig
from vonmodel.evaluation.generators import Subject
from vonmodel.evaluation.image_features import Lane, measure, measure_real
from vonmodel.evaluation.image_metrics import Progress, frechet_distance, told
from vonmodel.evaluation.samples import RealShapes
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.evaluation.shape_classifier import ClassifierError, ClassifierMismatchError, ShapeFeatures
from vonmodel.evaluation.statistics import FeatureStatistics


def shape_fid(
    subject: Subject, features: ShapeFeatures, settings: ScoreSettings, progress: Progress | None = None
) -> dict[str, Any] | None:
    """Measures the shapes that are drawn against those of the class.

    Args:
        subject: what to score.
        features: the classifier.
        settings: how many shapes, and which part is the real one.
        progress: told after every batch.

    Returns:
        The score with what it was measured on; None where the subject draws no shapes.
    """
    config = subject.config
    real = RealShapes(subject.data, config.class_name, config.model, split=settings.split)
    count = settings.shape_samples or len(real)
    drawn = subject.shapes(count, settings.seed)
    if drawn is None:
        return None
    batch = settings.batch_size
    found = measure([Lane(drawn, features)], batch_size=batch, progress=told(progress, "generated shapes"))
    cache = subject.data / config.class_name / "statistics"
    prepared = measure_real(real, [features], cache, batch_size=batch, progress=told(progress, "prepared shapes"))
    return {
        "metric": "shape_fid",
        "value": frechet_distance(found.statistics, prepared.statistics),
        "untrained": _untrained(subject, features, settings, count, prepared.statistics, progress),
        "seed": settings.seed,
        "generated": count,
        "real": len(real),
        "split": settings.split or "all",
        "dataset_sha256": real.sha256,
        "resolution": config.model.resolution,
        "representation": config.model.representation,
        "features": features.name,
        "features_sha256": features.sha256,
        "comparable": False,
        "classifier": dataclasses.asdict(features.info),
    }


def _untrained(
    subject: Subject,
    features: ShapeFeatures,
    settings: ScoreSettings,
    count: int,
    real: FeatureStatistics,
    progress: Progress | None,
) -> float | None:
    """The same distance for the initial weights, without which the number says little; None where nobody wants it."""
    drawn = None if settings.untrained is False else subject.untrained().shapes(count, settings.seed)
    if drawn is None:
        return None
    report = told(progress, "shapes of the untrained model")
    return frechet_distance(
        measure([Lane(drawn, features)], batch_size=settings.batch_size, progress=report).statistics, real
    )


def check_fits(features: ShapeFeatures, config: TrainConfig) -> None:
    """Checks that a classifier knows the class and sees what a model draws.

    Raises:
        ClassifierError: it does not; the error says which one would.
    """
    info, model = features.info, config.model
    if config.class_name not in info.classes:
        known = ", ".join(info.classes)
        raise ClassifierError(f"the shape classifier knows {known}, not {config.class_name}; train one that does")
    seen, drawn = (info.resolution, info.representation), (model.resolution, model.representation)
    if seen != drawn:
        raise ClassifierMismatchError(seen, drawn)
