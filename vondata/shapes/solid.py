"""The solid inside a surface that may be open or broken.

What no path of free voxels connects with the outside is inside: a flood, right for every surface without holes. Where
the surface has holes the flood runs in, and lines of voxels are asked instead (see `votes`): a voxel is inside if
more directions say so than deny it, and little of the sky is seen from it. A shape without a floor, as modellers like
to leave them, is solid; a bucket is not, since what fills it could be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.shapes import bits
from vondata.shapes.cleaning import Topology, find_parts
from vondata.shapes.parity import AXES, BODY_DIAGONALS, FACE_DIAGONALS, Votes, add_votes, decide, find_crossings

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_MIN_INSIDE = 3  # directions of 13 that must find a voxel inside
_MAX_EXPOSED = 1  # half lines of the 17 not pointing down that may see the sky through an opening
_LEAK_FRACTION = 0.01


@dataclass(frozen=True, eq=False)
class Solid:
    """A filled surface.

    Attributes:
        occupancy: (N, N, N) surface and inside.
        enclosed_voxels: voxels inside that no hole connects with the outside.
        leaked_voxels: voxels inside behind a hole.
    """

    occupancy: Bools
    enclosed_voxels: int
    leaked_voxels: int

    @property
    def leak(self) -> bool:
        """Whether holes in the surface lay open more than a hundredth of the inside."""
        return self.leaked_voxels > _LEAK_FRACTION * (self.enclosed_voxels + self.leaked_voxels)


def fill_solid(vertices: Floats, faces: Integers, topology: Topology, surface: Bools) -> Solid:
    """Fills the inside of a surface.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers.
        topology: of these faces.
        surface: (N, N, N) voxels that the surface touches.
    """
    resolution = surface.shape[0]
    shell = bits.pack(surface)
    enclosed = bits.flooded_complement(shell, resolution)
    filled = enclosed
    open_faces = faces[_in_open_part(topology)]
    if len(open_faces):
        votes = _count_votes(vertices, open_faces, shell, enclosed)
        if votes is not None:
            voted = decide(votes, least_inside=_MIN_INSIDE, most_exposed=_MAX_EXPOSED)
            filled = bits.flooded_complement(bits.settle(voted, enclosed), resolution)
    occupancy = bits.unpack(filled, resolution)
    inside = int(np.count_nonzero(bits.unpack(enclosed & ~shell, resolution)))
    total = int(np.count_nonzero(occupancy & ~surface))
    return Solid(occupancy, enclosed_voxels=inside, leaked_voxels=total - inside)


def _in_open_part(topology: Topology) -> Bools:
    """(f,) faces of connected parts with an edge on an odd number of faces; all others enclose what they enclose."""
    odd = (topology.edge_faces % 2 == 1)[topology.edges].any(axis=1)
    parts = find_parts(topology)
    is_open = np.zeros(len(parts), dtype=np.bool_)
    is_open[parts[odd]] = True
    return is_open[parts]


def _count_votes(vertices: Floats, faces: Integers, shell: Words, enclosed: Words) -> Votes | None:
    """The votes of all directions; None if already the three axes find nothing behind holes."""
    resolution = shell.shape[0]
    votes = Votes.none(resolution)
    for direction in AXES:
        add_votes(votes, find_crossings(vertices, faces, direction, resolution), shell, direction)
    if not (votes.inside[1] & ~enclosed).any():  # the plane of twos: two or three of three axes
        return None
    for direction in (*FACE_DIAGONALS, *BODY_DIAGONALS):
        add_votes(votes, find_crossings(vertices, faces, direction, resolution), shell, direction)
    return votes
