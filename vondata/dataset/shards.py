"""Reads the files of a dataset: single files, or members of WebDataset shards.

A sharded dataset has the manifests of the dataset it was made from, and in place of the folder `chair/shapes` the
shards `chair/shapes-train-000000.tar` ... with an index of shard, offset and size of every file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vondata.dataset.manifest import output_path
from vondata.errors import VonError
from vondata.io.files import FileSlice, ReadableFile
from vondata.types import Kind

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
        """Whether the files lie in shards."""
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
        ShardIndexError: the index is damaged, or names a shard that does not lie beside it.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    try:
        with path.open("rb") as file:  # pyarrow opens no path whose bytes are not UTF-8
            table = pq.read_table(file, schema=index_schema(), page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ShardIndexError(path, str(error).partition("\n")[0]) from error
    columns = table.to_pydict()
    for name in set(columns["shard"]):
        if not name or name != Path(name).name:
            raise ShardIndexError(path, f"{name!r} is no shard beside it")
    if min(columns["offset"] + columns["size"], default=0) < 0:
        raise ShardIndexError(path, "an offset or size is negative")
    shards = {name: path.parent / name for name in set(columns["shard"])}
    rows = zip(columns["id"], columns["shard"], columns["offset"], columns["size"], strict=True)
    return {id: FileSlice(shards[shard], offset, size, id) for id, shard, offset, size in rows}
