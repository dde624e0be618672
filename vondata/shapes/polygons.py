"""Polygons into triangles that cover the same area: concave ones by cutting ears, all others as fans."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vondata.shapes.kernels import kernel
from vondata.shapes.obj import Polygons

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Cutting ears takes time with the square of the corners; larger polygons are not furniture, and get a fan.
MAX_EAR_CORNERS = 2000


def triangulate(polygons: Polygons) -> tuple[Integers, int]:
    """Triangulates all polygons.

    Returns:
        (t, 3) vertex numbers, and how many polygons had fewer than three corners.
    """
    sizes = np.diff(polygons.starts)
    triangles = np.empty((int(np.maximum(sizes - 2, 0).sum()), 3), dtype=np.int64)
    if np.all(sizes == 3):
        triangles[:] = polygons.corners.reshape(-1, 3)
    else:
        _triangulate(polygons.vertices, polygons.corners, polygons.starts, triangles)
    return triangles, int(np.count_nonzero(sizes < 3))


@kernel
def _triangulate(vertices: Floats, corners: Integers, starts: Integers, triangles: Integers) -> None:
    row = 0
    for face in range(starts.size - 1):
        polygon = corners[starts[face] : starts[face + 1]]
        count = polygon.size
        if count < 3:
            continue
        out = triangles[row : row + count - 2]
        row += count - 2
        if count == 3 or count > MAX_EAR_CORNERS:
            _fan(polygon, out)
            continue
        flat = _flatten(vertices, polygon)
        if _fan_is_right(flat):
            _fan(polygon, out)
        else:
            _cut_ears(flat, polygon, out)


@kernel
def _fan(polygon: Integers, out: Integers) -> None:
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1], out[i, 2] = polygon[0], polygon[i + 1], polygon[i + 2]


@kernel
def _flatten(vertices: Floats, polygon: Integers) -> Floats:
    """The polygon seen along the axis nearest to its normal (Newell's), counter-clockwise."""
    normal = np.zeros(3)
    for i in range(polygon.size):
        here, there = vertices[polygon[i]], vertices[polygon[(i + 1) % polygon.size]]
        for axis in range(3):
            v, w = (axis + 1) % 3, (axis + 2) % 3
            normal[axis] += (here[v] - there[v]) * (here[w] + there[w])
    axis = int(np.argmax(np.abs(normal)))
    first, second = ((axis + 1) % 3, (axis + 2) % 3) if normal[axis] >= 0 else ((axis + 2) % 3, (axis + 1) % 3)
    flat = np.empty((polygon.size, 2))
    for i in range(polygon.size):
        flat[i, 0], flat[i, 1] = vertices[polygon[i], first], vertices[polygon[i], second]
    return flat


@kernel
def _turn(a: Floats, b: Floats, c: Floats) -> float:
    """Twice the signed area of a triangle in the plane, positive if counter-clockwise."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


@kernel
def _fan_is_right(flat: Floats) -> bool:
    """Whether no triangle of the fan around the first corner is turned over."""
    right = True
    for i in range(1, flat.shape[0] - 1):
        right = right and _turn(flat[0], flat[i], flat[i + 1]) >= 0
    return right


@kernel
def _cut_ears(flat: Floats, polygon: Integers, out: Integers) -> None:
    """Cuts off one triangle after the other that has no corner of the rest inside."""
    rest = np.arange(polygon.size)
    count, at, tried = polygon.size, 0, 0
    row = 0
    while count > 3:
        before, here, after = rest[(at - 1) % count], rest[at % count], rest[(at + 1) % count]
        # After one vain round the polygon crosses itself: any corner is as good as another.
        if tried >= count or _is_ear(flat, rest[:count], before, here, after):
            out[row, 0], out[row, 1], out[row, 2] = polygon[before], polygon[here], polygon[after]
            row += 1
            for i in range(at % count, count - 1):
                rest[i] = rest[i + 1]
            count, tried = count - 1, 0
            at = at % count
        else:
            at, tried = (at + 1) % count, tried + 1
    out[row, 0], out[row, 1], out[row, 2] = polygon[rest[0]], polygon[rest[1]], polygon[rest[2]]


@kernel
def _is_ear(flat: Floats, rest: Integers, before: int, here: int, after: int) -> bool:
    a, b, c = flat[before], flat[here], flat[after]
    if _turn(a, b, c) <= 0:
        return False
    for other in rest:
        if other in (before, here, after):
            continue
        point = flat[other]
        # Corners that merely touch, as where a hole is joined to the rim, are in nobody's way.
        touches = _same(point, a) or _same(point, b) or _same(point, c)
        if not touches and _turn(a, b, point) >= 0 and _turn(b, c, point) >= 0 and _turn(c, a, point) >= 0:
            return False
    return True


@kernel
def _same(a: Floats, b: Floats) -> bool:
    return bool(a[0] == b[0] and a[1] == b[1])
