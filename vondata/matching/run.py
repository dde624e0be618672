"""Viewpoint matching of prepared photos against the sketches of a view bank, recorded in the journal.

The score s of the sketch of shape k from viewpoint v is used as its log likelihood, in units of the temperature T:
p(v | photo) ~ p(v) sum_k exp(s_kv / T). All shapes contribute instead of only the best sketch. The result is the mean
viewpoint around the strongest peak over azimuth, which is finer than the grid.

A matched viewpoint depends on the photo, the shapes it was compared with and the settings; the manifest's column
`viewpoint_bank` identifies the latter two. Photos with the current one are skipped, so that a second run does nothing
and only added photos are matched. With other shapes, or a photo that was prepared again, the viewpoint is matched
again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vondata.classes import load_class
from vondata.dataset.manifest import prepared, read_manifest, write_manifest
from vondata.dataset.shards import OutputFiles, ShardedDatasetError
from vondata.io.files import ReadableFile
from vondata.io.fs import DataFolder
from vondata.matching.bank import (
    BankSettings,
    Doubles,
    ViewBank,
    ViewGrid,
    bank_key,
    build_bank,
    choose_shapes,
    circular_offset_deg,
    log_prior,
)
from vondata.matching.cues import CueWeights, PhotoUnreadableError, photo_cues, read_photo, similarity
from vondata.pipeline.journal import Journal
from vondata.pipeline.store import RemoteStore
from vondata.types import Event

WINDOW_DEG = 22.5  # the confidence is the probability of an azimuth error of at most this
BATCH = 64  # photos scored at a time


@dataclass(frozen=True)
class MatchSettings:
    """Settings of the comparison of photos with sketches.

    Attributes:
        weights: of the cues.
        temperature: the difference of scores that makes a sketch e times as likely. 0.04 gives a calibrated
            confidence if the photo's own shape is not among the sketches; if it is, the confidence is a little too
            low.
        prior_weight: of the class's viewpoint prior against a uniform one.
    """

    weights: CueWeights = field(default_factory=CueWeights)
    temperature: float = 0.04
    prior_weight: float = 0.3


@dataclass(frozen=True)
class ViewpointMatch:
    """The estimated viewpoint of a photo.

    Attributes:
        azimuth_deg: in [-180, 180).
        elevation_deg: positive from above.
        confidence: probability that the azimuth is right within 22.5 degrees.
        alternative_azimuth_deg: the second peak, more than 45 degrees away. In two of five cases it is the viewpoint
            with the mirrored silhouette, 180 degrees minus the azimuth: the back instead of the front.
        alternative_elevation_deg: its elevation.
        alternative_confidence: its probability; its sum with `confidence` is at most 1.
        shape_id: the most similar shape from there.
    """

    azimuth_deg: float
    elevation_deg: float
    confidence: float
    alternative_azimuth_deg: float
    alternative_elevation_deg: float
    alternative_confidence: float
    shape_id: str


def match_viewpoints(
    images: Sequence[ReadableFile],
    bank: ViewBank,
    settings: MatchSettings = MatchSettings(),
    *,
    on_match: Callable[[int, int], None] | None = None,
) -> list[ViewpointMatch]:
    """The viewpoints of prepared photos (square RGBA, framed as in preparation).

    Args:
        images: files of one class; each is matched independently of the others.
        bank: sketches of the class.
        settings: of the comparison.
        on_match: called after each batch with the number of photos done and the total.

    Returns:
        one match per image, in their order.

    Raises:
        PhotoUnreadableError: a file is missing, damaged, without alpha or without an object.
    """
    prior = log_prior(bank.grid, bank.object_class, settings.prior_weight)
    matches: list[ViewpointMatch] = []
    for first in range(0, len(images), BATCH):
        for scores in score_photos(images[first : first + BATCH], bank, settings.weights):
            matches.append(estimate_viewpoint(scores, bank.shape_ids, bank.grid, prior, settings.temperature))
        if on_match is not None:
            on_match(len(matches), len(images))
    return matches


def estimate_viewpoint(
    scores: npt.NDArray[np.float32], shape_ids: Sequence[str], grid: ViewGrid, prior: Doubles, temperature: float
) -> ViewpointMatch:
    """The viewpoint of one photo.

    Args:
        scores: (shapes, views) similarity of every sketch; -inf excludes a sketch.
        shape_ids: ids of the shapes.
        grid: the views.
        prior: (views,) log prior probability.
        temperature: the difference of scores that makes a sketch e times as likely.
    """
    logs = scores / temperature + prior
    views = np.exp(logs - logs.max()).sum(axis=0, dtype=np.float64).reshape(grid.shape)
    views /= views.sum()
    away = np.abs(circular_offset_deg(grid.azimuth_deg[:, None], grid.azimuth_deg))
    step = away[0, 1]
    near = away <= WINDOW_DEG
    mass = views.sum(axis=1)
    peaks = np.maximum(0.0, 1.0 - away / (WINDOW_DEG + step)) @ mass  # triangular window
    best = int(peaks.argmax())
    summit = (peaks >= np.roll(peaks, 1)) & (peaks >= np.roll(peaks, -1))  # local maxima
    other = int(np.where(away[best] > 2.0 * WINDOW_DEG, peaks + summit, -1.0).argmax())
    inside = scores.reshape(-1, *grid.shape)[:, near[best]]
    return ViewpointMatch(
        *_mean_viewpoint(views, grid, near[best], best),
        float(mass[near[best]].sum()),
        *_mean_viewpoint(views, grid, near[other], other),
        float(mass[near[other]].sum()),
        shape_ids[int(inside.max(axis=(1, 2)).argmax())],
    )


def _mean_viewpoint(views: Doubles, grid: ViewGrid, near: npt.NDArray[np.bool_], peak: int) -> tuple[float, float]:
    inside = views[near]
    total = max(inside.sum(), np.finfo(np.float64).tiny)
    offset = circular_offset_deg(grid.azimuth_deg[near], grid.azimuth_deg[peak])
    azimuth = grid.azimuth_deg[peak] + (inside.sum(axis=1) * offset).sum() / total
    elevation = (inside.sum(axis=0) * grid.elevation_deg).sum() / total
    return float(circular_offset_deg(azimuth, 0.0)), float(elevation)


def score_photos(images: Sequence[ReadableFile], bank: ViewBank, weights: CueWeights) -> npt.NDArray[np.float32]:
    """(images, shapes, views) similarity of each photo and each sketch.

    Raises:
        PhotoUnreadableError: as `match_viewpoints`.
    """
    cues = photo_cues(np.stack([read_photo(image) for image in images]))
    return similarity(cues, bank.cues, weights).reshape(len(images), len(bank.shape_ids), -1)


def matched_columns(match: ViewpointMatch) -> dict[str, Any]:
    """A match as columns of the images manifest."""
    return {
        "azimuth_deg": match.azimuth_deg,
        "elevation_deg": match.elevation_deg,
        "viewpoint_origin": "matched",
        "viewpoint_confidence": match.confidence,
        "alternative_azimuth_deg": match.alternative_azimuth_deg,
        "alternative_elevation_deg": match.alternative_elevation_deg,
        "alternative_confidence": match.alternative_confidence,
        "viewpoint_shape": match.shape_id,
    }


def match_rows(
    rows: Iterable[Mapping[str, Any]],
    data: Path,
    bank: ViewBank,
    settings: MatchSettings = MatchSettings(),
    *,
    on_match: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Rows of an images manifest with matched viewpoints for the prepared photos that are not annotated.

    Args:
        rows: of the bank's class; those with an annotated viewpoint, and rejected ones, are unchanged.
        data: the prepared dataset that holds the photos.
        bank: sketches of the class.
        settings: of the comparison.
        on_match: as in `match_viewpoints`.

    Raises:
        PhotoUnreadableError: as `match_viewpoints`.
    """
    filled = [dict(row) for row in rows]
    asked = [row for row in filled if row["status"] == "prepared" and row["viewpoint_origin"] != "annotated"]
    files = OutputFiles(data, bank.object_class.name, "images")
    images = [files[row["id"]] for row in asked]
    for row, match in zip(asked, match_viewpoints(images, bank, settings, on_match=on_match), strict=True):
        row.update(matched_columns(match))
    return filled


