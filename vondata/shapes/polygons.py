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
Grid = tuple[int, float, float, float, float]  # see `_fill_grid`

# Ear clipping takes a few tests a corner, but of a polygon that crosses itself as many as the square of its corners.
MAX_EAR_TESTS = 20_000_000


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
        Rejected: too_large: ear clipping of a polygon takes more than `MAX_EAR_TESTS`.
    """
    sizes = np.diff(polygons.starts)
    triangles = np.empty((int(np.maximum(sizes - 2, 0).sum()), 3), dtype=np.int64)
    if np.all(sizes == 3):
        triangles[:] = polygons.corners.reshape(-1, 3)
    else:
        refused = _triangulate(polygons.vertices, polygons.corners, polygons.starts, triangles)
        if refused >= 0:
            raise Rejected(
                "too_large",
                f"face {refused + 1:,} has {sizes[refused]:,} corners and is too intricate to be cut into triangles; "
                "it may cross itself",
            )
    return triangles, int(np.count_nonzero(sizes < 3))


@kernel
def _triangulate(vertices: Floats, corners: Integers, starts: Integers, triangles: Integers) -> int:
    """Fills the triangles of all polygons; returns the index of one that cannot be cut, or -1."""
    row = 0
    # Room for the largest concave polygon so far: its corners in the plane (c, 2), and indices (4, c) of the previous
    # and the next remaining corner, of the next one in the same cell of a grid, and of the first one in each cell.
    flat, links = np.empty((0, 2)), np.empty((4, 0), dtype=np.int64)
    for face in range(starts.size - 1):
        start, count = starts[face], starts[face + 1] - starts[face]
        if count < 3:
            continue
        first, second = _axes(vertices, corners, start, count)
        if count > 3 and _has_flipped_fan(vertices, corners, start, count, first, second):
            if count > len(flat):
                flat, links = np.empty((count, 2)), np.empty((4, count), dtype=np.int64)
            for i in range(count):
                flat[i, 0], flat[i, 1] = vertices[corners[start + i], first], vertices[corners[start + i], second]
            if not _cut_ears(corners, start, count, flat, links, triangles, row):
                return face
        else:
            for i in range(count - 2):
                triangles[row + i, 0] = corners[start]
                triangles[row + i, 1] = corners[start + i + 1]
                triangles[row + i, 2] = corners[start + i + 2]
        row += count - 2
    return -1


@kernel
def _has_flipped_fan(vertices: Floats, corners: Integers, start: int, count: int, first: int, second: int) -> bool:
    """Whether a triangle at a polygon's first corner is flipped; False for corners that are NaN."""
    x, y = vertices[corners[start], first], vertices[corners[start], second]
    for i in range(1, count - 1):
        here, there = corners[start + i], corners[start + i + 1]
        across, up = vertices[here, first] - x, vertices[here, second] - y
        if across * (vertices[there, second] - y) - up * (vertices[there, first] - x) < 0:
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
def _cut_ears(
    corners: Integers, start: int, count: int, flat: Floats, links: Integers, triangles: Integers, row: int
) -> bool:
    """Clips one ear after the other: a convex corner whose triangle contains no other corner.

    Returns:
        whether `MAX_EAR_TESTS` were enough.
    """
    grid = _fill_grid(flat, links, count)
    before, after = links[0], links[1]
    here, tried, tests = 0, 0, 0
    while count >= 3:
        # No ear among all corners: the polygon intersects itself, and any corner is clipped.
        if count == 3 or tried >= count or _is_ear(flat, links, grid, before[here], here, after[here]):
            triangles[row, 0] = corners[start + before[here]]
            triangles[row, 1] = corners[start + here]
            triangles[row, 2] = corners[start + after[here]]
            row += 1
            count -= 1
            after[before[here]], before[after[here]] = after[here], before[here]
            gone, here, tried = here, after[here], 0
            after[gone] = -1
        else:
            here, tried, tests = after[here], tried + 1, tests + 1
            if tests > MAX_EAR_TESTS:
                return False
    return True


