"""Point-triangle distances, eight voxels at a time: in a band around the surface, or to candidate faces.

Triangles are rows of a table: the plane and the three edges of each, as directions and lengths. Positions are in
voxels. In the frame (along, inward, normal) of a triangle's edge the squared distance to the edge is the sum of three
squares, the first that of the distance beyond the edge's ends. For a point on the inward side of all edges only the
square along the normal remains, elsewhere the nearest edge counts. This has no branches, and all terms are linear
along a row of voxels before they are squared, so it runs in vector registers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vondata.kernels import contracted_kernel, kernel

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Places = npt.NDArray[np.uint64]
Single = np.float32
Triple = tuple[Single, Single, Single]
Pair = tuple[Triple, Triple]
Frame = tuple[Pair, Pair, Pair, Pair, tuple[Single, Single], Triple]
Heights = tuple[Single, Single, Single, Single, Single, Single, Single]

NORMAL, EDGE_01, EDGE_02, EDGE_12, COLUMNS = 3, 6, 13, 20, 32  # of the table
ALONG, LENGTH, FROM_INWARD, FROM_ALONG = 3, 6, 7, 8  # of an edge, after its inward direction
OUT_OF_REACH = 1e9


def triangle_table(vertices: Floats, faces: Integers) -> Singles:
    """(f, 32) the first corner, the normal, and the edges from corner 0 to 1, 0 to 2 and 1 to 2.

    An edge is its inward and along directions and its length; the last edge also has the offset of its start from the
    first corner, inward and along. Triangles without area are placed out of reach.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers.
    """
    table = np.zeros((len(faces), COLUMNS), dtype=np.float32)
    _fill_table(vertices, faces, table)
    return table


@kernel
def _fill_table(vertices: Floats, faces: Integers, table: Singles) -> None:
    normal = np.empty(3)
    for face in range(faces.shape[0]):
        a, b, c = vertices[faces[face, 0]], vertices[faces[face, 1]], vertices[faces[face, 2]]
        row, doubled_area = table[face], 0.0
        for axis in range(3):
            v, w = (axis + 1) % 3, (axis + 2) % 3
            normal[axis] = (b[v] - a[v]) * (c[w] - a[w]) - (b[w] - a[w]) * (c[v] - a[v])
            doubled_area += normal[axis] ** 2
        doubled_area = np.sqrt(doubled_area)
        for axis in range(3):
            normal[axis] /= max(doubled_area, 1e-300)
            row[axis] = a[axis] if doubled_area > 0.0 else OUT_OF_REACH
            row[NORMAL + axis] = normal[axis]
        _fill_edge(a, b, normal, 1.0, row[EDGE_01:])
        _fill_edge(a, c, normal, -1.0, row[EDGE_02:])
        _fill_edge(b, c, normal, 1.0, row[EDGE_12:])
        for axis in range(3):
            row[EDGE_12 + FROM_INWARD] += row[EDGE_12 + axis] * (b[axis] - a[axis])
            row[EDGE_12 + FROM_ALONG] += row[EDGE_12 + ALONG + axis] * (b[axis] - a[axis])


@kernel
def _fill_edge(start: Floats, end: Floats, normal: Floats, side: float, edge: Singles) -> None:
    length = np.sqrt((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2 + (end[2] - start[2]) ** 2)
    per_length = 1.0 / max(length, 1e-300)
    for axis in range(3):
        v, w = (axis + 1) % 3, (axis + 2) % 3
        edge[axis] = side * per_length * (normal[v] * (end[w] - start[w]) - normal[w] * (end[v] - start[v]))
        edge[ALONG + axis] = per_length * (end[axis] - start[axis])
    edge[LENGTH] = length


LANES = 8  # voxels processed side by side
_ZERO = np.float32(0.0)
_TOLERANCE = 1e-3  # in voxels, far above rounding


@contracted_kernel
def _triple(table: Singles, face: int, column: int) -> Triple:
    return table[face, column], table[face, column + 1], table[face, column + 2]


@contracted_kernel
def _frame(table: Singles, face: int) -> Frame:
    """A triangle's row as scalars, which stay in registers."""
    return (
        (_triple(table, face, 0), _triple(table, face, NORMAL)),
        (_triple(table, face, EDGE_01), _triple(table, face, EDGE_01 + ALONG)),
        (_triple(table, face, EDGE_02), _triple(table, face, EDGE_02 + ALONG)),
        (_triple(table, face, EDGE_12), _triple(table, face, EDGE_12 + ALONG)),
        (table[face, EDGE_12 + FROM_INWARD], table[face, EDGE_12 + FROM_ALONG]),
        (table[face, EDGE_01 + LENGTH], table[face, EDGE_02 + LENGTH], table[face, EDGE_12 + LENGTH]),
    )


