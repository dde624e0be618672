"""Thumbnails: shaded views of prepared shapes, drawn from their voxels, and reduced rejected photos."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vondata.dataset.shape_file import load_occupancy
from vondata.frames import camera_direction, voxel_to_object
from vondata.io.files import FileSlice, ReadableFile, atomic_path
from vondata.io.fs import RemoteError, RemoteFile
from vondata.types import Kind

if TYPE_CHECKING:
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
    """A thumbnail to draw, of the prepared shape or the photo in `source`."""

    kind: Kind
    source: ReadableFile | RemoteFile
    target: Path

    @property
    def is_current(self) -> bool:
        """Whether the picture exists and was drawn from its source as it is now, which it has the file time of."""
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
    """Draws a thumbnail; False when its source is missing or damaged."""
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
    """Shaded parallel projections of a volume.

    Args:
        occupancy: (N, N, N) in the object frame.

    Returns:
        for each of VIEWS_DEG (TILE_PX, TILE_PX, 4) RGBA.
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
    """Nearness to the viewer at each sample (size, size), in object units; NaN beside it. Angles in radians."""
    towards = camera_direction(np.array(azimuth), np.array(elevation))
    right = np.cross(-towards, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, -towards)
    near = points @ towards
    order = np.argsort(near)  # the nearest voxel is written last
    row, column = (1.0 - points @ up)[order] * SAMPLES / 2, (1.0 + points @ right)[order] * SAMPLES / 2
    side = spacing * SAMPLES / 2
    reach = np.arange(np.ceil(1.4 * side)) - 0.7 * side  # a voxel seen along its diagonal is that much wider
    down, across = (offset.ravel() for offset in np.meshgrid(reach, reach))
    picture = np.full((SAMPLES, SAMPLES), np.nan, dtype=np.float32)
    i = (row[:, None] + down).astype(int).clip(0, SAMPLES - 1)
    j = (column[:, None] + across).astype(int).clip(0, SAMPLES - 1)
    picture[i, j] = near[order, None]
    return picture


def _shade(near: npt.NDArray[np.float32], spacing: float) -> npt.NDArray[np.uint8]:
    """Lights a surface given as a height field (size, size) over the picture; returns (TILE_PX, TILE_PX, 4)."""
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
    """The smaller of the differences to both neighbours, so that no slope is seen across an edge."""
    step = np.diff(picture, axis=axis)
    pad = [(0, 0), (0, 0)]
    pad[axis] = (0, 1)
    forward = np.pad(step, pad)
    backward = np.roll(forward, 1, axis=axis)
    return np.where(np.abs(forward) < np.abs(backward), forward, backward)


def _colour(brightness: Floats, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Averages the samples of each pixel and turns brightness and coverage into RGBA."""
    blocks = (TILE_PX, OVERSAMPLING, TILE_PX, OVERSAMPLING)
    coverage = inside.reshape(blocks).mean(axis=(1, 3))
    mean = brightness.reshape(blocks).mean(axis=(1, 3)) / np.maximum(coverage, 1e-6)
    rgb = DARK + (BRIGHT - DARK) * mean[..., None]
    return np.concatenate([rgb, 255.0 * coverage[..., None]], axis=-1).round().astype(np.uint8)
