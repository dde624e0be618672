"""Solid primitives of the demo's objects (box, cushion, column, tube, lathe), all lofts of rings joined by quads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vondata.render.mesh import Floats, PartMesh, signed_volume

Point = Sequence[float] | Floats


def circle(sides: int, radius: float = 1.0) -> Floats:
    """(sides, 2) points of a regular polygon, counterclockwise, a side (not a corner) towards +x."""
    angle = 2.0 * np.pi * (np.arange(sides) + 0.5) / sides
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def rectangle(width: float, depth: float, rounding: float = 0.0, steps: int = 3) -> Floats:
    """(n, 2) points of a rectangle about the origin, counterclockwise, with rounded corners."""
    if rounding <= 0.0:
        return np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]]) * [width / 2, depth / 2]
    rounding = min(rounding, 0.499 * width, 0.499 * depth)
    turn = np.linspace(0.0, np.pi / 2, steps + 1)
    angle = np.concatenate([quarter * np.pi / 2 + turn for quarter in range(4)])
    centre = np.repeat(np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]), steps + 1, axis=0)
    return centre * [width / 2 - rounding, depth / 2 - rounding] + rounding * np.stack(
        [np.cos(angle), np.sin(angle)], axis=1
    )


def loft(rings: Floats, *, caps: bool = True, endless: bool = False) -> PartMesh:
    """Joins rings by quads; faces are oriented outwards for any order of rings and points.

    Args:
        rings: (m, k, 3) m rings of k points.
        caps: close the first and the last ring by a fan about their centre.
        endless: join the last ring to the first.

    Returns:
        The mesh, with texture coordinates in metres: u around the ring, v from ring to ring.
    """
    count, size = rings.shape[:2]
    rows = np.arange(count if endless else count - 1)[:, None]
    columns = np.arange(size)[None, :]
    here, above = rows * size, (rows + 1) % count * size
    right = (columns + 1) % size
    quads = np.stack([here + columns, here + right, above + right, above + columns], axis=-1).reshape(-1, 4)

    steps = np.linalg.norm(np.roll(rings, -1, axis=1) - rings, axis=2).mean(axis=0)
    u = np.concatenate([[0.0], np.cumsum(steps)])
    v = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.roll(rings, -1, axis=0) - rings, axis=2).mean(axis=1))])
    column, row = np.broadcast_arrays(columns, rows)
    corner_u = u[np.stack([column, column + 1, column + 1, column], axis=-1)]
    corner_v = v[np.stack([row, row, row + 1, row + 1], axis=-1)]
    uvs = np.stack([corner_u, corner_v], axis=-1).reshape(-1, 4, 2)
    body = PartMesh(
        rings.reshape(-1, 3),
        quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3),
        uvs[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3, 2),
    )
    if endless:
        return body.flipped() if signed_volume(body) < 0.0 else body
    capped = _with_caps(body, rings)
    outwards = capped if caps else body
    return outwards.flipped() if signed_volume(capped) < 0.0 else outwards


def _with_caps(body: PartMesh, rings: Floats) -> PartMesh:
    count, size = rings.shape[:2]
    vertices, faces, uvs = [body.vertices], [body.faces], [body.uvs]
    index = np.arange(size)
    for ring, first, backwards in ((rings[0], 0, True), (rings[-1], (count - 1) * size, False)):
        middle = ring.mean(axis=0)
        centre = sum(len(part) for part in vertices)
        following = np.roll(index, -1)
        rim = [following, index] if backwards else [index, following]
        faces.append(np.stack([rim[0] + first, rim[1] + first, np.full(size, centre)], axis=1))
        flat = _in_plane(ring - middle)
        uvs.append(np.stack([flat[rim[0]], flat[rim[1]], np.zeros((size, 2))], axis=1))
        vertices.append(middle[None])
    return PartMesh(np.concatenate(vertices), np.concatenate(faces), np.concatenate(uvs))


def _in_plane(offsets: Floats) -> Floats:
    """(k, 2) coordinates of (k, 3) offsets in their plane, the longer extent along v."""
    _, _, axes = np.linalg.svd(offsets, full_matrices=False)
    # The sign of a singular vector is arbitrary; it is fixed, so that textures do not differ between machines.
    axes = axes * np.sign(axes[np.arange(3), np.abs(axes).argmax(axis=1)])[:, None]
    return np.asarray(offsets @ axes[[1, 0]].T)


def box(size: Point, centre: Point = (0.0, 0.0, 0.0), rounding: float = 0.0) -> PartMesh:
    """A box with optionally rounded edges along its longest side, which is also the direction of the grain."""
    long = int(np.argmax(size))
    across = [axis for axis in range(3) if axis != long]
    outline = rectangle(size[across[0]], size[across[1]], rounding)
    rings = np.zeros((2, len(outline), 3))
    rings[:, :, across] = outline
    rings[0, :, long], rings[1, :, long] = -size[long] / 2, size[long] / 2
    return loft(rings + np.asarray(centre))


def cushion(size: Point, centre: Point, rounding: float, corner: float, steps: int = 3) -> PartMesh:
    """A flat upholstered block: a rectangle with rounded corners and rounded upper and lower edges.

    Args:
        size: width, depth, height.
        centre: its centre.
        rounding: radius of the upper and lower edges, less than half the height.
        corner: radius of the four upright edges.
        steps: segments of a quarter circle.
    """
    rounding = min(rounding, 0.49 * size[2])  # a band between the two edges avoids degenerate faces
    turn = np.linspace(0.0, np.pi / 2, steps + 1)
    inset = rounding * (1.0 - np.cos(turn))
    rise = size[2] / 2 - rounding + rounding * np.sin(turn)
    insets = np.concatenate([inset[::-1], inset])
    heights = np.concatenate([-rise[::-1], rise])
    outlines = [rectangle(size[0] - 2 * by, size[1] - 2 * by, max(corner - by, 0.1 * corner), steps) for by in insets]
    rings = np.stack(
        [np.column_stack([outline, np.full(len(outline), z)]) for outline, z in zip(outlines, heights, strict=True)]
    )
    return loft(rings + np.asarray(centre))


def column(path: Floats, sections: Floats) -> PartMesh:
    """A post with horizontal cross sections, so that slanted legs stand flat on the floor.

    Args:
        path: (m, 3) centre of each section.
        sections: (m, k, 2) outlines in x and y about that centre.
    """
    rings = np.concatenate([sections, np.zeros((*sections.shape[:2], 1))], axis=2) + path[:, None]
    return loft(rings)


def tube(path: Floats, radius: float | Floats, sides: int = 10, *, endless: bool = False) -> PartMesh:
    """A round bar along a path (m, 3), with a constant radius or one per point."""
    return swept(path, circle(sides)[None] * np.broadcast_to(radius, len(path))[:, None, None], endless=endless)


def swept(path: Floats, sections: Floats, *, up: Point | None = None, endless: bool = False) -> PartMesh:
    """Sweeps an outline along a path.

    Args:
        path: (m, 3) points.
        sections: (m or 1, k, 2) outlines across the path; the second coordinate points towards `up`.
        up: a direction never parallel to the path; without it the section rotates as little as possible.
        endless: whether the path is a loop.
    """
    tangent = np.gradient(path, axis=0)
    if endless:
        tangent = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    if up is not None:
        normal = np.broadcast_to(np.asarray(up, dtype=float), tangent.shape)
        normal = normal - np.einsum("ij,ij->i", normal, tangent)[:, None] * tangent
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    else:
        normal = _transported(tangent)
    side = np.cross(normal, tangent)
    rings = path[:, None] + sections[..., :1] * side[:, None] + sections[..., 1:] * normal[:, None]
    return loft(rings, endless=endless)


def _transported(tangent: Floats) -> Floats:
    """(m, 3) normals of a path by parallel transport."""
    start = np.eye(3)[np.abs(tangent[0]).argmin()]
    normals = [start - (start @ tangent[0]) * tangent[0]]
    for direction in tangent[1:]:
        normals.append(normals[-1] - (normals[-1] @ direction) * direction)
    stacked = np.stack(normals)
    return np.asarray(stacked / np.linalg.norm(stacked, axis=1, keepdims=True))


def rounded_path(points: Sequence[Point], radius: float, steps: int = 4) -> Floats:
    """A polyline (m, 3) with its inner corners rounded by about this radius."""
    corners = np.asarray(points, dtype=float)
    pieces = [corners[:1]]
    for before, corner, after in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
        back, forth = before - corner, after - corner
        reach = min(radius, 0.49 * np.linalg.norm(back), 0.49 * np.linalg.norm(forth))
        start = corner + reach * back / np.linalg.norm(back)
        end = corner + reach * forth / np.linalg.norm(forth)
        t = np.linspace(0.0, 1.0, steps + 1)[:, None]
        pieces.append((1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * end)
    return np.concatenate([*pieces, corners[-1:]])


def lathe(
    profile: Sequence[tuple[float, float]],
    centre: Point = (0.0, 0.0, 0.0),
    sides: int = 20,
    *,
    endless: bool = False,
) -> PartMesh:
    """A solid of revolution about the z axis; the profile lists (radius, height) from end to end.

    If endless, the last point is joined to the first, which gives a ring with a hole.
    """
    outline = circle(sides)
    rings = np.stack([np.column_stack([radius * outline, np.full(sides, height)]) for radius, height in profile])
    return loft(rings + np.asarray(centre), endless=endless)
