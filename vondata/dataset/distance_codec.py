"""Lossy compression of distance fields to a tenth of a byte per voxel: hierarchical prediction, quantised residuals.

A distance is nearly linear between neighbours, except at the surface and halfway between two surfaces; with a sign,
negative inside, it is also linear across the surface of a solid. So the field is coded from coarse to fine: every
voxel is predicted from the two decoded voxels around it on the next coarser grid, and only the residual is stored, as
an integer number of quanta. Most are zero and compress to nothing. Predictions use decoded values, so errors do not
accumulate and every voxel is accurate within half a quantum. The sign only helps the prediction and is not decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Shorts = npt.NDArray[np.int16]
Codes = npt.NDArray[np.int8] | npt.NDArray[np.int16]
Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.uint64]

UNITS_PER_VOXEL = 560
# Distances up to this (less half a quantum) are accurate to MAX_ERROR_VOXELS; beyond, the scale is coarser.
NEAR_VOXELS = 6.05
FAR_COMPRESSION = 10.0  # factor of the error beyond
QUANTA = (33, 23, 13, 5)  # of the finest grid, the next one, ..., all coarser ones
MAX_ERROR_VOXELS = (QUANTA[0] // 2 + 0.5) / UNITS_PER_VOXEL
_SIGN_ROUNDS = 3
_FINE_LEVELS = 2  # the codes of the two finest grids fit a byte if the field changes by one voxel per voxel


@dataclass(frozen=True)
class EncodedField:
    """A distance field as small integers for a general-purpose compressor.

    Attributes:
        coarse: int16, the first voxel, then the codes of the coarse grids.
        fine: int8 (int16 for fields that jump), the codes of the two finest grids.
    """

    coarse: Shorts
    fine: Codes


def encode_distance(
    distance: npt.NDArray[np.floating], inside: Bools | None = None, shell: Bools | None = None
) -> EncodedField:
    """Encodes an (N, N, N) field of distances in cube edges.

    Args:
        distance: the field.
        inside: voxels inside the solid, without its surface; with `shell` it makes the code shorter.
        shell: voxels at the surface, inside or outside.

    Raises:
        ValueError: the field is not cubic, or has values that are negative or not finite.
    """
    resolution = distance.shape[0]
    if distance.ndim != 3 or set(distance.shape) != {resolution} or resolution < 2:
        raise ValueError(f"a distance field has three equal edges of at least 2 voxels, not {distance.shape}")
    if not (distance.min() >= 0 and distance.max() < np.inf):  # False for NaN
        raise ValueError("a distance field has finite values that are not negative")
    field = np.empty(distance.shape, dtype=np.int16)
    _compand(np.ascontiguousarray(distance, dtype=np.float32), np.float32(resolution - 1), field)
    if inside is not None and shell is not None:
        _sign(field, inside, shell)
    codes = np.empty(field.size, dtype=np.int16)
    codes[0] = field[0, 0, 0]
    _encode(field, codes[1:])
    coarse, fine = np.split(codes, [coarse_count(resolution)])
    is_narrow = fine.size == 0 or (fine.min() >= -128 and fine.max() <= 127)
    return EncodedField(coarse, fine.astype(np.int8) if is_narrow else fine)


def decode_distance(encoded: EncodedField, resolution: int, distance: Floats | None = None) -> Floats:
    """Decodes to (N, N, N) float32 distances in cube edges, with the errors given by the constants above.

    Args:
        encoded: the codes.
        resolution: N.
        distance: contiguous memory to fill; None allocates it.

    Raises:
        ValueError: the codes belong to another resolution.
    """
    if encoded.coarse.size != coarse_count(resolution):
        raise ValueError(f"{encoded.coarse.size} coarse codes do not belong to resolution {resolution}")
    if distance is None:
        distance = np.empty((resolution,) * 3, dtype=np.float32)
    # int16 takes half the space of float32, so the integers are put into the second half of the output.
    field = distance.reshape(-1).view(np.int16)[resolution**3 :].reshape(distance.shape)
    field[0, 0, 0] = encoded.coarse[0]
    coarse, fine = encoded.coarse.view(), encoded.fine.view()
    # Read-only like arrays from a file, so that one compiled version serves both.
    coarse.flags.writeable = fine.flags.writeable = False
    _decode(field, coarse[1:], _levels(resolution) - 1, _FINE_LEVELS)
    _decode(field, fine, min(_FINE_LEVELS, _levels(resolution)) - 1, 0)
    _expand(field, np.float32(resolution - 1), np.empty(field[0].size, dtype=np.int16), distance)
    return distance


def coarse_count(resolution: int) -> int:
    """Voxels on the grids coarser than the two finest ones, the first voxel included."""
    return int(-(-resolution // 2**_FINE_LEVELS)) ** 3


def _levels(resolution: int) -> int:
    return int(resolution - 1).bit_length()


def _sign(field: Shorts, inside: Bools, shell: Bools) -> None:
    """Makes the field negative inside, and in the shell where that is smoother, found in a few iterations."""
    at = np.flatnonzero(shell)
    values = field.reshape(-1)
    np.negative(values, out=values, where=inside.reshape(-1))
    unsigned, values[at] = values[at].copy(), 0
    is_negative = np.empty(len(at), dtype=np.bool_)
    for _ in range(_SIGN_ROUNDS):
        _neighbours_negative(values, at, field.shape[0], is_negative)
        values[at] = np.where(is_negative, -unsigned, unsigned)


@kernel
def _neighbours_negative(values: Shorts, voxels: Integers, size: int, is_negative: Bools) -> None:
    """Whether the sum of each voxel's neighbours, each clipped to one voxel, is negative."""
    last = values.size - 1
    for m in range(voxels.size):
        around = 0
        for step in (1, size, size * size):
            for neighbour in (max(voxels[m] - step, 0), min(voxels[m] + step, last)):
                around += min(max(int(values[neighbour]), -UNITS_PER_VOXEL), UNITS_PER_VOXEL)
        is_negative[m] = around < 0


