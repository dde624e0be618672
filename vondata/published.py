"""Data archive of the 2018 release as items to prepare: distance files, image lists and pose pools.

Its layout, below one folder:
    objects/df_car.txt, objects/df/car/ID_df.npz    list and distance fields of ShapeNet models
    images/imgs_car.txt, images/car/NAME.png        list and photos with the object's mask as alpha
    images/pose_car.npz                             azimuths `azs`, elevations `eles` in degrees, in the list's order
"""

from __future__ import annotations

import logging
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from vondata.classes import ObjectClass
from vondata.dataset.shape_file import PreparedShape, save_shape
from vondata.io.listing import CollectionMissingError, open_tree
from vondata.shapes.sources import distance_hash
from vondata.types import Item, Rejected, file_safe, printable

Part = Literal["shapes", "images"]
Distances = npt.NDArray[np.float32]
MIN_VOXELS, MAX_VOXELS = 16, 256
# A surface between two neighbouring voxels is within half a voxel of one of them; one that touches a voxel's cell is
# within half the cell's diagonal of its centre.
TOUCHED_VOXELS = math.sqrt(3.0) / 2.0
MAX_LIST_BYTES = 1 << 24
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedShapeSettings:
    """Settings that determine the result of `prepare_distance`: only its version."""

    method: int = field(default=1, init=False)


def archive_folder(root: Path) -> Path | None:
    """The folder with the archive's `objects` or `images`: the root or `data` in it; None if neither has them."""
    for folder in (root, root / "data"):
        if (folder / "objects").is_dir() or any((folder / "images").glob("imgs_*.txt")):
            return folder
    return None


def archive_classes(archive: Path) -> tuple[str, ...]:
    """The names of the classes with shapes or photos in the archive."""
    lists = [*archive.glob("objects/df_*.txt"), *archive.glob("images/imgs_*.txt")]
    folders = [each for each in archive.glob("objects/df/*") if each.is_dir()]
    names = {each.stem.partition("_")[2] for each in lists} | {each.name for each in folders}
    return tuple(sorted(names))


def distance_items(archive: Path, classes: Sequence[ObjectClass]) -> Iterator[Item]:
    """The distance files of classes, in the order of their list, or sorted by name without a list.

    Raises:
        CollectionMissingError: a list cannot be read.
    """
    for each in classes:
        for path in _listed(archive, f"objects/df_{each.name}.txt", f"objects/df/{each.name}", "*_df.npz"):
            yield _item(archive, path, each.name, path.stem.removesuffix("_df"))


def image_items(archive: Path, classes: Sequence[ObjectClass]) -> Iterator[Item]:
    """The photos of classes, each with the viewpoint at its index in the pose pool.

    The release samples viewpoints from the shuffled pool; in the original order, entry n belongs to photo n of the
    list. A pool whose length differs from the list's is ignored, with a warning in the log.

    Raises:
        CollectionMissingError: a list or a pool cannot be read.
    """
    for each in classes:
        paths = _listed(archive, f"images/imgs_{each.name}.txt", f"images/{each.name}", "*.png")
        poses = read_pose_pool(archive / "images" / f"pose_{each.name}.npz")
        if poses is not None and len(poses) != len(paths):
            _log.warning(
                "%s: the pose pool of class %s has %d viewpoints for %d photos; it is left out",
                archive, each.name, len(poses), len(paths),
            )  # fmt: skip
            poses = None
        for number, path in enumerate(paths):
            fields: dict[str, Any] = {}
            if poses is not None:
                azimuth, elevation = poses[number].tolist()
                fields = {"azimuth_deg": azimuth, "elevation_deg": elevation, "roll_deg": 0.0}
            yield _item(archive, path, each.name, path.stem, fields)


