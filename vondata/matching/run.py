"""Viewpoints for the prepared photos of a dataset, recorded in its journal: none is lost, none is matched twice.

A matched viewpoint belongs to the photo, to the shapes it was compared with and to the settings; the manifest's
column `viewpoint_bank` stands for the latter two. Where it is the current one nothing is done, so that a run again is
free and added photos are matched alone. Other shapes, and a photo prepared anew, make its viewpoint be matched anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vondata.classes import load_class
from vondata.dataset.manifest import prepared, read_manifest, write_manifest
from vondata.dataset.shards import OutputFiles, ShardedDatasetError
from vondata.io.fs import RemoteFolder
from vondata.matching.bank import BankSettings, ViewBank, bank_key, build_bank, choose_shapes
from vondata.matching.cues import PhotoUnreadableError
from vondata.matching.match import BATCH, MatchSettings, match_rows
from vondata.pipeline.journal import Journal
from vondata.pipeline.store import RemoteStore
from vondata.types import Event

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
        on_event: told of the progress, in this thread.

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
    tell = on_event or (lambda event: None)
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
                on_shape=lambda done, total: tell(Event("sketching", done, total)),
            )
            try:
                for first in range(0, len(asked), BATCH):
                    worked += _record(journal, asked[first : first + BATCH], data, bank, settings.match, key)
                    tell(Event("matching", worked, len(asked)))
            finally:  # what has been matched until an interruption is in the manifest, too
                write_manifest(data, class_name, "images", journal.rows(), journal.revision)
            unreadable = len(asked) - worked
    return MatchCount(len(_unmatched(data, class_name)) - unreadable, worked, unreadable)


def match_remote_photos(
    data: RemoteFolder,
    copy: Path,
    class_name: str,
    settings: MatchingSettings = MatchingSettings(),
    *,
    workers: int = 1,
    on_event: Callable[[Event], None] | None = None,
) -> MatchCount:
    """`match_photos` for a dataset behind a URL: on this machine's copy of it, sending journal and tables back.

    Args:
        data: the dataset.
        copy: of it, brought up to date by `mirror`.
        class_name: the class.
        settings: how they are matched.
        workers: threads that draw sketches.
        on_event: told of the progress.

    Raises:
        RemoteError, DeliveryError: the URL cannot be read or written.
        ManifestMissingError, NoShapesError, ShapeFileError, EmptyShapeError, DatasetBusyError,
            ShardedDatasetError: as `match_photos`.
    """
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
