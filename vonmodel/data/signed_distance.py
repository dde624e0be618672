"""The signed distance of a prepared shape, from its unsigned distance and its solid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


def signed_distance(occupancy: Bools, distance: Floats, thickness: float) -> Floats:
    """Signed distance to the solid grown by `thickness`, in cube edges, negative inside.

    Surfaces without an inside (a sheet, a shell that leaks) become solids twice as thick as that, as they do in an
    occupancy, where a voxel is solid wherever the surface touches its cell. Of the voxels that belong to the occupancy
    for their surface alone nothing says which side of it they are on; outside they have an empty neighbour, and closer
    to the surface than `thickness` both sides are inside of the grown solid. So the result is continuous where it
    crosses 0, with no error but that of the stored distance.

    Args:
        occupancy: (N, N, N) the solid and its surface.
        distance: (N, N, N) unsigned distance to the surface in cube edges.
        thickness: half a voxel, 1 / (2 N - 2), or more.
    """
    inside = occupancy & ~_beside_empty(occupancy)
    return np.asarray(np.where(inside, -distance, distance) - np.float32(thickness))


def thickness_for(prepared: int, resolution: int) -> float:
    """How far a solid prepared at one resolution grows to be held by a grid of another: half of the larger voxel."""
    return 0.5 / (min(prepared, resolution) - 1)


def _beside_empty(occupancy: Bools) -> Bools:
    """Voxels with an empty one at one of their six faces; outside the grid all is empty."""
    padded = np.pad(occupancy, 1)
    beside = np.zeros_like(occupancy)
    for axis in range(3):
        for step in (-1, 1):
            beside |= ~np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return beside
