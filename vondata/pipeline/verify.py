"""Dataset verification: compares every prepared file, manifest and journal with its checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vondata.dataset.manifest import (
    SUFFIX,
    ManifestDamagedError,
    ManifestMissingError,
    csv_damage,
    dataset_classes,
    manifest_path,
    prepared,
    read_manifest,
)
from vondata.dataset.metadata import FILE_NAME, DatasetFormatError, read_dataset
from vondata.dataset.shape_file import ShapeFileError, load_shape
from vondata.dataset.shards import OutputFiles, ShardIndexError, index_path
from vondata.io.files import NotRegularFileError, ReadableFile, require_regular
from vondata.io.json_file import MAX_JSON_BYTES, JsonFileError, parse_json
from vondata.pipeline.journal import damaged_lines, journal_path
from vondata.types import Event, Kind

AGAIN = "remove it and prepare again"
IRREGULAR = "it is not a regular file"


@dataclass(frozen=True)
class Damage:
    """A file of a dataset that is damaged or missing.

    Attributes:
        file: its path, or its name within a shard.
        what: the damage found.
        remedy: what to do about it.
    """

    file: str
    what: str
    remedy: str


def verify_dataset(data: Path, on_event: Callable[[Event], None] | None = None) -> Iterator[Damage]:
    """Reads all files of a dataset and yields those that are damaged or missing.

    A prepared file is compared with the checksum in its row; a file of version 0.1, which has no checksum, is decoded
    instead. Nothing is changed.

    Args:
        data: folder of the dataset.
        on_event: called with the number of prepared files verified.
    """
    try:
        read_dataset(data)
    except (DatasetFormatError, NotRegularFileError) as error:
        yield Damage(str(data / FILE_NAME), error.message, AGAIN)
    done = 0
    for class_name in dataset_classes(data):
        for kind in SUFFIX:
            if not os.path.lexists(manifest_path(data, class_name, kind)):
                continue
            yield from _verify_tables(data, class_name, kind)
            for damage in _verify_outputs(data, class_name, kind):
                done += 1
                if on_event is not None:
                    on_event(Event("verifying", done))
                if damage is not None:
                    yield damage


def _verify_tables(data: Path, class_name: str, kind: Kind) -> Iterator[Damage]:
    journal, table = journal_path(data, class_name, kind), manifest_path(data, class_name, kind).with_suffix(".csv")
    if os.path.lexists(journal) and not journal.is_file():
        yield Damage(str(journal), IRREGULAR, AGAIN)
    for offset in damaged_lines(journal):
        yield Damage(str(journal), f"the line at byte {offset} is damaged", "prepare again, which drops it")
    if what := csv_damage(data, class_name, kind):
        yield Damage(str(table), what, AGAIN)


def _verify_outputs(data: Path, class_name: str, kind: Kind) -> Iterator[Damage | None]:
    """The damage, or None, of each prepared file."""
    try:
        rows = prepared(read_manifest(data, class_name, kind))
    except ManifestDamagedError as error:
        yield Damage(str(manifest_path(data, class_name, kind)), error.message, AGAIN)
        return
    except ManifestMissingError:  # it exists, but is not a file
        yield Damage(str(manifest_path(data, class_name, kind)), IRREGULAR, AGAIN)
        return
    try:
        files = OutputFiles(data, class_name, kind)
    except ShardIndexError as error:
        yield Damage(str(index_path(data, class_name, kind)), error.message, str(error.hint))
        return
    again = "write the shards again" if files.are_sharded else AGAIN
    known = rows["output_sha256"] if "output_sha256" in rows else [None] * len(rows)
    for id, sha256 in zip(rows["id"], known, strict=True):
        name = f"{id}{SUFFIX[kind]}"
        try:
            file = files[id]
            name = str(file)
            if isinstance(file, Path):
                require_regular(file)
            what = _damage(file, sha256 if isinstance(sha256, str) else None, kind)
        except FileNotFoundError:
            what = "it is missing"
        except NotRegularFileError:
            what = IRREGULAR
        except OSError as error:
            what = f"it cannot be read: {error.strerror or error}"
        yield Damage(name, what, again) if what else None


def _damage(file: ReadableFile, sha256: str | None, kind: Kind) -> str:
    """The damage of a file; empty for an intact one.

    Raises:
        OSError: it cannot be read.
    """
    if sha256 is not None:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        return "" if found == sha256 else f"its SHA-256 is {found[:12]}…, not {sha256[:12]}… as when it was prepared"
    from PIL import Image

    try:
        with file.open("rb") as opened:
            match kind:
                case "shapes":
                    load_shape(file)
                case "images":
                    with Image.open(opened) as picture:
                        picture.load()
                case "renders":
                    parse_json(opened.read(MAX_JSON_BYTES), file)
    except (ShapeFileError, JsonFileError) as error:
        return error.message
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"it cannot be decoded: {error}"
    return ""
