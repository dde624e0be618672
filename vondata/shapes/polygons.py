"""Triangulation of polygons: ear clipping for concave ones, fans for convex ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel
from vondata.shapes.source_file import Limits, MeshFileError
from vondata.types import Rejected

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Scratch = tuple[Floats, Integers]  # a polygon's projected corners, and the indices of the remaining ones

# Ear clipping is quadratic in the number of corners; larger polygons that are not convex are refused.
MAX_EAR_CORNERS = 4_000


@dataclass(frozen=True, eq=False)
class Polygons:
    """A polygon mesh as read from a file.

    Attributes:
        vertices: (v, 3) positions.
        corners: (c,) vertex numbers of all polygons, one after the other.
        starts: (p + 1,) where each polygon starts in `corners`, and their end.
    """

    vertices: Floats
    corners: Integers
    starts: Integers

    def check_corners(self) -> None:
        """Raises MeshFileError if a polygon names a vertex that does not exist."""
        numbers, count = self.corners, len(self.vertices)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < count:
            wrong = numbers[(numbers < 0) | (numbers >= count)][0]
            raise MeshFileError(f"a face names vertex {wrong}, and there are {count:,}")


@dataclass(frozen=True, eq=False)
class TriangleSoup:
    """Triangles as read from a file.

    Attributes:
        vertices: (v, 3) positions in source coordinates.
        faces: (f, 3) vertex numbers.
        broken_faces: faces of the file with fewer than three corners, which are not among `faces`.
    """

    vertices: Floats
    faces: Integers
    broken_faces: int = 0


def cut_polygons(polygons: Polygons, limits: Limits) -> TriangleSoup:
    """Triangulates the polygons of a file.

    Raises:
        Rejected: too_large.
    """
    limits.check_mesh(len(polygons.vertices), int(np.maximum(np.diff(polygons.starts) - 2, 0).sum()))
    faces, broken = triangulate(polygons)
    return TriangleSoup(polygons.vertices, faces, broken)


def triangulate(polygons: Polygons) -> tuple[Integers, int]:
    """Triangulates all polygons.

    Returns:
        (t, 3) vertex numbers, and how many polygons had fewer than three corners.

    Raises:
        Rejected: too_large: a concave polygon has more than `MAX_EAR_CORNERS`.
    """
    sizes = np.diff(polygons.starts)
    triangles = np.empty((int(np.maximum(sizes - 2, 0).sum()), 3), dtype=np.int64)
    if np.all(sizes == 3):
        triangles[:] = polygons.corners.reshape(-1, 3)
    else:
        most = int(min(sizes.max(initial=0), MAX_EAR_CORNERS))
        scratch = np.empty((most, 2)), np.empty(most, dtype=np.int64)
        refused = _triangulate(polygons.vertices, polygons.corners, polygons.starts, triangles, scratch)
        if refused >= 0:
            raise Rejected(
                "too_large",
                f"face {refused + 1:,} is concave and has {sizes[refused]:,} corners; "
                f"the limit is {MAX_EAR_CORNERS:,}",
            )
    return triangles, int(np.count_nonzero(sizes < 3))


@kernel
def _triangulate(vertices: Floats, corners: Integers, starts: Integers, triangles: Integers, scratch: Scratch) -> int:
    """Fills the triangles of all polygons; returns the index of a concave one that is too large, or -1."""
    row = 0
    for face in range(starts.size - 1):
        start, count = starts[face], starts[face + 1] - starts[face]
        if count < 3:
            continue
        if count > MAX_EAR_CORNERS and _is_turned_over(vertices, corners, start, count):
            return face
        if count > 3 and count <= MAX_EAR_CORNERS and not _lay_flat(vertices, corners, start, count, scratch[0]):
            _cut_ears(corners, start, count, scratch, triangles, row)
        else:
            for i in range(count - 2):
                triangles[row + i, 0] = corners[start]
                triangles[row + i, 1] = corners[start + i + 1]
                triangles[row + i, 2] = corners[start + i + 2]
        row += count - 2
    return -1


@kernel
def _lay_flat(vertices: Floats, corners: Integers, start: int, count: int, flat: Floats) -> bool:
    """Projects a polygon so that it runs counter-clockwise.

    Returns:
        whether it may be cut as a fan: no triangle at its first corner is flipped.
    """
    first, second = _axes(vertices, corners, start, count)
    for i in range(count):
        flat[i, 0], flat[i, 1] = vertices[corners[start + i], first], vertices[corners[start + i], second]
    i = 1
    while i < count - 1 and _turn(flat, 0, i, i + 1) >= 0:
        i += 1
    return i == count - 1


@kernel
def _is_turned_over(vertices: Floats, corners: Integers, start: int, count: int) -> bool:
    """Whether a triangle of a polygon's fan is flipped; False for corners that are NaN."""
    first, second = _axes(vertices, corners, start, count)
    flat = np.empty((3, 2))
    flat[0, 0], flat[0, 1] = vertices[corners[start], first], vertices[corners[start], second]
    for i in range(1, count - 1):
        for k in range(1, 3):
            corner = corners[start + i + k - 1]
            flat[k, 0], flat[k, 1] = vertices[corner, first], vertices[corner, second]
        if _turn(flat, 0, 1, 2) < 0:
            return True
    return False


