"""The demo's tables and lamps: random parameters, and meshes of parts in metres, on z = 0 and facing +y."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np

from vondata.demo.primitives import box, circle, column, cushion, lathe, rectangle, rounded_path, tube
from vondata.render.mesh import (
    DYES,
    LACQUERS,
    WOODS,
    Finish,
    Material,
    PartMesh,
    make_material,
    mirrored_pair,
    one_of,
    pick,
    quantile_choice,
)

TableFamily = Literal["dining", "coffee", "desk", "pedestal", "trestle"]
TableLeg = Literal["square", "tapered", "round", "turned"]
LampFamily = Literal["shade", "floor", "tripod", "desk", "globe"]

TABLES: dict[TableFamily, float] = {"dining": 0.34, "coffee": 0.2, "desk": 0.18, "pedestal": 0.16, "trestle": 0.12}
LAMPS: dict[LampFamily, float] = {"shade": 0.32, "floor": 0.2, "tripod": 0.14, "desk": 0.2, "globe": 0.14}
METALS = ("silver", "graphite", "black")


@dataclass(frozen=True)
class Table:
    """Parameters of a table, in metres; its top is centred over the origin.

    Attributes:
        family: the kind of table.
        length: of the top, from left to right.
        depth: of the top, from front to back.
        height: of the top's upper side.
        thickness: of the top.
        rounding: radius of the top's corners; half of its sides makes it round.
        leg: shape of the legs.
        leg_size: thickness of the legs.
        overhang: of the top beyond the legs.
        apron: height of the frame below the top; 0 for none.
        shelf: height of a shelf between the legs; 0 for none.
        drawers: number in each pedestal of a desk.
        top: finish of the top.
        frame: finish of the frame.
    """

    family: TableFamily
    length: float
    depth: float
    height: float
    thickness: float
    rounding: float
    leg: TableLeg
    leg_size: float
    overhang: float
    apron: float
    shelf: float
    drawers: int
    top: Finish
    frame: Finish

    @property
    def under(self) -> float:
        """Height of the top's lower side."""
        return self.height - self.thickness


def draw_table(rng: np.random.Generator, quantile: float) -> Table:
    """Samples a table; arguments as in `draw_chair`."""
    family = quantile_choice(TABLES, quantile)
    coffee, desk, pedestal = family == "coffee", family == "desk", family == "pedestal"
    length = float(rng.uniform(0.8, 1.2) if coffee or pedestal else rng.uniform(1.2, 1.9))
    depth = float(rng.uniform(0.5, 0.75) if coffee or desk else rng.uniform(0.75, 0.95))
    if pedestal:
        depth = length
    round_top = pedestal or (family in {"dining", "coffee"} and rng.random() < 0.15)
    wood = Finish("wood", pick(rng, WOODS))
    painted = Finish("lacquer", pick(rng, LACQUERS))
    metal = Finish("metal", pick(rng, LACQUERS, METALS))
    frame = one_of(rng, (wood, wood, wood, painted, metal))
    return Table(
        family=family,
        length=length,
        depth=depth,
        height=float(rng.uniform(0.36, 0.48) if coffee else rng.uniform(0.71, 0.77)),
        thickness=float(rng.uniform(0.03, 0.06)),
        rounding=0.499 * min(length, depth) if round_top else float(rng.choice([0.01, 0.03, 0.12])),
        leg=one_of(rng, ("square", "tapered", "round", "turned")),
        leg_size=float(rng.uniform(0.055, 0.09)),
        overhang=0.16 * min(length, depth) if round_top else float(rng.uniform(0.0, 0.06)),
        apron=0.0 if round_top or rng.random() < 0.3 else float(rng.uniform(0.07, 0.12)),
        shelf=float(rng.uniform(0.3, 0.45)) if coffee and rng.random() < 0.5 else 0.0,
        drawers=int(rng.integers(2, 5)),
        top=one_of(rng, (frame, frame, wood, painted)) if frame.surface != "metal" else one_of(rng, (wood, painted)),
        frame=frame,
    )