def read_pose_pool(path: Path) -> npt.NDArray[np.float64] | None:
    """(n, 2) azimuth and elevation in degrees of a pose pool; None if the file does not exist.

    Raises:
        CollectionMissingError: it cannot be read, or is not a list of viewpoints.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            azimuth, elevation = (np.asarray(stored[name], dtype=np.float64) for name in ("azs", "eles"))
    except UNREADABLE as error:
        raise CollectionMissingError(f"{path} cannot be read as a pose pool: {error}") from error
    if azimuth.ndim != 1 or azimuth.shape != elevation.shape or not np.isfinite([azimuth, elevation]).all():
        raise CollectionMissingError(f"{path} is not a pose pool: azs and eles must be equally many finite numbers")
    return np.stack([azimuth, elevation], axis=1)


def prepare_distance(item: Item, settings: PublishedShapeSettings, output: Path) -> dict[str, Any]:
    """Converts a distance file to a prepared shape; a work function, see `vondata.types.Work`.

    Raises:
        Rejected: the file is damaged or holds no shape.
    """
    distance = published_to_object(_read_distance(Path(item.inputs[0])))
    resolution = distance.shape[0]
    surface = distance <= TOUCHED_VOXELS / (resolution - 1)
    if not surface.any():
        raise Rejected("empty_mesh", f"the smallest distance is {distance.min():.3f} of the cube's edge")
    occupancy = _filled(surface)
    save_shape(output, PreparedShape(occupancy, surface, distance, 1.0, (0.0, 0.0, 0.0), np.eye(3)))
    return {
        "source_format": "distance",
        "fill": float(np.count_nonzero(occupancy)) / resolution**3,
        "enclosed_voxels": int(np.count_nonzero(occupancy & ~surface)),
        "resolution": resolution,
        "distance_hash": distance_hash(distance),
    }


def published_to_object(values: npt.NDArray[np.floating[Any]]) -> Distances:
    """Converts a volume of the archive to the object frame: object [x, y, z] = file [z, -x, -y].

    The first axis of a file points up, its second to the object's -x and its third to -y, where y is the front.
    """
    return np.ascontiguousarray(values[:, ::-1, ::-1].transpose(1, 2, 0), dtype=np.float32)


def _filled(surface: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The surface and everything it encloses: all that is not connected to the outside through free voxels."""
    free, _ = label(np.pad(~surface, 1, constant_values=True))
    return np.asarray((free != free[0, 0, 0])[1:-1, 1:-1, 1:-1])


def _read_distance(path: Path) -> npt.NDArray[np.floating[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("df.npy").file_size
        if size > 8 * MAX_VOXELS**3 + (1 << 16):
            raise Rejected("too_large", f"its array df has {size / 2**20:,.0f} MB")
        with np.load(path, allow_pickle=False) as stored:
            distance: npt.NDArray[Any] = stored["df"]
    except UNREADABLE as error:
        raise Rejected("file_corrupt", f"no array df can be read: {error}") from error
    if distance.ndim != 3 or len(set(distance.shape)) != 1 or not MIN_VOXELS <= distance.shape[0] <= MAX_VOXELS:
        sizes = " x ".join(map(str, distance.shape))
        raise Rejected("file_corrupt", f"df is {sizes}, not a cube of {MIN_VOXELS} to {MAX_VOXELS} voxels")
    if not np.issubdtype(distance.dtype, np.floating) or not np.isfinite(distance).all() or distance.min() < 0:
        raise Rejected("not_finite", "df must hold distances: finite numbers from 0")
    return distance


def _listed(archive: Path, list_file: str, folder: str, pattern: str) -> list[Path]:
    """The files that a list names, relative to the archive; without a list, those in the folder."""
    path = archive / list_file
    if not path.is_file():
        return sorted((archive / folder).glob(pattern))
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_LIST_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CollectionMissingError(f"{path} cannot be read: {error}") from error
    return [archive / PurePosixPath(line.strip()) for line in lines if line.strip()]


def _item(archive: Path, path: Path, class_name: str, name: str, fields: dict[str, Any] | None = None) -> Item:
    relative = PurePosixPath(os.path.relpath(path, archive))
    verdict = open_tree(archive).why_not_usable(relative)
    return Item(
        id=file_safe(printable(name)),
        class_name=class_name,
        source=printable(str(path)),
        inputs=(str(path),) if verdict is None else (),
        fields=fields or {},
        rejected=verdict,
        collection=f"published {printable(str(archive))}",
    )