@kernel
def _compand(distance: Floats, edge_voxels: np.float32, field: Shorts) -> None:
    values, units = distance.ravel(), field.ravel()
    near = np.float32(NEAR_VOXELS)
    for i in range(values.size):
        voxels = values[i] * edge_voxels
        if voxels > near:
            voxels = near + (voxels - near) / np.float32(FAR_COMPRESSION)
        units[i] = np.int16(min(voxels * np.float32(UNITS_PER_VOXEL) + np.float32(0.5), np.float32(32700)))


@kernel
def _expand(field: Shorts, edge_voxels: np.float32, plane: Shorts, distance: Floats) -> None:
    """Converts units to distances plane by plane; input and output may share memory, see `decode_distance`."""
    near = np.float32(NEAR_VOXELS * UNITS_PER_VOXEL)
    edges_per_unit = np.float32(1.0) / (edge_voxels * np.float32(UNITS_PER_VOXEL))
    units, values = field.ravel(), distance.ravel()
    for x in range(field.shape[0]):
        start = np.uint64(x * plane.size)
        for i in range(plane.size):
            plane[i] = units[start + np.uint64(i)]
        for i in range(plane.size):
            unit = np.float32(abs(np.int32(plane[i])))
            beyond = max(unit - near, np.float32(0.0))
            values[start + np.uint64(i)] = (unit + beyond * np.float32(FAR_COMPRESSION - 1.0)) * edges_per_unit


@dataclass(frozen=True, eq=False)
class _Pass:
    """The voxels of one level halfway between known ones along one axis, in rows of equal spacing.

    Attributes:
        rows: flat index of the first voxel of each row.
        before, after: the same for the known voxels on both sides; at the border both are the one before.
        count: voxels in a row.
        stride: flat distance between them.
        planes: row r lies in plane r % planes of constant x; all rows of one plane fit a fast cache.
        quantum: of their codes.
    """

    rows: Places
    before: Places
    after: Places
    count: int
    stride: int
    planes: int
    quantum: int


