"""View bank of a class: matching cues of its shapes from all viewpoints of a grid, cached on disk by content hash."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vondata.classes import ObjectClass
from vondata.dataset.manifest import prepared, read_manifest
from vondata.dataset.shape_file import load_distance
from vondata.dataset.shards import OutputFiles
from vondata.errors import VonError
from vondata.io.files import ReadableFile, atomic_path
from vondata.matching.cues import SKETCH_PX, SketchCues, sketch_cues
from vondata.matching.sketching import sketch_volume

Doubles = npt.NDArray[np.float64]

_STEEPEST_DEG = 84.0


@dataclass(frozen=True, eq=False)
class ViewGrid:
    """Viewpoints at all pairs of azimuth and elevation, azimuth varying slowest.

    Attributes:
        azimuth_deg: (a,) a full turn in equal steps, from -180.
        elevation_deg: (e,) in equal steps.
    """

    azimuth_deg: Doubles
    elevation_deg: Doubles

    @property
    def shape(self) -> tuple[int, int]:
        """Azimuths and elevations."""
        return len(self.azimuth_deg), len(self.elevation_deg)

    @property
    def views_deg(self) -> Doubles:
        """(a * e, 2) azimuth and elevation of every viewpoint."""
        return np.stack(np.meshgrid(self.azimuth_deg, self.elevation_deg, indexing="ij"), axis=-1).reshape(-1, 2)


def view_grid(object_class: ObjectClass, azimuth_step_deg: float, elevation_step_deg: float) -> ViewGrid:
    """All azimuths, and the elevations of the class's prior extended by one step on either side.

    Args:
        object_class: its viewpoints bound the elevations.
        azimuth_step_deg: rounded so that a full turn has an integer number of steps.
        elevation_step_deg: between elevations; 0 is one of them.
    """
    steps = round(360.0 / azimuth_step_deg)
    low = min(band.elevation_deg[0] for band in object_class.viewpoints) - elevation_step_deg
    high = max(band.elevation_deg[1] for band in object_class.viewpoints) + elevation_step_deg
    first = np.ceil(max(low, -_STEEPEST_DEG) / elevation_step_deg)
    last = np.floor(min(high, _STEEPEST_DEG) / elevation_step_deg)
    azimuth = np.arange(steps, dtype=np.float64) * (360.0 / steps) - 180.0
    elevation = np.arange(first, last + 1.0, dtype=np.float64) * elevation_step_deg
    return ViewGrid(azimuth, elevation)


def log_prior(grid: ViewGrid, object_class: ObjectClass, weight: float) -> Doubles:
    """(a * e,) logarithm of each viewpoint's prior probability.

    Args:
        grid: the viewpoints.
        object_class: its viewpoint bands, integrated over the cells of the grid.
        weight: of the bands, in [0, 1); the rest is uniform, so that no viewpoint is excluded.
    """
    even = np.full(grid.shape, 1.0 / np.prod(grid.shape))
    banded = np.zeros(grid.shape)
    for band in object_class.viewpoints:
        turned = (band.azimuth_deg[0] + turn for turn in (-360.0, 0.0, 360.0))
        width = band.azimuth_deg[1] - band.azimuth_deg[0]
        across = np.sum([_overlap(grid.azimuth_deg, low, low + width) for low in turned], axis=0)
        banded += band.weight * across[:, None] * _overlap(grid.elevation_deg, *band.elevation_deg)
    return np.asarray(np.log((1.0 - weight) * even + weight * banded / banded.sum()).reshape(-1))


def circular_offset_deg(angle_deg: npt.ArrayLike, origin_deg: npt.ArrayLike) -> Doubles:
    """The signed difference from origin to angle, in [-180, 180)."""
    offset: Doubles = (np.asarray(angle_deg, np.float64) - np.asarray(origin_deg) + 180.0) % 360.0 - 180.0
    return offset


def _overlap(centres: Doubles, low: float, high: float) -> Doubles:
    """The share of the interval [low, high] in the cell around each of the evenly spaced centres."""
    half = (centres[1] - centres[0]) / 2.0
    inside = np.minimum(centres + half, high) - np.maximum(centres - half, low)
    share: Doubles = np.maximum(inside, 0.0) / (high - low)
    return share


FORMAT_VERSION = 1  # increased with every change of the cues, so that older caches are replaced
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BankSettings:
    """Settings of the rendered sketches.

    Attributes:
        azimuth_step_deg: between neighbouring sketches, over the full circle.
        elevation_step_deg: between neighbouring sketches, over the elevations of the class's prior.
        camera_distance: in radii of the shape. Photos are taken from farther away than the camera of the model, which
            is at 2; framing to the object hides most of the difference.
    """

    azimuth_step_deg: float = 7.5
    elevation_step_deg: float = 6.0
    camera_distance: float = 3.5


@dataclass(frozen=True, eq=False)
class ViewBank:
    """Cues of every shape from every viewpoint.

    Attributes:
        object_class: class of the shapes.
        shape_ids: their ids.
        grid: the viewpoints.
        cues: of all sketches, shape by shape.
    """

    object_class: ObjectClass
    shape_ids: tuple[str, ...]
    grid: ViewGrid
    cues: SketchCues


class NoShapesError(VonError, ValueError):
    """There is no prepared shape to match against."""


def choose_shapes(data: Path, class_name: str, count: int = 96) -> dict[str, ReadableFile]:
    """Prepared shapes to draw, by id: all, or a deterministic sample by hash of the id.

    Raises:
        ManifestMissingError: no shapes of the class have been prepared.
        NoShapesError: all were rejected.
    """
    ids = prepared(read_manifest(data, class_name, "shapes"))["id"]
    if ids.empty:
        raise NoShapesError(f"{data} has no prepared shape of class {class_name!r} to match photos against")
    chosen = sorted(ids, key=lambda id: hashlib.sha256(id.encode("utf-8")).digest())[:count]
    files = OutputFiles(data, class_name, "shapes")
    return {id: files[id] for id in sorted(chosen)}


def build_bank(
    shapes: Mapping[str, ReadableFile],
    object_class: ObjectClass,
    settings: BankSettings = BankSettings(),
    *,
    cache: Path | None = None,
    workers: int = 1,
    on_shape: Callable[[int, int], None] | None = None,
) -> ViewBank:
    """Draws the bank, or reads it if the same shapes have been drawn with the same settings before.

    Args:
        shapes: files of prepared shapes by id.
        object_class: their class.
        settings: of the sketches.
        cache: the file that stores the bank; an outdated or damaged one is replaced.
        workers: number of threads.
        on_shape: called after each shape with the number done and the total.

    Raises:
        NoShapesError: `shapes` is empty.
        ShapeFileError: a file is not a prepared shape.
        EmptyShapeError: a shape has no surface.
    """
    if not shapes:
        raise NoShapesError(f"there is no shape of class {object_class.name!r} to match photos against")
    grid = view_grid(object_class, settings.azimuth_step_deg, settings.elevation_step_deg)
    key = bank_key(shapes, object_class, settings)
    cues = _read(cache, key) if cache is not None else None
    if cues is None:
        cues = _draw(list(shapes.values()), grid, settings.camera_distance, workers, on_shape)
        if cache is not None:
            _write(cache, key, cues)
    return ViewBank(object_class, tuple(shapes), grid, cues)


def _draw(
    files: list[ReadableFile],
    grid: ViewGrid,
    camera_distance: float,
    workers: int,
    on_shape: Callable[[int, int], None] | None,
) -> SketchCues:
    azimuth, elevation = np.radians(grid.views_deg).T

    def cues_of(file: ReadableFile) -> SketchCues:
        volume = sketch_volume(load_distance(file))
        return sketch_cues(volume.draw(azimuth, elevation, camera_distance, SKETCH_PX))

    parts: list[SketchCues] = []
    with ThreadPoolExecutor(workers) as pool:
        for part in pool.map(cues_of, files):
            parts.append(part)
            if on_shape is not None:
                on_shape(len(parts), len(files))
    return SketchCues(
        np.concatenate([part.silhouette for part in parts]),
        np.concatenate([part.edges for part in parts]),
        np.concatenate([part.shading for part in parts]),
    )


def bank_key(
    shapes: Mapping[str, ReadableFile], object_class: ObjectClass, settings: BankSettings = BankSettings()
) -> str:
    """A hash of everything that determines a bank: the shapes' ids and files, the views, the settings."""
    grid = view_grid(object_class, settings.azimuth_step_deg, settings.elevation_step_deg)
    content = hashlib.sha256(json.dumps([FORMAT_VERSION, asdict(settings)], sort_keys=True).encode("utf-8"))
    content.update(grid.views_deg.tobytes())
    for id, path in shapes.items():
        with path.open("rb") as file:
            content.update(id.encode("utf-8") + hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()


def _read(cache: Path, key: str) -> SketchCues | None:
    if not cache.is_file():
        return None
    try:
        with (
            open(cache, "rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):  # also closed if it is not an archive
            if str(arrays["key"]) == key:
                return SketchCues(arrays["silhouette"], arrays["edges"], arrays["shading"])
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        _logger.warning("%s is damaged (%s): drawing the sketches again", cache, error)
    return None


def _write(cache: Path, key: str, cues: SketchCues) -> None:
    with atomic_path(cache) as temporary, open(temporary, "wb") as file:
        np.savez(file, key=np.array(key), silhouette=cues.silhouette, edges=cues.edges, shading=cues.shading)
