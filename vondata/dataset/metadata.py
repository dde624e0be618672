"""`von-dataset.json`: marks a folder as a dataset and records the settings each part was prepared with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from vondata.errors import VonError
from vondata.io.files import atomic_path, remove_leftovers
from vondata.io.json_file import JsonFileError, read_json, typed
from vondata.types import Kind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FILE_NAME = "von-dataset.json"
FORMAT_VERSION = 1  # of the dataset; another version makes every item be prepared again


class DatasetFormatError(VonError, ValueError):
    """The folder's `von-dataset.json` is damaged or of a newer version."""


@dataclass(frozen=True)
class PartRecord:
    """One part of a dataset: the shapes or the images of a class.

    Attributes:
        settings: of the newest run.
        settings_hash: their hash, as in the manifest's column `settings`.
        prepared: rows with an output file.
        rejected: rows without one.
    """

    settings: dict[str, Any]
    settings_hash: str
    prepared: int
    rejected: int


@dataclass(frozen=True)
class _Document:
    """The file as a whole."""

    format_version: int
    classes: dict[str, dict[Kind, PartRecord]]


def read_dataset(data: Path) -> dict[str, dict[Kind, PartRecord]]:
    """The records of all parts by class and kind; empty for a new folder.

    Raises:
        DatasetFormatError: the file is damaged or of a newer version.
        OSError: it cannot be read.
    """
    path = data / FILE_NAME
    try:
        document = read_json(path)
        version = document.get("format_version") if isinstance(document, dict) else None
        if type(version) is int and version > FORMAT_VERSION:
            raise DatasetFormatError(
                f"{path} has format version {version} and this VON reads up to {FORMAT_VERSION}",
                hint="use a newer VON, or another data folder",
            )
        return typed(_Document, document, path).classes
    except FileNotFoundError:
        return {}
    except JsonFileError as error:
        raise DatasetFormatError(error.message, hint="remove it and prepare again") from error


def record_part(data: Path, class_name: str, kind: Kind, record: PartRecord) -> None:
    """Writes the record of one part; records of other parts, which other runs may be writing, are kept."""
    with _locked(data / "journal" / ".dataset.lock"):
        remove_leftovers(data, Path(FILE_NAME).stem)
        parts = read_dataset(data)
        parts.setdefault(class_name, {})[kind] = record
        document = {
            "format_version": FORMAT_VERSION,
            "classes": {
                name: {each: asdict(kinds[each]) for each in sorted(kinds)} for name, kinds in sorted(parts.items())
            },
        }
        with atomic_path(data / FILE_NAME) as temporary:
            temporary.write_text(json.dumps(document, indent=2, default=str) + "\n", "utf-8")


def plain_settings(settings: DataclassInstance) -> dict[str, Any]:
    """The settings as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(settings), default=str))
    return values


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield
