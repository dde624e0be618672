"""Unsigned distance field of a mesh: exact near the surface and close to exact elsewhere, or exact everywhere.

The fast way takes three steps: distances exact to rounding up to three voxels from the surface (`nearest`), the
nearest points found there spread to all other voxels (`sweeps`), and for every voxel the exact distance to the
triangles on which the points of its own and its closest neighbours lie. A voxel errs only where the nearest triangle
is none of these; the exact way goes on and looks for it (`refinement`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vondata.shapes.nearest import LANES, closest_points, distances, mark_band, triangle_table
from vondata.shapes.refinement import refine
from vondata.shapes.sweeps import spread

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Method = Literal["fast", "exact"]

BAND_VOXELS = 3.0


def distance_field(vertices: Floats, faces: Integers, resolution: int, method: Method = "fast") -> Singles:
    """The distance of every voxel centre to the surface.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers, at least one.
        resolution: N, 2 to 256.
        method: fast is exact up to three voxels from the surface and errs by less than a thousandth of a voxel on
            average elsewhere; exact is so everywhere, by holding every voxel also against all other triangles that
            could be nearer, which takes some fifteen times as long.

    Returns:
        (N, N, N) float32, indexed [x, y, z], in cube edges (one voxel is 1 / (N - 1)).
    """
    table = triangle_table(vertices, faces)
    shape = (resolution, resolution, -(-resolution // LANES) * LANES)
    squared = np.full(shape, BAND_VOXELS**2, dtype=np.float32)
    nearest = np.full(shape, -1, dtype=np.int32)
    mark_band(table, BAND_VOXELS, squared, nearest)
    voxels = np.flatnonzero(nearest >= 0)
    points = np.empty((len(voxels), 3), dtype=np.float32)
    closest_points(table, voxels, nearest, points)
    spread(nearest, voxels, points)
    distance = np.empty((resolution,) * 3, dtype=np.float32)
    distances(table, nearest, distance)
    if method == "exact":
        refine(vertices, faces, distance)
    return distance