def build_table(table: Table) -> list[PartMesh]:
    """The closed, overlapping parts of a table."""
    size, middle = (table.length, table.depth, table.thickness), (0.0, 0.0, table.height - table.thickness / 2)
    parts = [cushion(size, middle, 0.2 * table.thickness, table.rounding, 6).of("top")]
    match table.family:
        case "dining" | "coffee":
            parts += _four_legs(table)
        case "desk":
            parts += _drawers(table)
        case "pedestal":
            parts += _one_foot(table)
        case "trestle":
            parts += _trestles(table)
        case _:
            assert_never(table.family)
    return parts


def table_materials(table: Table, rng: np.random.Generator) -> dict[str, Material]:
    """The materials of its parts, by name."""
    return {
        "top": make_material(table.top, rng),
        "frame": make_material(table.frame, rng),
        "handle": Material((0.7, 0.7, 0.72), gloss=0.8),
    }


def _corner(table: Table) -> tuple[float, float]:
    """X and y of the middle of a leg."""
    inset = table.overhang + table.leg_size / 2
    return table.length / 2 - inset, table.depth / 2 - inset


def _four_legs(table: Table) -> list[PartMesh]:
    (x, y), size = _corner(table), table.leg_size
    shares = np.linspace(0.0, 1.0, 15 if table.leg == "turned" else 2)
    match table.leg:
        case "square":
            sections = [rectangle(size, size) for _ in shares]
        case "tapered":
            sections = [rectangle(size, size) * (0.55 + 0.45 * t) for t in shares]
        case "round":
            sections = [circle(14, size / 2) * (0.7 + 0.3 * t) for t in shares]
        case "turned":
            beads = [0.8 + 0.22 * np.sin(5.0 * np.pi * t) * (1.0 - t) + 0.15 * t for t in shares]
            sections = [circle(14, size / 2) * bead for bead in beads]
        case _:
            assert_never(table.leg)
    path = np.array([[x, y, t * (table.under + 0.3 * table.thickness)] for t in shares])
    leg = column(path, np.stack(sections)).of("frame")
    parts = [*mirrored_pair(leg), *mirrored_pair(leg.moved(y=-2 * y))]
    if table.apron:
        z, thick = table.under - table.apron / 2 + 0.005, 0.45 * size
        along = box((2 * x, thick, table.apron), (0.0, y, z)).of("frame")
        across = box((thick, 2 * y, table.apron), (x, 0.0, z)).of("frame")
        parts += [along, along.moved(y=-2 * y), *mirrored_pair(across)]
    if table.shelf:
        parts.append(box((2 * x + size, 2 * y + size, 0.025), (0.0, 0.0, table.shelf * table.height)).of("top"))
    return parts


def _drawers(table: Table) -> list[PartMesh]:
    """A chest of drawers at each end, and a panel behind the knees."""
    wide, deep, foot = 0.26 * table.length, table.depth - 2 * table.overhang - 0.02, 0.05
    tall, x = table.under - foot, table.length / 2 - 0.13 * table.length - table.overhang
    parts = mirrored_pair(box((wide, deep, tall), (x, 0.0, foot + tall / 2)).of("frame"))
    plinth = box((0.86 * wide, 0.86 * deep, foot + 0.01), (x, 0.0, foot / 2 + 0.005)).of("frame")
    parts += mirrored_pair(plinth)
    each = tall / table.drawers
    for number in range(table.drawers):
        z = foot + (number + 0.5) * each
        front = box((0.9 * wide, 0.024, 0.84 * each), (x, deep / 2 + 0.008, z), 0.006).of("top")
        knob = box((0.3 * wide, 0.03, 0.018), (x, deep / 2 + 0.03, z), 0.006).of("handle")
        parts += [*mirrored_pair(front), *mirrored_pair(knob)]
    parts.append(box((2 * x, 0.02, 0.55 * tall), (0.0, -0.4 * deep, table.under - 0.275 * tall)).of("frame"))
    return parts


def _one_foot(table: Table) -> list[PartMesh]:
    radius, neck, top = 0.3 * table.length, 0.055, table.under + 0.005
    profile = [(radius, 0.0), (radius, 0.02), (0.5 * radius, 0.05), (neck, 0.14), (neck, 0.8 * top), (0.14, top)]
    return [lathe(profile, sides=32).of("frame")]


