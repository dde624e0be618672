"""Viewpoints of prepared photos, by comparing each with the sketches of a view bank; recorded in the journal.

The score s of the sketch of shape k from viewpoint v counts as its log likelihood, in units of the temperature T: p(v
| photo) ~ p(v) sum_k exp(s_kv / T). All shapes vote together instead of the single best sketch. The answer is the
mean viewpoint around the strongest peak over azimuth, which is finer than the grid.

A matched viewpoint belongs to the photo, to the shapes it was compared with and to the settings; the manifest's
column `viewpoint_bank` stands for the latter two. Where it is the current one nothing is done, so that a run again is
free and added photos are matched alone. Other shapes, and a photo prepared anew, make its viewpoint be matched anew.
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

WINDOW_DEG = 22.5  # the confidence is that of being right within this much azimuth
BATCH = 64  # photos whose scores are held at a time


@dataclass(frozen=True)
class MatchSettings:
    """How sketches and photos are compared.

    Attributes:
        weights: of the cues.
        temperature: the difference of scores that makes a sketch e times as likely. 0.04 makes the confidence honest
            where the photo's own shape is not among the sketches; where it is, the confidence is a little too low.
        prior_weight: of the class's viewpoints against all viewpoints alike.
    """

    weights: CueWeights = field(default_factory=CueWeights)
    temperature: float = 0.04
    prior_weight: float = 0.3


@dataclass(frozen=True)
class ViewpointMatch:
    """Where a photo was taken from, as far as the shapes of its class show it.

    Attributes:
        azimuth_deg: in [-180, 180).
        elevation_deg: positive from above.
        confidence: probability that the azimuth is right within 22.5 degrees.
        alternative_azimuth_deg: the strongest other reading, more than 45 degrees away. Two times in five it is
            the silhouette's twin, 180 degrees less the azimuth: the back for the front.
        alternative_elevation_deg: its elevation.
        alternative_confidence: its probability; with `confidence` at most 1.
        shape_id: the shape that is most alike from there.
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
    """The viewpoints of prepared photos (square RGBA, the object framed as photos are prepared).

    Args:
        images: files of one class; each is judged on its own, whatever the others are.
        bank: sketches of the class.
        settings: how to compare.
        on_match: called after each batch how many photos are done, of how many.

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
        scores: (shapes, views) likeness of every sketch; -inf leaves a sketch out.
        shape_ids: ids of the shapes.
        grid: the views.
        prior: (views,) log probability before the photo.
        temperature: the difference of scores that makes a sketch e times as likely.
    """
    logs = scores / temperature + prior
    views = np.exp(logs - logs.max()).sum(axis=0, dtype=np.float64).reshape(grid.shape)
    views /= views.sum()
    away = np.abs(circular_offset_deg(grid.azimuth_deg[:, None], grid.azimuth_deg))
    step = away[0, 1]
    near = away <= WINDOW_DEG
    mass = views.sum(axis=1)
    peaks = np.maximum(0.0, 1.0 - away / (WINDOW_DEG + step)) @ mass  # a tent has its top in the middle of the mass
    best = int(peaks.argmax())
    summit = (peaks >= np.roll(peaks, 1)) & (peaks >= np.roll(peaks, -1))  # not the foot of the best peak
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
    """(images, shapes, views) how alike each photo and each sketch are.

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
    """Rows of an images manifest with a viewpoint wherever a prepared photo had none; the others as they were.

    Args:
        rows: of the bank's class; those with an annotated viewpoint, and rejected ones, stay.
        data: the prepared dataset that holds the photos.
        bank: sketches of the class.
        settings: how to compare.
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
    """How the viewpoints of a class are matched.

    Attributes:
        shapes: at most this many are drawn.
        sketches: how they are drawn.
        match: how photos are compared with them.
    """

    shapes: int = 96
    sketches: BankSettings = field(default_factory=BankSettings)
    match: MatchSettings = field(default_factory=MatchSettings)


@dataclass(frozen=True)
class MatchCount:
    """What became of the photos of a class.

    Attributes:
        matched: photos with a viewpoint matched with these shapes, from this run or an earlier one.
        worked: of these, matched in this run.
        unreadable: photos whose prepared picture is gone or damaged; they stay without.
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
        settings: how they are matched.
        workers: threads that draw sketches.
        on_event: called with each event, in this thread.

    Raises:
        ManifestMissingError: no photos or no shapes of the class have been prepared.
        NoShapesError: all shapes were rejected.
        ShapeFileError, EmptyShapeError: a prepared shape is damaged.
        DatasetBusyError: another process prepares the class's photos.
        ShardedDatasetError: they lie in shards, so that nothing can be recorded of them.
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
            asked = _unmatched(data, class_name, key)  # until now another process may have matched some
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
            finally:  # what has been matched until an interruption is in the manifest, too
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
    """`match_photos` in a folder or behind a URL: then on a copy, sending journal and tables back.

    Args:
        data: the dataset.
        copy: what `mirror` gives of it.
        class_name: the class.
        settings: how they are matched.
        workers: threads that draw sketches.
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
    """Ids of the prepared photos without annotated viewpoint, less those matched under this key."""
    rows = prepared(read_manifest(data, class_name, "images"))
    chosen = rows["viewpoint_origin"] != "annotated"
    if key is not None:
        chosen &= rows["viewpoint_bank"] != key
    ids: list[str] = rows.loc[chosen, "id"].tolist()
    return ids


def _record(
    journal: Journal, ids: Sequence[str], data: Path, bank: ViewBank, settings: MatchSettings, key: str
) -> int:
    """Matches some photos and journals their rows; returns how many could be matched."""
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
