"""Meshes of the demo's chairs: base, seat, back and arm rests."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from vondata.demo.chair_design import Chair
from vondata.demo.primitives import box, circle, column, cushion, lathe, loft, rectangle, rounded_path, swept, tube
from vondata.render.mesh import Finish, Floats, Material, PartMesh, make_material, mirrored_pair


def build_base(chair: Chair) -> list[PartMesh]:
    """The parts below the seat."""
    match chair.base:
        case "legs":
            return _legs(chair) + _apron(chair) + _stretchers(chair)
        case "sled":
            return _sled(chair)
        case "cantilever":
            return _cantilever(chair)
        case "star":
            return _star(chair)
        case "pedestal":
            return _pedestal(chair)
        case "block":
            return _block(chair)
        case _:
            assert_never(chair.base)


def leg_line(chair: Chair, *, rear: bool) -> tuple[Floats, Floats]:
    """Foot and upper end of the right leg (x > 0); the upper end is under the seat's corner."""
    side = -1.0 if rear else 1.0
    inset = chair.leg_size / 2 + (0.12 * chair.width if chair.seat == "round" else 0.0)
    top = np.array([chair.width / 2 - inset, side * (chair.depth / 2 - inset), chair.under_seat])
    lean = np.tan(chair.splay) * chair.under_seat
    return top + np.array([lean, side * lean, -chair.under_seat]), top


def leg_at(chair: Chair, height: float, *, rear: bool) -> Floats:
    """The middle of the right leg at a height."""
    foot, top = leg_line(chair, rear=rear)
    return foot + (top - foot) * (height / chair.under_seat)


def leg_section(chair: Chair, height: float) -> Floats:
    """(k, 2) outline of a leg at a height above the floor."""
    size = chair.leg_size
    round_section = circle(12, size / 2)
    t = float(np.clip(height / chair.under_seat, 0.0, 1.0))
    match chair.leg:
        case "square":
            return rectangle(size, size)
        case "tapered":
            return rectangle(size, size) * (0.62 + 0.38 * t)
        case "round":
            return round_section * (0.78 + 0.22 * t)
        case "turned":
            beads = 0.22 * float(np.sin(5.0 * np.pi * t)) * (1.0 - t)
            return round_section * (0.80 + beads + 0.15 * t)
        case _:
            assert_never(chair.leg)


def _legs(chair: Chair) -> list[PartMesh]:
    steps = 15 if chair.leg == "turned" else 2
    heights = np.linspace(0.0, chair.under_seat + 0.5 * chair.seat_thickness, steps)
    sections = np.stack([leg_section(chair, height) for height in heights])
    parts: list[PartMesh] = []
    for rear in (False, True):
        path = np.stack([leg_at(chair, height, rear=rear) for height in heights])
        parts += mirrored_pair(column(path, sections).of("frame"))
    return parts


def _apron(chair: Chair) -> list[PartMesh]:
    if not chair.apron:
        return []
    z, tall, thick = chair.under_seat - 0.03, 0.06, 0.6 * chair.leg_size
    corner = leg_line(chair, rear=False)[1]
    across = box((2 * corner[0], thick, tall), (0.0, corner[1], z)).of("frame")
    along = box((thick, 2 * corner[1], tall), (corner[0], 0.0, z)).of("frame")
    return [across, across.moved(y=-2 * corner[1]), *mirrored_pair(along)]


def _stretchers(chair: Chair) -> list[PartMesh]:
    height, radius = chair.stretcher_height, 0.36 * chair.leg_size
    front, rear = leg_at(chair, height, rear=False), leg_at(chair, height, rear=True)
    mirror = np.array([-1.0, 1.0, 1.0])

    def bar(start: Floats, end: Floats) -> PartMesh:
        return tube(np.stack([start, end]), radius, 8).of("frame")

    match chair.stretchers:
        case "none":
            return []
        case "sides":
            return mirrored_pair(bar(front, rear))
        case "h":
            middle = (front + rear) / 2
            return [*mirrored_pair(bar(front, rear)), bar(middle, middle * mirror)]
        case "box":
            return [*mirrored_pair(bar(front, rear)), bar(front, front * mirror), bar(rear, rear * mirror)]
        case _:
            assert_never(chair.stretchers)


def _sled(chair: Chair) -> list[PartMesh]:
    x, radius = chair.width / 2 - chair.leg_size / 2, 0.42 * chair.leg_size
    y, top = chair.depth / 2 - 0.06, chair.under_seat + 0.01
    lean = np.tan(chair.splay) * top
    side = rounded_path(
        [(x, -y + 0.05, top), (x, -y - lean, radius), (x, y + lean, radius), (x, y - 0.03, top)], radius=0.10
    )
    cross = np.array([[-x, y - 0.05, top - radius], [x, y - 0.05, top - radius]])
    bars = [tube(cross, radius, 8), tube(cross - [0.0, 2 * y - 0.12, 0.0], radius, 8)]
    return [*mirrored_pair(tube(side, radius).of("frame")), *(bar.of("frame") for bar in bars)]


