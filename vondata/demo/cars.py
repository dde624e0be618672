"""Meshes of the demo's cars: a body lofted from cross sections, attached parts, and materials."""

from __future__ import annotations

import numpy as np
from scipy import interpolate

from vondata.demo.car_design import Car
from vondata.demo.primitives import box, cushion, lathe, loft, rounded_path, tube
from vondata.render.mesh import TEXTURE_SIZE, Flags, Floats, Material, PartMesh, Pixels, mirrored_pair

# Points of the right half of a cross section, from the middle of the floor to the middle of the roof.
FLOOR_ROWS, SIDE_ROWS, GLASS_ROWS, ROOF_ROWS = 2, 5, 2, 5
# Texture coordinates of the paint: heights are stretched, so that seams and bands are sharp.
PAINT_TILE_M, PAINT_HEIGHT_SCALE = 6.0, 2.5


def build_body(car: Car) -> list[PartMesh]:
    """The closed shell of a car, split into paint, glass and dark underside."""
    columns = _columns(car)
    shell = loft(_sections(car, columns))
    glass = _is_glass(car, columns, len(shell.faces))
    centres = shell.vertices[shell.faces].mean(axis=1)
    looks_down = _looks_down(shell)
    dark = ~glass & looks_down & (centres[:, 2] < car.clearance + 1.1 * car.arch)
    corners = shell.vertices[shell.faces]
    painted = PartMesh(
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
    """Height of the upper outline in the middle of the car; at a pick-up's bed, of its rails."""
    places = np.array(car.profile)[::-1]
    smooth = interpolate.PchipInterpolator(places[:, 0], places[:, 1])
    inside = np.clip(y, places[0, 0], places[-1, 0])
    return np.asarray(smooth(inside))


def half_width(car: Car, y: float | Floats) -> Floats:
    """Half the body's width at the belt, which narrows towards nose and tail."""
    from_middle = np.abs(np.asarray(y)) / (car.length / 2)
    return np.asarray(car.width / 2 * (1.0 - car.taper * from_middle**4))


def _columns(car: Car) -> Floats:
    """Y of the cross sections, from tail to nose: at all ends of arches, windows and bed, and evenly between."""
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
    # The bed of a pick-up is above the arches, which cut through the whole width.
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
    """Faces of the loft that are windows; the loft lists two triangles per quad, ring by ring, then the caps."""
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


def _looks_down(shell: PartMesh) -> Flags:
    corners = shell.vertices[shell.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(normal[:, 2] < -0.5 * np.linalg.norm(normal, axis=1))


# Rotates the z axis to x: the axis of a lathe becomes an axle.
ALONG_X = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def build_fittings(car: Car) -> list[PartMesh]:
    """All parts except the body's shell."""
    return [*_wheels(car), *_under_body(car), *_front(car), *_rear(car), *_sides(car), *_rails(car)]


def _wheels(car: Car) -> list[PartMesh]:
    radius, half = car.wheel, car.tyre / 2
    profile = [(0.60, -0.8), (0.88, -1.0), (1.0, -0.75), (1.0, 0.75), (0.88, 1.0), (0.60, 0.8)]
    tyre = lathe([(radius * r, half * x) for r, x in profile], sides=24).of("rubber")
    if car.rim == "disc":
        rim = [
            lathe([(0.62 * radius, 0.3 * half), (0.62 * radius, 0.9 * half), (0.2 * radius, 1.02 * half)], sides=20)
        ]
        rim = [part.of("rim") for part in rim]
    else:
        well = lathe([(0.62 * radius, 0.2 * half), (0.62 * radius, 0.82 * half)], sides=20).of("dark")
        hub = lathe([(0.18 * radius, 0.5 * half), (0.15 * radius, 1.0 * half)], sides=10).of("rim")
        rim = [well, hub]
        for spoke in range(5):
            angle = 2.0 * np.pi * spoke / 5
            cos, sin = np.cos(angle), np.sin(angle)
            turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
            bar = box((0.16 * radius, 0.6 * radius, 0.16 * half), (0.0, 0.3 * radius, 0.86 * half))
            rim.append(bar.turned(turn).of("rim"))
    wheels: list[PartMesh] = []
    for axle in (car.front_axle, car.rear_axle):
        x = float(half_width(car, axle)) - half - 0.005
        for part in (tyre, *rim):
            wheels += mirrored_pair(part.turned(ALONG_X).moved(x, axle, car.wheel))
    return wheels


def _under_body(car: Car) -> list[PartMesh]:
    """The dark block between the wheels that the arches are cut against."""
    width = car.width - 2.0 * car.tyre - 0.16
    length = car.front_axle - car.rear_axle + 2.2 * car.arch
    low, high = car.clearance + 0.01, car.wheel + 1.05 * car.arch
    middle = (car.front_axle + car.rear_axle) / 2
    return [box((width, length, high - low), (0.0, middle, (low + high) / 2)).of("dark")]


def _front(car: Car) -> list[PartMesh]:
    nose, wide = car.length / 2, float(half_width(car, car.length / 2))
    hood = float(top_height(car, nose - 0.1))
    light_z, low = car.clearance + 0.72 * (hood - car.clearance), car.clearance
    tall = 0.20 * (hood - low)
    lamp = cushion((0.26 * car.width * 0.8, 0.12, tall), (0.72 * wide, nose - 0.055, light_z), 0.03, 0.04, 2)
    grille = cushion((0.62 * wide, 0.06, 0.9 * tall), (0.0, nose - 0.012, light_z - 0.02), 0.015, 0.02, 1)
    plate = box((0.42, 0.02, 0.1), (0.0, nose + 0.055, low + 0.22))
    return [*mirrored_pair(lamp.of("lamp")), grille.of("dark"), _bumper(car, nose, 1.0), plate.of("plate")]


def _rear(car: Car) -> list[PartMesh]:
    tail, wide = -car.length / 2, float(half_width(car, car.length / 2))
    high = car.belt if car.body in {"van", "pickup"} else float(top_height(car, tail + 0.1))
    low = car.clearance
    light_z = low + 0.70 * (high - low)
    tall = (0.34 if car.body in {"van", "wagon", "hatchback"} else 0.22) * (high - low)
    lamp = cushion((0.13 * car.width, 0.12, tall), (0.78 * wide, tail + 0.055, light_z), 0.03, 0.03, 2)
    plate = box((0.42, 0.02, 0.1), (0.0, tail - 0.012, light_z - 0.05))
    parts = [*mirrored_pair(lamp.of("tail_lamp")), _bumper(car, tail, -1.0), plate.of("plate")]
    if car.body == "van":
        pane = box((0.60 * wide, 0.02, 0.26 * car.height), (0.42 * wide, tail + 0.015, 0.71 * car.height))
        parts += mirrored_pair(pane.of("glass"))
    return parts


def _bumper(car: Car, end: float, side: float) -> PartMesh:
    wide = float(half_width(car, end))
    size = (2.0 * wide - 0.06, 0.18, 0.17)
    bumper = cushion(size, (0.0, end - side * 0.035, car.clearance + 0.16), 0.05, 0.08)
    return bumper.of("dark" if car.dark_bumpers else "bumper")


def _sides(car: Car) -> list[PartMesh]:
    y = car.windscreen[0] - 0.32
    wide = float(half_width(car, y))
    mirror = cushion((0.17, 0.09, 0.13), (wide + 0.055, y, car.belt + 0.07), 0.035, 0.03, 2).of("bumper")
    handles = []
    for door in car.doors[1:]:
        x = float(half_width(car, door)) * 0.99
        handles.append(box((0.03, 0.17, 0.035), (x, door + 0.16, car.belt - 0.1), 0.01).of("handle"))
    sill_length = car.front_axle - car.rear_axle - 2.1 * car.arch
    sill = box(
        (0.06, sill_length, 0.09),
        (0.97 * car.width / 2, (car.front_axle + car.rear_axle) / 2, car.clearance + 0.045),
        0.02,
    ).of("dark")
    return [part for each in (mirror, *handles, sill) for part in mirrored_pair(each)]


def _rails(car: Car) -> list[PartMesh]:
    if not car.rails:
        return []
    front, rear = car.windscreen[1] - 0.15, -car.length / 2 + 0.45
    x = float(half_width(car, 0.0)) * 0.955 - car.lean * (car.height - car.belt) - 0.08
    top = car.height + 0.05
    low = top - 0.09
    path = rounded_path([(x, front, low), (x, front - 0.1, top), (x, rear + 0.1, top), (x, rear, low)], radius=0.05)
    return mirrored_pair(tube(path, 0.02, 8).of("handle"))


def build_car(car: Car) -> list[PartMesh]:
    """The overlapping parts of a car in metres; object frame, wheels at z = 0."""
    return [*build_body(car), *build_fittings(car)]


def car_materials(car: Car) -> dict[str, Material]:
    """The materials of its parts, by name."""
    return {
        "paint": Material(car.paint, _paint_texture(car), tile_m=PAINT_TILE_M, gloss=0.45),
        "bumper": Material(car.paint, gloss=0.4),
        "glass": Material((0.10, 0.13, 0.16), gloss=0.75),
        "dark": Material((0.09, 0.09, 0.10), gloss=0.1),
        "rubber": Material((0.08, 0.08, 0.08), gloss=0.05),
        "rim": Material((0.72, 0.73, 0.75), gloss=0.6),
        "lamp": Material((0.92, 0.93, 0.90), gloss=0.7),
        "tail_lamp": Material((0.72, 0.06, 0.05), gloss=0.6),
        "plate": Material((0.92, 0.92, 0.88), gloss=0.1),
        "handle": Material((0.35, 0.35, 0.37), gloss=0.6),
    }


def _paint_texture(car: Car) -> Pixels:
    """The side view of the paint: rows from tail to nose, columns upwards; door seams and bands of colour."""
    place = (np.arange(TEXTURE_SIZE) + 0.5) / TEXTURE_SIZE * PAINT_TILE_M
    y, z = (place - PAINT_TILE_M / 2)[:, None], (place / PAINT_HEIGHT_SCALE)[None, :]
    pixels = np.broadcast_to(np.asarray(car.paint), (TEXTURE_SIZE, TEXTURE_SIZE, 3)).copy()
    sill = car.clearance
    if car.livery == "band":
        low, high = sill + 0.55 * (car.belt - sill), sill + 0.75 * (car.belt - sill)
        pixels[np.broadcast_to((z > low) & (z < high), pixels.shape[:2])] = car.second_paint
    if car.livery == "two_tone":
        pixels[np.broadcast_to(z < sill + 0.42 * (car.belt - sill), pixels.shape[:2])] = car.second_paint
    seam = np.abs(y - np.array(car.doors)[None, :]).min(axis=1, keepdims=True) < 0.6 * PAINT_TILE_M / TEXTURE_SIZE
    between = (y < max(car.doors)) & (y > min(car.doors))
    level = (z > sill + 0.08) & (z < car.belt)
    low_seam = (np.abs(z - sill - 0.08) < 0.5 * PAINT_TILE_M / PAINT_HEIGHT_SCALE / TEXTURE_SIZE) & between
    pixels[(seam & level) | low_seam] *= 0.45
    return (255.0 * pixels + 0.5).astype(np.uint8)
