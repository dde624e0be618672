"""Shape metrics: IoU with training shapes, MMD, COV and 1-NNA of surface points, Fréchet distance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vondata.shapes.point_distance import Matrix, Points, chamfer_matrix
from vonmodel.config import ModelConfig, TrainConfig
from vonmodel.data.datasets import ShapeDataset
from vonmodel.evaluation.image_features import FeatureStatistics, Replica, StatisticsError, measure, measure_real
from vonmodel.evaluation.image_metrics import (
    RESAMPLES,
    Interval,
    Progress,
    bind_progress,
    frechet_distance,
    interval_about,
    multiplicities,
)
from vonmodel.evaluation.samples import Generator, RealShapes, Volumes
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.evaluation.shape_classifier import ClassifierError, ClassifierMismatchError, ShapeFeatures
from vonmodel.inference.rendering import share_in_largest_piece
from vonmodel.mesh import surface_mesh
from vonmodel.representation import surface_field, surface_level
from vonmodel.seeding import numpy_generator

if TYPE_CHECKING:
    from vonmodel.mesh import SurfaceMesh


Bits = npt.NDArray[np.uint64]
"""(n, words) solid voxels, one bit each."""

_BATCH = 16


@dataclass(frozen=True)
class ShapeOverlap:
    """Intersection over union of generated shapes.

    Attributes:
        nearest_iou: for each shape, IoU with the training shape it overlaps most.
        nearest: the ids of these training shapes.
        pairwise_iou_max: largest IoU of two generated shapes; 0 for a single shape.
        training: number of training shapes.
    """

    nearest_iou: tuple[float, ...]
    nearest: tuple[str, ...]
    pairwise_iou_max: float
    training: int

    @property
    def over_half(self) -> int:
        """Number of shapes that overlap a training shape with IoU over 0.5."""
        return sum(overlap > 0.5 for overlap in self.nearest_iou)


def shape_overlap(
    generated: Volumes, training: ShapeDataset, level: float, progress: Callable[[int, int], None] | None = None
) -> ShapeOverlap:
    """Compares generated shapes with the training shapes and with each other.

    Args:
        generated: the shapes.
        training: in the same resolution and representation.
        level: a voxel is solid if its value exceeds it.
        progress: called after every training shape.
    """
    starts = range(0, len(generated), _BATCH)
    packed = pack_solids((generated.part(start, min(start + _BATCH, len(generated))) for start in starts), level)

    def packed_training() -> Iterator[tuple[str, Bits]]:
        for index, id in enumerate(training.ids):
            yield id, pack_solids([training[index][None]], level)
            if progress is not None:
                progress(index + 1, len(training))

    return overlap_of(packed, packed_training())


def overlap_of(generated: Bits, training: Iterable[tuple[str, Bits]]) -> ShapeOverlap:
    """The overlaps of packed shapes; training shapes are given one by one with their ids, and not kept."""
    best = np.full(len(generated), -1.0)
    nearest = [""] * len(generated)
    count = 0
    for id, shape in training:
        count += 1
        overlap = intersection_over_union(generated, shape)[:, 0]
        for index in np.flatnonzero(overlap > best):
            best[index], nearest[index] = overlap[index], id
    pairs = intersection_over_union(generated, generated)[np.triu_indices(len(generated), k=1)]
    return ShapeOverlap(tuple(best.tolist()), tuple(nearest), float(pairs.max(initial=0.0)), count)


def pack_solids(volumes: Iterable[Tensor], level: float) -> Bits:
    """Packs the solid voxels of batches of volumes (n, 1, N, N, N) into bits."""
    rows = []
    for batch in volumes:
        solid = (batch > level).flatten(1).cpu().numpy()
        packed = np.packbits(solid, axis=1)
        padding = -packed.shape[1] % 8
        rows.append(np.pad(packed, ((0, 0), (0, padding))).view(np.uint64))
    return np.concatenate(rows)


def intersection_over_union(first: Bits, second: Bits) -> npt.NDArray[np.float64]:
    """IoU (n, m) of every packed shape with every other; two empty shapes count as equal."""
    result = np.empty((len(first), len(second)))
    for row, shape in enumerate(first):
        intersection = np.bitwise_count(shape & second).sum(axis=1, dtype=np.int64)
        union = np.bitwise_count(shape | second).sum(axis=1, dtype=np.int64)
        result[row] = np.where(union == 0, 1.0, intersection / np.maximum(union, 1))
    return result


def point_sets(volumes: Volumes, level: float, *, points: int, seed: int) -> Iterator[Points]:
    """Points sampled on the surface of every shape; none for a shape without a surface.

    Each shape is sampled with a generator of its own, so that its points do not depend on the other shapes: equal
    shapes give equal sets.

    Args:
        volumes: the shapes, in [0, 1].
        level: of their surface.
        points: number of points on each.
        seed: of the points.
    """
    for index in range(len(volumes)):
        volume = volumes.part(index, index + 1)[0, 0].numpy()
        mesh = surface_mesh(volume, level)
        yield sample_surface(mesh, points, numpy_generator(seed, "surface points"))


def sample_surface(mesh: SurfaceMesh, points: int, rng: np.random.Generator) -> Points:
    """Points (k, 3) uniform over the area of a mesh; none if it has no area.

    Stratified sampling: the area is divided into `points` strata of equal size, in the order of the faces, with one
    point in each. It has less variance than independent points, and is as unbiased.
    """
    corners = mesh.vertices[mesh.faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.linalg.norm(np.cross(first, second), axis=1)
    ends = np.cumsum(areas)
    if len(ends) == 0 or ends[-1] <= 0.0:
        return np.empty((0, 3))
    at = (np.arange(points) + rng.random(points)) / points * ends[-1]
    face = np.searchsorted(ends, at, side="right").clip(max=len(ends) - 1)
    share = rng.random((2, points))
    beyond = share.sum(axis=0) > 1.0  # outside the triangle: reflected into it
    share = np.where(beyond, 1.0 - share, share)
    return np.asarray(corners[face, 0] + share[0, :, None] * first[face] + share[1, :, None] * second[face])


@dataclass(frozen=True)
class PointScores:
    """Scores of Achlioptas et al. 2018 and Lopez-Paz and Oquab 2017, on the Chamfer distance.

    Attributes:
        minimum_matching_distance: mean over real shapes of the distance to the nearest generated one; fidelity, 0 is
            best. None if no generated shape has a surface.
        coverage: fraction of the real shapes that are some generated shape's nearest; variety, 1 is best.
        nearest_neighbour_accuracy: how often the nearest other shape of both sets together is of the same set, for
            sets of equal size; 0.5 if they cannot be distinguished, 1 if they always can.
        empty: generated shapes without a surface.
    """

    minimum_matching_distance: float | None
    coverage: float
    nearest_neighbour_accuracy: float
    empty: int


def point_scores(
    generated: Sequence[Points], real: Sequence[Points], progress: Callable[[int, int], None] | None = None
) -> PointScores:
    """Compares two equally large sets of shapes.

    Args:
        generated: points of each generated shape; none for one without a surface, which is infinitely far from all
            shapes with one.
        real: points of each real shape, at least one.
        progress: called after every shape.

    Raises:
        StatisticsError: fewer than two shapes on a side, or a real one without a surface.
        ValueError: the sets are not equally large.
    """
    count = len(real)
    if len(generated) != count:
        raise ValueError(f"{len(generated)} generated and {count} real shapes: the sets must be equally large")
    if count < 2:
        raise StatisticsError(f"distances of surface points take 2 shapes or more on each side, not {count}")
    empty = sum(len(points) == 0 for points in generated)
    if any(len(points) == 0 for points in real):
        raise StatisticsError("a real shape has no surface at this resolution; train at a higher one")
    distance = chamfer_matrix([*generated, *real], progress, threads=torch.get_num_threads())
    return scores_of(distance, count, empty)


def scores_of(distance: Matrix, count: int, empty: int = 0) -> PointScores:
    """The scores from all distances (2n, 2n), the n generated shapes first."""
    across = distance[:count, count:]
    nearest = across.min(axis=0)
    matched = across.argmin(axis=1)[np.isfinite(across).any(axis=1)]
    others = distance.copy()
    np.fill_diagonal(others, np.inf)
    neighbour = others.argmin(axis=1)
    alone = ~np.isfinite(others).any(axis=1)  # a lone empty shape counts as distinguished
    same = (neighbour < count) == (np.arange(2 * count) < count)
    return PointScores(
        minimum_matching_distance=float(nearest.mean()) if np.isfinite(nearest).all() else None,
        coverage=len(set(matched.tolist())) / count,
        nearest_neighbour_accuracy=float((same | alone).mean()),
        empty=empty,
    )


def point_intervals(
    distance: Matrix, count: int, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Interval | None]:
    """Bootstrap intervals of `scores_of`, by its names.

    Shapes of both sides are resampled. Copies of a shape are excluded from the search for its nearest neighbour, and
    a shape drawn twice counts twice in fractions and means.

    Args:
        distance: (2n, 2n), the n generated shapes first.
        count: n.
        seed: of the resampling.
        resamples: number of resamples.
    """
    scores = scores_of(distance, count)
    others = distance.copy()
    np.fill_diagonal(others, np.inf)
    rng = numpy_generator(seed, "point intervals")
    found = np.array([_resampled_scores(others, count, rng) for _ in range(resamples)])
    values = (scores.minimum_matching_distance, scores.coverage, scores.nearest_neighbour_accuracy)
    names = ("minimum_matching_distance", "coverage", "nearest_neighbour_accuracy")
    return {
        name: None if value is None or not np.isfinite(column).all() else interval_about(value, column)
        for name, value, column in zip(names, values, found.T, strict=True)
    }


def _resampled_scores(others: Matrix, count: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """MMD, COV and 1-NNA of shapes drawn with replacement; `others` has an infinite diagonal."""
    times = np.concatenate([multiplicities(count, rng), multiplicities(count, rng)])
    drawn = np.flatnonzero(times)
    generated, real = drawn[drawn < count], drawn[drawn >= count]
    across = others[np.ix_(generated, real)]
    distance = np.average(across.min(axis=0), weights=times[real])
    covered = np.unique(across.argmin(axis=1)[np.isfinite(across).any(axis=1)])
    among = others[np.ix_(drawn, drawn)]
    neighbour = drawn[among.argmin(axis=1)]
    same = ((neighbour < count) == (drawn < count)) | ~np.isfinite(among).any(axis=1)
    return (
        float(distance),
        float(times[real][covered].sum() / count),
        float(np.average(same, weights=times[drawn])),
    )


MAX_SHAPES = 32
"""Shapes compared by default; the cost grows with the square of the number."""


def largest_piece_shares(generated: Volumes, config: ModelConfig) -> tuple[float, ...]:
    """Fraction of each shape's solid voxels in its largest component, on the grid of its surface; 0 if empty."""
    level = surface_level(config)
    volumes = (generated.part(index, index + 1)[0] for index in range(len(generated)))
    return tuple(share_in_largest_piece(surface_field(config, volume)[0], level) for volume in volumes)