KEY_LENGTH = 16

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MatchingSettings:
    """Settings of the viewpoint matching of a class.

    Attributes:
        shapes: maximum number of shapes to draw.
        sketches: settings of the sketches.
        match: settings of the comparison.
    """

    shapes: int = 96
    sketches: BankSettings = field(default_factory=BankSettings)
    match: MatchSettings = field(default_factory=MatchSettings)


@dataclass(frozen=True)
class MatchCount:
    """Counts of the matched photos of a class.

    Attributes:
        matched: photos with a viewpoint matched with these shapes, in this run or an earlier one.
        worked: of these, matched in this run.
        unreadable: photos whose prepared picture is missing or damaged; they get no viewpoint.
    """

    matched: int
    worked: int
    unreadable: int


def match_photos(
    data: Path,
    class_name: str,
    settings: MatchingSettings = MatchingSettings(),
    *,
    workers: int = 1,
    on_event: Callable[[Event], None] | None = None,
) -> MatchCount:
    """Matches the photos of a class that have neither an annotated viewpoint nor one matched with these shapes.

    Args:
        data: folder of the dataset, with shapes and photos of the class.
        class_name: the class.
        settings: of the matching.
        workers: number of threads that draw sketches.
        on_event: called with each event, in this thread.

    Raises:
        ManifestMissingError: no photos or no shapes of the class have been prepared.
        NoShapesError: all shapes were rejected.
        ShapeFileError, EmptyShapeError: a prepared shape is damaged.
        DatasetBusyError: another process prepares the class's photos.
        ShardedDatasetError: the dataset has shards, to which nothing can be added.
    """
    if OutputFiles(data, class_name, "images").are_sharded:
        raise ShardedDatasetError(data, class_name, "images")
    if not _unmatched(data, class_name):
        return MatchCount(0, 0, 0)
    shapes, object_class = choose_shapes(data, class_name, settings.shapes), load_class(class_name)
    key = _key(bank_key(shapes, object_class, settings.sketches), settings)
    notify = on_event or (lambda event: None)
    worked = unreadable = 0
    if _unmatched(data, class_name, key):
        with Journal(data, class_name, "images") as journal:
            asked = _unmatched(data, class_name, key)  # another process may have matched some in the meantime
            bank = build_bank(
                shapes,
                object_class,
                settings.sketches,
                cache=data / class_name / "sketches.npz",
                workers=workers,
                on_shape=lambda done, total: notify(Event("sketching", done, total)),
            )
            try:
                for first in range(0, len(asked), BATCH):
                    worked += _record(journal, asked[first : first + BATCH], data, bank, settings.match, key)
                    notify(Event("matching", worked, len(asked)))
            finally:  # after an interruption, the manifest has the photos matched so far
                write_manifest(data, class_name, "images", journal.rows(), journal.revision)
            unreadable = len(asked) - worked
    return MatchCount(len(_unmatched(data, class_name)) - unreadable, worked, unreadable)


