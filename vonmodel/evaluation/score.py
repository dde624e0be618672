"""Scoring of a checkpoint: measures it and records the results in its run's metrics.jsonl."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vondata.version import __version__
from vonmodel.baselines.models import BASELINES
from vonmodel.baselines.training import baseline_folder, load_baseline
from vonmodel.checkpoint import CheckpointInfo, chosen_class, load_model
from vonmodel.evaluation.consistency import consistency_scores
from vonmodel.evaluation.features import FeatureNetwork, file_features, inception_features, random_features
from vonmodel.evaluation.image_metrics import Progress, image_scores
from vonmodel.evaluation.samples import BaselineGenerator, Generator, VonGenerator
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.evaluation.shape_classifier import ShapeFeatures, load_classifier
from vonmodel.evaluation.shape_metrics import check_fits, shape_fid, shape_scores
from vonmodel.run_folder import RunFolder

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureExtractors:
    """The feature networks of scores, loaded once for many checkpoints.

    Attributes:
        networks: the feature network of images on each device; empty if no score of images is requested.
        classifier: the feature network of shapes; None if their Fréchet distance is not requested.
    """

    networks: tuple[FeatureNetwork, ...]
    classifier: ShapeFeatures | None


@dataclass(frozen=True)
class ScoredCheckpoint:
    """A checkpoint to score.

    Attributes:
        generator: its generator.
        checkpoint: its description.
        run: where its scores are recorded.
        model: its name in tables.
    """

    generator: Generator
    checkpoint: CheckpointInfo
    run: RunFolder
    model: str = "von"


def open_extractors(settings: ScoreSettings) -> FeatureExtractors:
    """Loads the feature networks that the scores need.

    Raises:
        WeightsError: the Inception weights cannot be used.
        NetworkFileError, ClassifierError: the feature network or the classifier cannot be used.
    """
    networks: tuple[FeatureNetwork, ...] = ()
    if settings.images:
        first = open_network(settings)
        networks = (first, *(first.on(device) for device in settings.devices[1:]))
    classifier = load_classifier(settings.classifier, settings.devices[0]) if settings.classifier else None
    return FeatureExtractors(networks, classifier)


def open_network(settings: ScoreSettings) -> FeatureNetwork:
    """Loads the feature network of images on the first device; errors as `open_extractors`."""
    device = settings.devices[0]
    match settings.features:
        case "inception":
            return inception_features(settings.weights, device, resize=settings.resizing or "tensorflow")
        case "random":
            return random_features(device)
        case Path() as file:
            return file_features(
                file,
                device,
                input_size=settings.network_size,
                scale=settings.network_scale,
                resize=settings.resizing or "clean",
                trust_code=settings.trust_code,
            )


def open_checkpoint(
    run: RunFolder,
    data: Path,
    settings: ScoreSettings,
    checkpoint: str | None = None,
    class_name: str | None = None,
) -> ScoredCheckpoint:
    """Loads a checkpoint of a run, the newest if none is named, to score on one of its classes.

    Raises:
        ClassNotInModelError: the model is not of this class.
        RunError, CheckpointError, ConfigError: the run cannot be used.
    """
    config = chosen_class(run.config(), class_name)
    model, info = load_model(run.path, checkpoint=checkpoint, device=settings.devices[0])
    model.choose_class(config.class_name)
    return ScoredCheckpoint(VonGenerator(model, config, data), info, run)


def open_baselines(run: RunFolder, data: Path, settings: ScoreSettings) -> Iterator[ScoredCheckpoint]:
    """Loads the baselines that were trained beside a run, one after the other.

    Raises:
        CheckpointError, ConfigError: one of them cannot be used.
    """
    for name in BASELINES:
        folder = baseline_folder(run.path, name)
        if folder.exists and folder.latest_checkpoint() is not None:
            model, info = load_baseline(folder, name, device=settings.devices[0])
            yield ScoredCheckpoint(BaselineGenerator(name, model, folder.config(), data), info, folder, name)


def score(
    scored: ScoredCheckpoint,
    extractors: FeatureExtractors,
    settings: ScoreSettings,
    progress: Progress | None = None,
    on_unrecorded: Callable[[OSError], None] | None = None,
) -> list[dict[str, Any]]:
    """Measures a checkpoint and appends each result to the run's metrics.jsonl as soon as it is known.

    Args:
        scored: the checkpoint to score.
        extractors: the feature networks.
        settings: what to measure.
        progress: called with what is measured, the amount done and the total.
        on_unrecorded: called if a result cannot be recorded, as in a run folder that is read-only; logged if None.

    Returns:
        The lines, recorded or not.

    Raises:
        ClassifierError: the classifier does not fit the model.
        ManifestMissingError, EmptyDatasetError, ResolutionError, StatisticsError: the data cannot be used.
    """
    if extractors.classifier is not None:
        check_fits(extractors.classifier, scored.generator.config)
    lines = []
    for result in _results(scored.generator, extractors, settings, progress):
        lines.append(_recorded(result, scored))
        try:
            scored.run.append_metric(lines[-1])
        except OSError as error:
            (on_unrecorded or _log_unrecorded)(error)
    return lines


def _log_unrecorded(error: OSError) -> None:
    _log.warning("a score cannot be recorded: %s", error)


def _results(
    generator: Generator, extractors: FeatureExtractors, settings: ScoreSettings, progress: Progress | None
) -> Iterator[dict[str, Any]]:
    if settings.images:
        yield from image_scores(generator, extractors.networks, settings, progress)
    if settings.consistency:
        yield from consistency_scores(generator, settings, progress)
    if settings.shapes:
        yield from shape_scores(generator, settings, progress)
    if extractors.classifier is not None:
        distance = shape_fid(generator, extractors.classifier, settings, progress)
        if distance is not None:
            yield distance


def _recorded(result: dict[str, Any], scored: ScoredCheckpoint) -> dict[str, Any]:
    """A result with its provenance."""
    info, config = scored.checkpoint, scored.generator.config
    several = {"classes": list(config.model.classes)} if config.model.classes else {}
    return (
        result
        | several
        | {
            "class": config.class_name,
            "model": scored.model,
            "checkpoint": {
                "name": info.name,
                "stage": info.stage,
                "step": info.step,
                "steps": info.steps,
                "sha256": info.sha256,
            },
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": {"von": __version__} | {name: version(name) for name in ("torch", "numpy", "scipy")},
        }
    )