def shape_scores(
    generator: Generator, settings: ScoreSettings, progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Scores generated shapes against those of the class.

    Args:
        generator: the generator to score; one without shapes gets no score.
        settings: numbers of shapes and points.
        progress: called after every shape.

    Yields:
        overlap, then distances of surface points, each with what it was measured on.
    """
    config = generator.config
    real = RealShapes(generator.data, config.class_name, config.model, split=settings.split)
    count = settings.shape_samples or min(len(real), MAX_SHAPES)
    generated = generator.shapes(count, settings.seed)
    if generated is None:
        return
    level = surface_level(config.model)
    training = ShapeDataset(
        generator.data,
        config.class_name,
        resolution=config.model.resolution,
        representation=config.model.representation,
        band=config.model.band,
    )
    overlap = shape_overlap(generated, training, level, bind_progress(progress, "training shapes"))
    about = {"seed": settings.seed, "resolution": config.model.resolution}
    yield {
        "metric": "shapes",
        "features": "voxels",
        "over_half": overlap.over_half,
        "nearest_iou": list(overlap.nearest_iou),
        "nearest": list(overlap.nearest),
        "pairwise_iou_max": overlap.pairwise_iou_max,
        "largest_piece": list(largest_piece_shares(generated, config.model)),
        "generated": count,
        "training": overlap.training,
        "split": "train",
        "dataset_sha256": RealShapes(generator.data, config.class_name, config.model, split="train").sha256,
    } | about
    equal = min(count, len(real))
    generated = generator.shapes(equal, settings.seed)
    real = RealShapes(generator.data, config.class_name, config.model, split=settings.split, maximum=equal)
    assert generated is not None
    drawn, found = (
        list(point_sets(side, level, points=settings.points, seed=settings.seed)) for side in (generated, real)
    )
    yield {
        "metric": "shape_points",
        "features": "surface points",
        **asdict(point_scores(drawn, found, bind_progress(progress, "distances of surface points"))),
        "distance": "chamfer",
        "points": settings.points,
        "generated": equal,
        "real": equal,
        "split": settings.split or "all",
        "dataset_sha256": real.sha256,
    } | about


def shape_fid(
    generator: Generator, features: ShapeFeatures, settings: ScoreSettings, progress: Progress | None = None
) -> dict[str, Any] | None:
    """The Fréchet distance of generated shapes to those of the class.

    Args:
        generator: the generator to score.
        features: the classifier.
        settings: number of shapes, and the split that counts as real.
        progress: called after every batch.

    Returns:
        The score with what it was measured on; None if the generator has no shapes.
    """
    config = generator.config
    real = RealShapes(generator.data, config.class_name, config.model, split=settings.split)
    count = settings.shape_samples or len(real)
    drawn = generator.shapes(count, settings.seed)
    if drawn is None:
        return None
    batch = settings.batch_size
    found = measure(
        [Replica(drawn, features)], batch_size=batch, progress=bind_progress(progress, "generated shapes")
    )
    cache = generator.data / config.class_name / "statistics"
    prepared = measure_real(
        real, [features], cache, batch_size=batch, progress=bind_progress(progress, "prepared shapes")
    )
    return {
        "metric": "shape_fid",
        "value": frechet_distance(found.statistics, prepared.statistics),
        "untrained": _untrained(generator, features, settings, count, prepared.statistics, progress),
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
        "classifier": asdict(features.info),
    }


def _untrained(
    generator: Generator,
    features: ShapeFeatures,
    settings: ScoreSettings,
    count: int,
    real: FeatureStatistics,
    progress: Progress | None,
) -> float | None:
    """The distance of the model's initial weights, as a baseline; None if not requested."""
    drawn = None if settings.untrained is False else generator.untrained().shapes(count, settings.seed)
    if drawn is None:
        return None
    report = bind_progress(progress, "shapes of the untrained model")
    return frechet_distance(
        measure([Replica(drawn, features)], batch_size=settings.batch_size, progress=report).statistics, real
    )


def check_fits(features: ShapeFeatures, config: TrainConfig) -> None:
    """Checks that a classifier was trained on the class, resolution and representation of a model.

    Raises:
        ClassifierError: it was not; the message says what is needed.
    """
    info, model = features.info, config.model
    if config.class_name not in info.classes:
        known = ", ".join(info.classes)
        raise ClassifierError(
            f"the shape classifier knows {known}, not {config.class_name}", hint="train one that does"
        )
    seen, drawn = (info.resolution, info.representation), (model.resolution, model.representation)
    if seen != drawn:
        raise ClassifierMismatchError(seen, drawn)
