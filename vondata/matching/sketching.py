"""Depth and normal sketches of a prepared shape by sphere tracing, framed like photos, in about a millisecond.

Rays are traced through the distance field in steps of the distance at the current voxel, so they cannot miss the
surface. The camera follows `frames.camera_direction`; image right is -y of the camera's frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from vondata.errors import VonError
from vondata.kernels import kernel

Bytes = npt.NDArray[np.uint8]
Singles = npt.NDArray[np.float32]

MARGIN = 0.03  # of the longer side of the object's box, on every side, as photos are framed
CHANNELS = 4  # depth (0 for background), and the normal's components to the right, upwards and towards the camera
_STEPS = 4.0  # clearances are stored in quarters of a voxel
_HIT = 3  # a ray hits the surface within three quarters of a voxel; with half a voxel, thin sheets leak
_ROUNDING = 0.87  # from a voxel's centre to its corner, in voxels: error of a voxel's clearance within the voxel
_MIN_STEP = 0.4  # minimum step of a ray, in voxels
_BACK = 1.5  # voxels before the surface, where the gradient of the clearance gives the surface's normal

_Vector = tuple[float, float, float]


class EmptyShapeError(VonError, ValueError):
    """A shape without any surface cannot be drawn."""


@dataclass(frozen=True, eq=False)
class SketchVolume:
    """A shape prepared for drawing.

    Attributes:
        clearance: (N, N, N) distance to the surface in quarter voxels, at most 255; object frame, indexed [x, y, z].
        outline: (p, 3) vertices of the convex hull of the surface, which determine the frame of any view.
    """

    clearance: Bytes
    outline: Singles

    def draw(
        self, azimuth: npt.NDArray[np.floating], elevation: npt.NDArray[np.floating], distance: float, size_px: int
    ) -> Singles:
        """Sketches of the shape from viewpoints in radians.

        Args:
            azimuth: (n,) see `frames.camera_direction`; 0 looks at the front.
            elevation: (n,) positive from above.
            distance: of the camera from the origin, in radii of the unit sphere; above 1.
            size_px: width and height of the sketches.

        Returns:
            (n, 4, size_px, size_px) depth along the viewing direction (0 for background), then the normal in the
            camera's frame: its components to the right, upwards and towards the camera.
        """
        viewpoints = np.stack([azimuth, elevation], axis=1).astype(np.float64)
        sketches = np.empty((len(viewpoints), CHANNELS, size_px, size_px), dtype=np.float32)
        _draw_views(self.clearance, self.outline, viewpoints, float(distance), MARGIN, sketches)
        return sketches


def sketch_volume(distance: Singles, largest: int = 128) -> SketchVolume:
    """Prepares a shape for drawing.

    Args:
        distance: (N, N, N) unsigned distance to the surface in cube edges.
        largest: finer grids are downsampled to this many voxels along an edge.

    Raises:
        EmptyShapeError: no voxel lies at the surface.
    """
    if distance.shape[0] > largest:
        distance = ndimage.zoom(distance, largest / distance.shape[0], order=1)  # keeps the grid's end points
    quarters = np.rint(distance * (_STEPS * (distance.shape[0] - 1)))
    clearance = np.minimum(quarters, 255.0).astype(np.uint8)
    met = np.argwhere(clearance <= _HIT)
    if not len(met):
        raise EmptyShapeError("a shape has no surface to draw; prepare it again")
    points = met * (2.0 / (distance.shape[0] - 1)) - 1.0
    return SketchVolume(clearance, _hull(points).astype(np.float32))


def _hull(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except QhullError:  # flat or a single voxel: its box has the same frame, or a little more
        return np.stack(np.meshgrid(*zip(points.min(axis=0), points.max(axis=0), strict=True)), -1).reshape(-1, 3)


@kernel
def _draw_views(
    clearance: Bytes,
    outline: Singles,
    viewpoints: npt.NDArray[np.float64],
    distance: float,
    margin: float,
    sketches: Singles,
) -> None:
    for index in range(viewpoints.shape[0]):
        axes = _camera_axes(viewpoints[index, 0], viewpoints[index, 1])
        frame = _frame(outline, axes, distance, margin, clearance.shape[0])
        _draw_view(clearance, axes, distance, frame, sketches[index])


@kernel
def _camera_axes(azimuth: float, elevation: float) -> tuple[_Vector, _Vector, _Vector]:
    """Image right, image up, and from the object to the camera, in the object frame."""
    ca, sa, ce, se = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
    return (-ca, -sa, 0.0), (sa * se, -ca * se, ce), (-sa * ce, ca * ce, se)


@kernel
def _dot(a: _Vector, b: _Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel
def _frame(
    outline: Singles, axes: tuple[_Vector, _Vector, _Vector], distance: float, margin: float, resolution: int
) -> _Vector:
    """Centre (across, up) and side of the square around the object with its margin, on a screen at distance 1."""
    left, right, bottom, top = np.inf, -np.inf, np.inf, -np.inf
    half_voxel = 1.0 / (resolution - 1)
    for index in range(outline.shape[0]):
        point = (float(outline[index, 0]), float(outline[index, 1]), float(outline[index, 2]))
        depth = distance - _dot(axes[2], point)
        across, up, reach = _dot(axes[0], point) / depth, _dot(axes[1], point) / depth, half_voxel / depth
        left, right = min(left, across - reach), max(right, across + reach)
        bottom, top = min(bottom, up - reach), max(top, up + reach)
    side = max(right - left, top - bottom) * (1.0 + 2.0 * margin)
    return (left + right) / 2.0, (bottom + top) / 2.0, side


@kernel
def _draw_view(
    clearance: Bytes, axes: tuple[_Vector, _Vector, _Vector], distance: float, frame: _Vector, sketch: Singles
) -> None:
    right, upwards, towards = axes
    size, side = sketch.shape[1], frame[2]
    origin = (distance * towards[0], distance * towards[1], distance * towards[2])
    sketch[:] = 0.0
    for row in range(size):
        up = frame[1] + side * (0.5 - (row + 0.5) / size)
        for column in range(size):
            across = frame[0] + side * ((column + 0.5) / size - 0.5)
            length = math.sqrt(1.0 + across * across + up * up)
            ray = (
                (across * right[0] + up * upwards[0] - towards[0]) / length,
                (across * right[1] + up * upwards[1] - towards[1]) / length,
                (across * right[2] + up * upwards[2] - towards[2]) / length,
            )
            met = _follow(clearance, origin, ray)
            if met > 0.0:
                slope = _slope(clearance, origin, ray, met)
                sketch[0, row, column] = met / length
                sketch[1, row, column] = _dot(slope, right)
                sketch[2, row, column] = _dot(slope, upwards)
                sketch[3, row, column] = _dot(slope, towards)


@kernel
def _follow(clearance: Bytes, origin: _Vector, ray: _Vector) -> float:
    """The distance along the ray to the surface, -1 without a hit; only the unit sphere is searched."""
    last, per_unit = clearance.shape[0] - 1, (clearance.shape[0] - 1) / 2.0
    middle = -_dot(origin, ray)
    inside = middle * middle - (_dot(origin, origin) - 1.0)
    if inside <= 0.0:
        return -1.0
    way, end = middle - math.sqrt(inside), middle + math.sqrt(inside)
    while way < end:
        x = int((origin[0] + way * ray[0] + 1.0) * per_unit + 0.5)
        y = int((origin[1] + way * ray[1] + 1.0) * per_unit + 0.5)
        z = int((origin[2] + way * ray[2] + 1.0) * per_unit + 0.5)
        free = clearance[min(max(x, 0), last), min(max(y, 0), last), min(max(z, 0), last)]
        if free <= _HIT:
            return way
        way += max(free / _STEPS - _ROUNDING, _MIN_STEP) / per_unit
    return -1.0


@kernel
def _slope(clearance: Bytes, origin: _Vector, ray: _Vector, met: float) -> _Vector:
    """The surface normal: the normalised gradient of the clearance before the surface; zero if it vanishes."""
    last, per_unit = clearance.shape[0] - 1, (clearance.shape[0] - 1) / 2.0
    way = met - _BACK / per_unit
    x = min(max(int((origin[0] + way * ray[0] + 1.0) * per_unit + 0.5), 1), last - 1)
    y = min(max(int((origin[1] + way * ray[1] + 1.0) * per_unit + 0.5), 1), last - 1)
    z = min(max(int((origin[2] + way * ray[2] + 1.0) * per_unit + 0.5), 1), last - 1)
    slope = (
        float(clearance[x + 1, y, z]) - float(clearance[x - 1, y, z]),
        float(clearance[x, y + 1, z]) - float(clearance[x, y - 1, z]),
        float(clearance[x, y, z + 1]) - float(clearance[x, y, z - 1]),
    )
    steepness = math.sqrt(_dot(slope, slope))
    if steepness == 0.0:
        return 0.0, 0.0, 0.0
    return slope[0] / steepness, slope[1] / steepness, slope[2] / steepness
