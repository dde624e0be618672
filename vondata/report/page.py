"""HTML report of a dataset: counts, rejection reasons, histograms and thumbnails in one folder."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
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
from vondata.dataset.shape_file import load_occupancy
from vondata.dataset.shards import OutputFiles
from vondata.errors import VonError
from vondata.frames import camera_direction, voxel_to_object
from vondata.io.files import FileSlice, ReadableFile, atomic_path, remove_leftovers
from vondata.io.fs import RemoteError, RemoteFile, is_url
from vondata.pipeline.executor import ExecutorOptions, Failure, run_tasks
from vondata.types import Event, Kind

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template
    from PIL import Image


Floats = npt.NDArray[np.floating]

VIEWS_DEG = ((-35.0, 18.0), (90.0, 4.0), (145.0, 35.0))  # azimuth and elevation: front, side, back from above
TILE_PX = 128
OVERSAMPLING = 2
SAMPLES = TILE_PX * OVERSAMPLING
DARK, BRIGHT = np.array([52.0, 54.0, 74.0]), np.array([240.0, 205.0, 158.0])  # shadow and light, sRGB
WEBP_QUALITY = 82
PHOTO_PX = 256
MAX_PHOTO_PIXELS = 64_000_000


@dataclass(frozen=True)
class Thumbnail:
    """A thumbnail to draw from the prepared shape or the photo in `source`."""

    kind: Kind
    source: ReadableFile | RemoteFile
    target: Path

    @property
    def is_current(self) -> bool:
        """Whether the picture exists and has the file time of its source, so that it is up to date."""
        try:
            if isinstance(self.source, RemoteFile):
                return self.target.is_file()
            return self.target.stat().st_mtime_ns == self.source_time_ns()
        except OSError:
            return False

    def source_time_ns(self) -> int | None:
        """The file time of the source in nanoseconds; None for a URL."""
        match self.source:
            case RemoteFile():
                return None
            case FileSlice(path=path) | (Path() as path):
                return path.stat().st_mtime_ns


def draw_thumbnail(thumbnail: Thumbnail) -> bool:
    """Draws a thumbnail; False if its source is missing or damaged."""
    from PIL import Image

    try:
        time_ns = thumbnail.source_time_ns()
        if thumbnail.kind == "images" or isinstance(thumbnail.source, RemoteFile):
            picture = _small_photo(thumbnail.source)
        else:
            picture = Image.fromarray(np.concatenate(shape_views(load_occupancy(thumbnail.source)), axis=1), "RGBA")
    except (OSError, ValueError, SyntaxError, RemoteError, Image.DecompressionBombError):  # damaged, or not there
        return False
    with atomic_path(thumbnail.target) as temporary:
        picture.save(temporary, "WEBP", quality=WEBP_QUALITY)
        if time_ns is not None:
            os.utime(temporary, ns=(time_ns, time_ns))
    return True


def _small_photo(source: ReadableFile | RemoteFile) -> Image.Image:
    """A photo at thumbnail size, upright.

    Raises:
        OSError, ValueError, SyntaxError, DecompressionBombError: it is missing, damaged or far too large.
    """
    from PIL import Image, ImageOps

    with source.open("rb") as file, Image.open(file) as photo:
        if photo.width * photo.height > MAX_PHOTO_PIXELS:
            raise ValueError(f"{photo.width} x {photo.height} pixels")
        photo.draft("RGB", (PHOTO_PX, PHOTO_PX))
        photo.thumbnail((PHOTO_PX, PHOTO_PX))
        return ImageOps.exif_transpose(photo).convert("RGBA")


def shape_views(occupancy: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.uint8]]:
    """Shaded orthographic projections of a volume.

    Args:
        occupancy: (N, N, N) in the object frame.

    Returns:
        (TILE_PX, TILE_PX, 4) RGBA for each of VIEWS_DEG.
    """
    points = voxel_to_object(_boundary(occupancy), len(occupancy))
    spacing = 2.0 / (len(occupancy) - 1)
    return [
        _shade(_nearness(points, spacing, np.deg2rad(azimuth), np.deg2rad(elevation)), spacing)
        for azimuth, elevation in VIEWS_DEG
    ]


def _boundary(occupancy: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
    """Indices (n, 3) of the occupied voxels with a free neighbour."""
    solid = np.pad(occupancy, 1)
    inner = solid.copy()
    for axis in range(3):
        for step in (1, -1):
            inner &= np.roll(solid, step, axis=axis)
    surface = (solid & ~inner)[1:-1, 1:-1, 1:-1]
    return np.stack(np.unravel_index(np.flatnonzero(surface), occupancy.shape), axis=-1).astype(np.float64)


def _nearness(points: Floats, spacing: float, azimuth: float, elevation: float) -> npt.NDArray[np.float32]:
    """Height map (size, size) towards the viewer, in object units; NaN for background. Angles in radians."""
    towards = camera_direction(np.array(azimuth), np.array(elevation))
    right = np.cross(-towards, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, -towards)
    near = points @ towards
    order = np.argsort(near)  # the nearest voxel is written last
    row, column = (1.0 - points @ up)[order] * SAMPLES / 2, (1.0 + points @ right)[order] * SAMPLES / 2
    side = spacing * SAMPLES / 2
    reach = np.arange(np.ceil(1.4 * side)) - 0.7 * side  # a voxel is that much wider along its diagonal
    down, across = (offset.ravel() for offset in np.meshgrid(reach, reach))
    picture = np.full((SAMPLES, SAMPLES), np.nan, dtype=np.float32)
    i = (row[:, None] + down).astype(int).clip(0, SAMPLES - 1)
    j = (column[:, None] + across).astype(int).clip(0, SAMPLES - 1)
    picture[i, j] = near[order, None]
    return picture


def _shade(near: npt.NDArray[np.float32], spacing: float) -> npt.NDArray[np.uint8]:
    """Shades a height map (size, size); returns (TILE_PX, TILE_PX, 4) RGBA."""
    import cv2

    inside = np.isfinite(near)
    # Smooths the steps between voxels and keeps the edges of the object.
    smooth = cv2.bilateralFilter(np.where(inside, near, -4.0).astype(np.float32), 11, 2.5 * spacing, 3.0)
    slope = [-_smaller_step(smooth, axis) * SAMPLES / 2 for axis in (0, 1)]
    length = np.sqrt(1.0 + slope[0] ** 2 + slope[1] ** 2)
    down, across, out = slope[0] / length, slope[1] / length, 1.0 / length
    key = np.clip(-0.40 * across - 0.62 * down + 0.67 * out, 0.0, 1.0)  # over the viewer's left shoulder
    fill = np.clip(0.80 * across + 0.10 * down + 0.59 * out, 0.0, 1.0)
    around = cv2.GaussianBlur(np.where(inside, smooth, smooth[inside].min(initial=0.0)), (0, 0), SAMPLES / 24)
    openness = np.clip(1.0 + 1.6 * (smooth - around), 0.35, 1.1)
    brightness = np.clip((0.05 + 0.78 * key + 0.22 * fill) * openness, 0.0, 1.0)
    return _colour(np.where(inside, brightness, 0.0), inside)


def _smaller_step(picture: Floats, axis: int) -> Floats:
    """The smaller of the differences to both neighbours, so that slopes do not cross depth edges."""
    step = np.diff(picture, axis=axis)
    pad = [(0, 0), (0, 0)]
    pad[axis] = (0, 1)
    forward = np.pad(step, pad)
    backward = np.roll(forward, 1, axis=axis)
    return np.where(np.abs(forward) < np.abs(backward), forward, backward)


def _colour(brightness: Floats, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Averages the samples of each pixel and converts brightness and coverage to RGBA."""
    blocks = (TILE_PX, OVERSAMPLING, TILE_PX, OVERSAMPLING)
    coverage = inside.reshape(blocks).mean(axis=(1, 3))
    mean = brightness.reshape(blocks).mean(axis=(1, 3)) / np.maximum(coverage, 1e-6)
    rgb = DARK + (BRIGHT - DARK) * mean[..., None]
    return np.concatenate([rgb, 255.0 * coverage[..., None]], axis=-1).round().astype(np.uint8)


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
# Reasons of rejected photos without thumbnail: files that broke the preparation are not opened again.
NEVER_OPENED = ("outside_root", "source_unreadable", "too_large", "timed_out", "worker_died", "internal_error")
LEFT_OUT = (
    "class",
    "sha256",
    "output_sha256",
    "collection",
    "settings",
    "phash",
    "distance_hash",
)  # the same in all rows, or not of interest to readers

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
    """Writes or updates `report/index.html`; only missing or outdated thumbnails are drawn.

    Args:
        data: folder of the dataset.
        workers: number of processes that draw thumbnails.
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
    with FileLock(folder / ".lock"):  # without it, one process removes pictures that another has just drawn
        remove_leftovers(folder)
        return _write_page(data, folder, parts, workers, on_event)


def _write_page(
    data: Path, folder: Path, parts: list[_Part], workers: int, on_event: Callable[[Event], None] | None
) -> Path:
    thumbnails = {each.target: each for part in parts for each in _thumbnails(data, part)}
    _draw([each for each in thumbnails.values() if not each.is_current], workers, on_event)
    for path in (folder / "thumbnails").glob("*/*.webp"):  # including temporary files of killed runs
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
    """The HTML template, with autoescape."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("vondata.report", "page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.get_template("index.html.jinja")


def _read_part(data: Path, class_name: str, kind: Kind) -> _Part:
    frame = read_manifest(data, class_name, kind)
    return _Part(class_name, kind, OutputFiles(data, class_name, kind), frame, _choose_listed(frame))


def _choose_listed(frame: pd.DataFrame) -> pd.DataFrame:
    """All rows, or MAX_LISTED evenly spaced ones, at most half of them rejected."""
    if len(frame) <= MAX_LISTED:
        return frame
    is_prepared = frame["status"] == "prepared"
    rejected = _thin_out(frame[~is_prepared], MAX_LISTED // 2)
    usable = _thin_out(frame[is_prepared], MAX_LISTED - len(rejected))
    return frame.loc[sorted([*usable.index, *rejected.index])]


def _thin_out(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    return frame.iloc[:: max(1, -(-len(frame) // most))]


def _thumbnails(data: Path, part: _Part) -> Iterator[Thumbnail]:
    """The thumbnails of a part; prepared photos need none, unless they are in shards."""
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