@contracted_kernel
def _dot(a: Triple, b: Triple) -> Single:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@contracted_kernel
def _heights(frame: Frame, x: Single, y: Single, z: Single) -> Heights:
    """The height of a point above the plane, then its inward and along coordinates for each edge."""
    (corner, normal), (inward_01, along_01), (inward_02, along_02), (inward_12, along_12), start, _ = frame
    p = x - corner[0], y - corner[1], z - corner[2]
    first, second = (_dot(inward_01, p), _dot(along_01, p)), (_dot(inward_02, p), _dot(along_02, p))
    return _dot(normal, p), *first, *second, _dot(inward_12, p) - start[0], _dot(along_12, p) - start[1]


@contracted_kernel
def _rises(frame: Frame) -> Heights:
    """The increase of `_heights` from a voxel to the next one along z."""
    (_, normal), (inward_01, along_01), (inward_02, along_02), (inward_12, along_12), _, _ = frame
    return normal[2], inward_01[2], along_01[2], inward_02[2], along_02[2], inward_12[2], along_12[2]


@contracted_kernel
def _from_edge(inward: Single, along: Single, length: Single) -> Single:
    """The squared distance to an edge, in the triangle's plane."""
    before = along if along < _ZERO else _ZERO
    after = along - length
    beyond = before if after < _ZERO else after
    return inward * inward + beyond * beyond


@contracted_kernel
def _squared(heights: Heights, lengths: Triple) -> Single:
    """The squared distance to a triangle."""
    height, inward_01, along_01, inward_02, along_02, inward_12, along_12 = heights
    one = _from_edge(inward_01, along_01, lengths[0])
    two = _from_edge(inward_02, along_02, lengths[1])
    three = _from_edge(inward_12, along_12, lengths[2])
    one = two if two < one else one
    one = three if three < one else one
    inward = inward_01 if inward_01 < inward_02 else inward_02
    inward = inward_12 if inward_12 < inward else inward
    return height * height + (one if inward < _ZERO else _ZERO)


@contracted_kernel
def mark_band(table: Singles, reach: float, squared: Singles, nearest: Ids) -> None:
    """Rasterises all triangles into the band: lowers `squared` wherever a triangle is nearer.

    Args:
        table: (f, 32) from `triangle_table`.
        reach: half width of the band.
        squared: (N, N, W) squared distances, W being N rounded up to a multiple of LANES; initially reach^2.
        nearest: (N, N, W) the nearest triangle.
    """
    size = squared.shape[0]
    low, high, corners, middle = np.empty(3, np.int64), np.empty(3, np.int64), np.empty((3, 3)), np.empty(3)
    for face in range(table.shape[0]):
        radius = 0.0
        if table[face, 0] >= OUT_OF_REACH:
            continue
        for axis in range(3):
            corners[0, axis] = table[face, axis]
            corners[1, axis] = table[face, axis] + table[face, EDGE_01 + LENGTH] * table[face, EDGE_01 + ALONG + axis]
            corners[2, axis] = table[face, axis] + table[face, EDGE_02 + LENGTH] * table[face, EDGE_02 + ALONG + axis]
            smallest = min(corners[0, axis], corners[1, axis], corners[2, axis])
            largest = max(corners[0, axis], corners[1, axis], corners[2, axis])
            low[axis] = max(int(np.ceil(smallest - reach - _TOLERANCE)), 0)
            high[axis] = min(int(np.floor(largest + reach + _TOLERANCE)), size - 1)
            middle[axis] = (corners[0, axis] + corners[1, axis] + corners[2, axis]) / 3
        for corner in range(3):
            offset = 0.0
            for axis in range(3):
                offset += (corners[corner, axis] - middle[axis]) ** 2
            radius = max(radius, offset)
        ball = middle, np.sqrt(radius) + reach + _TOLERANCE, reach + _TOLERANCE
        _mark_rows(table, face, (low, high), ball, squared, nearest)


