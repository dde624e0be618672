"""Distance fields in a tenth of a byte per voxel: companded, predicted from coarse to fine, errors quantised.

A distance is nearly linear between neighbours, except at the surface and halfway between two surfaces; with a sign,
negative inside, also at the surface of a solid. So the field is written from coarse to fine: every voxel is predicted
from the two decoded voxels around it on the next coarser grid, and only the prediction's error is stored, as a whole
number of quanta. Most are zero and compress to nothing. Predictions use what the reader will have, so errors do not
add up and every voxel is right within half a quantum. The sign only helps the prediction; the reader drops it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from vondata.shapes.kernels import kernel

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Shorts = npt.NDArray[np.int16]
Codes = npt.NDArray[np.int8] | npt.NDArray[np.int16]
Integers = npt.NDArray[np.int64]

UNITS_PER_VOXEL = 560
# Up to half a quantum below, all distances are kept to MAX_ERROR_VOXELS; beyond, the scale is coarser.
NEAR_VOXELS = 6.05
FAR_COMPRESSION = 10.0  # beyond, to this many times as much
QUANTA = (33, 23, 13, 5)  # of the finest grid, the next one, ..., all coarser ones
MAX_ERROR_VOXELS = (QUANTA[0] // 2 + 0.5) / UNITS_PER_VOXEL
_SIGN_ROUNDS = 3
_FINE_LEVELS = 2  # the codes of the two finest grids fit a byte where a field changes by one voxel per voxel


@dataclass(frozen=True)
class EncodedField:
    """A distance field as small whole numbers, ready for a general compressor.

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
    if not np.isfinite(distance).all() or distance.min() < 0:
        raise ValueError("a distance field has finite values that are not negative")
    field = _compand(np.ascontiguousarray(distance, dtype=np.float32), np.float32(resolution - 1))
    if inside is not None and shell is not None:
        _sign(field, inside, shell)
    codes = np.empty(field.size, dtype=np.int16)
    codes[0] = field[0, 0, 0]
    _encode(field, codes[1:])
    coarse, fine = np.split(codes, [coarse_count(resolution)])
    narrow = fine.astype(np.int8)
    return EncodedField(coarse, narrow if np.array_equal(narrow, fine) else fine)


def decode_distance(encoded: EncodedField, resolution: int) -> Floats:
    """Decodes to (N, N, N) float32 distances in cube edges, right within the errors that the constants above give."""
    if encoded.coarse.size != coarse_count(resolution):
        raise ValueError(f"{encoded.coarse.size} coarse codes do not belong to resolution {resolution}")
    field = np.empty((resolution,) * 3, dtype=np.int16)
    field[0, 0, 0] = encoded.coarse[0]
    coarse, fine = encoded.coarse.view(), encoded.fine.view()
    # As they come from a file: one compiled version serves both.
    coarse.flags.writeable = fine.flags.writeable = False
    _decode(field, coarse[1:], _levels(resolution) - 1, _FINE_LEVELS)
    _decode(field, fine, min(_FINE_LEVELS, _levels(resolution)) - 1, 0)
    return _expand(field, np.float32(resolution - 1))