def _cantilever(chair: Chair) -> list[PartMesh]:
    x, radius = chair.width / 2 - chair.leg_size / 2, 0.48 * chair.leg_size
    y, top = chair.depth / 2 - 0.02, chair.under_seat
    half = rounded_path(
        [(x, -y, top), (x, y, top), (x, y, radius), (x, -y, radius), (0.0, -y, radius)], radius=0.11, steps=5
    )
    return mirrored_pair(tube(half, radius).of("frame"))


def _star(chair: Chair) -> list[PartMesh]:
    wheel, hub, reach = 0.034, 0.11, 0.29 + 0.1 * (chair.width - 0.48)
    parts = [
        lathe([(0.055, hub - 0.045), (0.055, hub + 0.02), (0.035, hub + 0.04)]).of("frame"),
        lathe([(0.036, hub), (0.036, 0.62 * chair.under_seat)]).of("frame"),
        lathe([(0.026, 0.6 * chair.under_seat), (0.026, chair.under_seat)]).of("trim"),
        box((0.24, 0.26, 0.05), (0.0, 0.0, chair.under_seat - 0.02), 0.02).of("frame"),
    ]
    for arm in range(5):
        angle = 2.0 * np.pi * arm / 5 + np.pi / 2
        direction = np.array([np.cos(angle), np.sin(angle), 0.0])
        rise = np.array([[0.0, 0.0, hub], [0.0, 0.0, 2 * wheel + 0.015]])
        ends = np.array([[0.0], [1.0]]) * reach * direction + rise
        parts.append(tube(ends, np.array([0.040, 0.026]), 8).of("frame"))
        turned = np.array([[direction[1], direction[0], 0.0], [-direction[0], direction[1], 0.0], [0.0, 0.0, 1.0]])
        rim = lathe([(0.6 * wheel, -0.028), (wheel, -0.018), (wheel, 0.018), (0.6 * wheel, 0.028)], sides=14)
        upright = rim.turned(np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]))
        x, y, _ = reach * direction
        parts.append(upright.turned(turned).moved(x, y, wheel).of("trim"))
    return parts


def _pedestal(chair: Chair) -> list[PartMesh]:
    wide, top = 0.23 + 0.1 * (chair.width - 0.45), chair.under_seat
    neck = 0.038
    curve = np.linspace(0.0, 1.0, 9)
    flare = neck + (0.13 - neck) * curve**3
    profile = [
        (wide, 0.0),
        (wide, 0.012),
        (0.75 * wide, 0.03),
        (0.35 * wide, 0.06),
        (neck * 1.2, 0.12),
        *[(float(radius), 0.14 + float(t) * (top - 0.14)) for radius, t in zip(flare, curve, strict=True)],
    ]
    return [lathe(profile, sides=28).of("frame")]


def _block(chair: Chair) -> list[PartMesh]:
    foot, under = 0.06, chair.under_seat
    body = cushion((chair.width, chair.depth, under - foot), (0.0, 0.0, (under + foot) / 2), 0.02, 0.04)
    x, y = chair.width / 2 - 0.05, chair.depth / 2 - 0.05
    post = column(np.array([[x, y, 0.0], [x, y, foot + 0.02]]), np.stack([circle(10, 0.025), circle(10, 0.032)]))
    return [body.of("cover"), *mirrored_pair(post.of("frame")), *mirrored_pair(post.moved(y=-2 * y).of("frame"))]


def build_seat(chair: Chair) -> list[PartMesh]:
    """The seat, with its cushion."""
    width, depth, top, thick = chair.width, chair.depth, chair.seat_height, chair.seat_thickness
    middle = top - thick / 2
    match chair.seat:
        case "plank":
            return [cushion((width, depth, thick), (0.0, 0.0, middle), 0.3 * thick, 0.03, 2).of(_solid(chair))]
        case "padded":
            return [cushion((width, depth, thick), (0.0, 0.0, middle), 0.42 * thick, 0.06).of("cover")]
        case "cushioned":
            board = cushion((width, depth, 0.5 * thick), (0.0, 0.0, top - 0.75 * thick), 0.01, 0.03, 1)
            pad = cushion((0.92 * width, 0.92 * depth, 0.62 * thick), (0.0, 0.0, top - 0.28 * thick), 0.02, 0.05)
            return [board.of("frame"), pad.of("cover")]
        case "round":
            edge = 0.3 * thick
            radius = 0.5 * max(width, depth)
            profile = [(radius - edge, 0.0), (radius, edge), (radius, thick - edge), (radius - edge, thick)]
            return [lathe(profile, (0.0, 0.0, top - thick), 32).of(_solid(chair))]
        case _:
            assert_never(chair.seat)