@contracted_kernel
def _mark_rows(
    table: Singles,
    face: int,
    box: tuple[Integers, Integers],
    ball: tuple[Floats, float, float],
    squared: Singles,
    nearest: Ids,
) -> None:
    """Visits the z rows of a triangle's box, each cut to the slab around its plane and the ball around it."""
    (low, high), (middle, radius, reach), (size, _, width) = box, ball, squared.shape
    flat_squared, flat_nearest = squared.reshape(-1), nearest.reshape(-1)
    first, last = low[2], high[2]
    is_deep = last - first >= 2 * LANES
    frame, number = _frame(table, face), np.int32(face)
    lengths = frame[5]
    h, a, b, c, d, e, f = _rises(frame)
    for x in range(low[0], high[0] + 1):
        for y in range(low[1], high[1] + 1):
            half = radius**2 - (x - middle[0]) ** 2 - (y - middle[1]) ** 2
            if half < 0.0:
                continue
            if is_deep:
                first, last = _cut(table, face, x, y, (low[2], high[2]), (middle[2], half, reach))
            count = (last - first + LANES) // LANES * LANES
            start = max(min(first, width - count), 0)
            h0, a0, b0, c0, d0, e0, f0 = _heights(frame, np.float32(x), np.float32(y), np.float32(start))
            base = np.uint64((x * size + y) * width + start)
            for k in range(count):
                z, at = np.float32(k), base + np.uint64(k)
                now = h0 + z * h, a0 + z * a, b0 + z * b, c0 + z * c, d0 + z * d, e0 + z * e, f0 + z * f
                found, best = _squared(now, lengths), flat_squared[at]
                flat_nearest[at] = number if found < best else flat_nearest[at]
                flat_squared[at] = found if found < best else best


@contracted_kernel
def _cut(
    table: Singles, face: int, x: int, y: int, ends: tuple[int, int], ball: tuple[float, float, float]
) -> tuple[int, int]:
    """The part of a long row within the slab around the plane and the ball around the triangle."""
    middle, squared_half, reach = ball
    half, rise = np.sqrt(squared_half), float(table[face, NORMAL + 2])
    first, last = max(float(ends[0]), middle - half), min(float(ends[1]), middle + half)
    if abs(rise) > 1e-3:
        height = (
            table[face, 3] * (x - table[face, 0])
            + table[face, 4] * (y - table[face, 1])
            - table[face, 5] * table[face, 2]
        )
        first, last = max(first, -height / rise - reach / abs(rise)), min(last, -height / rise + reach / abs(rise))
    return int(np.ceil(first)), int(np.floor(last))


