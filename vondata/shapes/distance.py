"""Unsigned distance from every voxel to a surface: exact near it, nearly so everywhere, or exact everywhere.

The fast way takes three steps: distances exact to rounding up to three voxels from the surface (`nearest`), nearest
surface points spread from there to all other voxels (`sweeps`), and for each of these the exact distance to the
triangle its point lies on. A voxel errs only where the nearest triangle is none that a neighbour knew of; the exact
way goes on and looks for these triangles.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vondata.shapes.nearest import mark_band, measure, refine, stand, triangle_table
from vondata.shapes.sweeps import NOWHERE, Feet, spread

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
        resolution: N.
        method: fast is exact up to three voxels from the surface and errs by less than a thousandth of a voxel on
            average elsewhere; exact is so everywhere, by holding every voxel also against all other triangles that
            could be nearer, which takes some fifteen times as long.

    Returns:
        (N, N, N) float32, indexed [x, y, z], in cube edges (one voxel is 1 / (N - 1)).
    """
    triangles = triangle_table(vertices, faces)
    feet = spread(_band(triangles, resolution))
    distance = np.empty((resolution,) * 3, dtype=np.float32)
    measure(triangles, feet.face, distance)
    if method == "exact":
        refine(triangles, distance)
    return distance


def _band(triangles: Floats, resolution: int) -> Feet:
    """The exact nearest points of all voxels up to BAND_VOXELS from the surface."""
    shape = (resolution + 2,) * 3
    squared = np.full(shape, BAND_VOXELS**2, dtype=np.float32)
    face = np.full(shape, -1, dtype=np.int32)
    mark_band(triangles, BAND_VOXELS, squared, face)
    x, y, z = (np.full(shape, NOWHERE, dtype=np.float32) for _ in range(3))
    stand(triangles, np.flatnonzero(face >= 0), face, x, y, z)
    return Feet(x, y, z, face)
