"""File format of a prepared shape: one .npz with compressed arrays, written atomically."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from vondata.dataset.distance_codec import EncodedField, coarse_count, decode_distance, encode_distance
from vondata.errors import VonError
from vondata.io.files import ReadableFile, atomic_path
from vondata.kernels import kernel

Bools = npt.NDArray[np.bool_]
FORMAT_VERSION = 1
_LEVEL, _HARD_LEVEL = 6, 18
_HARD_ABOVE = 0.07  # bytes per voxel above which the higher compression level is used, which takes half a second
_NPY_1 = b"\x93NUMPY\x01\x00"
_COPIES, _LOWEST = np.uint64(0x8040201008040201), np.uint64(0x0101010101010101)
_MAX_FILE_BYTES = 1 << 30  # a shape of 1024^3 voxels that compress to a byte each
_MAX_RESOLUTION = 1024  # voxels along an edge; a file with more is refused before memory is allocated
_LARGE_PAGE = 1 << 21
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that equal shapes give equal files


class ShapeFileError(VonError, ValueError):
    """A file that is not a prepared shape, or a damaged one."""

    def __init__(self, path: ReadableFile, what: str) -> None:
        super().__init__(f"{path} is not a prepared shape: {what}", hint="remove it and prepare it again")


@dataclass(frozen=True, eq=False)
class PreparedShape:
    """A shape on an N^3 grid of the object frame, and its transform to the source's coordinates.

    A point of the source's coordinates is p_source = rotation^T @ p_object / scale + centre.

    Attributes:
        occupancy: (N, N, N) solid including its surface, indexed [x, y, z].
        surface: (N, N, N) voxels whose cell the surface touches; part of the occupancy.
        distance: (N, N, N) float32 unsigned distance to the surface in cube edges (object units / 2); one voxel is
            1 / (N - 1).
        scale: object units per source unit.
        centre: the middle of the source's bounding box, in source coordinates.
        rotation: (3, 3) from source axes to object axes.
        inside: (N, N, N) voxels whose centre lies inside the solid; None if the shape was prepared without.
    """

    occupancy: Bools
    surface: Bools
    distance: npt.NDArray[np.float32]
    scale: float
    centre: tuple[float, float, float]
    rotation: npt.NDArray[np.float64]
    inside: Bools | None = None

    @property
    def resolution(self) -> int:
        """Voxels along an edge."""
        return int(self.occupancy.shape[0])

    def to_source(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Points (..., 3) of the object frame in the coordinates of the source file."""
        return np.asarray(points @ self.rotation / self.scale + np.array(self.centre), dtype=np.float64)

    def to_object(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Points (..., 3) of the source file in the object frame; inverse of `to_source`."""
        return np.asarray((points - np.array(self.centre)) * self.scale @ self.rotation.T, dtype=np.float64)


def save_shape(path: Path, shape: PreparedShape) -> None:
    """Writes a shape atomically; the same shape always gives the same bytes."""
    interior = shape.occupancy & ~shape.surface
    encoded = encode_distance(shape.distance, interior, shape.surface)
    arrays: dict[str, npt.NDArray[Any]] = {
        "surface": np.packbits(shape.surface),
        "interior": np.packbits(interior),
        "distance_coarse": encoded.coarse,
        "distance_fine": encoded.fine,
    }
    if shape.inside is not None:  # only for surface voxels; all others follow from the interior
        arrays["surface_inside"] = np.packbits(shape.inside[shape.surface])
    packed = {name: _compress(array) for name, array in arrays.items()}
    if sum(array.nbytes for array in packed.values()) > _HARD_ABOVE * shape.occupancy.size:
        packed = {name: _compress(array, _HARD_LEVEL) for name, array in arrays.items()}
    members = {
        "format_version": np.array(FORMAT_VERSION),
        "resolution": np.array(shape.resolution),
        "distance_fine_bytes": np.array(encoded.fine.itemsize),
        "scale": np.array(shape.scale),
        "centre": np.array(shape.centre),
        "rotation": np.asarray(shape.rotation, dtype=np.float64),
        **packed,
    }
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w") as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def load_shape(path: ReadableFile) -> PreparedShape:
    """Reads a prepared shape.

    Raises:
        ShapeFileError: the file is not a shape, is damaged, or was written by a newer version.
    """
    with _open(path) as shape:
        arena = _Arena(shape.resolution, distances=1, grids=2)
        surface, interior = shape.packed("surface"), shape.packed("interior")
        occupancy, touched = shape.unpacked(surface | interior, arena), shape.unpacked(surface, arena)
        return PreparedShape(
            occupancy=occupancy,
            surface=touched,
            distance=shape.distance(arena),
            scale=float(shape.numbers("scale", ())),
            centre=tuple(shape.numbers("centre", (3,)).tolist()),
            rotation=shape.numbers("rotation", (3, 3)),
            inside=shape.inside(occupancy, touched),
        )


def load_inside(path: ReadableFile) -> Bools | None:
    """Reads the (N, N, N) voxels whose centre lies inside the solid; None if the shape was prepared without.

    Raises the same errors as `load_shape`.
    """
    with _open(path) as shape:
        surface, interior = shape.packed("surface"), shape.packed("interior")
        arena = _Arena(shape.resolution, distances=0, grids=2)
        return shape.inside(shape.unpacked(surface | interior, arena), shape.unpacked(surface, arena))


def load_signed_distance(path: ReadableFile) -> npt.NDArray[np.float32]:
    """Reads the (N, N, N) signed distance of a prepared shape, in cube edges, negative inside.

    Raises:
        ShapeFileError: as `load_shape`, or the shape was prepared without inside/outside labels.
    """
    distance, inside = load_distance(path), load_inside(path)
    if inside is None:
        raise ShapeFileError(path, "its distances have no sign")
    return np.where(inside, -distance, distance)


def load_occupancy(path: ReadableFile) -> Bools:
    """Reads only the (N, N, N) occupancy of a prepared shape; errors as `load_shape`."""
    with _open(path) as shape:
        packed = shape.packed("surface") | shape.packed("interior")
        return shape.unpacked(packed, _Arena(shape.resolution, distances=0, grids=1))


def load_distance(path: ReadableFile) -> npt.NDArray[np.float32]:
    """Reads only the (N, N, N) distance, in cube edges, of a prepared shape; errors as `load_shape`."""
    with _open(path) as shape:
        return shape.distance(_Arena(shape.resolution, distances=1, grids=0))


class _Arena:
    """One memory block for the volumes of a shape, aligned to a huge page.

    With 4 kB pages, most of the time to load a shape would be spent on page faults.
    """

    def __init__(self, resolution: int, *, distances: int, grids: int) -> None:
        self.shape = (resolution,) * 3
        self._voxels = resolution**3
        size = distances * _round_up_to_8(4 * self._voxels) + grids * _round_up_to_8(self._voxels)
        memory = np.empty(size + _LARGE_PAGE, dtype=np.uint8)
        start = -memory.ctypes.data % _LARGE_PAGE
        self._left = memory[start : start + size]

    def distance(self) -> npt.NDArray[np.float32]:
        """The next (N, N, N) distances, uninitialised."""
        return self._take(4 * self._voxels)[: 4 * self._voxels].view(np.float32).reshape(self.shape)

    def grid(self) -> npt.NDArray[np.uint8]:
        """The next flat grid of N^3 voxels, uninitialised, its length a multiple of eight."""
        return self._take(self._voxels)

    def _take(self, size: int) -> npt.NDArray[np.uint8]:
        taken, self._left = np.split(self._left, [_round_up_to_8(size)])
        return taken


def _round_up_to_8(size: int) -> int:
    return -(-size // 8) * 8


class _ShapeFile:
    """The arrays of a shape file, read by name on demand."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        version = int(self.numbers("format_version", (), "<i8"))
        if version != FORMAT_VERSION:
            raise ValueError(f"its format is {version}, this program reads {FORMAT_VERSION}")
        self.resolution = int(self.numbers("resolution", (), "<i8"))
        if not 2 <= self.resolution <= _MAX_RESOLUTION:
            raise ValueError(f"its resolution is {self.resolution}")

    def numbers(self, name: str, shape: tuple[int, ...], kind: str = "<f8") -> npt.NDArray[Any]:
        """An array of known shape and kind."""
        return self._array(name, kind).reshape(shape)

    def packed(self, name: str) -> npt.NDArray[np.uint8]:
        """A bit mask of voxels, eight per byte."""
        return np.frombuffer(self._expand(name, -(-(self.resolution**3) // 8)), np.uint8)

    def unpacked(self, packed: npt.NDArray[np.uint8], arena: _Arena) -> Bools:
        """The voxels (N, N, N) of a bit mask."""
        grid = arena.grid()
        _unpack_bytes(packed, grid.view(np.uint64))
        return grid[: self.resolution**3].view(np.bool_).reshape(arena.shape)

    def distance(self, arena: _Arena) -> npt.NDArray[np.float32]:
        """The distance field in cube edges."""
        count, width = coarse_count(self.resolution), int(self.numbers("distance_fine_bytes", (), "<i8"))
        coarse = self._expand("distance_coarse", 2 * count)
        fine = self._expand("distance_fine", (self.resolution**3 - count) * width)
        codes = np.frombuffer(fine, np.int8) if width == 1 else np.frombuffer(fine, np.int16)
        return decode_distance(
            EncodedField(np.frombuffer(coarse, np.int16), codes), self.resolution, arena.distance()
        )

    def inside(self, occupancy: Bools, surface: Bools) -> Bools | None:
        """The voxels whose centre lies inside the solid with this surface; None if the file does not have them."""
        if "surface_inside.npy" not in self._archive.namelist():
            return None
        count = int(np.count_nonzero(surface))
        packed = np.frombuffer(self._expand("surface_inside", -(-count // 8)), np.uint8)
        inside = occupancy.copy()
        inside[surface] = np.unpackbits(packed, count=count).view(np.bool_)
        return inside

    def _expand(self, name: str, size: int) -> bytes:
        packed = self._array(name, "|u1").tobytes()
        if zstandard.frame_content_size(packed) != size:
            raise ValueError(f"{name} does not hold {size} bytes")
        return zstandard.ZstdDecompressor().decompress(packed)

    def _array(self, name: str, kind: str) -> npt.NDArray[Any]:
        """The values of a member, whose header must name this dtype; its shape is known and not read."""
        member = self._archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED:  # as written; so no member is larger than the file
            raise ValueError(f"{name} is compressed twice")
        content = self._archive.read(member)
        start = 10 + int.from_bytes(content[8:10], "little")
        if content[:8] != _NPY_1 or f"'descr': '{kind}'".encode() not in content[10:start]:
            raise ValueError(f"{name} is not an array of {kind}")
        return np.frombuffer(content, kind, offset=start)


@contextmanager
def _open(path: ReadableFile) -> Iterator[_ShapeFile]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size > _MAX_FILE_BYTES:
            raise ShapeFileError(path, f"it has {size:,} bytes, and a shape has at most {_MAX_FILE_BYTES:,}")
        file.seek(0)
        content = file.read()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield _ShapeFile(archive)
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, zstandard.ZstdError) as error:
        raise ShapeFileError(path, str(error)) from error


def _compress(array: npt.NDArray[Any], level: int = _LEVEL) -> npt.NDArray[np.uint8]:
    packed = zstandard.ZstdCompressor(level=level).compress(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(packed, dtype=np.uint8)


@kernel
def _unpack_bytes(packed: npt.NDArray[np.uint8], voxels: npt.NDArray[np.uint64]) -> None:
    """Expands every byte to eight bytes of 0 or 1, highest bit first."""
    for i in range(packed.size):
        # The product has bit 7 - k of the byte at bit 8 k + 7.
        voxels[i] = (np.uint64(packed[i]) * _COPIES >> np.uint64(7)) & _LOWEST
