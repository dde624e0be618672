"""Points spread evenly over the surface of a volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vonmodel.evaluation.volumes import Volumes
from vonmodel.export import surface_mesh
from vonmodel.seeding import numpy_generator

if TYPE_CHECKING:
    from vonmodel.export import SurfaceMesh

Points = npt.NDArray[np.float64]
"""(k, 3) in the object frame, where the cube's edge is 2."""


def point_sets(volumes: Volumes, level: float, *, points: int, seed: int) -> Iterator[Points]:
    """The surface points of every shape; a shape without a surface gives none.

    Each shape's are drawn by themselves, so that they depend neither on its place nor on its neighbours: equal shapes
    are equal sets.

    Args:
        volumes: the shapes, in [0, 1].
        level: of their surface.
        points: how many on each.
        seed: what they are drawn with.
    """
    for index in range(len(volumes)):
        volume = volumes.part(index, index + 1)[0, 0].numpy()
        mesh = surface_mesh(volume, level)
        yield sample_surface(mesh, points, numpy_generator(seed, "surface points"))


def sample_surface(mesh: SurfaceMesh, points: int, rng: np.random.Generator) -> Points:
    """Points (k, 3) uniform over the area of a mesh; none where it has no area.

    The area is cut into `points` strips of equal size, in the order of the faces, with one point in each: less ragged
    than independent points, and as unbiased.
    """
    corners = mesh.vertices[mesh.faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.linalg.norm(np.cross(first, second), axis=1)
    ends = np.cumsum(areas)
    if len(ends) == 0 or ends[-1] <= 0.0:
        return np.empty((0, 3))
    at = (np.arange(points) + rng.random(points)) / points * ends[-1]
    face = np.searchsorted(ends, at, side="right").clip(max=len(ends) - 1)
    share = rng.random((2, points))
    beyond = share.sum(axis=0) > 1.0  # the other half of the parallelogram, folded back
    share = np.where(beyond, 1.0 - share, share)
    return np.asarray(corners[face, 0] + share[0, :, None] * first[face] + share[1, :, None] * second[face])
