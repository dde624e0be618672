"""Prepared shapes and photos at a lower training resolution, and the signed distance of a shape on a grid."""

from __future__ import annotations

from vondata.errors import VonError
from functools import reduce
import numpy as np
import numpy.typing as npt
from PIL import Image
import math
from scipy import ndimage



Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


class ResolutionError(VonError, ValueError):
    """Training asks for more voxels or pixels than were prepared.

    Args:
        field: of the configuration: model.resolution or model.image_size.
        wanted: its value.
        prepared: voxels or pixels along an edge of the data.
    """

    def __init__(self, field: str, wanted: int, prepared: int) -> None:
        self.field, self.wanted, self.prepared = field, wanted, prepared
        super().__init__(
            f"{field} is {wanted}, but the data was prepared at {prepared}: prepare it again at {wanted}, or train with "
            f"{field}={prepared}"
        )


def coarser_occupancy(occupancy: Bools, resolution: int) -> Bools:
    """Occupancy on a coarser grid: a coarse voxel is filled where any fine voxel nearest to it is.

    This is what preparing at the coarse resolution gives (a voxel is filled where the object touches its cell) up to
    one fine voxel. Averages or samples would lose chair legs thinner than a coarse voxel; here they stay, and pieces
    that hang together still do.

    Args:
        occupancy: (N, N, N).
        resolution: M of the (M, M, M) result, at most N.

    Raises:
        ResolutionError: the coarse grid is finer than the fine one.
    """
    fine = len(occupancy)
    _check_not_finer("model.resolution", resolution, fine)
    if resolution == fine:
        return occupancy
    # Both grids span [-1, 1] from their first to their last voxel; in whole numbers, so that ties are always alike.
    nearest = (2 * np.arange(fine) * (resolution - 1) + fine - 1) // (2 * (fine - 1))
    starts = np.searchsorted(nearest, np.arange(resolution))
    return reduce(lambda filled, axis: _any_between(filled, starts, axis), range(3), occupancy)


def _any_between(filled: Bools, starts: npt.NDArray[np.intp], axis: int) -> Bools:
    """Whether any is filled from each start to before the next; in whole slices, ten times as fast as `reduceat`."""
    last = np.append(starts[1:], filled.shape[axis]) - 1
    result = filled.take(starts, axis=axis)
    for step in range(1, int((last - starts).max()) + 1):
        result |= filled.take(np.minimum(starts + step, last), axis=axis)
    return result


def coarser_distance(distance: Floats, resolution: int) -> Floats:
    """Distance to the surface at the points of a coarser grid, linear between the fine ones.

    A distance changes by no more than the way between two points, so sampling it loses nothing: what is thin stays in
    the field, `model.opaque_above` sees to it that it stays opaque.

    Args:
        distance: (N, N, N).
        resolution: M of the (M, M, M) result, at most N.

    Raises:
        ResolutionError: the coarse grid is finer than the fine one.
    """
    fine = len(distance)
    _check_not_finer("model.resolution", resolution, fine)
    if resolution == fine:
        return distance
    position = np.linspace(0.0, fine - 1.0, resolution)
    below = np.minimum(position.astype(np.intp), fine - 2)
    share = (position - below).astype(np.float32)
    for axis in range(3):
        weight = share.reshape([-1 if each == axis else 1 for each in range(3)])
        low, high = np.take(distance, below, axis), np.take(distance, below + 1, axis)
        distance = low + weight * (high - low)
    return distance


def smaller_photo(photo: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """A prepared photo (RGBA, already on white) at a smaller size; every new pixel is the mean of what it covers.

    Returns:
        (size, size, 4) colours and mask.

    Raises:
        ResolutionError: the photo is smaller than that.
    """
    _check_not_finer("model.image_size", size, photo.width)
    if photo.width == size:
        return np.asarray(photo)
    # Channels one by one: Pillow would weigh colours with alpha, but these are composed on white already.
    channels = [each.resize((size, size), Image.Resampling.BOX) for each in photo.split()]
    return np.stack([np.asarray(each) for each in channels], axis=-1)


def _check_not_finer(field: str, wanted: int, prepared: int) -> None:
    if wanted > prepared:
        raise ResolutionError(field, wanted, prepared)

SWEEPS = 3
"""Voxels that only the surface makes part of a solid lie at most so many deep around it."""
RISES = 0.7
"""Squared slope, of 1, from which on a distance is taken to rise towards a neighbour."""


def signed_distance(occupancy: Bools, distance: Floats) -> Floats:
    """Signed distance to the surface of the solid in cube edges, negative inside.

    A voxel belongs to the occupancy also where the surface merely touches its cell. Such a voxel lies outside where
    the distance rises at unit slope towards neighbours that lie outside; from inside it falls towards the surface
    first. A surface without an inside (a sheet, a shell that leaks) has no negative value.

    Args:
        occupancy: (N, N, N) the solid and its surface.
        distance: (N, N, N) unsigned distance to the surface in cube edges.
    """
    step = 1.0 / (len(occupancy) - 1)
    outside, far = np.pad(~occupancy, 1, constant_values=True), np.pad(distance, 1, mode="edge")
    inner = (slice(1, -1),) * 3
    for _ in range(SWEEPS):
        slope = sum(np.square(_rise(outside, far, axis)) for axis in range(3))
        outside[inner] |= slope > RISES * step * step
    return np.where(outside[inner], distance, -distance)


def at_least_as_thick(signed: Floats, occupancy: Bools, half: float) -> Floats:
    """Signed distance to the solid with its thin parts grown, all others as they are.

    Args:
        signed: (N, N, N) signed distance in cube edges.
        occupancy: (N, N, N) the solid and its surface.
        half: no part is left with less than this between its middle and its surface, in cube edges.
    """
    if not occupancy.any():
        return signed
    reach = math.ceil(half * (len(signed) - 1)) + 1
    depth = ndimage.maximum_filter(-signed, size=2 * reach + 1, mode="nearest").clip(0.0, half)
    nearest = ndimage.distance_transform_edt(~occupancy, return_distances=False, return_indices=True)
    return np.asarray(signed - (np.float32(half) - depth[tuple(nearest)]), dtype=np.float32)


def held_thickness(resolution: int) -> float:
    """Half the thickness of what a grid of this resolution still holds wherever it lies: half a voxel, in cube edges."""
    return 0.5 / (resolution - 1)


def _rise(outside: Bools, distance: Floats, axis: int) -> Floats:
    """How much the distance grows towards the neighbour outside along an axis; both arrays have a border."""
    inner = (slice(1, -1),) * 3
    here, rise = distance[inner], np.zeros_like(distance[inner])
    for start in (0, 2):
        there = (*inner[:axis], slice(start, start + here.shape[axis]), *inner[axis + 1 :])
        rise = np.maximum(rise, np.where(outside[there], distance[there] - here, 0.0))
    return rise