def match_photos_at(
    data: DataFolder,
    copy: Path,
    class_name: str,
    settings: MatchingSettings = MatchingSettings(),
    *,
    workers: int = 1,
    on_event: Callable[[Event], None] | None = None,
) -> MatchCount:
    """`match_photos` for a folder or a URL; for a URL it works on a copy and uploads journal and tables.

    Args:
        data: the dataset.
        copy: its local copy from `mirror`.
        class_name: the class.
        settings: of the matching.
        workers: number of threads that draw sketches.
        on_event: called with each event.

    Raises:
        RemoteError, DeliveryError: the URL cannot be read or written.
        ManifestMissingError, NoShapesError, ShapeFileError, EmptyShapeError, DatasetBusyError,
            ShardedDatasetError: as `match_photos`.
    """
    if not data.is_remote:
        return match_photos(copy, class_name, settings, workers=workers, on_event=on_event)
    with RemoteStore(data, copy) as store:
        store.open_part(class_name, "images")
        try:
            return match_photos(copy, class_name, settings, workers=workers, on_event=on_event)
        finally:
            if store.has_unsent(class_name, "images"):
                store.close_part(class_name, "images")


def _unmatched(data: Path, class_name: str, key: str | None = None) -> list[str]:
    """Ids of the prepared photos without annotated viewpoint, except those matched under this key."""
    rows = prepared(read_manifest(data, class_name, "images"))
    chosen = rows["viewpoint_origin"] != "annotated"
    if key is not None:
        chosen &= rows["viewpoint_bank"] != key
    ids: list[str] = rows.loc[chosen, "id"].tolist()
    return ids


def _record(
    journal: Journal, ids: Sequence[str], data: Path, bank: ViewBank, settings: MatchSettings, key: str
) -> int:
    """Matches some photos and journals their rows; returns the number matched."""
    lines = {id: journal.line(id) for id in ids}
    matched = 0
    for row in _match_readable([lines[id]["row"] for id in ids], data, bank, settings):
        line = lines[row["id"]]
        journal.record(
            row["id"],
            stamp=line["stamp"],
            content=line["content"],
            settings=line["settings"],
            input=line["input"],
            row={**row, "viewpoint_bank": key},
        )
        matched += 1
    return matched


def _match_readable(
    rows: list[dict[str, Any]], data: Path, bank: ViewBank, settings: MatchSettings
) -> list[dict[str, Any]]:
    """The matched rows of those photos that can be read."""
    try:
        return match_rows(rows, data, bank, settings)
    except PhotoUnreadableError as error:
        if len(rows) > 1:
            return [matched for row in rows for matched in _match_readable([row], data, bank, settings)]
        logger.warning("no viewpoint: %s", error)
        return []


def _key(bank: str, settings: MatchingSettings) -> str:
    described = json.dumps([bank, asdict(settings.match)], sort_keys=True)
    return hashlib.sha256(described.encode("ascii")).hexdigest()[:KEY_LENGTH]
