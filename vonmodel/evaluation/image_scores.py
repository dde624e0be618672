"""The scores of images, all from one pass over the features of each side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vonmodel.evaluation.features import FeatureNetwork
from vonmodel.evaluation.frechet import frechet_distance
from vonmodel.evaluation.image_features import Lane, Measured, measure, measure_real
from vonmodel.evaluation.images import RealImages
from vonmodel.evaluation.kernel_distance import kernel_distance
from vonmodel.evaluation.manifold import manifold_scores
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.evaluation.subject import Subject

Progress = Callable[[str, int, int], None]
"""Called with what is being measured, how much of it is done, and how much there is."""

Features = npt.NDArray[np.float32]


def image_scores(
    subject: Subject, networks: Sequence[FeatureNetwork], settings: ScoreSettings, progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Measures what is drawn against the photos of the class.

    Args:
        subject: what to score; one that draws no images gets no score.
        networks: the feature network, on each device that takes part; the first one's is the subject's own.
        settings: which scores, and how many images.
        progress: told after every batch.

    Yields:
        one entry for each score asked for, with what it was measured on.
    """
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
    keep = settings.kid or settings.precision_recall
    drawn = _measure_drawn(subject, networks, count, settings, progress, "generated images", keep=keep)
    if drawn is None:
        return
    photos = measure_real(
        real,
        networks,
        subject.data / config.class_name / "statistics",
        batch_size=settings.batch_size,
        keep=keep,
        progress=told(progress, "photos"),
    )
    about = _about(real, count, networks[0], settings)
    if settings.fid:
        value = frechet_distance(drawn.statistics, photos.statistics)
        untrained = _untrained(subject, networks, photos, count, settings, progress)
        yield {"metric": "fid", "value": value, "untrained": untrained} | about
    if drawn.features is not None and photos.features is not None:
        for result in _feature_scores(drawn.features, photos.features, settings):
            yield result | about


def _measure_drawn(
    subject: Subject,
    networks: Sequence[FeatureNetwork],
    count: int,
    settings: ScoreSettings,
    progress: Progress | None,
    what: str,
    *,
    keep: bool = False,
) -> Measured | None:
    """What the subject draws, measured on all devices; None where it draws no images."""
    others = [subject.on(device) for device in settings.devices[1:]]
    images = [each.images(count, settings.seed) for each in (subject, *others)]
    lanes = [Lane(some, network) for some, network in zip(images, networks, strict=True) if some is not None]
    if not lanes:
        return None
    return measure(lanes, batch_size=settings.batch_size, keep=keep, progress=told(progress, what))


def _feature_scores(drawn: Features, photos: Features, settings: ScoreSettings) -> Iterator[dict[str, Any]]:
    """The scores that take the features themselves."""
    if settings.kid:
        yield {"metric": "kid", **asdict(kernel_distance(drawn, photos, seed=settings.seed))}
    if settings.precision_recall:
        yield {"metric": "precision_recall", **asdict(manifold_scores(drawn, photos))}


def _untrained(
    subject: Subject,
    networks: Sequence[FeatureNetwork],
    photos: Measured,
    count: int,
    settings: ScoreSettings,
    progress: Progress | None,
) -> float | None:
    """The Fréchet distance of the model with its initial weights; None where nobody asks."""
    wanted = settings.features == "random" if settings.untrained is None else settings.untrained
    if not wanted:
        return None
    drawn = _measure_drawn(subject.untrained(), networks, count, settings, progress, "images of the untrained model")
    assert drawn is not None
    return frechet_distance(drawn.statistics, photos.statistics)


def _about(real: RealImages, count: int, network: FeatureNetwork, settings: ScoreSettings) -> dict[str, Any]:
    return {
        "seed": settings.seed,
        "generated": count,
        "real": len(real),
        "split": settings.split or "all",
        "dataset_sha256": real.sha256,
        "image_size": real.size,
        "features": network.name,
        "features_sha256": network.sha256,
        "comparable": network.comparable,
        "resize": network.resize,
        "input_size": network.input_size,
    }


def told(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """A report of one thing."""
    return None if progress is None else partial(progress, what)