@contracted_kernel
def closest_points(table: Singles, voxels: Integers, nearest: Ids, points: Singles) -> None:
    """The surface points nearest to some voxels.

    Args:
        table: (f, 32) from `triangle_table`.
        voxels: (m,) their flat indices.
        nearest: (N, N, W) the nearest triangle.
        points: (m, 3) filled in.
    """
    size, width = nearest.shape[0], nearest.shape[2]
    faces = nearest.reshape(-1)
    for m in range(voxels.size):
        at = voxels[m]
        face = faces[at]
        x, y, z = np.float32(at // width // size), np.float32(at // width % size), np.float32(at % width)
        height, inward_01, along_01, inward_02, along_02, inward_12, along_12 = _heights(_frame(table, face), x, y, z)
        length_01, length_02, length_12 = _frame(table, face)[5]
        if min(inward_01, inward_02, inward_12) >= _ZERO:
            points[m, 0], points[m, 1], points[m, 2] = (
                x - height * table[face, 3],
                y - height * table[face, 4],
                z - height * table[face, 5],
            )
            continue
        one = _from_edge(inward_01, along_01, length_01)
        two = _from_edge(inward_02, along_02, length_02)
        three = _from_edge(inward_12, along_12, length_12)
        if one <= two and one <= three:
            edge, along, inward = EDGE_01, min(max(along_01, _ZERO), length_01), _ZERO
        elif two <= three:
            edge, along, inward = EDGE_02, min(max(along_02, _ZERO), length_02), _ZERO
        else:
            edge, along = EDGE_12, min(max(along_12, _ZERO), length_12) + table[face, EDGE_12 + FROM_ALONG]
            inward = table[face, EDGE_12 + FROM_INWARD]
        for axis in range(3):
            points[m, axis] = (
                table[face, axis] + along * table[face, edge + ALONG + axis] + inward * table[face, edge + axis]
            )


@contracted_kernel
def distances(table: Singles, nearest: Ids, distance: Singles) -> None:
    """The distance of each voxel to the nearest of the candidate triangles of its block of 2^3 voxels.

    Args:
        table: (f, 32) from `triangle_table`.
        nearest: (N, N, W) a nearby triangle, the candidate of each voxel.
        distance: (N, N, N) filled in, in cube edges.
    """
    size, width = distance.shape[0], nearest.shape[2]
    flat_nearest, flat_distance = nearest.reshape(-1), distance.reshape(-1)
    lanes = np.empty(4 * LANES, np.float32)  # steps along x, y and z from the block's first voxel, squared distances
    places, field_places = np.empty(LANES, np.uint64), np.empty(LANES, np.uint64)
    for lane in range(LANES):
        i, j, k = lane // 4, lane // 2 % 2, lane % 2
        lanes[lane], lanes[LANES + lane], lanes[2 * LANES + lane] = i, j, k
        places[lane], field_places[lane] = (i * size + j) * width + k, (i * size + j) * size + k
    faces, per_voxel = np.empty(LANES, np.int32), np.float32(1.0 / (size - 1))
    for block_x in range(0, size, 2):
        for block_y in range(0, size, 2):
            for block_z in range(0, size, 2):
                # the last block of an odd size overlaps the one before
                x, y, z = min(block_x, size - 2), min(block_y, size - 2), min(block_z, size - 2)
                count = _different(flat_nearest, places, np.uint64((x * size + y) * width + z), faces)
                lanes[3 * LANES :] = np.float32(np.inf)
                for k in range(count):
                    _lower_block(table, faces[k], (np.float32(x), np.float32(y), np.float32(z)), lanes)
                for lane in range(LANES):
                    lanes[3 * LANES + lane] = np.sqrt(lanes[3 * LANES + lane]) * per_voxel
                first = np.uint64((x * size + y) * size + z)
                for lane in range(LANES):
                    flat_distance[first + field_places[lane]] = lanes[3 * LANES + lane]


@contracted_kernel
def _different(nearest: Ids, places: Places, first: np.uint64, faces: Ids) -> int:
    """Collects the distinct triangles of a block; returns their number."""
    count, last = 0, np.int32(-1)
    for lane in range(LANES):
        face = nearest[first + places[lane]]
        if face != last:
            last, known = face, 0
            while known < count and faces[known] != face:
                known += 1
            if known == count:
                faces[count] = face
                count += 1
    return count


@contracted_kernel
def _lower_block(table: Singles, face: int, first: Triple, lanes: Singles) -> None:
    """Lowers the squared distances of a block to those to one triangle."""
    frame = _frame(table, face)
    for k in range(LANES):
        x, y, z = first[0] + lanes[k], first[1] + lanes[LANES + k], first[2] + lanes[2 * LANES + k]
        found, best = _squared(_heights(frame, x, y, z), frame[5]), lanes[3 * LANES + k]
        lanes[3 * LANES + k] = found if found < best else best
