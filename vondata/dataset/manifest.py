"""Dataset manifests (Parquet and CSV, one row per item), train/val/test splits, and histograms of columns.

Viewpoints are counted if they are annotated, or matched with enough confidence. The histogram in a class's manifest
is fine enough to sample viewpoints from; the report shows coarser cells.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self

import numpy as np
import numpy.typing as npt

from vondata.dataset.schema import manifest_schema, renamed_columns
from vondata.errors import VonError
from vondata.io.files import NotRegularFileError, atomic_path, file_sha256, require_regular
from vondata.types import Kind

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


Floats = npt.NDArray[np.floating]
Numbers = npt.NDArray[np.integer] | npt.NDArray[np.floating]

BINS = 24
LOGARITHMIC_FROM = 50.0  # ratio of the 99th to the 1st percentile above which bins are logarithmic
AZIMUTH_EDGES_DEG = np.arange(-180, 181, 15)
ELEVATION_EDGES_DEG = np.arange(-30, 91, 10)
FINE_AZIMUTH_EDGES_DEG = np.arange(-180.0, 180.1, 5.0)
FINE_ELEVATION_EDGES_DEG = np.arange(-90.0, 90.1, 2.5)
MIN_CONFIDENCE = 0.6  # of a matched viewpoint; a less certain one counts as unknown


@dataclass(frozen=True)
class Histogram:
    """Counts of values between neighbouring edges; the last interval includes its upper edge."""

    edges: Floats
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ViewpointHistogram:
    """Counts (azimuths, elevations) of viewpoints, with the edges in degrees."""

    azimuth_edges: Numbers
    elevation_edges: Numbers
    counts: npt.NDArray[np.int64]

    def sample(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """(count, 2) azimuth and elevation in degrees: cells by their counts, uniform within a cell."""
        cells = np.argwhere(self.counts)
        weights = self.counts[tuple(cells.T)].astype(np.float64)
        azimuth, elevation = cells[rng.choice(len(cells), size=count, p=weights / weights.sum())].T
        low = np.stack([self.azimuth_edges[azimuth], self.elevation_edges[elevation]], axis=1)
        high = np.stack([self.azimuth_edges[azimuth + 1], self.elevation_edges[elevation + 1]], axis=1)
        return rng.uniform(low, high)

    def to_json(self) -> str:
        """The histogram as JSON: the edges, and azimuth index, elevation index and count of every nonempty cell."""
        cells = [[*map(int, cell), int(self.counts[tuple(cell)])] for cell in np.argwhere(self.counts)]
        edges = {"azimuth_edges_deg": self.azimuth_edges, "elevation_edges_deg": self.elevation_edges}
        return json.dumps({name: each.tolist() for name, each in edges.items()} | {"cells": cells})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        document = json.loads(text)
        azimuth, elevation = (np.array(document[f"{name}_edges_deg"]) for name in ("azimuth", "elevation"))
        counts = np.zeros((len(azimuth) - 1, len(elevation) - 1), dtype=np.int64)
        for row, column, count in document["cells"]:
            counts[row, column] = count
        return cls(azimuth, elevation, counts)


def histogram(values: Floats) -> Histogram | None:
    """The histogram of values (n,), some of which may be NaN, in at most 24 bins; None without finite values.

    Intervals have equal width, or equal ratio if the values are positive and span more than a factor of 50.
    """
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return None
    low, high = float(known.min()), float(known.max())
    if low == high:
        return Histogram(np.array([low, high]), np.array([len(known)]))
    if low > 0 and np.divide(*np.percentile(known, [99, 1])) > LOGARITHMIC_FROM:
        edges = np.geomspace(low, high, BINS + 1)
        edges[0], edges[-1] = low, high
    else:
        edges = np.linspace(low, high, BINS + 1)
    return Histogram(edges, np.histogram(known, edges)[0])


def viewpoint_histogram(
    azimuth_deg: Floats,
    elevation_deg: Floats,
    azimuth_edges: Numbers = AZIMUTH_EDGES_DEG,
    elevation_edges: Numbers = ELEVATION_EDGES_DEG,
) -> ViewpointHistogram | None:
    """The histogram of viewpoints (n,), ignoring NaN, by default in the report's cells; None without any."""
    known = np.isfinite(azimuth_deg) & np.isfinite(elevation_deg)
    if not known.any():
        return None
    azimuth = (azimuth_deg[known] + 180.0) % 360.0 - 180.0
    elevation = np.clip(elevation_deg[known], elevation_edges[0], elevation_edges[-1])
    counts = np.histogram2d(azimuth, elevation, (azimuth_edges, elevation_edges))[0]
    return ViewpointHistogram(azimuth_edges, elevation_edges, counts.astype(np.int64))


