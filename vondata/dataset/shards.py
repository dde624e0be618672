"""WebDataset shards: writing a dataset as a few large tar files, and reading it like one of single files."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vondata.dataset.manifest import SPLIT_SHARES, SUFFIX, manifest_path, output_path, prepared, read_manifest
from vondata.dataset.metadata import FILE_NAME
from vondata.errors import VonError
from vondata.io.files import FileSlice, ReadableFile, atomic_path
from vondata.io.fs import DataFolder, FolderLike, delivered
from vondata.types import Event, Kind, file_safe

if TYPE_CHECKING:
    import pyarrow as pa


class ShardedDatasetError(VonError, RuntimeError):
    """Nothing can be added to a sharded dataset."""

    def __init__(self, data: object, class_name: str, kind: Kind) -> None:
        super().__init__(
            f"{data}: the {kind} of class {class_name} lie in shards, to which nothing can be added",
            hint="work on the dataset that the shards were written from, then write them again",
        )


class ShardIndexError(VonError, ValueError):
    """The index of a sharded class and kind is damaged."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} is damaged ({what})", hint="write the shards again or fetch them again")


class OutputFiles:
    """The prepared files of a class and kind by their id.

    Args:
        data: a dataset, sharded or not.
        class_name: the class.
        kind: shapes or images.

    Raises:
        ShardIndexError: the dataset is sharded and its index is damaged.
    """

    def __init__(self, data: Path, class_name: str, kind: Kind) -> None:
        self._place = (data, class_name, kind)
        self._slices: dict[str, FileSlice] | None = None
        if (index := index_path(data, class_name, kind)).is_file():
            self._slices = _read_index(index)

    @property
    def are_sharded(self) -> bool:
        """Whether the files are in shards."""
        return self._slices is not None

    def __getitem__(self, id: str) -> ReadableFile:
        """The file of a prepared item.

        Raises:
            FileNotFoundError: the dataset is sharded, and no shard holds the item.
        """
        if self._slices is None:
            return output_path(*self._place, id)
        if id not in self._slices:
            raise FileNotFoundError(f"{index_path(*self._place)} does not list {id}; write the shards again")
        return self._slices[id]


def index_path(data: Path, class_name: str, kind: Kind) -> Path:
    """The index of a sharded class and kind."""
    return data / class_name / f"{kind}.index.parquet"


