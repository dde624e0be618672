"""Scoring of folders against a reference folder: values, intervals, nearest references and protocol."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vondata.render.caster import Caster
from vondata.render.textured_mesh import grey_render_mesh
from vondata.render.views import RenderSettings, render_views, viewpoints_of
from vondata.shapes.point_distance import EMD_TOLERANCE, EXACT_POINTS, Matrix, Points, chamfer_matrix, emd_matrix
from vondata.types import Kind
from vondata.version import __version__
from vonmodel.evaluation.features import FeatureNetwork
from vonmodel.evaluation.folders import (
    Folder,
    FolderError,
    ReadRecord,
    Refused,
    ShapeReading,
    read_images,
    read_shapes,
)
from vonmodel.evaluation.image_features import FeatureStatistics, StatisticsAccumulator, StatisticsError
from vonmodel.evaluation.image_metrics import (
    Features,
    Interval,
    NearestReference,
    Progress,
    bind_progress,
    frechet_distance,
    frechet_distance_interval,
    kernel_distance,
    kernel_distance_interval,
    manifold_membership,
    mean_interval,
    nearest_features,
    nearest_reference,
)
from vonmodel.evaluation.shape_metrics import point_intervals, scores_of
from vonmodel.mesh import SurfaceMesh

PROTOCOL = 1
IMAGE_SCORES = ("fid", "kid", "precision_recall", "nearest")
SHAPE_SCORES = ("chamfer", "emd", "shading_fid", "nearest")
DEFAULT_SCORES: Mapping[Kind, tuple[str, ...]] = {"images": IMAGE_SCORES, "shapes": ("chamfer", "nearest")}
MAX_KEPT = 10_000
"""Images of a side whose features stay in memory, for the scores that compare pairs."""
MAX_RESAMPLED = 1_000
"""Images of a side that intervals of distances are resampled from; for more, intervals are scaled by 1 / sqrt(n)."""
MAX_SHAPES = 1_000
PAIRS = 8


@dataclass(frozen=True)
class ScoreColumn:
    """A column of a table of scores.

    Attributes:
        title: its heading; the arrow points to better values.
        about: its definition in a sentence.
        range: its smallest and largest possible value.
    """

    title: str
    about: str
    range: tuple[float, float] = (0.0, math.inf)


_SHARE = (0.0, 1.0)
QUANTITIES: Mapping[str, ScoreColumn] = {
    "fid": ScoreColumn("FID ↓", "Fréchet distance of the features' Gaussians"),
    "kid": ScoreColumn(
        "KID ↓", "kernel distance: unbiased, so values may be a little below 0", (-math.inf, math.inf)
    ),
    "precision": ScoreColumn(
        "precision ↑", "share of generated images inside the reference manifold: quality", _SHARE
    ),
    "recall": ScoreColumn("recall ↑", "share of reference images inside the generated manifold: variety", _SHARE),
    "density": ScoreColumn("density ↑", "reference balls around a generated image, over 5; may exceed 1"),
    "coverage": ScoreColumn("coverage ↑", "share of reference images with a generated one in their ball", _SHARE),
    "cd_mmd": ScoreColumn("MMD-CD ↓", "minimum matching distance by Chamfer distance"),
    "cd_cov": ScoreColumn("COV-CD ↑", "share of reference shapes that are some generated shape's nearest", _SHARE),
    "cd_nna": ScoreColumn("1-NNA-CD → 0.5", "how often a shape's nearest neighbour is of its own side", _SHARE),
    "emd_mmd": ScoreColumn("MMD-EMD ↓", "minimum matching distance by earth mover's distance"),
    "emd_cov": ScoreColumn("COV-EMD ↑", "coverage by earth mover's distance", _SHARE),
    "emd_nna": ScoreColumn("1-NNA-EMD → 0.5", "nearest-neighbour accuracy by earth mover's distance", _SHARE),
    "shading_fid": ScoreColumn("shading FID ↓", "Fréchet distance of shaded views, mean over the viewpoints"),
    "authenticity": ScoreColumn(
        "authenticity ↑",
        "share of generated samples farther from their nearest reference than "
        "that is from its own nearest: copies lower it",
        _SHARE,
    ),
}
_POINT_NAMES = {"minimum_matching_distance": "mmd", "coverage": "cov", "nearest_neighbour_accuracy": "nna"}


@dataclass(frozen=True)
class FolderSettings:
    """What to measure on folders, and how.

    Attributes:
        scores: of `IMAGE_SCORES` or `SHAPE_SCORES`; the default ones of the kind if empty.
        image_size: resize images to this many pixels along an edge; not resized if None.
        maximum: read at most this many files of a side.
        shapes: how shapes of generated folders are read.
        reference_shapes: how those of the reference are read.
        emd_shapes: shapes of a side that earth mover's distances are measured on.
        views: number of viewpoints of the shaded views.
        view_size: pixels along an edge of a shaded view.
        seed: of subsets, points and intervals.
        resamples: of intervals; 0 for none.
        batch_size: images at a time; changes no score.
    """

    scores: tuple[str, ...] = ()
    image_size: int | None = None
    maximum: int | None = None
    shapes: ShapeReading = field(default_factory=ShapeReading)
    reference_shapes: ShapeReading = field(default_factory=ShapeReading)
    emd_shapes: int = 64
    views: int = 20
    view_size: int = 128
    seed: int = 0
    resamples: int = 200
    batch_size: int = 32

    def chosen(self, kind: Kind) -> tuple[str, ...]:
        """The scores to measure on folders of a kind.

        Raises:
            FolderError: none of the requested scores applies to this kind.
        """
        known = IMAGE_SCORES if kind == "images" else SHAPE_SCORES
        chosen = tuple(name for name in self.scores or DEFAULT_SCORES[kind] if name in known)
        if not chosen:
            asked = ", ".join(name.replace("_", " ") for name in self.scores)
            raise FolderError(f"the folders hold {kind}, but {asked} is not one of their scores")
        return chosen


@dataclass(frozen=True)
class NearestPair:
    """A generated sample with its nearest reference; see `NearestReference.ratio`."""

    generated: str
    reference: str
    ratio: float


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one folder.

    Attributes:
        title: its name.
        path: of the folder.
        sha256: hash of the items read.
        values: by the names of `QUANTITIES`, with intervals; without an interval, low and high equal the value.
        nearest: the pairs most likely to be copies, in order.
        protocol: everything that determines the values, except the folder's content.
        notes: what could not be measured, and why.
        sizes: number of images of each width and height.
    """

    title: str
    path: str
    sha256: str
    values: Mapping[str, Interval]
    nearest: tuple[NearestPair, ...]
    protocol: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def protocol_hash(self) -> str:
        """Hash of the protocol; scores with equal hashes are comparable."""
        return hashlib.sha256(json.dumps(self.protocol, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def protocol_line(self) -> str:
        """The protocol in one line, ending with its hash."""
        words = [f"{name}={value}" for name, value in self.protocol.items() if name not in ("protocol", "kind")]
        return f"von-score/{PROTOCOL} {self.protocol['kind']} {' '.join(words)} #{self.protocol_hash}"


@dataclass(frozen=True)
class FolderScores:
    """Scores of folders against one reference.

    Attributes:
        kind: what was compared.
        reference: the reference folder.
        rows: one for each generated folder.
        refused: files that were left out, of both sides.
        comparable: whether its Fréchet distances are comparable with published FID values.
    """

    kind: Kind
    reference: Folder
    rows: tuple[ScoreRow, ...]
    refused: tuple[Refused, ...]
    comparable: bool

    def title_of(self, name: str) -> str:
        """The heading of a quantity: FID with the published network only, FD with any other."""
        title = QUANTITIES[name].title
        return title if self.comparable else title.replace("FID", "FD")

    @property
    def columns(self) -> list[str]:
        """The names of the quantities that any row has, in the order of tables."""
        return [name for name in QUANTITIES if any(name in row.values for row in self.rows)]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        rows = [
            {**asdict(row), "protocol_line": row.protocol_line, "protocol_hash": row.protocol_hash}
            for row in self.rows
        ]
        return {
            "kind": self.kind,
            "reference": str(self.reference.path),
            "comparable": self.comparable,
            "rows": rows,
            "refused": [asdict(each) for each in self.refused],
        }


def common_kind(folders: Sequence[Folder], wanted: Kind | None = None) -> Kind:
    """The kind that all folders hold; of two kinds the one that the last folder, the reference, prefers.

    Raises:
        FolderError: the folders have no kind in common.
    """
    for kind in (wanted,) if wanted else folders[-1].kinds:
        if all(kind in folder.kinds for folder in folders):
            return kind
    held = "; ".join(f"{folder.path} holds {' and '.join(folder.kinds)}" for folder in folders)
    raise FolderError(f"the folders hold no {wanted or 'kind of thing'} in common: {held}")


def needs_network(kind: Kind, settings: FolderSettings) -> bool:
    """Whether the scores compare features of images."""
    chosen = settings.chosen(kind)
    return kind == "images" or "shading_fid" in chosen


def score_folders(
    generated: Sequence[Folder],
    reference: Folder,
    settings: FolderSettings,
    network: FeatureNetwork | None,
    *,
    kind: Kind | None = None,
    progress: Progress | None = None,
) -> FolderScores:
    """Scores folders against a reference, which is read once.

    Args:
        generated: the folders, one or more.
        reference: the folder they are compared with.
        settings: what to measure.
        network: the features of images and shaded views; None if no score needs them.
        kind: what to compare if folders hold both.
        progress: called with what is measured, the amount done and the total.

    Raises:
        FolderError: the folders have no kind in common.
        StatisticsError: a folder has too few readable items.
    """
    kind = common_kind([*generated, reference], kind)
    chosen = settings.chosen(kind)
    if network is None and needs_network(kind, settings):
        raise ValueError(f"scores of {kind} need a feature network")
    read = _read_images_of if kind == "images" else _read_shapes_of
    compare = _compare_images if kind == "images" else _compare_shapes
    known = read(reference, settings, chosen, network, progress, is_reference=True)
    rows, refused = list[ScoreRow](), list(known.reading.refused)
    for folder in generated:
        side = read(folder, settings, chosen, network, progress)
        refused += side.reading.refused
        rows.append(compare(side, known, settings, chosen, network, progress))
    return FolderScores(
        kind, reference, tuple(rows), tuple(dict.fromkeys(refused)), network is not None and network.comparable
    )


@dataclass(frozen=True, eq=False)
class _Side:
    """The features or points of one folder.

    Attributes:
        folder: the folder.
        reading: names, hashes, refused files.
        features: (n, d) of the first `MAX_KEPT` images.
        statistics: of the features of all images; of shapes, of each viewpoint's.
        points: of each shape.
    """

    folder: Folder
    reading: ReadRecord
    features: Features | None = None
    statistics: tuple[FeatureStatistics, ...] = ()
    points: tuple[Points, ...] = ()


def _read_images_of(
    folder: Folder,
    settings: FolderSettings,
    chosen: Sequence[str],
    network: FeatureNetwork | None,
    progress: Progress | None,
    *,
    is_reference: bool = False,
) -> _Side:
    """One pass over a folder of images; memory is bounded by `MAX_KEPT`, for any number of files."""
    assert network is not None
    report, reading = bind_progress(progress, folder.title), ReadRecord()
    total = len(folder.entries["images"][: settings.maximum])
    accumulator = StatisticsAccumulator(network.size)
    kept = list[npt.NDArray[np.float32]]()
    for batch in read_images(
        folder, reading, batch_size=settings.batch_size, size=settings.image_size, maximum=settings.maximum
    ):
        features = network(batch)
        accumulator.update(features)
        room = MAX_KEPT - sum(map(len, kept))
        if room > 0 and chosen != ("fid",):
            kept.append(features[:room])
        if report is not None:
            report(accumulator.count + len(reading.refused), total)
    if accumulator.count < 2:
        raise StatisticsError(f"{folder.path}: a score takes 2 images or more, and {accumulator.count} can be read")
    return _Side(folder, reading, np.concatenate(kept) if kept else None, (accumulator.result(),))


def _compare_images(
    side: _Side,
    known: _Side,
    settings: FolderSettings,
    chosen: Sequence[str],
    network: FeatureNetwork | None,
    progress: Progress | None,
) -> ScoreRow:
    assert network is not None
    values, notes, pairs = dict[str, Interval](), list[str](), tuple[NearestPair, ...]()
    seed, resamples = settings.seed, settings.resamples
    drawn, real = side.features, known.features
    for name in chosen:
        try:
            match name:
                case "fid":
                    value = frechet_distance(side.statistics[0], known.statistics[0])
                    values["fid"] = _distance_interval(value, frechet_distance_interval, side, known, settings)
                case "kid":
                    value = kernel_distance(*_both(drawn, real), seed=seed).value
                    values["kid"] = _distance_interval(value, kernel_distance_interval, side, known, settings)
                case "precision_recall":
                    members = manifold_membership(*_both(drawn, real))
                    values |= {
                        score: _mean(each, seed, resamples)
                        for score, each in zip(
                            ("precision", "recall", "density", "coverage"),
                            (members.precise, members.recalled, members.balls, members.covered),
                            strict=True,
                        )
                    }
                case "nearest":
                    nearest = nearest_features(*_both(drawn, real))
                    values["authenticity"] = _mean(nearest.authentic, seed, resamples)
                    pairs = _closest(nearest, side, known)
        except StatisticsError as error:
            notes.append(str(error))
        if progress is not None:
            progress(f"scores of {side.folder.title}", chosen.index(name) + 1, len(chosen))
    protocol = _protocol("images", side, known, settings) | {
        "size": settings.image_size or "native",
        **_network_protocol(network),
        "kept": MAX_KEPT,
        **_interval_protocol(settings),
    }
    return _row(side, values, pairs, protocol, notes)


def _both(drawn: Features | None, real: Features | None) -> tuple[Features, Features]:
    assert drawn is not None
    assert real is not None
    return drawn, real


def _distance_interval(
    value: float,
    interval: Callable[..., Interval],
    side: _Side,
    known: _Side,
    settings: FolderSettings,
) -> Interval:
    """The interval of a distance, resampled from at most `MAX_RESAMPLED` images and scaled to the actual number."""
    few = Interval(value, value, value)
    if not settings.resamples or side.features is None or known.features is None:
        return few
    drawn, real = side.features[:MAX_RESAMPLED], known.features[:MAX_RESAMPLED]
    try:
        found = interval(drawn, real, seed=settings.seed, resamples=settings.resamples)
    except StatisticsError:
        return few
    counts = ((len(drawn), side.statistics[0].count), (len(real), known.statistics[0].count))
    shrink = max(math.sqrt(resampled / there) for resampled, there in counts)
    low, high = (value + shrink * (end - found.value) for end in (found.low, found.high))
    return Interval(value, low, high)


def _mean(values: npt.NDArray[Any], seed: int, resamples: int) -> Interval:
    mean = float(values.mean())
    return mean_interval(values, seed=seed, resamples=resamples) if resamples else Interval(mean, mean, mean)


def _closest(nearest: NearestReference, side: _Side, known: _Side) -> tuple[NearestPair, ...]:
    first = np.argsort(nearest.ratio, kind="stable")[:PAIRS]
    names, others = side.reading.names, known.reading.names
    return tuple(NearestPair(names[at], others[nearest.index[at]], float(nearest.ratio[at])) for at in first)


def _read_shapes_of(
    folder: Folder,
    settings: FolderSettings,
    chosen: Sequence[str],
    network: FeatureNetwork | None,
    progress: Progress | None,
    *,
    is_reference: bool = False,
) -> _Side:
    """The points of a folder's shapes, and the statistics of their shaded views where a score needs them."""
    report, reading = bind_progress(progress, folder.title), ReadRecord()
    how = settings.reference_shapes if is_reference else settings.shapes
    limit = settings.maximum or MAX_SHAPES
    total = min(limit, len(folder.entries["shapes"]))
    accumulators = [StatisticsAccumulator(network.size) for _ in range(settings.views)] if network else []
    points, unshaded = list[Points](), list[str]()
    for entry, shape in read_shapes(folder, reading, how, maximum=limit):
        points.append(shape.points)
        if "shading_fid" in chosen:
            assert network is not None
            if shape.mesh is None:
                unshaded.append(entry.name)
            else:
                for accumulator, row in zip(accumulators, network(_views(shape.mesh, settings)), strict=True):
                    accumulator.update(row[None])
        if report is not None:
            report(len(points), total)
    if len(points) < 2:
        raise StatisticsError(f"{folder.path}: a score takes 2 shapes or more, and {len(points)} can be read")
    reason = "a point cloud has no surface to be shaded; its other scores count"
    reading.refused += [Refused(folder.title, name, reason) for name in unshaded]
    shaded = tuple(each.result() for each in accumulators if each.count >= 2)
    return _Side(folder, reading, statistics=shaded, points=tuple(points))


def _views(mesh: SurfaceMesh, settings: FolderSettings) -> torch.Tensor:
    """Shaded views (n, 3, s, s) of a grey surface, from viewpoints evenly distributed on a sphere."""
    how = RenderSettings(views=settings.views, size=settings.view_size, cameras="sphere", seed=settings.seed)
    caster = Caster(grey_render_mesh(mesh.vertices, mesh.faces))
    views = [view.image.transpose(2, 0, 1) for view in render_views(caster, viewpoints_of(how, None), how)]
    return torch.from_numpy(np.stack(views))


def _compare_shapes(
    side: _Side,
    known: _Side,
    settings: FolderSettings,
    chosen: Sequence[str],
    network: FeatureNetwork | None,
    progress: Progress | None,
) -> ScoreRow:
    count = min(len(side.points), len(known.points))
    few, threads = min(count, settings.emd_shapes), torch.get_num_threads()
    values, notes, pairs = dict[str, Interval](), list[str](), tuple[NearestPair, ...]()
    protocol = _protocol("shapes", side, known, settings) | {
        "generated": count,
        "reference": count,
        "points": settings.shapes.points,
        "frame": settings.shapes.frame,
        "axes": f"{settings.shapes.up},{settings.shapes.front}",
        "reference_axes": f"{settings.reference_shapes.up},{settings.reference_shapes.front}",
    }
    if "chamfer" in chosen or "nearest" in chosen:
        report = bind_progress(progress, f"Chamfer distances of {side.folder.title}")
        matrix = chamfer_matrix(
            [*side.points[:count], *known.points[:count]], report, threads=torch.get_num_threads()
        )
        if "chamfer" in chosen:
            values |= _point_values("cd", matrix, count, settings)
        if "nearest" in chosen:
            within = matrix[count:, count:].copy()
            np.fill_diagonal(within, np.inf)
            nearest = nearest_reference([np.sqrt(matrix[:count, count:])], np.sqrt(within.min(axis=1)))
            values["authenticity"] = _mean(nearest.authentic, settings.seed, settings.resamples)
            pairs = _closest(nearest, side, known)
    if "emd" in chosen:
        report = bind_progress(progress, f"earth mover's distances of {side.folder.title}")
        moved = emd_matrix([*side.points[:few], *known.points[:few]], report, threads=threads)
        values |= _point_values("emd", moved.matrix, few, settings)
        protocol["emd"] = f"{few}x{'exact' if settings.shapes.points <= EXACT_POINTS else f'auction{EMD_TOLERANCE}'}"
        if moved.error:
            notes.append(f"earth mover's distances are at most {moved.error:.2%} above the exact ones")
    if "shading_fid" in chosen:
        assert network is not None
        if len(side.statistics) == len(known.statistics) == settings.views:
            views = zip(side.statistics, known.statistics, strict=True)
            value = float(np.mean([frechet_distance(drawn, real) for drawn, real in views]))
            values["shading_fid"] = Interval(value, value, value)
        else:
            notes.append("shading FID takes 2 surfaces or more on each side")
        protocol |= {"views": f"{settings.views}x{settings.view_size}px", **_network_protocol(network)}
        protocol["shaded"] = f"{_counted(side)}/{_counted(known)}"
    return _row(side, values, pairs, protocol | _interval_protocol(settings), notes)


def _counted(side: _Side) -> int:
    return side.statistics[0].count if side.statistics else 0


def _point_values(prefix: str, matrix: Matrix, count: int, settings: FolderSettings) -> dict[str, Interval]:
    scores = asdict(scores_of(matrix, count))
    found: Mapping[str, Interval | None] = {}
    if settings.resamples:
        found = point_intervals(matrix, count, seed=settings.seed, resamples=settings.resamples)
    values = {}
    for name, short in _POINT_NAMES.items():
        value = scores[name]
        values[f"{prefix}_{short}"] = found.get(name) or Interval(value, value, value)
    return values


def _protocol(kind: Kind, side: _Side, known: _Side, settings: FolderSettings) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "kind": kind,
        "generated": len(side.reading.names),
        "reference": len(known.reading.names),
        "content": known.reading.sha256[:12],
        "seed": settings.seed,
    }


def _network_protocol(network: FeatureNetwork) -> dict[str, Any]:
    return {
        "features": f"{network.name}:{network.sha256[:12]}",
        "resize": f"{network.resize}@{network.input_size}",
        "scale": network.scale,
    }


def _interval_protocol(settings: FolderSettings) -> dict[str, Any]:
    packages = {name: version(name) for name in ("torch", "numpy", "scipy", "pillow")}
    return {"resamples": settings.resamples, "von": __version__, **packages}


def _within(least: float, most: float, found: Interval) -> Interval:
    """An interval clipped to the range of its score."""
    return replace(found, low=min(max(found.low, least), found.value), high=max(min(found.high, most), found.value))


def _row(
    side: _Side,
    values: Mapping[str, Interval],
    pairs: tuple[NearestPair, ...],
    protocol: Mapping[str, Any],
    notes: Sequence[str],
) -> ScoreRow:
    reading = side.reading
    path = str(side.folder.path)
    values = {name: _within(*QUANTITIES[name].range, found) for name, found in values.items()}
    return ScoreRow(side.folder.title, path, reading.sha256, values, pairs, protocol, tuple(notes), reading.sizes)


def format_value(value: float) -> str:
    """A score with four digits; rounding noise around 0 is shown as 0."""
    return f"{value:.4g}" if abs(value) > 1e-9 else "0"


def format_interval(found: Interval | None) -> str:
    """A score with its interval; empty if it was not measured."""
    if found is None:
        return ""
    ends = f" [{format_value(found.low)}, {format_value(found.high)}]" if found.high > found.low else ""
    return f"{format_value(found.value)}{ends}"
