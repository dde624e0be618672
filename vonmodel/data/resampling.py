"""Downsampling of prepared shapes and photos to a lower training resolution."""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt
from PIL import Image

from vondata.errors import VonError

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


class ResolutionError(VonError, ValueError):
    """The configured resolution exceeds that of the prepared data.

    Args:
        field: of the configuration: model.resolution or model.image_size.
        wanted: its value.
        prepared: voxels or pixels along an edge of the data.
    """

    def __init__(self, field: str, wanted: int, prepared: int) -> None:
        self.field, self.wanted, self.prepared = field, wanted, prepared
        super().__init__(
            f"{field} is {wanted}, but the data was prepared at {prepared}: prepare it again at {wanted}, or train "
            f"with {field}={prepared}"
        )


def coarser_occupancy(occupancy: Bools, resolution: int) -> Bools:
    """Occupancy on a coarser grid: a coarse voxel is filled if any fine voxel nearest to it is.

    This is what preparing at the coarse resolution gives (a voxel is filled where the object touches its cell) up to
    one fine voxel. Averages or samples would lose chair legs thinner than a coarse voxel; here they stay, and
    connected parts stay connected.

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
    # Both grids span [-1, 1] from their first to their last voxel; in integers, so that ties are resolved alike.
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
    """Distance to the surface at the points of a coarser grid, interpolated linearly.

    A distance field is 1-Lipschitz, so thin parts stay in the sampled field; `representation.opaque_above` keeps them
    opaque.

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
    """A prepared photo (RGBA, already on white) downsampled to a smaller size with a box filter.

    Returns:
        (size, size, 4) colours and mask.

    Raises:
        ResolutionError: the photo is smaller than that.
    """
    _check_not_finer("model.image_size", size, photo.width)
    if photo.width == size:
        return np.asarray(photo)
    # Channel by channel: Pillow would weight colours by alpha, but these are composed on white already.
    channels = [each.resize((size, size), Image.Resampling.BOX) for each in photo.split()]
    return np.stack([np.asarray(each) for each in channels], axis=-1)


def _check_not_finer(field: str, wanted: int, prepared: int) -> None:
    if wanted > prepared:
        raise ResolutionError(field, wanted, prepared)


def held_thickness(resolution: int) -> float:
    """Half the smallest thickness that a grid of this resolution represents anywhere: half a voxel, in cube edges."""
    return 0.5 / (resolution - 1)