@kernel
def _axes(vertices: Floats, corners: Integers, start: int, count: int) -> tuple[int, int]:
    """The two projection axes, across the axis nearest to a polygon's Newell normal, for counter-clockwise order."""
    normal_x, normal_y, normal_z = 0.0, 0.0, 0.0
    for i in range(count):
        here, there = corners[start + i], corners[start + (i + 1) % count]
        x, y, z = vertices[here, 0], vertices[here, 1], vertices[here, 2]
        u, v, w = vertices[there, 0], vertices[there, 1], vertices[there, 2]
        normal_x += (y - v) * (z + w)
        normal_y += (z - w) * (x + u)
        normal_z += (x - u) * (y + v)
    first, second, along = 0, 1, normal_z
    if abs(normal_x) > abs(along):
        first, second, along = 1, 2, normal_x
    if abs(normal_y) > abs(along):
        first, second, along = 2, 0, normal_y
    if along < 0:
        first, second = second, first
    return first, second


@kernel
def _turn(flat: Floats, a: int, b: int, c: int) -> float:
    """Twice the signed area of a triangle in the plane, positive if counter-clockwise."""
    return float(
        (flat[b, 0] - flat[a, 0]) * (flat[c, 1] - flat[a, 1]) - (flat[b, 1] - flat[a, 1]) * (flat[c, 0] - flat[a, 0])
    )


@kernel
def _cut_ears(corners: Integers, start: int, count: int, scratch: Scratch, triangles: Integers, row: int) -> None:
    """Clips one ear after the other: a convex corner whose triangle contains no other corner."""
    flat, rest = scratch
    for i in range(count):
        rest[i] = i
    at, tried = 0, 0
    while count >= 3:
        before, here, after = rest[(at + count - 1) % count], rest[at], rest[(at + 1) % count]
        # No ear among all corners: the polygon intersects itself, and any corner is clipped.
        if count == 3 or tried >= count or _is_ear(flat, rest, count, before, here, after):
            triangles[row, 0] = corners[start + before]
            triangles[row, 1] = corners[start + here]
            triangles[row, 2] = corners[start + after]
            row += 1
            count -= 1
            for i in range(at, count):
                rest[i] = rest[i + 1]
            at, tried = at % count, 0
        else:
            at, tried = (at + 1) % count, tried + 1


@kernel
def _is_ear(flat: Floats, rest: Integers, count: int, a: int, b: int, c: int) -> bool:
    if _turn(flat, a, b, c) <= 0:
        return False
    for i in range(count):
        p = rest[i]
        # Coincident corners, as where a hole is joined to the rim, do not block an ear.
        away = not (_same(flat, p, a) or _same(flat, p, b) or _same(flat, p, c))
        if away and _turn(flat, a, b, p) >= 0 and _turn(flat, b, c, p) >= 0 and _turn(flat, c, a, p) >= 0:
            return False
    return True


@kernel
def _same(flat: Floats, a: int, b: int) -> bool:
    return bool(flat[a, 0] == flat[b, 0] and flat[a, 1] == flat[b, 1])
