"""Distance fields in a tenth of a byte per voxel: companded, predicted from coarse to fine, errors quantised.

A distance is nearly linear between neighbours, except at the surface and halfway between two surfaces. So the field
is written from coarse to fine: every voxel is predicted from the two decoded voxels around it on the next coarser
grid, and only the prediction's error is stored, as a whole number of quanta. Most are zero and compress to nothing.
Since predictions use what the reader will have, errors do not add up: every voxel is right within half a quantum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.shapes.kernels import kernel

Floats = npt.NDArray[np.float32]
Shorts = npt.NDArray[np.int16]
Codes = npt.NDArray[np.int8] | npt.NDArray[np.int16]
RowVisitor = Callable[[Shorts, Shorts, Shorts, Codes, int], None]
# size, half a step, strides (along, between rows, in a row), steps (between rows, in a row)
Geometry = tuple[int, int, tuple[int, int, int], tuple[int, int]]

UNITS_PER_VOXEL = 512
NEAR_VOXELS = 6.1  # up to here all distances are kept to MAX_ERROR_VOXELS
FAR_COMPRESSION = 10.0  # beyond, to this many times as much
QUANTA = np.array([29, 21, 11, 5], dtype=np.int64)  # of the finest grid, the next one, ..., all coarser ones
MAX_ERROR_VOXELS = (29 // 2 + 0.5) / UNITS_PER_VOXEL
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


def encode_distance(distance: npt.NDArray[np.floating]) -> EncodedField:
    """Encodes an (N, N, N) field of distances in cube edges.

    Raises:
        ValueError: the field is not cubic, or has values that are negative or not finite.
    """
    resolution = distance.shape[0]
    if distance.ndim != 3 or set(distance.shape) != {resolution} or resolution < 2:
        raise ValueError(f"a distance field has three equal edges of at least 2 voxels, not {distance.shape}")
    if not np.isfinite(distance).all() or distance.min() < 0:
        raise ValueError("a distance field has finite values that are not negative")
    field = _compand(np.ascontiguousarray(distance, dtype=np.float32), np.float32(resolution - 1))
    codes = np.empty(field.size, dtype=np.int16)
    codes[0] = field[0, 0, 0]
    _visit(_encode_row, field, codes[1:], (_levels(resolution) - 1, 0), QUANTA)
    coarse, fine = np.split(codes, [coarse_count(resolution)])
    narrow = fine.astype(np.int8)
    return EncodedField(coarse, narrow if np.array_equal(narrow, fine) else fine)


def decode_distance(encoded: EncodedField, resolution: int) -> Floats:
    """Decodes to (N, N, N) float32 distances in cube edges, right within the errors that the constants above give."""
    field = np.empty((resolution,) * 3, dtype=np.int16)
    field[0, 0, 0] = encoded.coarse[0]
    position = 1 + _visit(_decode_row, field, encoded.coarse[1:], (_levels(resolution) - 1, _FINE_LEVELS), QUANTA)
    if position != encoded.coarse.size:
        raise ValueError(f"{encoded.coarse.size} coarse codes do not belong to resolution {resolution}")
    _visit(_decode_row, field, encoded.fine, (_FINE_LEVELS - 1, 0), QUANTA)
    return _expand(field, np.float32(resolution - 1))


def coarse_count(resolution: int) -> int:
    """Voxels on the grids coarser than the two finest ones, the first voxel included."""
    return int(-(-resolution // 2**_FINE_LEVELS)) ** 3


def _levels(resolution: int) -> int:
    return int(resolution - 1).bit_length()


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
        unit = max(np.float32(units[i]), np.float32(0.0))
        beyond = max(unit - near, np.float32(0.0))
        values[i] = (unit + beyond * np.float32(FAR_COMPRESSION - 1.0)) * edges_per_unit
    return distance


@kernel
def _encode_row(row: Shorts, before: Shorts, after: Shorts, codes: Codes, quantum: int) -> None:
    per_quantum = np.float32(1.0 / quantum)  # quanta are odd, so that no error lies halfway between two codes
    for k in range(row.size):
        predicted = (np.int32(before[k]) + np.int32(after[k])) >> 1
        code = np.int32(np.floor(np.float32(np.int32(row[k]) - predicted) * per_quantum + np.float32(0.5)))
        codes[k] = code
        row[k] = predicted + code * np.int32(quantum)


@kernel
def _decode_row(row: Shorts, before: Shorts, after: Shorts, codes: Codes, quantum: int) -> None:
    for k in range(row.size):
        row[k] = ((np.int32(before[k]) + np.int32(after[k])) >> 1) + np.int32(codes[k]) * np.int32(quantum)


@kernel
def _visit_axis(visit_row: RowVisitor, flat: Shorts, codes: Codes, geometry: Geometry, quantum: int) -> int:
    """Visits the voxels halfway between two known ones along one axis, row by row; returns how many they were."""
    size, half, (stride, row_stride, stride_in_row), (row_step, step) = geometry
    position, count = 0, (size - 1) // step + 1
    for i in range(half, size, 2 * half):
        reach = half * stride if i + half < size else -half * stride  # past the border there is only the one before
        for j in range(0, size, row_step):
            first = i * stride + j * row_stride
            before, after = first - half * stride, first + reach
            row_codes = codes[position : position + count]
            if step * stride_in_row == 1:  # contiguous, most of the field: this runs in vector registers
                row = flat[first : first + count]
                visit_row(row, flat[before : before + count], flat[after : after + count], row_codes, quantum)
            else:
                span, each = (count - 1) * step * stride_in_row + 1, step * stride_in_row
                row = flat[first : first + span : each]
                visit_row(
                    row, flat[before : before + span : each], flat[after : after + span : each], row_codes, quantum
                )
            position += count
    return position


@kernel
def _visit(
    visit_row: RowVisitor, field: Shorts, codes: Codes, levels: tuple[int, int], quanta: npt.NDArray[np.int64]
) -> int:
    """Visits each level's voxels along z, then y, then x, each on the grid that the ones before completed."""
    size, flat, position = field.shape[0], field.ravel(), 0
    x, y, z = size * size, size, 1
    for level in range(levels[0], levels[1] - 1, -1):
        half, quantum = 1 << level, quanta[min(level, quanta.size - 1)]
        step = 2 * half
        for strides, steps in (((z, x, y), (step, step)), ((y, x, z), (step, half)), ((x, y, z), (half, half))):
            geometry = (size, half, strides, steps)
            position += _visit_axis(visit_row, flat, codes[position:], geometry, quantum)
    return position