def coarse_count(resolution: int) -> int:
    """Voxels on the grids coarser than the two finest ones, the first voxel included."""
    return int(-(-resolution // 2**_FINE_LEVELS)) ** 3


def _levels(resolution: int) -> int:
    return int(resolution - 1).bit_length()


def _sign(field: Shorts, inside: Bools, shell: Bools) -> None:
    """Makes the field negative inside, and in the shell where that is smoother, which a few rounds of asking find."""
    values, size = field.reshape(-1), field.shape[0]
    values[inside.reshape(-1)] *= -1
    at = np.flatnonzero(shell)
    unsigned, values[at] = values[at].copy(), 0
    for _ in range(_SIGN_ROUNDS):
        around = np.zeros(len(at), dtype=np.int32)
        for step in (1, size, size * size):
            for neighbour in (at - step, at + step):
                around += np.clip(np.take(values, neighbour, mode="clip"), -UNITS_PER_VOXEL, UNITS_PER_VOXEL)
        values[at] = np.where(around < 0, -unsigned, unsigned)


@kernel
def _compand(distance: Floats, edge_voxels: np.float32) -> Shorts:
    field = np.empty(distance.shape, np.int16)
    values, units = distance.ravel(), field.ravel()
    near = np.float32(NEAR_VOXELS)
    for i in range(values.size):
        voxels = values[i] * edge_voxels
        if voxels > near:
            voxels = near + (voxels - near) / np.float32(FAR_COMPRESSION)
        units[i] = np.int16(min(voxels * np.float32(UNITS_PER_VOXEL) + np.float32(0.5), np.float32(32700)))
    return field


@kernel
def _expand(field: Shorts, edge_voxels: np.float32) -> Floats:
    distance = np.empty(field.shape, np.float32)
    values, units = distance.ravel(), field.ravel()
    near = np.float32(NEAR_VOXELS * UNITS_PER_VOXEL)
    edges_per_unit = np.float32(1.0) / (edge_voxels * np.float32(UNITS_PER_VOXEL))
    for i in range(values.size):
        unit = np.float32(abs(np.int32(units[i])))
        beyond = max(unit - near, np.float32(0.0))
        values[i] = (unit + beyond * np.float32(FAR_COMPRESSION - 1.0)) * edges_per_unit
    return distance


@dataclass(frozen=True, eq=False)
class _Pass:
    """The voxels of one level halfway between known ones along one axis, in rows of equally spaced ones.

    Attributes:
        rows: flat position of the first voxel of each row.
        before, after: the same for the known voxels on both sides; past the border there is only the one before.
        count: voxels in a row.
        stride: flat distance between them.
        planes: row r lies in plane r % planes of those across x; all rows of one plane fit a fast cache.
        quantum: of their codes.
    """

    rows: Integers
    before: Integers
    after: Integers
    count: int
    stride: int
    planes: int
    quantum: int


@lru_cache(maxsize=8)
def _passes(size: int, first_level: int, last_level: int) -> tuple[_Pass, ...]:
    """For each level, the passes along z, y and x, each on the grid that the ones before completed."""
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
            after = (rows + reach[:, None]).reshape(-1)
            planes = 1 if along == x else len(start)
            before = rows.reshape(-1) - half * along
            passes.append(_Pass(rows.reshape(-1), before, after, count, flat_stride, planes, quantum))
    return tuple(passes)


def _encode(field: Shorts, codes: Shorts) -> None:
    """Writes the codes of all levels and puts what the reader will see in the field's place."""
    done = 0
    for each in _passes(field.shape[0], _levels(field.shape[0]) - 1, 0):
        _encode_rows(
            field.reshape(-1), codes[done:], each.rows, each.before, each.after, each.count, each.stride, each.quantum
        )
        done += len(each.rows) * each.count


def _decode(field: Shorts, codes: Codes, first_level: int, last_level: int) -> None:
    done = 0
    for each in _passes(field.shape[0], first_level, last_level):
        known = each.before, each.after
        _decode_rows(
            field.reshape(-1), codes[done:], each.rows, *known, each.count, each.stride, each.planes, each.quantum
        )
        done += len(each.rows) * each.count


@kernel
def _encode_rows(
    field: Shorts,
    codes: Shorts,
    rows: Integers,
    before: Integers,
    after: Integers,
    count: int,
    stride: int,
    quantum: int,
) -> None:
    per_quantum = np.float32(1.0 / quantum)  # quanta are odd, so that no error lies halfway between two codes
    for row in range(rows.size):
        for k in range(count):
            at = k * stride
            predicted = (np.int32(field[before[row] + at]) + np.int32(field[after[row] + at])) >> 1
            error = np.float32(np.int32(field[rows[row] + at]) - predicted)
            code = np.int32(np.floor(error * per_quantum + np.float32(0.5)))
            codes[row * count + k] = code
            field[rows[row] + at] = predicted + code * np.int32(quantum)


@kernel
def _decode_rows(
    field: Shorts,
    codes: Codes,
    rows: Integers,
    before: Integers,
    after: Integers,
    count: int,
    stride: int,
    planes: int,
    quantum: int,
) -> None:
    for plane in range(planes):
        for row in range(plane, rows.size, planes):
            row_codes = codes[row * count : (row + 1) * count]
            here, one, other = field[rows[row] :], field[before[row] :], field[after[row] :]
            if stride == 1:  # most of the field: this runs in vector registers
                _decode_row(here[:count], one, other, row_codes, quantum)
            else:
                _decode_row(here[: count * stride : stride], one[::stride], other[::stride], row_codes, quantum)


@kernel
def _decode_row(row: Shorts, before: Shorts, after: Shorts, codes: Codes, quantum: int) -> None:
    for k in range(row.size):
        row[k] = ((np.int32(before[k]) + np.int32(after[k])) >> 1) + np.int32(codes[k]) * np.int32(quantum)
