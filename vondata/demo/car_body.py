"""The body of a car: one loft of cross sections from nose to tail, its glass and paint told apart face by face."""

from __future__ import annotations

import numpy as np
from scipy import interpolate

from vondata.demo.car_design import Car
from vondata.demo.mesh import Flags, Floats, Mesh
from vondata.demo.primitives import loft

# Points of the right half of a section, from the middle of the floor to the middle of the roof.
FLOOR_ROWS, SIDE_ROWS, GLASS_ROWS, ROOF_ROWS = 2, 5, 2, 5
# Texture coordinates of the paint: heights are drawn out, so that seams and bands are sharp.
PAINT_TILE_M, PAINT_HEIGHT_SCALE = 6.0, 2.5


def build_body(car: Car) -> list[Mesh]:
    """The closed shell of a car, split into paint, glass and dark underside."""
    columns = _columns(car)
    shell = loft(_sections(car, columns))
    glass = _is_glass(car, columns, len(shell.faces))
    centres = shell.vertices[shell.faces].mean(axis=1)
    looks_down = _looks_down(shell)
    dark = ~glass & looks_down & (centres[:, 2] < car.clearance + 1.1 * car.arch)
    corners = shell.vertices[shell.faces]
    painted = Mesh(
        shell.vertices,
        shell.faces,
        np.stack([PAINT_HEIGHT_SCALE * corners[..., 2], corners[..., 1] + PAINT_TILE_M / 2], axis=-1),
    )
    return [
        painted.keeping(~glass & ~dark).of("paint"),
        shell.keeping(glass).of("glass"),
        shell.keeping(dark).of("dark"),
    ]


def top_height(car: Car, y: float | Floats) -> Floats:
    """Height of the upper outline in the middle of the car, of a pick-up's bed that of its rails."""
    places = np.array(car.profile)[::-1]
    smooth = interpolate.PchipInterpolator(places[:, 0], places[:, 1])
    inside = np.clip(y, places[0, 0], places[-1, 0])
    return np.asarray(smooth(inside))


def half_width(car: Car, y: float | Floats) -> Floats:
    """Half the body's width at the belt: it narrows towards nose and tail."""
    from_middle = np.abs(np.asarray(y)) / (car.length / 2)
    return np.asarray(car.width / 2 * (1.0 - car.taper * from_middle**4))


def _columns(car: Car) -> Floats:
    """Where the cross sections lie, from tail to nose: at all ends of arches, windows and bed, and evenly between."""
    half = car.length / 2
    rounding = car.rounding * (1.0 - np.cos(np.linspace(0.0, np.pi / 2, 5)))
    turn = np.linspace(0.0, np.pi, 13)
    arches = [axle + car.arch * np.cos(turn) for axle in (car.front_axle, car.rear_axle)]
    places = [half - rounding, rounding - half, *arches, np.linspace(-half, half, 25)[1:-1]]
    places.append(np.array([end for window in (*car.windows, car.windscreen, car.rear_window) for end in window]))
    if car.bed[0] > car.bed[1]:
        places.append(np.array([car.bed[0], car.bed[0] + 0.02, car.bed[1], car.bed[1] - 0.02]))
    columns = np.unique(np.concatenate(places).round(4))
    columns = columns[(columns >= -half) & (columns <= half)]
    return np.asarray(columns[np.concatenate([[True], np.diff(columns) > 0.006])])


def _lower_edge(car: Car, y: Floats) -> Floats:
    edge = np.full(y.shape, car.clearance)
    for axle in (car.front_axle, car.rear_axle):
        reach = np.maximum(car.arch**2 - (y - axle) ** 2, 0.0)
        edge = np.where(reach > 0.0, np.maximum(edge, car.wheel + np.sqrt(reach)), edge)
    return edge


def _sections(car: Car, y: Floats) -> Floats:
    """(m, k, 3) the rings of the body at y (m,): from the middle of the floor up the right side, down the left."""
    gap = np.maximum(car.rounding - (car.length / 2 - np.abs(y)), 0.0)
    inset = car.rounding - np.sqrt(car.rounding**2 - gap**2)
    bottom = _lower_edge(car, y) + 0.5 * inset
    top = top_height(car, y) - 0.5 * inset
    wide = half_width(car, y) - 0.8 * inset
    glass_height = np.maximum(top - car.belt, 0.05)
    shoulder = top - glass_height
    roof = 0.955 * wide - car.lean * glass_height
    soft = np.minimum(0.06, 0.4 * glass_height)
    # The bed of a pick-up lies above the arches, which cut through the whole width.
    bed = np.minimum(car.wheel + 1.2 * car.arch, top - 0.15)
    flank = ((0.965, 0.04), (0.99, 0.25), (1.0, 0.55), (0.99, 0.85), (0.96, 1.0))
    sides = [
        (0.0 * wide, bottom),
        (0.86 * wide, bottom),
        *((x * wide, bottom + z * (shoulder - bottom)) for x, z in flank),
        *((0.955 * wide - t * car.lean * glass_height, shoulder + t * glass_height) for t in (0.08, 0.86)),
    ]
    closed = [
        (roof - 0.25 * soft, top - 0.25 * soft),
        (roof - soft, top),
        (0.66 * roof, top + 0.010),
        (0.33 * roof, top + 0.018),
        (0.0 * roof, top + 0.020),
    ]
    inner = roof - 0.09
    opened = [(roof - 0.02, top), (inner, top), (inner - 0.01, bed), (0.5 * inner, bed), (0.0 * roof, bed)]
    over = np.where((car.bed[1] <= y) & (y <= car.bed[0]), np.array(opened), np.array(closed))
    right = np.moveaxis(np.concatenate([np.array(sides), over]), -1, 0)
    left = right[:, -2:0:-1] * [-1.0, 1.0]
    outlines = np.concatenate([right, left], axis=1)
    return np.stack([outlines[..., 0], np.broadcast_to(y[:, None], outlines.shape[:2]), outlines[..., 1]], axis=-1)


def _is_glass(car: Car, columns: Floats, face_count: int) -> Flags:
    """Which faces of the loft are windows; the loft lists two triangles per quad, ring by ring, then the caps."""
    middle = (columns[1:] + columns[:-1]) / 2
    half = FLOOR_ROWS + SIDE_ROWS + GLASS_ROWS + ROOF_ROWS - 1
    row = np.arange(2 * half)
    row = np.minimum(row, 2 * half - 1 - row)  # quads of the left side count down
    pane = row == FLOOR_ROWS + SIDE_ROWS
    over = (row > FLOOR_ROWS + SIDE_ROWS + GLASS_ROWS) & (row < half)
    beside = np.any([(middle < front) & (middle > rear) for front, rear in car.windows], axis=0)
    ends = np.any([(middle < front) & (middle > rear) for front, rear in (car.windscreen, car.rear_window)], axis=0)
    quads = (beside[:, None] & pane[None, :]) | (ends[:, None] & over[None, :])
    flags = np.zeros(face_count, dtype=bool)
    flags[: 2 * quads.size] = np.repeat(quads.reshape(-1), 2)
    return flags


def _looks_down(shell: Mesh) -> Flags:
    corners = shell.vertices[shell.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(normal[:, 2] < -0.5 * np.linalg.norm(normal, axis=1))
