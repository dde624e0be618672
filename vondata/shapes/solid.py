"""Solid voxelisation of open or broken surfaces: flood fill from outside, then ray parity along 13 directions.

Voxels that a flood fill from outside cannot reach are inside, which is correct for every surface without holes. Where
the surface has holes the flood leaks in, and votes by parity decide instead: a voxel is inside if more directions
vote for it than against it, and few rays from it leave the grid. A shape without a floor is solid; a bucket is not,
since its inside is visible. Deep in a bucket, too, few rays leave the grid, but from nearly every voxel: a cavity is
distinguished from an inside with holes by the share of its voxels that are visible at all.

A line that crosses a closed surface is inside after an odd number of crossings, whatever the orientation of the
faces. On a broken surface a line may pass through a hole; then its total number of crossings is odd, and it has no
vote. A direction is three steps of 0, 1 or -1 of which the first nonzero one is 1. The mesh is sheared so that
slanted lines become lines along an axis and every direction runs exactly through voxel centres. Votes are counted for
64 voxels at a time: bit k of bit plane p is bit p of the count of voxel k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel
from vondata.shapes import voxelize as bits
from vondata.shapes.cleaning import Topology, find_parts
from vondata.shapes.voxelize import opened

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Direction = tuple[int, int, int]

AXES: tuple[Direction, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
FACE_DIAGONALS: tuple[Direction, ...] = ((1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1))
BODY_DIAGONALS: tuple[Direction, ...] = ((1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1))


def find_crossings(
    vertices: Floats, faces: Integers, direction: Direction, resolution: int, *, parity: bool = True
) -> Words:
    """Packed (N, N, N) voxels that a line enters after an odd number of crossings since the previous voxel.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers; the lower number of an edge's two vertices decides its rounding, so that
            neighbours agree on every line and a closed mesh is crossed an even number of times everywhere.
        direction: the lines' direction.
        resolution: N.
        parity: False gives the voxels entered after any crossing, so that doubled faces do not cancel out.
    """
    depth = direction.index(1)
    u, v = ((depth + 1) % 3, (depth + 2) % 3)
    sheared = np.empty((len(vertices), 3))
    sheared[:, 0] = vertices[:, depth]
    sheared[:, 1] = vertices[:, u] - direction[u] * vertices[:, depth]
    sheared[:, 2] = vertices[:, v] - direction[v] * vertices[:, depth]
    words = np.zeros((resolution, resolution, -(-resolution // 64)), dtype=np.uint64)
    _mark_crossings(sheared, faces, (depth, direction[u], direction[v]), words, parity)
    return words


@kernel
def _mark_crossings(points: Floats, faces: Integers, steps: tuple[int, int, int], words: Words, parity: bool) -> None:
    """Scans each triangle's projection by rows; bounds are half open, so that a line through an edge counts once."""
    size, (depth, u_step, v_step) = words.shape[0], steps
    cell = np.empty(3, np.int64)
    for face in range(faces.shape[0]):
        a, b, c = points[faces[face, 0]], points[faces[face, 1]], points[faces[face, 2]]
        slope_u, slope_v, usable = _slopes(a, b, c)
        nearest, farthest = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        first = np.int64(np.ceil(min(a[2], b[2], c[2])))
        last = np.int64(np.floor(max(a[2], b[2], c[2])))
        for v in range(first, last + 1):
            low, high = _row_of_triangle(points, faces[face], float(v))
            for u in range(np.int64(np.ceil(low)), np.int64(np.ceil(high))):
                distance = a[0]
                if usable:
                    distance += slope_u * (u - a[1]) + slope_v * (v - a[2])
                d = np.int64(np.floor(min(max(distance, nearest), farthest))) + 1
                cell[depth] = d
                cell[(depth + 1) % 3] = u + u_step * d
                cell[(depth + 2) % 3] = v + v_step * d
                x, y, z = cell[0], cell[1], cell[2]
                if x >= 0 and y >= 0 and z >= 0 and x < size and y < size and z < size:
                    bit = np.uint64(1) << np.uint64(z & 63)
                    words[x, y, z >> 6] = words[x, y, z >> 6] ^ bit if parity else words[x, y, z >> 6] | bit


@kernel
def _slopes(a: Floats, b: Floats, c: Floats) -> tuple[float, float, bool]:
    """The slopes of a triangle's plane along its second and third coordinate; not usable if it is vertical."""
    up = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
    if up == 0.0:
        return 0.0, 0.0, False
    rise_u = (b[0] - a[0]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[0] - a[0])
    rise_v = (b[1] - a[1]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[1] - a[1])
    return rise_u / up, rise_v / up, True