def index_schema() -> pa.Schema:
    """Columns of an index: item id, file name of the shard beside the index, offset and size in bytes."""
    import pyarrow as pa

    return pa.schema([("id", pa.string()), ("shard", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])


def _read_index(path: Path) -> dict[str, FileSlice]:
    """The files that an index lists, by id.

    Raises:
        ShardIndexError: the index is damaged, or names a shard that is not beside it.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    try:
        with path.open("rb") as file:  # pyarrow cannot open paths that are not UTF-8
            table = pq.read_table(file, schema=index_schema(), page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ShardIndexError(path, str(error).partition("\n")[0]) from error
    columns = table.to_pydict()
    for name in set(columns["shard"]):
        if not name or name != Path(name).name:
            raise ShardIndexError(path, f"{name!r} is not a shard beside it")
    if min(columns["offset"] + columns["size"], default=0) < 0:
        raise ShardIndexError(path, "an offset or size is negative")
    shards = {name: path.parent / name for name in set(columns["shard"])}
    rows = zip(columns["id"], columns["shard"], columns["offset"], columns["size"], strict=True)
    return {id: FileSlice(shards[shard], offset, size, id) for id, shard, offset, size in rows}


BLOCK = 512  # of a tar


class ShardError(VonError, RuntimeError):
    """The shards cannot be written; the message says why."""


class ShardTargetError(ShardError):
    """The folder for the shards is not empty."""


@dataclass
class ShardedPart:
    """Counts of the written files of one class and kind."""

    class_name: str
    kind: Kind
    files: int = 0
    shards: list[str] = field(default_factory=list)
    bytes: int = 0


def write_shards(
    data: Path,
    into: FolderLike,
    parts: list[tuple[str, Kind]],
    *,
    shard_bytes: int,
    on_event: Callable[[Event], None] | None = None,
) -> list[ShardedPart]:
    """Writes the prepared shapes and photos of these classes to shards, each of one split.

    A sample is `<key>.npz` or `<key>.png` with its manifest row as `<key>.json`. Samples are ordered by a hash of
    their id, so that sequential reading gives a random order. The same dataset gives the same bytes.

    Args:
        data: the dataset.
        into: an empty or new folder, or a URL.
        parts: classes and kinds.
        shard_bytes: a shard ends with the sample that reaches this size.
        on_event: called with the progress.

    Raises:
        ShardError: the folder is not empty, or an output is missing.
    """
    folder = DataFolder.at(into)
    if folder.is_taken:
        hint = "name a new folder, so that no old shard is taken for a new one"
        raise ShardTargetError(f"{into} is not empty", hint=hint)
    done = 0
    packed = []
    for class_name, kind in parts:
        part = ShardedPart(class_name, kind)
        packed.append(part)
        frame = prepared(read_manifest(data, class_name, kind))
        files = OutputFiles(data, class_name, kind)
        index: list[tuple[str, str, int, int]] = []
        for split in SPLIT_SHARES:
            rows = frame[frame["split"] == split]
            ids = sorted(rows["id"], key=lambda id: hashlib.sha256(id.encode("utf-8")).digest())
            by_id = dict(zip(rows["id"], rows.to_dict("records"), strict=True))
            samples = ((id, _plain(by_id[id]), files[id]) for id in ids)
            for entry in _write_shards(str(folder / class_name), f"{kind}-{split}", samples, part, shard_bytes):
                index.append(entry)
                done += 1
                if on_event is not None:
                    on_event(Event("packing", done))
        _write_index(str(folder / index_path(Path(), class_name, kind).as_posix()), index)
        for table in (path := manifest_path(data, class_name, kind), path.with_suffix(".csv")):
            if table.is_file():  # Parquet always is
                _copy(table, str(folder / table.relative_to(data).as_posix()))
    if (data / FILE_NAME).is_file():  # last: it marks a complete dataset
        _copy(data / FILE_NAME, str(folder / FILE_NAME))
    return packed


def sample_key(id: str) -> str:
    """The key of an item in a shard, without dots, as WebDataset interprets the text after a dot as the file type."""
    return id if "." not in id else file_safe(f"{id.replace('.', '-')}-{hashlib.sha256(id.encode()).hexdigest()[:8]}")


def _write_shards(
    folder: str, name: str, samples: Iterator[tuple[str, dict[str, Any], ReadableFile]], part: ShardedPart, most: int
) -> Iterator[tuple[str, str, int, int]]:
    """Writes samples to shards; yields id, shard, offset and size of each."""
    number = 0
    sample = next(samples, None)
    while sample is not None:
        shard = f"{name}-{number:06d}.tar"
        with ExitStack() as stack:
            local = stack.enter_context(delivered(f"{folder}/{shard}"))
            temporary = stack.enter_context(atomic_path(local))
            tar = stack.enter_context(tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT))
            while sample is not None and tar.offset < most:
                id, row, file = sample
                content = _read(file)
                key, suffix = sample_key(id), SUFFIX[part.kind]
                offset = _add(tar, f"{key}{suffix}", content)
                _add(tar, f"{key}.json", json.dumps(row, sort_keys=True).encode("ascii"))
                part.files += 1
                yield id, shard, offset, len(content)
                sample = next(samples, None)
            part.bytes += tar.offset
        part.shards.append(shard)
        number += 1


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Appends a member without time or owner, so that equal shards are equal files; returns its data offset."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))
    return int(tar.offset) - -(-len(content) // BLOCK) * BLOCK


def _read(file: ReadableFile) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read()
    except FileNotFoundError as error:
        raise ShardError(f"{file} is in the manifest but not there", hint="prepare again") from error


def _write_index(place: str, entries: list[tuple[str, str, int, int]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    columns = [list(column) for column in zip(*sorted(entries), strict=True)] or [[], [], [], []]
    table = pa.table(columns, schema=index_schema())
    with delivered(place) as local, atomic_path(local) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def _copy(source: Path, place: str) -> None:
    with delivered(place) as local, atomic_path(local) as temporary:
        temporary.write_bytes(source.read_bytes())


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the manifest as JSON values, without empty ones."""
    import numpy as np
    import pandas as pd

    values = {str(name): value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    return {name: value for name, value in values.items() if not pd.isna(value)}