def known_viewpoints(rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """(n, 2) azimuth and elevation in degrees of rows of an images manifest.

    NaN for unknown viewpoints and for matches less confident than `MIN_CONFIDENCE`.
    """
    viewpoints = np.array(rows[["azimuth_deg", "elevation_deg"]], dtype=np.float64)
    if "viewpoint_confidence" in rows:
        viewpoints[np.asarray(rows["viewpoint_confidence"] < MIN_CONFIDENCE)] = np.nan
    return viewpoints


Split = Literal["train", "val", "test"]
SUFFIX: dict[Kind, str] = {"shapes": ".npz", "images": ".png", "renders": ".json"}
DATASET_KINDS: tuple[Kind, ...] = ("shapes", "images")
SPLIT_SHARES: dict[Split, float] = {"train": 0.9, "val": 0.05, "test": 0.05}
BATCH_ROWS = 4096
# In the Parquet file's metadata.
VIEWPOINTS_KEY = "von.viewpoints"
COLUMNS_KEY = "von.columns"
REVISION_KEY = "von.revision"
CSV_KEY = "von.csv_sha256"
CHECK_KEY = "von.check"  # of columns, number of rows and the values above
VIEWPOINT_COLUMNS = ["status", "azimuth_deg", "elevation_deg", "viewpoint_confidence"]


class ManifestMissingError(VonError, FileNotFoundError):
    """There is no manifest of this class and kind yet.

    Attributes:
        class_name: the class.
        kind: shapes or images.
    """

    def __init__(self, data: Path, class_name: str, kind: Kind) -> None:
        super().__init__(f"{data} has no {kind} of class {class_name!r}", hint="prepare them first")
        self.class_name, self.kind = class_name, kind


class ManifestDamagedError(VonError, ValueError):
    """A manifest that cannot be read, or that belongs to another class."""

    def __init__(self, path: Path, what: object) -> None:
        super().__init__(
            f"{path} is damaged ({what})",
            hint="remove it and prepare again, which writes it anew from the journal",
        )


def output_folder(data: Path, class_name: str, kind: Kind) -> Path:
    """The folder of the prepared items of a class."""
    return data / class_name / kind


def output_path(data: Path, class_name: str, kind: Kind, id: str) -> Path:
    """The file of one prepared item."""
    return output_folder(data, class_name, kind) / f"{id}{SUFFIX[kind]}"


def manifest_path(data: Path, class_name: str, kind: Kind) -> Path:
    """The Parquet manifest of a class; the CSV is beside it."""
    return data / class_name / f"{kind}.parquet"


def dataset_classes(data: Path, kind: Kind | None = None) -> list[str]:
    """The classes with a manifest (of this kind), by name."""
    kinds = DATASET_KINDS if kind is None else (kind,)
    return sorted({path.parent.name for each in kinds for path in data.glob(f"*/{each}.parquet")})


def read_manifest(data: Path, class_name: str, kind: Kind) -> pd.DataFrame:
    """All rows of a class, prepared and rejected, ordered by id.

    Column types do not depend on the values: str, float64 (NaN where empty), Int64 and boolean (NA where empty).

    Raises:
        ManifestMissingError: nothing of this class and kind has been prepared.
        ManifestDamagedError: the file is not a table, or is one of another class.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = manifest_path(data, class_name, kind)
    if not path.is_file():
        raise ManifestMissingError(data, class_name, kind)
    types = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    _read_metadata(path)
    try:
        with path.open("rb") as file:  # pyarrow cannot open paths that are not UTF-8
            table = pq.read_table(file, page_checksum_verification=True)
        frame: pd.DataFrame = table.to_pandas(types_mapper=types.get).rename(columns=renamed_columns(kind))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestDamagedError(path, str(error).partition("\n")[0]) from error
    if missing := {"id", "class", "status", "split"} - set(frame.columns):
        raise ManifestDamagedError(path, f"it has no column {', '.join(sorted(missing))}")
    if others := set(frame["class"]) - {class_name}:
        raise ManifestDamagedError(path, f"it holds rows of class {', '.join(sorted(map(str, others)))}")
    return frame


def prepared(frame: pd.DataFrame, split: Split | None = None) -> pd.DataFrame:
    """The rows with an output file, of one split or of all."""
    chosen = frame["status"] == "prepared"
    if split is not None:
        chosen &= frame["split"] == split
    return frame[chosen]


def read_viewpoints(data: Path, class_name: str) -> ViewpointHistogram | None:
    """The histogram, in fine cells, of the known viewpoints of a class's prepared photos; None without any.

    Raises:
        ManifestMissingError: no photos of the class have been prepared.
        ManifestDamagedError: the file is damaged.
    """
    path = manifest_path(data, class_name, "images")
    if not path.is_file():
        raise ManifestMissingError(data, class_name, "images")
    kept = _read_metadata(path).get(VIEWPOINTS_KEY)
    if kept is None:  # written by another program
        return _spread(read_manifest(data, class_name, "images"))
    return ViewpointHistogram.from_json(kept) if kept else None


def split_of(id: str) -> Split:
    """The split of an item by a hash of its id, so it does not change when other items are added or removed."""
    point = int.from_bytes(hashlib.sha256(id.encode("utf-8")).digest()[:8], "big") / 2**64
    for split, share in SPLIT_SHARES.items():
        if point < share:
            return split
        point -= share
    return "test"  # the shares add up to 1 except for rounding


def write_manifest(
    data: Path, class_name: str, kind: Kind, rows: Iterable[Mapping[str, Any]], revision: str = ""
) -> None:
    """Writes the Parquet and CSV manifests, each atomically and in constant memory.

    The Parquet file's metadata hold the revision of the journal, the checksum of the CSV file and, for photos, the
    histogram of their viewpoints (see `read_viewpoints`). Its pages carry checksums, which `read_manifest` verifies.

    Args:
        data: folder of the dataset.
        class_name: the class.
        kind: shapes or images.
        rows: full rows, see `schema.plain_row`.
        revision: of the journal that the rows are from, see `manifest_is_current`.
    """
    from pyarrow import csv
    from pyarrow import parquet as pq

    path = manifest_path(data, class_name, kind)
    schema = manifest_schema(kind)
    with (
        atomic_path(path) as parquet_path,
        atomic_path(path.with_suffix(".csv")) as csv_path,
        parquet_path.open("wb") as parquet_file,
        pq.ParquetWriter(parquet_file, schema, compression="zstd", write_page_checksum=True) as parquet_writer,
    ):
        total: ViewpointHistogram | None = None
        count = 0
        with open(csv_path, "wb") as file, csv.CSVWriter(hashed := HashingWriter(file), schema) as csv_writer:
            for batch in _batches(rows, schema):
                count += len(batch)
                parquet_writer.write_batch(batch)
                csv_writer.write_batch(batch)
                if kind == "images" and (spread := _spread(batch.select(VIEWPOINT_COLUMNS).to_pandas())):
                    total = spread if total is None else replace(total, counts=total.counts + spread.counts)
        metadata = {COLUMNS_KEY: _columns(schema), REVISION_KEY: revision, CSV_KEY: hashed.sha256.hexdigest()}
        if kind == "images":
            metadata[VIEWPOINTS_KEY] = "" if total is None else total.to_json()
        metadata[CHECK_KEY] = _footer_check(schema, count, metadata)
        parquet_writer.add_key_value_metadata(metadata)


def csv_damage(data: Path, class_name: str, kind: Kind) -> str:
    """The damage of a CSV manifest, compared with the Parquet manifest; empty for an intact one.

    Also empty if the Parquet manifest has no checksum to compare with: it is damaged, or of version 0.1.
    """
    path = manifest_path(data, class_name, kind)
    if not path.is_file():
        return ""
    try:
        expected = _read_metadata(path).get(CSV_KEY)
    except ManifestDamagedError:
        return ""
    if expected is None:
        return ""
    try:
        require_regular(path.with_suffix(".csv"))
        found = file_sha256(path.with_suffix(".csv"))
    except NotRegularFileError:
        return "it is not a regular file"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "" if found == expected else "its checksum differs from that of the Parquet manifest"


class HashingWriter(io.RawIOBase):
    """Writes to a file and hashes the bytes.

    Attributes:
        sha256: of the bytes so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, content: Any) -> int:
        """Writes and hashes bytes; returns their number."""
        self.sha256.update(content)
        return self._file.write(content)


