"""Prepared shapes, photos and viewpoints of a class, decoded for training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float, Num
from PIL import Image
from torch import Tensor

from vondata.classes import load_class
from vondata.dataset.manifest import Split, known_viewpoints, manifest_path, prepared, read_manifest, read_viewpoints
from vondata.dataset.shape_file import load_distance, load_inside, load_occupancy
from vondata.dataset.shards import OutputFiles
from vondata.errors import VonError
from vondata.io.files import ReadableFile, require_regular
from vondata.shapes.implicit import at_least_as_thick, signed_distance
from vonmodel.config import ModelConfig, Representation
from vonmodel.data.resampling import coarser_distance, coarser_occupancy, held_thickness, smaller_photo
from vonmodel.representation import DISTANCE_DECAY, signed_volume

ViewpointSampler = Callable[[int, np.random.Generator], npt.NDArray[np.float64]]


class EmptyDatasetError(VonError, ValueError):
    """A class without any usable item to train on."""


class EmptySplitError(EmptyDatasetError):
    """An empty split of a class whose other splits have items."""


@dataclass(frozen=True)
class Photo:
    """A photo of one object.

    Attributes:
        image: (3, size, size) colours in [-1, 1], the object on white.
        mask: (1, size, size) fraction of the pixel that the object covers, in [0, 1].
        viewpoint: azimuth and elevation in radians; None if unknown.
    """

    image: Float[Tensor, "3 size size"]
    mask: Float[Tensor, "1 size size"]
    viewpoint: tuple[float, float] | None


class DamagedItemError(VonError, OSError):
    """A prepared file whose hash is not the recorded one."""

    def __init__(self, file: ReadableFile) -> None:
        super().__init__(
            f"{file} is damaged: its SHA-256 is not the one that its manifest records",
            hint="remove the file and prepare the dataset again, which takes the rest as it is",
        )

    def __str__(self) -> str:
        return self.message


class CheckedFiles:
    """Prepared files by id, each compared once with the hash that the manifest records.

    Args:
        data: the prepared dataset.
        class_name: the class.
        kind: shapes or images.
        rows: of the manifest; those of an older one have no hashes, and are not compared.
    """

    def __init__(self, data: Path, class_name: str, kind: Literal["shapes", "images"], rows: pd.DataFrame) -> None:
        self._files = OutputFiles(data, class_name, kind)
        known = rows["output_sha256"] if "output_sha256" in rows else [None] * len(rows)
        self._unchecked = {id: hash for id, hash in zip(rows["id"], known, strict=True) if isinstance(hash, str)}

    def __getitem__(self, id: str) -> ReadableFile:
        """The file of an item.

        Raises:
            DamagedItemError: its hash is not the recorded one.
            OSError: it is missing, not a regular file, or cannot be read.
        """
        file = self._files[id]
        if isinstance(file, Path):
            require_regular(file)
        if (recorded := self._unchecked.get(id)) is not None:
            with file.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() != recorded:
                    raise DamagedItemError(file)
            self._unchecked.pop(id, None)
        return file


class ItemCache:
    """A cache of decoded arrays without eviction: what no longer fits is decoded every time.

    Epochs visit all items equally often, so eviction would gain nothing.
    """

    def __init__(self, megabytes: int) -> None:
        self._left = megabytes * 2**20
        self._kept: dict[str, npt.NDArray[np.generic]] = {}

    def get(self, id: str, decode: Callable[[], npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
        """The array of this id."""
        found = self._kept.get(id)
        if found is None:
            found = decode()
            if found.nbytes <= self._left:
                self._left -= found.nbytes
                self._kept[id] = found
        return found


class ShapeDataset:
    """The prepared shapes of a class.

    Attributes:
        ids: their ids, sorted.
    """

    def __init__(
        self,
        data: Path,
        class_name: str,
        *,
        resolution: int,
        representation: Representation,
        band: float = ModelConfig.band,
        split: Split | None = "train",
        cache_mb: int = 0,
    ) -> None:
        """Lists the shapes; nothing is decoded yet.

        Args:
            data: the prepared dataset, packed or not.
            class_name: the class.
            resolution: voxels along an edge, at most what was prepared.
            representation: what a volume holds, see `vonmodel.representation`.
            band: largest signed distance that a volume holds, in cube edges; for the signed representation.
            split: which part; all if None.
            cache_mb: memory for decoded shapes.

        Raises:
            ManifestMissingError: no shapes of this class were prepared.
            EmptyDatasetError: none of them is usable.
        """
        rows = _prepared_rows(data, class_name, "shapes", split)
        self.ids: tuple[str, ...] = tuple(sorted(rows["id"]))
        self._files = CheckedFiles(data, class_name, "shapes", rows)
        self._resolution = resolution
        self._representation = representation
        self._band = band
        self._cache = ItemCache(cache_mb)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Float[Tensor, "1 r r r"]:
        """A volume in [0, 1], indexed [x, y, z].

        Raises:
            ShapeFileError, OSError: the file is missing or damaged.
            ResolutionError: it was prepared at a lower resolution than the model's.
        """
        return self.compact(index).float()

    def compact(self, index: int) -> Num[Tensor, "1 r r r"]:
        """The volume in a small type: uint8 for an occupancy, float16 for distances. Must not be modified.

        A float32 volume of 128^3 has 8 MB, which take longer to copy than its file to decode.
        """
        kept = self._cache.get(self.ids[index], lambda: self._decode(self.ids[index]))
        return _unpacked(kept, self._resolution, self._representation)

    def _decode(self, id: str) -> npt.NDArray[np.generic]:
        return _compact_shape(self._files[id], self._resolution, self._representation, self._band)


def read_shape_volume(file: ReadableFile, config: ModelConfig) -> Float[Tensor, "1 r r r"]:
    """The volume of one prepared shape, in a model's resolution and representation.

    Raises:
        ShapeFileError: the file is damaged or not a prepared shape.
        ResolutionError: it was prepared at a lower resolution than the model's.
    """
    compact = _compact_shape(file, config.resolution, config.representation, config.band)
    return _unpacked(compact, config.resolution, config.representation).float()


def _compact_shape(
    file: ReadableFile, resolution: int, representation: Representation, band: float
) -> npt.NDArray[np.generic]:
    """A volume in the form that is cached: an occupancy as bits, so that a whole class fits into memory."""
    if representation == "occupancy":
        return np.packbits(coarser_occupancy(load_occupancy(file), resolution))
    distance = load_distance(file)
    if representation == "signed":
        occupancy = load_occupancy(file)
        inside = load_inside(file)
        signed = signed_distance(occupancy, distance) if inside is None else np.where(inside, -distance, distance)
        distance = at_least_as_thick(signed, occupancy, held_thickness(resolution))
        coarse = torch.from_numpy(coarser_distance(distance, resolution))
        return np.asarray(signed_volume(coarse, band).half().numpy())
    distance = coarser_distance(distance, resolution)
    return np.asarray(np.exp(-DISTANCE_DECAY * distance), dtype=np.float16)


def _unpacked(
    compact: npt.NDArray[np.generic], resolution: int, representation: Representation
) -> Num[Tensor, "1 r r r"]:
    if representation == "occupancy":
        compact = np.unpackbits(compact.view(np.uint8), count=resolution**3)
    return torch.from_numpy(compact).view(1, *(resolution,) * 3)


class ImageDataset:
    """The prepared photos of a class.

    Attributes:
        ids: their ids, sorted.
        annotated: how many of them have a viewpoint, annotated or matched with confidence.
    """

    def __init__(
        self, data: Path, class_name: str, *, size: int, split: Split | None = "train", cache_mb: int = 0
    ) -> None:
        """Lists the photos; nothing is decoded yet.

        Args:
            data: the prepared dataset, packed or not.
            class_name: the class.
            size: pixels along an edge, at most what was prepared.
            split: which part; all if None.
            cache_mb: memory for decoded photos.

        Raises:
            ManifestMissingError: no photos of this class were prepared.
            EmptyDatasetError: none of them is usable.
        """
        rows = _prepared_rows(data, class_name, "images", split).sort_values("id")
        self.ids: tuple[str, ...] = tuple(rows["id"])
        self._viewpoints = np.radians(known_viewpoints(rows))
        self.annotated = int(np.isfinite(self._viewpoints).all(axis=1).sum())
        self._files = CheckedFiles(data, class_name, "images", rows)
        self._size = size
        self._cache = ItemCache(cache_mb)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Photo:
        """One photo.

        Raises:
            OSError: the file is missing or damaged.
            ResolutionError: it was prepared at a smaller size than the model's.
        """
        id = self.ids[index]
        rgba = torch.from_numpy(self._cache.get(id, lambda: self._decode(id)).astype(np.float32))
        azimuth, elevation = (float(angle) for angle in self._viewpoints[index])
        return Photo(
            image=(rgba[..., :3] / 127.5 - 1.0).permute(2, 0, 1),
            mask=rgba[None, ..., 3] / 255.0,
            viewpoint=None if math.isnan(azimuth) or math.isnan(elevation) else (azimuth, elevation),
        )

    def _decode(self, id: str) -> npt.NDArray[np.generic]:
        with self._files[id].open("rb") as content, Image.open(content) as photo:
            return smaller_photo(photo.convert("RGBA"), self._size)


def viewpoint_sampler(
    data: Path, class_name: str, *, source: Literal["dataset", "class"] = "dataset"
) -> ViewpointSampler:
    """The sampler of a class's viewpoints: (count, rng) -> (count, 2) azimuth and elevation in radians.

    Args:
        data: the prepared dataset.
        class_name: the class.
        source: "dataset" samples from the distribution of the known viewpoints of the class's photos, annotated or
            matched with confidence, or from the class file where there are none; "class" always from the class file.

    Raises:
        UnknownClassError: there is no such class.
    """
    known = load_class(class_name)
    if source == "dataset" and manifest_path(data, class_name, "images").is_file():
        seen = read_viewpoints(data, class_name)
        if seen is not None:
            return lambda count, rng: np.radians(seen.sample(count, rng))
    return lambda count, rng: np.radians(known.sample_viewpoints(count, rng))


def _prepared_rows(
    data: Path, class_name: str, kind: Literal["shapes", "images"], split: Split | None
) -> pd.DataFrame:
    rows = read_manifest(data, class_name, kind)
    chosen = prepared(rows, split)
    if chosen.empty:
        usable = prepared(rows)
        if len(usable):
            others = ", ".join(f"{count} in {part}" for part, count in usable["split"].value_counts().items())
            raise EmptySplitError(
                f"the {split} part of {data} has no {kind} of class {class_name}; there are {others}",
                hint="use all parts, or prepare more",
            )
        raise EmptyDatasetError(
            f"{data} has no usable {kind} of class {class_name} ({len(rows)} found, none prepared): its manifest has "
            "the reasons"
        )
    return chosen
