"""How the faces of a mesh hang together: open edges, watertightness, connected parts, fins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel
from vondata.shapes.cleaning import first_of_equal

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Topology:
    """What edges and faces of a mesh have to do with each other.

    Attributes:
        edges: (f, 3) number of the edge after each corner of each face; two faces share an edge if they share both
            its vertices.
        edge_faces: faces on each edge.
    """

    edges: Integers
    edge_faces: Integers

    @property
    def open_edges(self) -> int:
        """Edges with a single face."""
        return int(np.count_nonzero(self.edge_faces == 1))

    @property
    def watertight(self) -> bool:
        """Whether every edge has two faces, as the surface of a solid has."""
        used = self.edge_faces[self.edge_faces > 0]
        return bool(used.size and np.all(used == 2))


def find_topology(faces: Integers) -> Topology:
    """Finds the edges of a clean mesh. faces: (f, 3) vertex numbers, without faces that use a vertex twice."""
    start, end = faces, np.roll(faces, -1, axis=1)
    keys = (np.minimum(start, end) * np.int64(faces.max() + 1) + np.maximum(start, end)).reshape(-1)
    first = first_of_equal(keys)
    return Topology(edges=first.reshape(-1, 3), edge_faces=np.bincount(first, minlength=len(first)))


def find_parts(topology: Topology) -> Integers:
    """(f,) a number for each face, equal for faces connected over edges; the lowest face of the part."""
    parents = np.arange(len(topology.edges), dtype=np.int64)
    _join(topology.edges, parents)
    return parents


def find_fins(topology: Topology) -> Bools:
    """Single triangles that hang by one edge on a surface that goes on without them.

    They have two open edges, and two or more other faces on the third; a sheet that is meant has more triangles.

    Returns:
        (f,) True for fins.
    """
    counts = topology.edge_faces[topology.edges]
    return np.asarray((np.count_nonzero(counts == 1, axis=1) == 2) & (counts.max(axis=1) >= 3))


@kernel
def _root(parents: Integers, at: int) -> int:
    while parents[at] != at:
        parents[at] = parents[parents[at]]
        at = parents[at]
    return at


@kernel
def _join(edges: Integers, parents: Integers) -> None:
    """Union by edges; afterwards every face points to the lowest face of its part."""
    owner = np.full(edges.size, -1, np.int64)
    for face in range(edges.shape[0]):
        for side in range(3):
            edge = edges[face, side]
            if owner[edge] < 0:
                owner[edge] = face
            else:
                here, there = _root(parents, face), _root(parents, owner[edge])
                parents[max(here, there)] = min(here, there)
    for face in range(edges.shape[0]):
        parents[face] = _root(parents, face)
