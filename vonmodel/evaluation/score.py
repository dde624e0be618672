"""Scores of a checkpoint: measured, described and recorded in its run's metrics.jsonl."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vonmodel.checkpoint import CheckpointInfo, load_model
from vonmodel.run_folder import RunFolder

from .features import FeatureNetwork, inception_features, random_features
from .image_scores import Progress, image_scores
from .settings import ScoreSettings
from .shapes import shape_overlap
from .subject import Subject


def score(
    run: RunFolder,
    data: Path,
    settings: ScoreSettings,
    *,
    checkpoint: str | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Measures a checkpoint and appends each result to the run's metrics.jsonl as soon as it is there.

    Args:
        run: the run.
        data: the prepared dataset.
        settings: what to measure.
        checkpoint: name of the checkpoint; the newest where None.
        progress: told what is going on.

    Returns:
        The lines that were recorded.

    Raises:
        RunError, CheckpointError, ConfigError: the run cannot be used.
        ManifestMissingError, EmptyDatasetError, ResolutionError, StatisticsError: the data cannot be used.
        WeightsError: the Inception weights cannot be used.
    """
    config = run.config()
    # Missing weights are found before anything expensive is done.
    network = _feature_network(settings) if settings.images else None
    model, info = load_model(run.path, checkpoint=checkpoint, device=settings.device)
    subject = Subject(model, config, data)
    lines = []
    for result in _results(subject, network, settings, progress):
        lines.append(_recorded(result, config.class_name, info))
        run.append_metric(lines[-1])
    return lines


def _results(
    subject: Subject, network: FeatureNetwork | None, settings: ScoreSettings, progress: Progress | None
) -> Iterator[dict[str, Any]]:
    if network is not None:
        yield from image_scores(subject, network, settings, progress)
    if settings.shapes:
        yield _shape_scores(subject, settings, progress)


def _feature_network(settings: ScoreSettings) -> FeatureNetwork:
    match settings.features:
        case "inception":
            return inception_features(settings.weights, settings.device)
        case "random":
            return random_features(settings.device)


def _shape_scores(subject: Subject, settings: ScoreSettings, progress: Progress | None) -> dict[str, Any]:
    overlap = shape_overlap(
        subject.model,
        subject.training_shapes(),
        count=settings.shape_samples,
        seed=settings.seed,
        progress=None if progress is None else partial(progress, "training shapes"),
    )
    return {
        "metric": "shapes",
        "over_half": overlap.over_half,
        "nearest_iou": list(overlap.nearest_iou),
        "nearest": list(overlap.nearest),
        "pairwise_iou_max": overlap.pairwise_iou_max,
        "seed": settings.seed,
        "generated": settings.shape_samples,
        "training": overlap.training,
        "resolution": subject.config.model.resolution,
    }


def _recorded(result: dict[str, Any], class_name: str, info: CheckpointInfo) -> dict[str, Any]:
    """A result with where it comes from."""
    return result | {
        "class": class_name,
        "checkpoint": {"name": info.name, "stage": info.stage, "step": info.step, "sha256": info.sha256},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("von", "torch", "numpy")},
    }
