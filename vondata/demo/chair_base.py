"""What a chair stands on: four legs with stretchers, a sled, a star foot, a pedestal or a block."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from vondata.demo.chair_design import Chair
from vondata.demo.mesh import Floats, Mesh, mirrored_pair
from vondata.demo.primitives import box, circle, column, cushion, lathe, rectangle, rounded_path, tube


def build_base(chair: Chair) -> list[Mesh]:
    """The parts below the seat; with four legs also the posts that carry the back."""
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
    """Foot and upper end of the right leg (x > 0); the upper end lies under the seat's corner."""
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


def _legs(chair: Chair) -> list[Mesh]:
    steps = 15 if chair.leg == "turned" else 2
    heights = np.linspace(0.0, chair.under_seat + 0.5 * chair.seat_thickness, steps)
    sections = np.stack([leg_section(chair, height) for height in heights])
    parts: list[Mesh] = []
    for rear in (False, True):
        path = np.stack([leg_at(chair, height, rear=rear) for height in heights])
        parts += mirrored_pair(column(path, sections).of("frame"))
    return parts


def _apron(chair: Chair) -> list[Mesh]:
    if not chair.apron:
        return []
    z, tall, thick = chair.under_seat - 0.03, 0.06, 0.6 * chair.leg_size
    corner = leg_line(chair, rear=False)[1]
    across = box((2 * corner[0], thick, tall), (0.0, corner[1], z)).of("frame")
    along = box((thick, 2 * corner[1], tall), (corner[0], 0.0, z)).of("frame")
    return [across, across.moved(y=-2 * corner[1]), *mirrored_pair(along)]


def _stretchers(chair: Chair) -> list[Mesh]:
    height, radius = chair.stretcher_height, 0.36 * chair.leg_size
    front, rear = leg_at(chair, height, rear=False), leg_at(chair, height, rear=True)
    mirror = np.array([-1.0, 1.0, 1.0])

    def bar(start: Floats, end: Floats) -> Mesh:
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


def _sled(chair: Chair) -> list[Mesh]:
    x, radius = chair.width / 2 - chair.leg_size / 2, 0.42 * chair.leg_size
    y, top = chair.depth / 2 - 0.06, chair.under_seat + 0.01
    lean = np.tan(chair.splay) * top
    side = rounded_path(
        [(x, -y + 0.05, top), (x, -y - lean, radius), (x, y + lean, radius), (x, y - 0.03, top)], radius=0.10
    )
    cross = np.array([[-x, y - 0.05, top - radius], [x, y - 0.05, top - radius]])
    bars = [tube(cross, radius, 8), tube(cross - [0.0, 2 * y - 0.12, 0.0], radius, 8)]
    return [*mirrored_pair(tube(side, radius).of("frame")), *(bar.of("frame") for bar in bars)]


def _cantilever(chair: Chair) -> list[Mesh]:
    x, radius = chair.width / 2 - chair.leg_size / 2, 0.48 * chair.leg_size
    y, top = chair.depth / 2 - 0.02, chair.under_seat
    half = rounded_path(
        [(x, -y, top), (x, y, top), (x, y, radius), (x, -y, radius), (0.0, -y, radius)], radius=0.11, steps=5
    )
    return mirrored_pair(tube(half, radius).of("frame"))


def _star(chair: Chair) -> list[Mesh]:
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


def _pedestal(chair: Chair) -> list[Mesh]:
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


def _block(chair: Chair) -> list[Mesh]:
    foot, under = 0.06, chair.under_seat
    body = cushion((chair.width, chair.depth, under - foot), (0.0, 0.0, (under + foot) / 2), 0.02, 0.04)
    x, y = chair.width / 2 - 0.05, chair.depth / 2 - 0.05
    post = column(np.array([[x, y, 0.0], [x, y, foot + 0.02]]), np.stack([circle(10, 0.025), circle(10, 0.032)]))
    return [body.of("cover"), *mirrored_pair(post.of("frame")), *mirrored_pair(post.moved(y=-2 * y).of("frame"))]
