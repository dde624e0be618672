"""The Fréchet distance between what a model draws and the photos of its class."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .features import FeatureNetwork
from .frechet import frechet_distance
from .images import GeneratedImages, Images, RealImages
from .statistics import FeatureStatistics, StatisticsAccumulator

STATISTICS_FORMAT = 1
Progress = Callable[[str, int, int], None]
"""Called with what is being measured, the images done and their number."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FidResult:
    """A Fréchet distance and what it was measured with.

    Attributes:
        value: the distance; 0 is best.
        untrained: the distance of the same model with its initial weights; None where not asked for.
        generated: how many images the model drew.
        real: how many photos they were compared with.
        dataset_sha256: hash of these photos.
    """

    value: float
    untrained: float | None
    generated: int
    real: int
    dataset_sha256: str


def measure(
    images: Images,
    network: FeatureNetwork,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureStatistics:
    """The statistics of the features of images."""
    accumulator = StatisticsAccumulator(network.size)
    for features in network.over(images.batches(batch_size)):
        accumulator.update(features)
        if progress is not None:
            progress(accumulator.count, len(images))
    return accumulator.result()


def real_statistics(
    real: RealImages,
    network: FeatureNetwork,
    cache: Path,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureStatistics:
    """The statistics of photos, from the cache where the same photos met the same network before.

    A cached file is named by a hash of everything that decides its content. One that cannot be read is measured anew;
    a cache that cannot be written is reported and done without.

    Args:
        real: the photos.
        network: the feature network.
        cache: folder of the cached statistics.
        batch_size: images at a time.
        progress: told after every batch.
    """
    key = {
        "format": STATISTICS_FORMAT,
        "images": real.sha256,
        "count": len(real),
        "size": real.size,
        **network.identity,
    }
    file = cache / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}.npz"
    if file.is_file():
        try:
            return FeatureStatistics.load(file)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            logger.warning("%s cannot be read (%s): measuring the photos again", file, error)
    statistics = measure(real, network, batch_size, progress)
    try:
        statistics.save(file)
    except OSError as error:
        logger.warning("the statistics of the photos cannot be kept at %s: %s", file, error)
    return statistics


def frechet_inception_distance(
    generated: GeneratedImages,
    untrained: GeneratedImages | None,
    real: RealImages,
    network: FeatureNetwork,
    *,
    cache: Path,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> FidResult:
    """Measures what a model draws against photos.

    Args:
        generated: what the trained model draws.
        untrained: what the model drew before it learnt anything; None where it does not matter.
        real: the photos.
        network: the feature network.
        cache: folder of the cached statistics of photos.
        batch_size: images at a time; changes nothing but memory and time.
        progress: told after every batch.
    """

    def report(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else partial(progress, what)

    photos = real_statistics(real, network, cache, batch_size, report("photos"))
    drawn = measure(generated, network, batch_size, report("generated images"))
    baseline = None
    if untrained is not None:
        initial = measure(untrained, network, batch_size, report("images of the untrained model"))
        baseline = frechet_distance(initial, photos)
    return FidResult(frechet_distance(drawn, photos), baseline, len(generated), len(real), real.sha256)