@kernel
def _fill_grid(flat: Floats, links: Integers, count: int) -> Grid:
    """Links a polygon's corners in a circle, and those of each cell of a square grid over the polygon in a list.

    Returns:
        cells along a side; left and bottom edge of the grid; cells per unit of length across and up.
    """
    side = int(np.sqrt(count))
    left, bottom = flat[:count, 0].min(), flat[:count, 1].min()
    width, height = flat[:count, 0].max() - left, flat[:count, 1].max() - bottom
    across, up = side / width if width > 0 else 0.0, side / height if height > 0 else 0.0
    grid = side, left, bottom, across, up
    links[3, : side * side] = -1
    for i in range(count):
        links[0, i], links[1, i] = (i + count - 1) % count, (i + 1) % count
        cell = _cell(flat[i, 1], bottom, up, side) * side + _cell(flat[i, 0], left, across, side)
        links[2, i], links[3, cell] = links[3, cell], i
    return grid


@kernel
def _cell(value: float, low: float, per_unit: float, side: int) -> int:
    """The row or column of a coordinate; 0 for NaN."""
    place = (value - low) * per_unit
    return min(int(place), side - 1) if 0 <= place < side + 1 else 0 if not place > 0 else side - 1


@kernel
def _is_ear(flat: Floats, links: Integers, grid: Grid, a: int, b: int, c: int) -> bool:
    """Whether a triangle of successive corners runs counter-clockwise and contains no other corner."""
    if _turn(flat, a, b, c) <= 0:
        return False
    side, left, bottom, across, up = grid
    first = _cell(min(flat[a, 1], flat[b, 1], flat[c, 1]), bottom, up, side)
    last = _cell(max(flat[a, 1], flat[b, 1], flat[c, 1]), bottom, up, side)
    for row in range(first, last + 1):
        # A row more on either side covers corners that rounding has put into the neighbouring one.
        low = bottom + (row - 1) / up if up > 0 else -np.inf
        high = bottom + (row + 2) / up if up > 0 else np.inf
        most_left, most_right = _extent(flat, a, b, c, low, high)
        start = max(0, _cell(most_left, left, across, side) - 1)
        for column in range(start, min(side, _cell(most_right, left, across, side) + 2)):
            if _has_corner(flat, links, row * side + column, a, b, c):
                return False
    return True


@kernel
def _extent(flat: Floats, a: int, b: int, c: int, low: float, high: float) -> tuple[float, float]:
    """The lowest and highest first coordinate of a triangle between two values of the second."""
    lowest, highest = np.inf, -np.inf
    for i, k in ((a, b), (b, c), (c, a)):
        under, over = (i, k) if flat[i, 1] <= flat[k, 1] else (k, i)
        x, y, u, v = flat[under, 0], flat[under, 1], flat[over, 0], flat[over, 1]
        if v < low or y > high:
            continue
        slope = (u - x) / (v - y) if v > y else 0.0
        for end in (
            x if y >= low else x + (low - y) * slope,
            u if v <= high else x + (high - y) * slope,
        ):
            lowest, highest = min(lowest, end), max(highest, end)
    return lowest, highest


@kernel
def _has_corner(flat: Floats, links: Integers, cell: int, a: int, b: int, c: int) -> bool:
    """Whether a cell has a corner in a triangle; clipped corners are unlinked from the cell."""
    last, p = -1, links[3, cell]
    while p >= 0:
        following = links[2, p]
        if links[1, p] < 0:
            if last < 0:
                links[3, cell] = following
            else:
                links[2, last] = following
        else:
            last = p
            # Coincident corners, as where a hole is joined to the rim, do not block an ear.
            away = not (_same(flat, p, a) or _same(flat, p, b) or _same(flat, p, c))
            if away and _turn(flat, a, b, p) >= 0 and _turn(flat, b, c, p) >= 0 and _turn(flat, c, a, p) >= 0:
                return True
        p = following
    return False


@kernel
def _same(flat: Floats, a: int, b: int) -> bool:
    return bool(flat[a, 0] == flat[b, 0] and flat[a, 1] == flat[b, 1])
