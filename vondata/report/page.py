"""The HTML page of a prepared dataset: counts, distributions and a picture of every item, opened from the disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from vondata.dataset.manifest import (
    SPLIT_SHARES,
    Histogram,
    ViewpointHistogram,
    dataset_classes,
    histogram,
    known_viewpoints,
    manifest_path,
    prepared,
    read_manifest,
    viewpoint_histogram,
)
from vondata.dataset.schema import known_columns, known_reasons
from vondata.dataset.shards import OutputFiles
from vondata.errors import VonError
from vondata.io.files import atomic_path, remove_leftovers
from vondata.io.fs import RemoteFile, is_url
from vondata.pipeline.executor import ExecutorOptions, Failure, run_tasks
from vondata.report.thumbnails import Thumbnail, draw_thumbnail
from vondata.types import Event, Kind

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template

MAX_LISTED = 20_000  # rows of one part on the page; counts and histograms cover all rows
OWN_PROCESSES_FROM = 100  # thumbnails above which worker processes are started
DRAW_TIMEOUT_S = 60.0
HISTOGRAMS: dict[Kind, tuple[str, ...]] = {
    "shapes": ("faces", "fill", "seconds"),
    "images": ("azimuth_deg", "elevation_deg"),
}
# Columns shown on a tile below the name, with a short label.
SUMMARY: dict[Kind, dict[str, str]] = {
    "shapes": {"faces": "faces", "fill": "fill"},
    "images": {"azimuth_deg": "az", "elevation_deg": "el", "viewpoint_confidence": "sure"},
}
# Reasons of rejected photos without thumbnail: files that harmed the preparation are not opened once more.
NEVER_OPENED = ("outside_root", "source_unreadable", "too_large", "timed_out", "worker_died", "internal_error")
LEFT_OUT = (
    "class",
    "sha256",
    "output_sha256",
    "collection",
    "settings",
    "phash",
    "distance_hash",
)  # the same in all rows, or not for people

logger = logging.getLogger(__name__)


class NoDatasetError(VonError, FileNotFoundError):
    """A folder without a manifest."""

    def __init__(self, data: Path) -> None:
        super().__init__(f"{data} holds no prepared dataset: no <class>/shapes.parquet or <class>/images.parquet")


@dataclass(frozen=True)
class _Part:
    """The shapes or the images of a class, with their files and the rows that the page lists."""

    class_name: str
    kind: Kind
    files: OutputFiles
    frame: pd.DataFrame
    listed: pd.DataFrame


def write_report(data: Path, *, workers: int = 0, on_event: Callable[[Event], None] | None = None) -> Path:
    """Writes or updates `report/index.html`; thumbnails are drawn only where they are missing or outdated.

    Args:
        data: folder of the dataset.
        workers: processes that draw thumbnails.
        on_event: called with the progress of drawing.

    Returns:
        the page.

    Raises:
        NoDatasetError: nothing has been prepared in this folder.
    """
    parts = [
        _read_part(data, class_name, kind)
        for class_name in dataset_classes(data)
        for kind in ("shapes", "images")
        if manifest_path(data, class_name, kind).is_file()
    ]
    if not parts:
        raise NoDatasetError(data)
    folder = data / "report"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # one process removes the pictures that another one has just drawn
        remove_leftovers(folder)
        return _write_page(data, folder, parts, workers, on_event)


def _write_page(
    data: Path, folder: Path, parts: list[_Part], workers: int, on_event: Callable[[Event], None] | None
) -> Path:
    thumbnails = {each.target: each for part in parts for each in _thumbnails(data, part)}
    _draw([each for each in thumbnails.values() if not each.is_current], workers, on_event)
    for path in (folder / "thumbnails").glob("*/*.webp"):  # temporary files of killed runs are among them
        if path not in thumbnails:
            path.unlink()
    document = {
        "folder": str(data),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "reasons": {reason.name: f"{reason.explain} {reason.remedy}" for reason in known_reasons()},
        "parts": [_describe(data, part) for part in parts],
    }
    with atomic_path(folder / "data.js") as temporary:
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
        temporary.write_text(f"window.VON_DATASET = {text};\n", "utf-8")
    for name in ("page.css", "page.js"):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes((files("vondata.report") / "page" / name).read_bytes())
    with atomic_path(folder / "index.html") as temporary:
        classes = sorted({part.class_name for part in parts})
        temporary.write_text(_template().render(document, classes=classes), "utf-8", "backslashreplace")
    return folder / "index.html"


@cache
def _template() -> Template:
    """The page around the data; text in it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("vondata.report", "page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.get_template("index.html.jinja")


def _read_part(data: Path, class_name: str, kind: Kind) -> _Part:
    frame = read_manifest(data, class_name, kind)
    return _Part(class_name, kind, OutputFiles(data, class_name, kind), frame, _choose_listed(frame))


def _choose_listed(frame: pd.DataFrame) -> pd.DataFrame:
    """All rows, or MAX_LISTED evenly chosen ones, at most half of them rejected."""
    if len(frame) <= MAX_LISTED:
        return frame
    is_prepared = frame["status"] == "prepared"
    rejected = _thin_out(frame[~is_prepared], MAX_LISTED // 2)
    usable = _thin_out(frame[is_prepared], MAX_LISTED - len(rejected))
    return frame.loc[sorted([*usable.index, *rejected.index])]


def _thin_out(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    return frame.iloc[:: max(1, -(-len(frame) // most))]


def _thumbnails(data: Path, part: _Part) -> Iterator[Thumbnail]:
    """The thumbnails of a part; prepared photos are shown themselves, unless they lie in shards."""
    if part.kind == "shapes" or part.files.are_sharded:
        for id in prepared(part.listed)["id"]:
            yield Thumbnail(part.kind, part.files[id], _thumbnail_path(data, part, id))
    if part.kind == "images":
        rejected = (part.listed["status"] == "rejected") & ~part.listed["reason"].isin(NEVER_OPENED)
        wanted = part.listed[rejected & part.listed["sha256"].notna()]
        for id, source in zip(wanted["id"], wanted["source"], strict=True):
            yield Thumbnail(
                part.kind, RemoteFile(source) if is_url(source) else Path(source), _thumbnail_path(data, part, id)
            )


def _thumbnail_path(data: Path, part: _Part, id: str) -> Path:
    return data / "report" / "thumbnails" / f"{part.class_name}-{part.kind}" / f"{id}.webp"


def _draw(thumbnails: list[Thumbnail], workers: int, on_event: Callable[[Event], None] | None) -> None:
    options = ExecutorOptions(workers if len(thumbnails) >= OWN_PROCESSES_FROM else 0, DRAW_TIMEOUT_S)
    with closing(run_tasks(draw_thumbnail, thumbnails, options)) as results:
        for done, (thumbnail, result) in enumerate(results, start=1):
            if isinstance(result, Failure):
                logger.warning("no picture of %s: %s\n%s", thumbnail.source, result.detail, result.trace)
            if on_event is not None:
                on_event(Event("drawing", done, len(thumbnails)))


def _describe(data: Path, part: _Part) -> dict[str, Any]:
    """A part as JSON for the page's script."""
    frame, rejected = part.frame, part.frame[part.frame["status"] == "rejected"]
    columns = [column for column in known_columns(part.kind) if column.name not in LEFT_OUT]
    columns = [column for column in columns if column.name in frame.columns]
    described = [
        {"name": each.name, "dtype": each.dtype, "unit": each.unit, "meaning": each.meaning} for each in columns
    ]
    return {
        "class": part.class_name,
        "kind": part.kind,
        "total": len(frame),
        "prepared": len(frame) - len(rejected),
        "reasons": {str(reason): int(count) for reason, count in rejected["reason"].value_counts().items()},
        "splits": {split: len(prepared(frame, split)) for split in SPLIT_SHARES},
        "histograms": list(_describe_histograms(part)),
        "viewpoints": _describe_viewpoints(part),
        "columns": [*described, {"name": "picture", "dtype": "string", "unit": "", "meaning": ""}],
        "summary": [
            {"name": each.name, "label": SUMMARY[part.kind][each.name], "unit": each.unit}
            for each in columns
            if each.name in SUMMARY[part.kind]
        ],
        "rows": list(_rows(data, part, [column.name for column in columns])),
    }


def _describe_histograms(part: _Part) -> Iterator[dict[str, Any]]:
    units = {column.name: column.unit for column in known_columns(part.kind)}
    for name in HISTOGRAMS[part.kind]:
        spread: Histogram | None = histogram(_floats(part.frame, name)) if name in part.frame else None
        if spread is not None:
            edges = [float(f"{edge:.6g}") for edge in spread.edges]
            yield {"column": name, "unit": units[name], "edges": edges, "counts": spread.counts.tolist()}


def _describe_viewpoints(part: _Part) -> dict[str, Any] | None:
    if not {"azimuth_deg", "elevation_deg"} <= set(part.frame.columns):
        return None
    azimuth_deg, elevation_deg = known_viewpoints(prepared(part.frame)).T
    spread: ViewpointHistogram | None = viewpoint_histogram(azimuth_deg, elevation_deg)
    if spread is None:
        return None
    return {
        "azimuth_edges": spread.azimuth_edges.tolist(),
        "elevation_edges": spread.elevation_edges.tolist(),
        "counts": spread.counts.tolist(),
    }


def _rows(data: Path, part: _Part, names: Iterable[str]) -> Iterator[list[Any]]:
    import pandas as pd

    frame = part.listed[list(names)].astype(object)
    frame = frame.where(pd.notna(frame), None)
    for id, status, values in zip(frame["id"], frame["status"], frame.itertuples(index=False), strict=True):
        yield [*values, _picture(data, part, id, status)]


def _picture(data: Path, part: _Part, id: str, status: str) -> str | None:
    """The path of a row's picture relative to the page; None without one."""
    if part.kind == "images" and status == "prepared" and not part.files.are_sharded:
        return f"../{part.class_name}/images/{id}.png"
    path = _thumbnail_path(data, part, id)
    return path.relative_to(data / "report").as_posix() if path.is_file() else None


def _floats(frame: pd.DataFrame, name: str) -> Any:
    return frame[name].to_numpy(dtype=float, na_value=float("nan"))
