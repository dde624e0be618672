"""One pass over images: the statistics of their features, the features themselves where asked for, and a cache."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vondata.io.files import atomic_path
from vonmodel.evaluation.features import FeatureNetwork
from vonmodel.evaluation.samples import Images, RealImages, RealShapes, Volumes
from vonmodel.evaluation.shape_classifier import ShapeFeatures
from vonmodel.evaluation.statistics import FeatureStatistics, StatisticsAccumulator

CACHE_FORMAT = 1
Progress = Callable[[int, int], None]
"""Called with the images done and their number."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What one pass over images gives.

    Attributes:
        statistics: mean and covariance of the features.
        features: (n, d) the features; None where they were not kept.
    """

    statistics: FeatureStatistics
    features: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Replica:
    """The images or shapes and the feature network on one device; all replicas hold the same ones."""

    images: Images | Volumes
    network: FeatureNetwork | ShapeFeatures


def measure(
    replicas: Sequence[Replica],
    *,
    batch_size: int,
    keep: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """Measures images or shapes in one pass; with several replicas, batches are dealt round-robin.

    Args:
        replicas: at least one; they share the work.
        batch_size: images at a time; like the number of replicas, it changes nothing but memory and time.
        keep: keep the features, which takes 8 KB an image with Inception.
        progress: called after every batch.
    """
    accumulator = StatisticsAccumulator(replicas[0].network.size)
    kept = []
    for features in features_in_order(replicas, batch_size):
        accumulator.update(features)
        if keep:
            kept.append(features)
        if progress is not None:
            progress(accumulator.count, len(replicas[0].images))
    statistics = accumulator.result()
    return Measured(statistics, np.concatenate(kept) if keep else None)


def features_in_order(replicas: Sequence[Replica], batch_size: int) -> Iterator[npt.NDArray[np.float32]]:
    """The features of batch after batch, however many devices compute them."""
    count = len(replicas[0].images)
    starts = range(0, count, batch_size)

    def features(replica: Replica, start: int) -> npt.NDArray[np.float32]:
        return replica.network(replica.images.part(start, min(start + batch_size, count)))

    if len(replicas) == 1:
        yield from (features(replicas[0], start) for start in starts)
        return
    # A thread for each replica: a device's work stays in order, and devices run independently.
    with ExitStack() as stack:
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in replicas]
        waiting: deque[Future[npt.NDArray[np.float32]]] = deque()
        for index, start in enumerate(starts):
            turn = index % len(replicas)
            waiting.append(threads[turn].submit(features, replicas[turn], start))
            if len(waiting) > 2 * len(replicas):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def measure_real(
    real: RealImages | RealShapes,
    networks: Sequence[FeatureNetwork] | Sequence[ShapeFeatures],
    cache: Path,
    *,
    batch_size: int,
    keep: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """Measures photos or shapes, or reads the cached result for the same items and network.

    A cached file is named by a hash of everything that decides its content. One that cannot be read is measured
    again; a cache that cannot be written is reported and not used.

    Args:
        real: the prepared photos or shapes.
        networks: the feature network, on each device that takes part.
        cache: folder of what was measured before.
        batch_size: images at a time.
        keep: keep the features.
        progress: called after every batch.
    """
    key = {
        "format": CACHE_FORMAT,
        "images": real.sha256,
        "count": len(real),
        "size": real.size,
        **networks[0].identity,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    files = cache / f"{name}.npz", cache / f"{name}-features.npy"
    try:
        statistics = FeatureStatistics.load(files[0])
        return Measured(statistics, _load_features(files[1]) if keep else None)
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        logger.warning("%s cannot be read (%s): measuring again", files[0], error)
    replicas = [Replica(real, network) for network in networks]
    measured = measure(replicas, batch_size=batch_size, keep=keep, progress=progress)
    try:
        measured.statistics.save(files[0])
        if measured.features is not None:
            with atomic_path(files[1]) as temporary:
                np.save(temporary, measured.features)
    except OSError as error:
        logger.warning("what was measured cannot be kept in %s: %s", cache, error)
    return measured


def _load_features(file: Path) -> npt.NDArray[np.float32]:
    with file.open("rb") as stream:
        features: npt.NDArray[np.float32] = np.load(stream, allow_pickle=False)
    return features