@kernel
def _row_of_triangle(points: Floats, face: Integers, v: float) -> tuple[float, float]:
    """The interval of a triangle's projection at height v."""
    low, high = np.inf, -np.inf
    for corner in range(3):
        start, end = face[corner], face[(corner + 1) % 3]
        p, q = points[min(start, end)], points[max(start, end)]
        if (p[2] > v) != (q[2] > v):
            meeting = p[1] + (v - p[2]) * (q[1] - p[1]) / (q[2] - p[2])
            low, high = min(low, meeting), max(high, meeting)
    return low, high


_ONE = np.uint64(1)
_LAST = np.uint64(63)


@dataclass(frozen=True, eq=False)
class Votes:
    """Counts per voxel, as packed (planes, N, N, W) bits of each count.

    Attributes:
        inside: directions in which the voxel has an odd number of crossings on both sides.
        outside: directions in which it has an even number on both sides; in all others its line passes a hole.
        exposed: rays, of those that do not point down, that leave the grid without meeting the surface, through an
            opening of at least five voxels.
    """

    inside: Words
    outside: Words
    exposed: Words

    @staticmethod
    def none(resolution: int) -> Votes:
        """No votes on an N^3 grid; the planes hold all thirteen directions."""
        shape = (resolution, resolution, -(-resolution // 64))
        return Votes(*(np.zeros((planes, *shape), dtype=np.uint64) for planes in (4, 4, 5)))


def add_votes(votes: Votes, crossings: Words, surface: Words, direction: Direction) -> None:
    """Adds the votes of the lines of one direction.

    Args:
        votes: the counts, changed in place.
        crossings: packed voxels from `find_crossings`.
        surface: packed surface voxels.
        direction: the direction of the crossings.
    """
    behind, hidden = np.empty_like(crossings), np.empty_like(crossings)
    ahead, covered = np.empty_like(crossings), np.empty_like(crossings)
    _look_back(crossings, surface, direction, behind, hidden)
    _look_ahead(crossings, surface, direction, behind, ahead, covered)
    _count(votes.inside, behind & ahead)
    _count(votes.outside, ~behind & ~ahead)
    if direction[2] >= 0:
        _count(votes.exposed, opened(~covered))
    if direction[2] <= 0:
        _count(votes.exposed, opened(~hidden))


@kernel
def _look_back(crossings: Words, surface: Words, direction: Direction, behind: Words, hidden: Words) -> None:
    """For each voxel, the parity of the crossings up to it and whether its line met the surface before."""
    size, width = crossings.shape[0], crossings.shape[2]
    step_x, step_y, step_z = direction
    for x in range(size):
        for y in range(size):
            from_x, from_y = x - step_x, y - step_y
            along_row = step_x == 0 and step_y == 0
            enters = not along_row and (from_x < 0 or from_y < 0 or from_y >= size)
            parity, met = np.uint64(0), np.uint64(0)
            for w in range(width):
                if along_row:
                    behind[x, y, w] = _prefix_parity(crossings[x, y, w]) ^ parity
                    parity = np.uint64(0) - (behind[x, y, w] >> _LAST)
                    hidden[x, y, w] = _spread_up(surface[x, y, w]) | met
                    met = np.uint64(0) - (hidden[x, y, w] >> _LAST)
                elif enters:
                    behind[x, y, w] = crossings[x, y, w]
                    hidden[x, y, w] = surface[x, y, w]
                else:
                    behind[x, y, w] = crossings[x, y, w] ^ _moved(behind, from_x, from_y, w, step_z)
                    hidden[x, y, w] = surface[x, y, w] | _moved(hidden, from_x, from_y, w, step_z)


@kernel
def _look_ahead(
    crossings: Words, surface: Words, direction: Direction, behind: Words, ahead: Words, covered: Words
) -> None:
    """For each voxel, the parity of the crossings after it and whether its line meets the surface from there on."""
    size, width = crossings.shape[0], crossings.shape[2]
    step_x, step_y, step_z = direction
    for x in range(size - 1, -1, -1):
        for y in range(size - 1, -1, -1):
            to_x, to_y = x + step_x, y + step_y
            along_row = step_x == 0 and step_y == 0
            leaves = not along_row and (to_x >= size or to_y < 0 or to_y >= size)
            met = np.uint64(0)
            for w in range(width - 1, -1, -1):
                if along_row:
                    ahead[x, y, w] = behind[x, y, w] ^ (np.uint64(0) - (behind[x, y, width - 1] >> _LAST))
                    covered[x, y, w] = _spread_down(surface[x, y, w]) | met
                    met = np.uint64(0) - (covered[x, y, w] & _ONE)
                elif leaves:
                    ahead[x, y, w], covered[x, y, w] = np.uint64(0), surface[x, y, w]
                else:
                    ahead[x, y, w] = _moved_sum(ahead, crossings, to_x, to_y, w, -step_z)
                    covered[x, y, w] = surface[x, y, w] | _moved(covered, to_x, to_y, w, -step_z)


@kernel
def _prefix_parity(word: np.uint64) -> np.uint64:
    """Bit k becomes the parity of bits 0 to k."""
    for step in (1, 2, 4, 8, 16, 32):
        word ^= word << np.uint64(step)
    return word


@kernel
def _spread_up(word: np.uint64) -> np.uint64:
    for step in (1, 2, 4, 8, 16, 32):
        word |= word << np.uint64(step)
    return word


@kernel
def _spread_down(word: np.uint64) -> np.uint64:
    for step in (1, 2, 4, 8, 16, 32):
        word |= word >> np.uint64(step)
    return word


def _count(counters: Words, votes: Words) -> None:
    """Increments the counters of all set bits, with ripple carry through the bit planes."""
    for plane in range(len(counters)):
        carry = counters[plane] & votes
        counters[plane] ^= votes
        votes = carry


@kernel
def _moved_sum(one: Words, other: Words, x: int, y: int, w: int, by: int) -> np.uint64:
    """The parity of two sets in a word of a shifted row."""
    return _moved(one, x, y, w, by) ^ _moved(other, x, y, w, by)


@kernel
def _moved(words: Words, x: int, y: int, w: int, by: int) -> np.uint64:
    """A word of a row shifted one voxel up (by = 1), one down (-1) or not at all (0)."""
    word = np.uint64(words[x, y, w])
    if by > 0:
        return (word << _ONE) | (words[x, y, w - 1] >> _LAST if w > 0 else np.uint64(0))
    if by < 0:
        return (word >> _ONE) | (words[x, y, w + 1] << _LAST if w + 1 < words.shape[2] else np.uint64(0))
    return word


def decide(votes: Votes, *, min_inside: int, max_exposed: int) -> Words:
    """The packed voxels that the votes place inside.

    At least `min_inside` directions must vote for inside, more than vote for outside, and at most `max_exposed` rays
    may leave the grid.
    """
    inside, outside = votes.inside, votes.outside
    more: Words = np.zeros(inside.shape[1:], dtype=np.uint64)
    equal = ~more
    for yes, no in zip(inside[::-1], outside[::-1], strict=True):  # the highest bit that differs decides
        more |= equal & yes & ~no
        equal &= ~(yes ^ no)
    more &= at_least(inside, min_inside)
    more &= ~at_least(votes.exposed, max_exposed + 1)
    return more


def at_least(count: Words, least: int) -> Words:
    """The packed voxels whose count is at least `least`."""
    above: Words = np.zeros(count.shape[1:], dtype=np.uint64)
    equal = ~above
    for plane in range(len(count) - 1, -1, -1):
        if least >> plane & 1:
            equal &= count[plane]
        else:
            above |= equal & count[plane]
            equal &= ~count[plane]
    above |= equal
    return above


Bools = npt.NDArray[np.bool_]

_MIN_INSIDE = 3  # of 13 directions that must vote a voxel inside
_MAX_EXPOSED = 1  # of the 17 rays that do not point down, that may leave the grid through an opening
_LEAK_FRACTION = 0.01
# Minimum visible share of a cavity: vessels have 0.29 and more, a solid that lost a tenth of its surface at most
# 0.11. Components smaller than a cube of 1/16 of the grid's edge are left to the votes.
_MIN_CAVITY_EXPOSED = 0.2
_CAVITIES_ALONG_EDGE = 16


@dataclass(frozen=True, eq=False)
class Solid:
    """A filled surface.

    Attributes:
        occupancy: (N, N, N) surface and inside.
        enclosed_voxels: inside voxels that no hole connects to the outside.
        leaked_voxels: inside voxels behind a hole.
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
    """The connected components behind holes that are cavities, by their share of visible voxels."""
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
    """(f,) faces of the components that have an edge with an odd number of faces; all others are closed."""
    odd = (topology.edge_faces % 2 == 1)[topology.edges].any(axis=1)
    parts = find_parts(topology)
    is_open = np.zeros(len(parts), dtype=np.bool_)
    is_open[parts[odd]] = True
    return is_open[parts]


def _count_votes(vertices: Floats, faces: Integers, shell: Words, enclosed: Words) -> Votes | None:
    """The votes of all directions; None if the three axes find nothing behind holes."""
    resolution = shell.shape[0]
    votes = Votes.none(resolution)
    for direction in AXES:
        add_votes(votes, find_crossings(vertices, faces, direction, resolution), shell, direction)
    if not (votes.inside[1] & ~enclosed).any():  # the plane of twos: two or three of three axes
        return None
    for direction in (*FACE_DIAGONALS, *BODY_DIAGONALS):
        add_votes(votes, find_crossings(vertices, faces, direction, resolution), shell, direction)
    return votes