@lru_cache(maxsize=8)
def _passes(size: int, first_level: int, last_level: int) -> tuple[_Pass, ...]:
    """For each level, the passes along z, y and x, each on the grid completed by the previous ones."""
    x, y, z = size * size, size, 1
    passes = []
    for level in range(first_level, last_level - 1, -1):
        half, quantum = 1 << level, QUANTA[min(level, len(QUANTA) - 1)]
        step = 2 * half
        for (along, across, in_row), (row_step, step_in_row) in (
            ((z, x, y), (step, step)),
            ((y, x, z), (step, half)),
            ((x, y, z), (half, half)),
        ):
            position = np.arange(half, size, step, dtype=np.int64)
            start = np.arange(0, size, row_step, dtype=np.int64) * across
            reach = np.where(position + half < size, half, -half) * along
            rows = (position * along)[:, None] + start
            count = (size - 1) // step_in_row + 1
            flat_stride = step_in_row * in_row
            planes = 1 if along == x else len(start)
            here, before, after = (
                each.reshape(-1).astype(np.uint64) for each in (rows, rows - half * along, rows + reach[:, None])
            )
            passes.append(_Pass(here, before, after, count, flat_stride, planes, quantum))
    return tuple(passes)


def _encode(field: Shorts, codes: Shorts) -> None:
    """Writes the codes of all levels and replaces the field by its decoded values."""
    done = 0
    for each in _passes(field.shape[0], _levels(field.shape[0]) - 1, 0):
        rows = each.rows, each.before, each.after
        _encode_rows(field.reshape(-1), codes[done:], rows, each.count, each.stride, each.planes, each.quantum)
        done += len(each.rows) * each.count


def _decode(field: Shorts, codes: Codes, first_level: int, last_level: int) -> None:
    done = 0
    for each in _passes(field.shape[0], first_level, last_level):
        rows = each.rows, each.before, each.after
        _decode_rows(field.reshape(-1), codes[done:], rows, each.count, each.stride, each.planes, each.quantum)
        done += len(each.rows) * each.count


@kernel
def _encode_rows(
    field: Shorts,
    codes: Shorts,
    known: tuple[Places, Places, Places],
    count: int,
    stride: int,
    planes: int,
    quantum: int,
) -> None:
    rows, before, after = known
    # Quanta are odd, so that no error lies halfway between two codes.
    per_quantum, short_quantum, half = np.float32(1.0 / quantum), np.int32(quantum), np.float32(0.5)
    for plane in range(planes):
        for row in range(plane, rows.size, planes):
            here, one, other, code_at = rows[row], before[row], after[row], np.uint64(row * count)
            for k in range(count):
                step = np.uint64(k * stride) if stride != 1 else np.uint64(k)
                predicted = (np.int32(field[one + step]) + np.int32(field[other + step])) >> 1
                error = np.float32(np.int32(field[here + step]) - predicted)
                code = np.int32(np.floor(error * per_quantum + half))
                codes[code_at + np.uint64(k)] = code
                field[here + step] = predicted + code * short_quantum


@kernel
def _decode_rows(
    field: Shorts,
    codes: Codes,
    known: tuple[Places, Places, Places],
    count: int,
    stride: int,
    planes: int,
    quantum: int,
) -> None:
    rows, before, after = known
    short_quantum = np.int32(quantum)
    for plane in range(planes):
        for row in range(plane, rows.size, planes):
            here, one, other, code_at = rows[row], before[row], after[row], np.uint64(row * count)
            for k in range(count):
                step = np.uint64(k * stride) if stride != 1 else np.uint64(k)
                predicted = (np.int32(field[one + step]) + np.int32(field[other + step])) >> 1
                field[here + step] = predicted + np.int32(codes[code_at + np.uint64(k)]) * short_quantum
