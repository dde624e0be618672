"""Cleans a triangle soup: welded vertices, no degenerate or duplicate faces, normalised to the object frame.

The result lies inside the unit sphere around the origin, its bounding box centred there and its farthest vertex just
under radius 1, so that no viewpoint clips the object. `Topology` holds the edges of such a mesh; from it follow open
edges, watertightness, connected components and fins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel
from vondata.shapes.polygons import TriangleSoup
from vondata.types import Rejected

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RADIUS = 1.0 - 1e-6
_WELD_STEPS = 2**21 - 2  # grid steps along an edge of the cube; vertices at the same grid point are merged
_NEARLY_ALL, _SLICES = 0.99, 256  # share of the area; slices along the box's longest edge
_FLAT = 1e-9  # of the object's size: narrower triangles have no area, narrower objects no extent


@dataclass(frozen=True, eq=False)
class Mesh:
    """A clean mesh in the object frame.

    Attributes:
        vertices: (v, 3) positions inside the unit sphere.
        faces: (f, 3) vertex numbers; equal positions have equal numbers.
        scale: object units per source unit.
        centre: middle of the bounding box in source coordinates.
        rotation: (3, 3) from source axes to object axes.
        source_faces: number of triangles of the source.
        source_vertices: number of vertices of the source.
        degenerate_faces: number of dropped triangles without area.
        duplicate_faces: number of dropped triangles on the same three vertices as another one.
    """

    vertices: Floats
    faces: Integers
    scale: float
    centre: tuple[float, float, float]
    rotation: Floats
    source_faces: int
    source_vertices: int
    degenerate_faces: int
    duplicate_faces: int

    def to_source(self, points: Floats) -> Floats:
        """Points (..., 3) of the object frame in source coordinates."""
        return np.asarray(points @ self.rotation / self.scale + np.array(self.centre))

    def areas(self) -> Floats:
        """(f,) the area of each face, in object units."""
        areas = np.empty(len(self.faces))
        _fill_areas(self.vertices, self.faces, areas)
        return areas

    def without(self, dropped: Bools) -> Mesh:
        """The mesh without some faces; vertices, scale and centre stay."""
        return replace(self, faces=self.faces[~dropped])


def clean_mesh(soup: TriangleSoup, rotation: Floats) -> Mesh:
    """Cleans a soup and moves it into the object frame.

    Args:
        soup: triangles in source coordinates.
        rotation: (3, 3) from source axes to object axes.

    Raises:
        Rejected: empty_mesh, not_finite, flat_mesh.
    """
    vertices, faces = _used(soup.vertices, soup.faces)
    middle, size = _check_extent(vertices, len(soup.faces))
    unit = (vertices / 2 - middle / 2) / (size / 2)
    unit, faces = _used(unit, _with_area(unit, faces, len(soup.faces)))
    shift = (unit.min(axis=0) + unit.max(axis=0)) / 2
    unit -= shift
    radius = float(np.sqrt(np.einsum("ij,ij->i", unit, unit).max()))
    vertices, faces = _weld(unit * (RADIUS / radius) @ rotation.T, faces)
    faces = _with_area(vertices, faces, len(soup.faces))
    kept = first_of_equal_faces(faces)
    centre = middle + shift * size
    source_faces = len(soup.faces) + soup.broken_faces
    return Mesh(
        vertices=vertices,
        faces=faces[kept],
        scale=RADIUS / (radius * size),
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        rotation=rotation,
        source_faces=source_faces,
        source_vertices=len(soup.vertices),
        degenerate_faces=source_faces - len(faces),
        duplicate_faces=len(faces) - len(kept),
    )


def has_outlier(mesh: Mesh) -> bool:
    """Whether nearly all of the mesh lies in a small part of its bounding box, as with one stray triangle far away.

    The object then fills only a part of its voxel grid: along every axis, `_NEARLY_ALL` of the area lies within less
    than half of the box's longest edge, or all vertices but a few lie within a third of it, as where a damaged vertex
    pulls its triangles into spikes.
    """
    if _has_spike(mesh.vertices):
        return True
    low, high, areas = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0), mesh.areas()
    slices = ((mesh.vertices - low) * (_SLICES / float((high - low).max()))).astype(np.int64)
    begins, ends = np.zeros((3, _SLICES + 1)), np.zeros((3, _SLICES + 1))
    _add_extents(slices, mesh.faces, areas, begins, ends)
    spare, span = (1.0 - _NEARLY_ALL) * areas.sum(), 0
    for axis in range(3):
        length = int(slices[:, axis].max()) + 1
        # Cumulative area of the triangles that reach into the slices, from either end.
        reached = np.cumsum(begins[axis, :length]), np.cumsum(ends[axis, length - 1 :: -1])
        span = max(span, length - max(int(np.count_nonzero(each <= spare)) for each in reached))
    return span < _SLICES // 2


def _has_spike(vertices: Floats) -> bool:
    """Whether the box's longest edge falls below a third without a thousandth of the vertices (at least two)."""
    few = max(2, len(vertices) // 1000)
    if len(vertices) < 4 * few:
        return False
    ordered = np.partition(vertices, (*range(few + 1), *range(len(vertices) - few - 1, len(vertices))), axis=0)
    # Extents without the lowest i and the highest few - i vertices, along each axis.
    spans = ordered[len(vertices) - few - 1 :] - ordered[: few + 1]
    return bool(spans.min(axis=0).max() < (ordered[-1] - ordered[0]).max() / 3)


def first_of_equal_faces(faces: Integers) -> Integers:
    """The rows of the first face on each set of three vertices, regardless of orientation."""
    low, middle, high = np.sort(faces, axis=1).T
    count = np.int64(faces.max() + 1)
    edge = first_of_equal(low * count + middle)
    return np.flatnonzero(first_of_equal(edge * count + high) == np.arange(len(faces)))


def first_of_equal(keys: Integers) -> Integers:
    """For each key, the position of the first one equal to it."""
    table = np.full(1 << (2 * len(keys)).bit_length(), -1, dtype=np.int64)
    first = np.empty(len(keys), dtype=np.int64)
    _first_of_equal(keys, table, first)
    return first


def _with_area(vertices: Floats, faces: Integers, of: int) -> Integers:
    """The faces that have an area; raises Rejected (empty_mesh) if there is none."""
    kept = faces[_has_area(vertices, faces)]
    if len(kept) == 0:
        raise Rejected("empty_mesh", f"none of {of:,} triangles has an area")
    return kept


def _used(vertices: Floats, faces: Integers) -> tuple[Floats, Integers]:
    """Drops the vertices that no face uses."""
    used = np.zeros(len(vertices), dtype=np.bool_)
    used[faces.reshape(-1)] = True
    if used.all():
        return vertices, faces
    return vertices[used], (np.cumsum(used) - 1)[faces]


def _check_extent(vertices: Floats, faces: int) -> tuple[Floats, float]:
    """The middle of the bounding box and half its longest edge.

    Raises:
        Rejected: empty_mesh, not_finite, flat_mesh (all vertices on a point or a line).
    """
    if len(vertices) == 0:
        raise Rejected("empty_mesh", "no triangles")
    finite = np.isfinite(vertices).all(axis=1)
    if not finite.all():
        broken = int(np.count_nonzero(~finite))
        raise Rejected("not_finite", f"{broken:,} of {len(vertices):,} vertices are infinite or NaN")
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    middle, size = low / 2 + high / 2, float((high / 2 - low / 2).max())
    if size <= _FLAT * float(np.abs(middle).max()) or size < np.finfo(np.float64).tiny / _FLAT:
        raise Rejected("flat_mesh", f"the vertices of all {faces:,} triangles lie on one point")
    unit = (vertices / 2 - vertices[0] / 2) / size
    far = unit[np.argmax(np.einsum("ij,ij->i", unit, unit))]
    if np.abs(np.cross(unit, far / np.linalg.norm(far))).max() <= _FLAT:
        raise Rejected("flat_mesh", f"the vertices of all {faces:,} triangles lie on one line")
    return middle, size


def _weld(positions: Floats, faces: Integers) -> tuple[Floats, Integers]:
    """Merges vertices at the same position."""
    steps = np.rint((positions + 1.0) * (_WELD_STEPS / 2)).astype(np.int64)
    first = first_of_equal((steps[:, 0] << 42) | (steps[:, 1] << 21) | steps[:, 2])
    return _used(positions, first[faces])


@kernel
def _fill_areas(vertices: Floats, faces: Integers, areas: Floats) -> None:
    for row in range(faces.shape[0]):
        a, b, c = vertices[faces[row, 0]], vertices[faces[row, 1]], vertices[faces[row, 2]]
        doubled = 0.0
        for axis in range(3):
            v, w = (axis + 1) % 3, (axis + 2) % 3
            doubled += ((b[v] - a[v]) * (c[w] - a[w]) - (b[w] - a[w]) * (c[v] - a[v])) ** 2
        areas[row] = 0.5 * np.sqrt(doubled)


@kernel
def _add_extents(slices: Integers, faces: Integers, areas: Floats, begins: Floats, ends: Floats) -> None:
    """Adds the area of each face to the slices in which it begins and ends, along each axis."""
    for row in range(faces.shape[0]):
        for axis in range(3):
            a, b, c = slices[faces[row, 0], axis], slices[faces[row, 1], axis], slices[faces[row, 2], axis]
            begins[axis, min(a, b, c)] += areas[row]
            ends[axis, max(a, b, c)] += areas[row]


@kernel
def _has_area(vertices: Floats, faces: Integers) -> Bools:
    """Whether the height of each triangle over its longest edge exceeds `_FLAT`."""
    right = np.empty(faces.shape[0], np.bool_)
    edges, cross = np.empty((3, 3)), np.empty(3)
    for row in range(faces.shape[0]):
        longest = 0.0
        for corner in range(3):
            start, end = vertices[faces[row, corner]], vertices[faces[row, (corner + 1) % 3]]
            length = 0.0
            for axis in range(3):
                edges[corner, axis] = end[axis] - start[axis]
                length += edges[corner, axis] ** 2
            longest = max(longest, length)
        area = 0.0
        for axis in range(3):
            v, w = (axis + 1) % 3, (axis + 2) % 3
            cross[axis] = edges[0, v] * edges[1, w] - edges[0, w] * edges[1, v]
            area += cross[axis] ** 2
        right[row] = longest > 0.0 and area > longest * _FLAT**2
    return right


@kernel
def _first_of_equal(keys: Integers, table: Integers, first: Integers) -> None:
    """Hash table with open addressing; it holds positions and has at least twice as many slots as there are keys."""
    mask = np.uint64(table.size - 1)
    for position in range(keys.size):
        slot = (np.uint64(keys[position]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
        while True:
            found = table[slot & mask]
            if found < 0:
                table[slot & mask] = position
                first[position] = position
                break
            if keys[found] == keys[position]:
                first[position] = found
                break
            slot += np.uint64(1)


@dataclass(frozen=True, eq=False)
class Topology:
    """Edges of a mesh and the faces on them.

    Attributes:
        edges: (f, 3) index of the edge after each corner of each face; two faces share an edge if they share both
            its vertices.
        edge_faces: number of faces on each edge.
    """

    edges: Integers
    edge_faces: Integers

    @property
    def open_edges(self) -> int:
        """Number of edges with a single face."""
        return int(np.count_nonzero(self.edge_faces == 1))

    @property
    def watertight(self) -> bool:
        """Whether every edge has two faces, as the surface of a solid has."""
        used = self.edge_faces[self.edge_faces > 0]
        return bool(used.size and np.all(used == 2))


def find_topology(faces: Integers) -> Topology:
    """Finds the edges of a clean mesh of faces (f, 3), none of which uses a vertex twice."""
    start, end = faces, np.roll(faces, -1, axis=1)
    keys = (np.minimum(start, end) * np.int64(faces.max() + 1) + np.maximum(start, end)).reshape(-1)
    first = first_of_equal(keys)
    return Topology(edges=first.reshape(-1, 3), edge_faces=np.bincount(first, minlength=len(first)))


def find_parts(topology: Topology) -> Integers:
    """(f,) the connected component of each face, as its lowest face index; faces that share an edge are connected."""
    parents = np.arange(len(topology.edges), dtype=np.int64)
    _join(topology.edges, parents)
    return parents


def find_fins(topology: Topology) -> Bools:
    """Finds fins: single triangles attached by one edge to a surface that continues without them.

    A fin has two open edges, and two or more other faces on the third; an intended sheet has more triangles.

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
    """Union-find over shared edges; afterwards every face points to the lowest face of its component."""
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
