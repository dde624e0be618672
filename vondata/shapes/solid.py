"""The solid inside a surface that may be open or broken.

Voxels that a flood from outside cannot reach are inside, which is right for every surface without holes. Where the
surface has holes the flood leaks in, and votes by parity decide instead (see `parity`): a voxel is inside if more
directions vote for it than against it, and few half lines from it leave the grid. A shape without a floor is solid; a
bucket is not, since its inside is visible. Deep in a bucket few half lines leave the grid either, but from nearly
every voxel: a cavity is told from an inside with holes by the share of its voxels that are visible at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.shapes import voxelize as bits
from vondata.shapes.cleaning import Topology, find_parts
from vondata.shapes.parity import (
    AXES,
    BODY_DIAGONALS,
    FACE_DIAGONALS,
    Votes,
    add_votes,
    at_least,
    decide,
    find_crossings,
)

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_MIN_INSIDE = 3  # directions of 13 that must find a voxel inside
_MAX_EXPOSED = 1  # half lines, of the 17 that do not point down, that may leave the grid through an opening
_LEAK_FRACTION = 0.01
# Minimum visible share of a connected component behind holes: vessels have 0.29 and more, a solid that lost a tenth
# of its surface 0.11 at most. Components smaller than a cube of 1/16 of the grid's edge are left to the votes.
_MIN_CAVITY_EXPOSED = 0.2
_CAVITIES_ALONG_EDGE = 16


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
        """Whether more than a hundredth of the inside lies behind holes in the surface."""
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
            voted = decide(votes, min_inside=_MIN_INSIDE, max_exposed=_MAX_EXPOSED)
            filled = bits.flooded_complement(bits.settle(voted, enclosed), resolution)
            filled &= ~_cavities(filled & ~enclosed & ~shell, at_least(votes.exposed, 1))
    occupancy = bits.unpack(filled, resolution)
    inside = int(np.count_nonzero(bits.unpack(enclosed & ~shell, resolution)))
    total = int(np.count_nonzero(occupancy & ~surface))
    return Solid(occupancy, enclosed_voxels=inside, leaked_voxels=total - inside)


def _cavities(behind_holes: Words, exposed: Words) -> Words:
    """The connected components behind holes that are cavities: a good part of their voxels is visible."""
    from scipy.ndimage import label

    size = behind_holes.shape[0]
    least = (size / _CAVITIES_ALONG_EDGE) ** 3
    if np.bitwise_count(behind_holes & exposed).sum() < _MIN_CAVITY_EXPOSED * least:
        return np.zeros_like(behind_holes)
    x, y = (np.flatnonzero(behind_holes.any(axis=others)) for others in ((1, 2), (0, 2)))
    box = np.s_[x[0] : x[-1] + 1, y[0] : y[-1] + 1]
    grid = bits.unpack(behind_holes[box], size)
    parts, count = label(grid)
    inside = parts[grid]
    voxels = np.bincount(inside, minlength=count + 1)
    seen = np.bincount(inside, bits.unpack(exposed[box], size)[grid], count + 1)
    is_cavity = (seen >= _MIN_CAVITY_EXPOSED * voxels) & (voxels >= least)
    cavities = np.zeros_like(behind_holes)
    if is_cavity.any():
        cavities[box] = bits.pack(is_cavity[parts])
    return cavities


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