def _trestles(table: Table) -> list[PartMesh]:
    x, y, size = 0.36 * table.length, 0.42 * table.depth, 0.75 * table.leg_size
    foot = np.array([[x, y, 0.0], [x, 0.12 * y, table.under + 0.01]])
    leg = column(foot, np.stack([rectangle(size, size)] * 2)).of("frame")
    beam = box((size, 1.9 * y, size), (x, 0.0, table.under - size / 2)).of("frame")
    spreader = box((2 * x, 0.6 * size, size), (0.0, 0.0, 0.3 * table.height)).of("frame")
    rung = box((size, 1.5 * y, size), (x, 0.0, 0.3 * table.height)).of("frame")
    back = column(foot * [1.0, -1.0, 1.0], np.stack([rectangle(size, size)] * 2)).of("frame")
    return [*(each for part in (leg, back, beam, rung) for each in mirrored_pair(part)), spreader]


@dataclass(frozen=True)
class Lamp:
    """Parameters of a lamp, in metres.

    Attributes:
        family: the kind of lamp.
        height: total height.
        base: radius of the foot.
        stem: radius of the stem.
        belly: radius of a vase-like body around the stem, 0 for none.
        shade: lower radius, upper radius and height of the shade.
        reach: of the arm of a desk lamp.
        body: finish of foot and stem.
        cloth: finish of the shade.
    """

    family: LampFamily
    height: float
    base: float
    stem: float
    belly: float
    shade: tuple[float, float, float]
    reach: float
    body: Finish
    cloth: Finish


def draw_lamp(rng: np.random.Generator, quantile: float) -> Lamp:
    """Samples a lamp; arguments as in `draw_chair`."""
    family = quantile_choice(LAMPS, quantile)
    tall = family in {"floor", "tripod"}
    height = float(rng.uniform(1.35, 1.7) if tall else rng.uniform(0.42, 0.65))
    scale = height * (0.45 if tall else 1.0)
    lower = float(rng.uniform(0.26, 0.36)) * scale
    metal = Finish("metal", pick(rng, LACQUERS, METALS))
    wood = Finish("wood", pick(rng, WOODS))
    painted = Finish("lacquer", pick(rng, LACQUERS))
    bodies = {"tripod": (wood, wood, metal), "desk": (painted, painted, metal)}.get(family, (metal, painted, wood))
    return Lamp(
        family=family,
        height=height,
        base=float(rng.uniform(0.2, 0.28)) * scale,
        stem=float(rng.uniform(0.018, 0.028)) * (scale + 0.35),
        belly=float(rng.uniform(0.1, 0.19)) * scale if family == "shade" and rng.random() < 0.65 else 0.0,
        shade=(lower, lower * float(rng.uniform(0.45, 1.0)), float(rng.uniform(0.38, 0.5)) * scale),
        reach=float(rng.uniform(0.5, 0.7)) * height,
        body=one_of(rng, bodies),
        cloth=Finish(one_of(rng, ("cloth", "cloth", "stripes")), pick(rng, DYES)),
    )


def build_lamp(lamp: Lamp) -> list[PartMesh]:
    """The closed, overlapping parts of a lamp."""
    match lamp.family:
        case "shade" | "floor":
            return [*_foot(lamp), *_shade(lamp)]
        case "tripod":
            return [*_three_legs(lamp), *_shade(lamp)]
        case "desk":
            return _desk_lamp(lamp)
        case "globe":
            radius = 0.3 * lamp.height
            angle = np.linspace(-0.49 * np.pi, 0.49 * np.pi, 15)
            middle = lamp.height - radius
            ball = [(float(radius * np.cos(t)), float(middle + radius * np.sin(t))) for t in angle]
            return [*_foot(lamp), lathe(ball, sides=28).of("glass")]
        case _:
            assert_never(lamp.family)


def lamp_materials(lamp: Lamp, rng: np.random.Generator) -> dict[str, Material]:
    """The materials of its parts, by name."""
    return {
        "body": make_material(lamp.body, rng),
        "shade": make_material(lamp.cloth, rng),
        "glass": Material((0.95, 0.93, 0.86), gloss=0.5),
        "bulb": Material((0.98, 0.95, 0.8), gloss=0.4),
        "joint": Material((0.3, 0.3, 0.32), gloss=0.5),
    }


