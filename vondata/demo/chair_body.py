"""Seat, back and arm rests of a chair."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from vondata.demo.chair_base import leg_line, leg_section
from vondata.demo.chair_design import Chair
from vondata.demo.mesh import Floats, Mesh, mirrored_pair
from vondata.demo.primitives import box, column, cushion, lathe, loft, rectangle, rounded_path, swept, tube


def build_seat(chair: Chair) -> list[Mesh]:
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


def build_back(chair: Chair) -> list[Mesh]:
    """The back, with what carries it."""
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


def build_arms(chair: Chair) -> list[Mesh]:
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
    """Material of boards and shells: that of the frame, upholstery where the frame is of metal."""
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
) -> Mesh:
    """A board that follows the back's surface.

    Args:
        chair: the chair.
        across: its range of s.
        upright: its range of t.
        thickness: metres.
        rounding: how much of its width and height the round corners take, in [0, 0.5).
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


def _posts(chair: Chair) -> list[Mesh]:
    t = np.array([-0.5 * chair.seat_thickness / chair.back_height, 0.5, 1.02])
    path = _back_point(chair, 1.0, t)
    if chair.frame.surface == "metal":
        return mirrored_pair(tube(path, 0.45 * chair.leg_size).of("frame"))
    section = leg_section(chair, chair.under_seat) * 0.92
    return mirrored_pair(column(path, np.stack([section, section, section * 0.85])).of("frame"))


def _carriers(chair: Chair) -> list[Mesh]:
    """What holds the back: posts, one bracket on a swivel chair, or nothing where it stands on the seat."""
    if chair.base == "star":
        seat = np.array([0.0, 0.0, chair.under_seat + 0.01])
        behind = _back_point(chair, 0.0, 0.5) - [0.0, 0.05, 0.0]
        path = rounded_path([seat, (0.0, behind[1] - 0.01, seat[2]), behind], radius=0.08)
        return [swept(path, rectangle(0.09, 0.03)[None], up=(0.0, -0.6, 0.8)).of("frame")]
    standing = chair.back == "hoop" or (chair.base == "legs" and chair.back == "curved")
    return [] if standing or chair.base in {"pedestal", "block"} else _posts(chair)


def _ladder(chair: Chair) -> list[Mesh]:
    edges = np.linspace(0.22, 1.0, chair.rails + 1)
    tall = min(0.62 * (edges[1] - edges[0]), 0.2)
    return [_slab(chair, (-1.0, 1.0), (upper - tall, upper), 0.03).of("frame") for upper in edges[1:]]


def _spindles(chair: Chair) -> list[Mesh]:
    rails = [_slab(chair, (-1.0, 1.0), (0.80, 1.0), 0.04), _slab(chair, (-1.0, 1.0), (0.10, 0.20), 0.035)]
    s = np.linspace(-1.0, 1.0, chair.rails + 2)[1:-1]
    bars = [_slab(chair, (each - 0.13, each + 0.13), (0.15, 0.86), 0.03) for each in s]
    return [part.of("frame") for part in (*rails, *bars)]


def _cross(chair: Chair) -> list[Mesh]:
    top = _slab(chair, (-1.0, 1.0), (0.82, 1.0), 0.04).of("frame")
    low = _slab(chair, (-1.0, 1.0), (0.10, 0.22), 0.035).of("frame")
    s, t = np.linspace(-1.0, 1.0, 7), np.linspace(0.16, 0.86, 7)
    bar = tube(_back_point(chair, s, t), 0.022, 8).of("frame")
    return [top, low, bar, bar.mirrored()]


def _hoop(chair: Chair) -> list[Mesh]:
    angle = np.linspace(0.0, np.pi, 25)
    s, t = np.cos(angle), np.sin(angle) ** 0.75
    outline = _back_point(chair, s, t - 0.06)
    parts = [tube(outline, 0.025).of("frame")]
    for each in np.linspace(-1.0, 1.0, chair.rails + 3)[1:-1]:
        height = (1.0 - each**2) ** 0.375
        path = _back_point(chair, np.array([each * 0.85, each]), np.array([-0.06, height - 0.05]))
        parts.append(tube(path, 0.018, 8).of("frame"))
    return parts