def build_back(chair: Chair) -> list[PartMesh]:
    """The back and its supports."""
    match chair.back:
        case "ladder":
            panels = _ladder(chair)
        case "spindles":
            panels = _spindles(chair)
        case "cross":
            panels = _cross(chair)
        case "hoop":
            panels = _hoop(chair)
        case "panel":
            panels = [_slab(chair, (-1.0, 1.0), (0.16, 1.0), 0.035).of(_solid(chair))]
        case "padded":
            low, thick = (0.0, 0.14) if chair.base == "block" else (0.10, 0.075)
            panels = [_slab(chair, (-0.98, 0.98), (low, 1.0), thick, rounding=0.10).of("cover")]
        case "curved":
            low = -0.06 if chair.base in {"legs", "pedestal"} else 0.08
            panels = [_slab(chair, (-1.0, 1.0), (low, 1.0), 0.04, rounding=0.35).of(_solid(chair))]
        case _:
            assert_never(chair.back)
    return [*_carriers(chair), *panels]


def build_arms(chair: Chair) -> list[PartMesh]:
    """The arm rests."""
    x, top = chair.width / 2, chair.seat_height + chair.arm_height
    rear = _back_point(chair, 1.0, chair.arm_height / chair.back_height)
    front = 0.30 * chair.depth
    match chair.arms:
        case "none":
            return []
        case "rest":
            post = column(
                np.array([[x - 0.02, front, chair.under_seat], [x, front, top]]),
                np.stack([rectangle(0.045, 0.045), rectangle(0.042, 0.042)]),
            )
            length = front + 0.04 - rear[1]
            rest = box((0.06, length, 0.04), (x, front + 0.04 - length / 2, top + 0.01), 0.012)
            return [*mirrored_pair(post.of("frame")), *mirrored_pair(rest.of("frame"))]
        case "bent":
            bar = rounded_path(
                [rear, (x + 0.01, rear[1] + 0.06, top), (x + 0.01, front, top), (x - 0.02, front, chair.under_seat)],
                radius=0.09,
            )
            return mirrored_pair(tube(bar, 0.024).of("frame"))
        case "pad":
            bar = rounded_path(
                [(0.1, 0.0, chair.under_seat - 0.02), (x + 0.05, 0.0, chair.under_seat - 0.02), (x + 0.05, 0.0, top)],
                radius=0.05,
            )
            pad = cushion((0.075, 0.26, 0.045), (x + 0.05, 0.02, top + 0.015), 0.018, 0.03)
            return [*mirrored_pair(tube(bar, 0.024, 8).of("frame")), *mirrored_pair(pad.of("trim"))]
        case "panel":
            size = (0.14, chair.depth + 0.06, top - 0.05)
            side = cushion(size, (x + 0.05, -0.01, (top + 0.05) / 2), 0.045, 0.05)
            return mirrored_pair(side.of("cover"))
        case _:
            assert_never(chair.arms)


def _solid(chair: Chair) -> str:
    """Material of boards and shells: that of the frame, or of the cover if the frame is metal."""
    return "cover" if chair.frame.surface == "metal" else "frame"


def _back_point(chair: Chair, s: float | Floats, t: float | Floats) -> Floats:
    """A point of the back's middle surface: s from -1 (left post) to 1, t from 0 (seat) to 1 (upper edge)."""
    s, t = np.broadcast_arrays(np.asarray(s, dtype=float), np.asarray(t, dtype=float))
    corner = leg_line(chair, rear=True)[1]
    if chair.base == "block":
        corner = np.array([chair.width / 2 + 0.02, 0.06 - chair.depth / 2, 0.0])
    y = corner[1] - np.tan(chair.rake) * chair.back_height * t - chair.bow * (1.0 - s**2)
    return np.stack([s * corner[0], y, chair.seat_height + t * chair.back_height], axis=-1)


def _slab(
    chair: Chair, across: tuple[float, float], upright: tuple[float, float], thickness: float, rounding: float = 0.0
) -> PartMesh:
    """A board that follows the back's surface.

    Args:
        chair: the chair.
        across: its range of s.
        upright: its range of t.
        thickness: metres.
        rounding: share of its width and height taken by the rounded corners, in [0, 0.5).
    """
    s = np.linspace(*across, 13)
    if rounding > 0.0:
        angle = np.linspace(0.0, np.pi / 2, 5)
        middle, reach = (across[0] + across[1]) / 2, (across[1] - across[0]) / 2
        corner = 2.0 * rounding * np.sin(angle)
        right = 1.0 - 2.0 * rounding + corner
        inner = np.linspace(-1.0 + 2.0 * rounding, 1.0 - 2.0 * rounding, 7)[1:-1]
        s = middle + reach * np.concatenate([-right[::-1], inner, right])
        round_off = rounding * (upright[1] - upright[0]) * (1.0 - np.cos(angle)) * 0.98
        cut = np.concatenate([round_off[::-1], np.zeros(len(inner)), round_off])
    else:
        cut = np.zeros(len(s))
    bottom, top = _back_point(chair, s, upright[0] + 0.5 * cut), _back_point(chair, s, upright[1] - cut)
    back = np.array([0.0, thickness / 2, 0.0])
    soft = min(0.3 * thickness, 0.02)
    rise = np.array([0.0, 0.0, soft])
    rings = np.stack(
        [
            bottom + rise + back,
            bottom + back * 0.4,
            bottom - back * 0.4,
            bottom + rise - back,
            top - rise - back,
            top - back * 0.4,
            top + back * 0.4,
            top - rise + back,
        ],
        axis=1,
    )
    return loft(rings)


