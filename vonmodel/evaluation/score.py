"""Scores of a checkpoint: measured, described and recorded in its run's metrics.jsonl."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from vondata.manifest import Split
from vonmodel.checkpoint import CheckpointInfo, load_model
from vonmodel.config import TrainConfig
from vonmodel.datasets import ShapeDataset, viewpoint_sampler
from vonmodel.model import VonModel, build_model
from vonmodel.run_folder import RunFolder

from .features import FeatureNetwork, inception_features, random_features
from .fid import Progress, frechet_inception_distance
from .images import GeneratedImages, RealImages
from .shapes import shape_overlap

FeatureName = Literal["inception", "random"]


@dataclass(frozen=True)
class ScoreSettings:
    """What to measure and how.

    Attributes:
        fid: the Fréchet distance of images.
        shapes: overlap of generated shapes with training shapes and with each other.
        features: the network of image features.
        weights: file of the Inception weights; where None, the environment's or the cache's.
        samples: images to draw; as many as there are photos where None.
        max_images: upper limit of photos and of drawn images.
        shape_samples: shapes to draw.
        seed: what codes and viewpoints are drawn with.
        batch_size: images at a time; changes no score.
        split: part of the dataset that counts as real; all where None.
        untrained: score the model's initial weights too; where None, with random features only, whose numbers mean
            nothing without something to compare them with.
        device: where to compute.
    """

    fid: bool = True
    shapes: bool = True
    features: FeatureName = "inception"
    weights: Path | None = None
    samples: int | None = None
    max_images: int | None = None
    shape_samples: int = 16
    seed: int = 0
    batch_size: int = 32
    split: Split | None = "train"
    untrained: bool | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Subject:
    """What is scored: a model, its weights' origin and the data of its class."""

    model: VonModel
    checkpoint: CheckpointInfo
    config: TrainConfig
    data: Path


def score(
    run: RunFolder,
    data: Path,
    settings: ScoreSettings,
    *,
    checkpoint: str | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Measures a checkpoint and appends each result to the run's metrics.jsonl.

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
        ManifestMissingError, EmptyDatasetError, ResolutionError: the data cannot be used.
        WeightsError: the Inception weights cannot be used.
    """
    config = run.config()
    # Missing weights are found before anything expensive is done.
    network = _feature_network(settings) if settings.fid else None
    model, info = load_model(run.path, checkpoint=checkpoint, device=settings.device)
    subject = Subject(model, info, config, data)
    lines = []
    if network is not None:
        lines.append(_fid_line(subject, network, settings, progress))
        run.append_metric(lines[-1])
    if settings.shapes:
        lines.append(_shapes_line(subject, settings, progress))
        run.append_metric(lines[-1])
    return lines


def _feature_network(settings: ScoreSettings) -> FeatureNetwork:
    match settings.features:
        case "inception":
            return inception_features(settings.weights, settings.device)
        case "random":
            return random_features(settings.device)


def _fid_line(
    subject: Subject, network: FeatureNetwork, settings: ScoreSettings, progress: Progress | None
) -> dict[str, Any]:
    config = subject.config
    real = RealImages(
        subject.data,
        config.class_name,
        size=config.model.image_size,
        split=settings.split,
        maximum=settings.max_images,
    )
    samples = settings.samples or len(real)
    count = min(samples, settings.max_images or samples)
    sampler = viewpoint_sampler(subject.data, config.class_name, source=config.data.viewpoints)
    untrained = not network.comparable if settings.untrained is None else settings.untrained
    initial = build_model(config.model, config.seed).to(settings.device).eval() if untrained else None
    result = frechet_inception_distance(
        GeneratedImages(subject.model, sampler, count, settings.seed),
        GeneratedImages(initial, sampler, count, settings.seed) if initial is not None else None,
        real,
        network,
        cache=subject.data / config.class_name / "statistics",
        batch_size=settings.batch_size,
        progress=progress,
    )
    return {
        "metric": "fid",
        "value": result.value,
        "untrained": result.untrained,
        **_origin(subject),
        "seed": settings.seed,
        "generated": result.generated,
        "real": result.real,
        "split": settings.split or "all",
        "dataset_sha256": result.dataset_sha256,
        "image_size": config.model.image_size,
        "features": network.name,
        "features_sha256": network.sha256,
        "comparable": network.comparable,
        "resize": network.resize,
    }


def _shapes_line(subject: Subject, settings: ScoreSettings, progress: Progress | None) -> dict[str, Any]:
    config = subject.config
    dataset = ShapeDataset(
        subject.data,
        config.class_name,
        resolution=config.model.resolution,
        representation=config.model.representation,
    )
    overlap = shape_overlap(
        subject.model,
        dataset,
        count=settings.shape_samples,
        seed=settings.seed,
        progress=None if progress is None else partial(progress, "training shapes"),
    )
    return {
        "metric": "shapes",
        "nearest_iou": list(overlap.nearest_iou),
        "nearest": list(overlap.nearest),
        "pairwise_iou_max": overlap.pairwise_iou_max,
        "training": overlap.training,
        "over_half": overlap.over_half,
        **_origin(subject),
        "seed": settings.seed,
        "generated": settings.shape_samples,
        "resolution": config.model.resolution,
    }


def _origin(subject: Subject) -> dict[str, Any]:
    """What every line says of where its number comes from."""
    info = subject.checkpoint
    return {
        "class": subject.config.class_name,
        "checkpoint": {"name": info.name, "stage": info.stage, "step": info.step, "sha256": info.sha256},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("von", "torch", "numpy")},
    }
