"""Nearest surface points spread from a band around the surface over the whole grid, in six directions.

A voxel far from the surface has nearly the same nearest point as the voxels between it and the surface. The straight
line from the point to the voxel moves by at most one voxel sideways while it moves one along its longest axis, so one
pass in each of the six directions, in which every voxel tries the points of nine voxels in the plane before it,
carries every point along its lines. Volumes are padded by one voxel, so that planes at the border need no care.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.shapes.kernels import contracted_kernel as kernel

Singles = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Row = tuple[Singles, Singles, Singles]

NOWHERE = np.float32(1e9)  # coordinates of a point that is farther than any other


@dataclass(frozen=True, eq=False)
class Feet:
    """The nearest known surface point of every voxel.

    Attributes:
        x, y, z: (N + 2, N + 2, N + 2) its coordinates in voxels; voxel i stands at i + 1.
        face: the triangle it lies on, -1 while no point is known.
    """

    x: Singles
    y: Singles
    z: Singles
    face: Ids

    def flat(self) -> tuple[Singles, Singles, Singles, Ids]:
        """The volumes as rows of numbers."""
        return self.x.reshape(-1), self.y.reshape(-1), self.z.reshape(-1), self.face.reshape(-1)

    def turned(self) -> Feet:
        """The same with y and z exchanged, in volumes and coordinates."""
        x, y, z = (np.ascontiguousarray(each.transpose(0, 2, 1)) for each in (self.x, self.y, self.z))
        return Feet(x, z, y, np.ascontiguousarray(self.face.transpose(0, 2, 1)))


def spread(feet: Feet) -> Feet:
    """Spreads the points; afterwards every voxel has one unless there was none at all.

    Returns:
        the feet with y and z exchanged: rows along z cannot be worked on side by side, so these come last, turned.
    """
    _sweep(*feet.flat(), feet.x.shape[0], 0)
    _sweep(*feet.flat(), feet.x.shape[0], 1)
    turned = feet.turned()
    _sweep(*turned.flat(), feet.x.shape[0], 1)
    return turned


@kernel
def _sweep(x: Singles, y: Singles, z: Singles, face: Ids, width: int, axis: int) -> None:
    """Two passes, up and down the first (0) or second (1) axis; the rows of a plane are along the third."""
    size = width - 2
    stride, row_stride = (width * width, width) if axis == 0 else (width, width * width)
    best, source = np.empty(size, np.float32), np.empty(size, np.int32)
    for way in (1, -1):
        for step in range(1, size):
            along = step if way > 0 else size - 1 - step
            for across in range(size):
                row = (along + 1) * stride + (across + 1) * row_stride
                behind = row - way * stride
                position = (along, across) if axis == 0 else (across, along)
                _begin_row(_row(x, y, z, row, width), position, best, source)
                for side in range(3):
                    other = behind + (side - 1) * row_stride
                    if _is_reached(face, other, width):
                        _try_row(_row(x, y, z, other, width), position, 3 * side, best, source)
                for k in range(size):
                    if source[k] >= 0:
                        to = row + k + 1
                        at = behind + (source[k] // 3 - 1) * row_stride + k + source[k] % 3
                        x[to], y[to], z[to], face[to] = x[at], y[at], z[at], face[at]


@kernel
def _is_reached(face: Ids, start: int, width: int) -> bool:
    """Whether some voxel of a row has a point."""
    at = start
    while at < start + width and face[at] < 0:
        at += 1
    return at < start + width


@kernel
def _row(x: Singles, y: Singles, z: Singles, start: int, width: int) -> Row:
    return x[start : start + width], y[start : start + width], z[start : start + width]


@kernel
def _begin_row(points: Row, row: tuple[int, int], best: Singles, source: Ids) -> None:
    """The squared distances of a row's voxels to the points they have."""
    xs, ys, zs = points
    row_x, row_y = np.float32(row[0]), np.float32(row[1])
    for k in range(best.size):
        dx, dy, dz = row_x - xs[k + 1], row_y - ys[k + 1], np.float32(k) - zs[k + 1]
        best[k] = dx * dx + dy * dy + dz * dz
        source[k] = -1


@kernel
def _try_row(points: Row, row: tuple[int, int], first: int, best: Singles, source: Ids) -> None:
    """Tries for each voxel of a row the points of three voxels of another one; notes which of them was nearer.

    Written without branches and with few arrays, so that it runs in vector registers.
    """
    xs, ys, zs = points
    row_x, row_y = np.float32(row[0]), np.float32(row[1])
    for k in range(best.size):
        row_z, nearest, origin = np.float32(k), best[k], source[k]
        for shift in range(3):
            dx, dy, dz = row_x - xs[k + shift], row_y - ys[k + shift], row_z - zs[k + shift]
            squared = dx * dx + dy * dy + dz * dz
            origin = np.int32(first + shift) if squared < nearest else origin
            nearest = squared if squared < nearest else nearest
        best[k], source[k] = nearest, origin
