"""The tables of a prepared dataset and where its files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from vondata.item import Kind

Split = Literal["train", "val", "test"]
SUFFIX: dict[Kind, str] = {"shapes": ".npz", "images": ".png"}


class ManifestMissingError(FileNotFoundError):
    """There is no manifest of this class and kind yet."""

    def __init__(self, data: Path, class_name: str, kind: Kind) -> None:
        source = "shapenet (or meshes)" if kind == "shapes" else "images"
        super().__init__(
            f"{data} has no {kind} of class {class_name!r}: run von prepare {source} --class {class_name}"
        )


def output_path(data: Path, class_name: str, kind: Kind, id: str) -> Path:
    """The file of one prepared item."""
    return data / class_name / kind / f"{id}{SUFFIX[kind]}"


def manifest_path(data: Path, class_name: str, kind: Kind) -> Path:
    """The Parquet manifest of a class; the CSV lies beside it."""
    return data / class_name / f"{kind}.parquet"


def dataset_classes(data: Path, kind: Kind | None = None) -> list[str]:
    """The classes with a manifest (of this kind), by name."""
    pattern = "*/*.parquet" if kind is None else f"*/{kind}.parquet"
    return sorted({path.parent.name for path in data.glob(pattern) if path.stem in SUFFIX})


def read_manifest(data: Path, class_name: str, kind: Kind) -> pd.DataFrame:
    """All rows of a class, prepared and rejected, ordered by id.

    Raises:
        ManifestMissingError: nothing of this class and kind has been prepared.
    """
    path = manifest_path(data, class_name, kind)
    if not path.is_file():
        raise ManifestMissingError(data, class_name, kind)
    return pd.read_parquet(path)


def prepared(frame: pd.DataFrame, split: Split | None = None) -> pd.DataFrame:
    """The rows with an output file, of one split or of all."""
    chosen = frame["status"] == "prepared"
    if split is not None:
        chosen &= frame["split"] == split
    return frame[chosen]
