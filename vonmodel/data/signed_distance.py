"""The signed distance of a prepared shape, from its unsigned distance and its solid, for a grid of any resolution."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

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