def _posts(chair: Chair) -> list[PartMesh]:
    t = np.array([-0.5 * chair.seat_thickness / chair.back_height, 0.5, 1.02])
    path = _back_point(chair, 1.0, t)
    if chair.frame.surface == "metal":
        return mirrored_pair(tube(path, 0.45 * chair.leg_size).of("frame"))
    section = leg_section(chair, chair.under_seat) * 0.92
    return mirrored_pair(column(path, np.stack([section, section, section * 0.85])).of("frame"))


def _carriers(chair: Chair) -> list[PartMesh]:
    """Supports of the back: posts, one bracket on a swivel chair, or none if it stands on the seat."""
    if chair.base == "star":
        seat = np.array([0.0, 0.0, chair.under_seat + 0.01])
        behind = _back_point(chair, 0.0, 0.5) - [0.0, 0.05, 0.0]
        path = rounded_path([seat, (0.0, behind[1] - 0.01, seat[2]), behind], radius=0.08)
        return [swept(path, rectangle(0.09, 0.03)[None], up=(0.0, -0.6, 0.8)).of("frame")]
    standing = chair.back == "hoop" or (chair.base == "legs" and chair.back == "curved")
    return [] if standing or chair.base in {"pedestal", "block"} else _posts(chair)


def _ladder(chair: Chair) -> list[PartMesh]:
    edges = np.linspace(0.22, 1.0, chair.rails + 1)
    tall = min(0.62 * (edges[1] - edges[0]), 0.2)
    return [_slab(chair, (-1.0, 1.0), (upper - tall, upper), 0.03).of("frame") for upper in edges[1:]]


def _spindles(chair: Chair) -> list[PartMesh]:
    rails = [_slab(chair, (-1.0, 1.0), (0.80, 1.0), 0.04), _slab(chair, (-1.0, 1.0), (0.10, 0.20), 0.035)]
    s = np.linspace(-1.0, 1.0, chair.rails + 2)[1:-1]
    bars = [_slab(chair, (each - 0.13, each + 0.13), (0.15, 0.86), 0.03) for each in s]
    return [part.of("frame") for part in (*rails, *bars)]


def _cross(chair: Chair) -> list[PartMesh]:
    top = _slab(chair, (-1.0, 1.0), (0.82, 1.0), 0.04).of("frame")
    low = _slab(chair, (-1.0, 1.0), (0.10, 0.22), 0.035).of("frame")
    s, t = np.linspace(-1.0, 1.0, 7), np.linspace(0.16, 0.86, 7)
    bar = tube(_back_point(chair, s, t), 0.022, 8).of("frame")
    return [top, low, bar, bar.mirrored()]


def _hoop(chair: Chair) -> list[PartMesh]:
    angle = np.linspace(0.0, np.pi, 25)
    s, t = np.cos(angle), np.sin(angle) ** 0.75
    outline = _back_point(chair, s, t - 0.06)
    parts = [tube(outline, 0.025).of("frame")]
    for each in np.linspace(-1.0, 1.0, chair.rails + 3)[1:-1]:
        height = (1.0 - each**2) ** 0.375
        path = _back_point(chair, np.array([each * 0.85, each]), np.array([-0.06, height - 0.05]))
        parts.append(tube(path, 0.018, 8).of("frame"))
    return parts


BLACK_PLASTIC = Finish("plastic", (0.17, 0.17, 0.18))


def build_chair(chair: Chair) -> list[PartMesh]:
    """The closed, overlapping parts of a chair in metres; object frame, feet at z = 0."""
    return [*build_base(chair), *build_seat(chair), *build_back(chair), *build_arms(chair)]


def chair_materials(chair: Chair, rng: np.random.Generator) -> dict[str, Material]:
    """The materials of its parts, by name."""
    finishes = {"frame": chair.frame, "cover": chair.cover, "trim": BLACK_PLASTIC}
    return {name: make_material(finish, rng) for name, finish in finishes.items()}