def _foot(lamp: Lamp) -> list[PartMesh]:
    top, thick = lamp.height - 0.4 * lamp.shade[2], 0.05 * lamp.height**0.5
    foot = [(lamp.base, 0.0), (lamp.base, 0.5 * thick), (0.75 * lamp.base, thick), (lamp.stem, 1.15 * thick)]
    parts = [lathe([*foot, (lamp.stem, top)], sides=28).of("body")]
    if lamp.belly:
        share = np.linspace(0.03, 0.97, 12)
        bulge = lamp.stem + (lamp.belly - lamp.stem) * np.sin(np.pi * share**0.8)
        high = lamp.height - lamp.shade[2]
        outline = [(float(radius), float(t * high)) for radius, t in zip(bulge, share, strict=True)]
        parts.append(lathe(outline, sides=28).of("body"))
    return parts


def _three_legs(lamp: Lamp) -> list[PartMesh]:
    hub, radius = lamp.height - 0.9 * lamp.shade[2], 1.1 * lamp.stem
    hub_outline = [(2.2 * lamp.stem, hub - 0.06), (2.2 * lamp.stem, hub), (lamp.stem, lamp.height - 0.05)]
    parts = [lathe(hub_outline).of("body")]
    for number in range(3):
        angle = np.pi / 2 + 2.0 * np.pi * number / 3
        foot = 1.5 * lamp.base * np.array([np.cos(angle), np.sin(angle)])
        path = np.array([[*foot, 0.0], [*(0.1 * foot), hub]])
        parts.append(column(path, np.stack([circle(12, 0.7 * radius), circle(12, radius)])).of("body"))
    return parts


def _shade(lamp: Lamp) -> list[PartMesh]:
    """A shade that is open above and below, as a wall with an outer and an inner side, and the bulb inside."""
    lower, upper, tall = lamp.shade
    low, high, wall = lamp.height - tall, lamp.height, 0.035 * lower + 0.004
    profile = [(lower, low), (upper, high), (upper - wall, high), (lower - wall, low)]
    ring = lathe(profile, sides=32, endless=True).of("shade")
    bulb = 0.28 * upper
    angle = np.linspace(-0.49 * np.pi, 0.49 * np.pi, 9)
    middle = (low + high) / 2
    glow = lathe([(float(bulb * np.cos(t)), float(middle + bulb * np.sin(t))) for t in angle]).of("bulb")
    cross = np.array([[-(upper - wall / 2), 0.0, high - 0.04 * tall], [upper - wall / 2, 0.0, high - 0.04 * tall]])
    return [ring, glow, tube(cross, 0.3 * lamp.stem, 6).of("joint")]


def _desk_lamp(lamp: Lamp) -> list[PartMesh]:
    """A foot, an arm of two rods in the plane of symmetry, and a head that points down to the front."""
    thick, radius = 0.06 * lamp.height, 0.6 * lamp.stem
    elbow = np.array([0.0, -0.35 * lamp.reach, 0.62 * lamp.height])
    neck = np.array([0.0, 0.45 * lamp.reach, 0.95 * lamp.height])
    start = np.array([0.0, -0.1 * lamp.reach, thick])
    parts = [
        lathe([(lamp.base, 0.0), (lamp.base, 0.6 * thick), (0.5 * lamp.base, thick)], sides=28).of("body"),
        tube(rounded_path([start, elbow, neck], 0.02), radius, 10).of("body"),
    ]
    for place in (start, elbow, neck):
        joint = tube(np.array([[-2.2 * radius, 0.0, 0.0], [2.2 * radius, 0.0, 0.0]]) + place, 1.7 * radius, 12)
        parts.append(joint.of("joint"))
    direction = np.array([0.0, 0.55, -0.83])
    head, long = 0.2 * lamp.height, 0.34 * lamp.height
    path = neck + np.array([[-0.12], [0.15], [0.55], [1.0]]) * long * direction
    parts.append(tube(path, head * np.array([0.25, 0.4, 0.7, 1.0]), 24).of("body"))
    tip = neck + 1.0 * long * direction
    parts.append(tube(np.array([tip, tip + 0.05 * long * direction]), 0.8 * head, 20).of("bulb"))
    return parts