def manifest_is_current(data: Path, class_name: str, kind: Kind, revision: str) -> bool:
    """Whether both manifests exist and were written from this revision of the journal, with the current columns.

    File times are not compared, as clocks may be set back.
    """
    path = manifest_path(data, class_name, kind)
    if not path.is_file() or not path.with_suffix(".csv").is_file():
        return False
    try:
        metadata = _read_metadata(path)
    except ManifestDamagedError:
        return False
    return metadata.get(REVISION_KEY) == revision and metadata.get(COLUMNS_KEY) == _columns(manifest_schema(kind))


def _read_metadata(path: Path) -> dict[str, str]:
    """The metadata that `write_manifest` added to a Parquet file; empty if another program wrote it.

    Raises:
        ManifestDamagedError: the file's footer is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    try:
        with path.open("rb") as file:
            footer = pq.read_metadata(file)
        schema = footer.schema.to_arrow_schema().remove_metadata()
        metadata = {
            name.decode("utf-8"): value.decode("utf-8")
            for name, value in (footer.metadata or {}).items()
            if name.startswith(b"von.")
        }
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestDamagedError(path, str(error).partition("\n")[0]) from error
    check = metadata.pop(CHECK_KEY, None)
    if check is not None and check != _footer_check(schema, footer.num_rows, metadata):
        raise ManifestDamagedError(path, "the checksum of its columns and metadata differs")
    return metadata


def _footer_check(schema: pa.Schema, rows: int, metadata: Mapping[str, str]) -> str:
    described = json.dumps([_columns(schema), rows, dict(metadata)], sort_keys=True)
    return hashlib.sha256(described.encode("utf-8")).hexdigest()[:16]


def _columns(schema: pa.Schema) -> str:
    return " ".join(f"{column.name}:{column.type}" for column in schema)


def _batches(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    iterator = iter(rows)
    while chunk := list(islice(iterator, BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(chunk, schema=schema)


def _spread(rows: pd.DataFrame) -> ViewpointHistogram | None:
    azimuth_deg, elevation_deg = known_viewpoints(prepared(rows)).T
    return viewpoint_histogram(azimuth_deg, elevation_deg, FINE_AZIMUTH_EDGES_DEG, FINE_ELEVATION_EDGES_DEG)
