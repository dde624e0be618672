"""Parameters of the demo's procedural cars, and their random sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vondata.render.mesh import LACQUERS, Colour, one_of, pick, quantile_choice

CarBody = Literal["sedan", "hatchback", "wagon", "van", "pickup"]
Livery = Literal["plain", "band", "two_tone"]
Rim = Literal["disc", "spokes"]

BODIES: dict[CarBody, float] = {"sedan": 0.32, "hatchback": 0.26, "wagon": 0.12, "van": 0.16, "pickup": 0.14}


@dataclass(frozen=True)
class Car:
    """Parameters of a car, in metres; it is centred over the origin and faces +y.

    Attributes:
        body: the kind of car.
        length: without bumpers.
        width: without mirrors.
        height: from the ground to the roof.
        clearance: of the sill above the ground.
        wheel: radius of the wheels.
        front_axle: its y.
        rear_axle: its y.
        taper: relative narrowing of the body towards its ends.
        rounding: radius of nose and tail.
        profile: (y, z) of the upper outline from nose to tail.
        belt: height of the windows' lower edge.
        lean: inward slope of the side windows, horizontal per vertical.
        windows: (front y, rear y) of each side window.
        windscreen: (front y, rear y) of the glass on the upper outline.
        rear_window: the same at the back; an empty range for none.
        bed: (front y, rear y) of a pick-up's open bed; empty range for other bodies.
        doors: y of the door seams.
        paint: colour of the body, sRGB in [0, 1].
        second_paint: of bands and lower halves.
        livery: layout of the two colours.
        rim: style of the rims.
        rails: whether the roof has rails.
        dark_bumpers: whether bumpers are unpainted.
    """

    body: CarBody
    length: float
    width: float
    height: float
    clearance: float
    wheel: float
    front_axle: float
    rear_axle: float
    taper: float
    rounding: float
    profile: tuple[tuple[float, float], ...]
    belt: float
    lean: float
    windows: tuple[tuple[float, float], ...]
    windscreen: tuple[float, float]
    rear_window: tuple[float, float]
    bed: tuple[float, float]
    doors: tuple[float, ...]
    paint: Colour
    second_paint: Colour
    livery: Livery
    rim: Rim
    rails: bool
    dark_bumpers: bool

    @property
    def arch(self) -> float:
        """Radius of the wheel arches."""
        return 1.16 * self.wheel

    @property
    def tyre(self) -> float:
        """Width of the tyres."""
        return 0.58 * self.wheel


@dataclass(frozen=True)
class _Kind:
    """A body style: ranges in metres, and positions as fractions of length (from the nose) and of height."""

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    wheel: tuple[float, float]
    clearance: tuple[float, float]
    axles: tuple[float, float]
    profile: tuple[tuple[float, float], ...]
    belt: float
    windows: tuple[tuple[float, float], ...]
    windscreen: tuple[float, float]
    rear_window: tuple[float, float]
    doors: tuple[float, ...]
    bed: tuple[float, float] = (1.0, 1.0)
    lean: tuple[float, float] = (0.28, 0.40)


_KINDS: dict[CarBody, _Kind] = {
    "sedan": _Kind(
        length=(4.3, 4.8),
        width=(1.74, 1.86),
        height=(1.38, 1.48),
        wheel=(0.31, 0.35),
        clearance=(0.19, 0.23),
        axles=(0.185, 0.79),
        profile=(
            (0.0, 0.50),
            (0.04, 0.60),
            (0.28, 0.70),
            (0.43, 0.97),
            (0.55, 1.0),
            (0.67, 0.96),
            (0.83, 0.73),
            (0.97, 0.70),
            (1.0, 0.60),
        ),
        belt=0.655,
        windows=((0.345, 0.53), (0.555, 0.72)),
        windscreen=(0.30, 0.425),
        rear_window=(0.685, 0.815),
        doors=(0.33, 0.545, 0.735),
    ),
    "hatchback": _Kind(
        length=(3.7, 4.1),
        width=(1.68, 1.80),
        height=(1.44, 1.56),
        wheel=(0.30, 0.34),
        clearance=(0.18, 0.22),
        axles=(0.185, 0.82),
        profile=(
            (0.0, 0.46),
            (0.04, 0.56),
            (0.24, 0.67),
            (0.42, 0.97),
            (0.58, 1.0),
            (0.82, 0.95),
            (0.96, 0.64),
            (1.0, 0.56),
        ),
        belt=0.63,
        windows=((0.32, 0.555), (0.58, 0.79)),
        windscreen=(0.26, 0.41),
        rear_window=(0.845, 0.945),
        doors=(0.31, 0.57, 0.77),
    ),
    "wagon": _Kind(
        length=(4.4, 4.8),
        width=(1.76, 1.86),
        height=(1.44, 1.54),
        wheel=(0.31, 0.35),
        clearance=(0.19, 0.24),
        axles=(0.18, 0.78),
        profile=(
            (0.0, 0.50),
            (0.04, 0.59),
            (0.26, 0.68),
            (0.40, 0.97),
            (0.55, 1.0),
            (0.88, 0.96),
            (0.97, 0.66),
            (1.0, 0.58),
        ),
        belt=0.64,
        windows=((0.325, 0.49), (0.515, 0.68), (0.705, 0.86)),
        windscreen=(0.28, 0.39),
        rear_window=(0.90, 0.955),
        doors=(0.315, 0.50, 0.69),
    ),
    "van": _Kind(
        length=(4.5, 5.3),
        width=(1.82, 1.98),
        height=(1.85, 2.15),
        wheel=(0.32, 0.36),
        clearance=(0.20, 0.25),
        axles=(0.17, 0.79),
        profile=(
            (0.0, 0.40),
            (0.03, 0.47),
            (0.14, 0.55),
            (0.28, 0.96),
            (0.45, 1.0),
            (0.95, 0.985),
            (0.985, 0.93),
            (1.0, 0.80),
        ),
        belt=0.54,
        windows=((0.205, 0.37), (0.40, 0.65), (0.68, 0.92)),
        windscreen=(0.155, 0.275),
        rear_window=(1.0, 1.0),
        doors=(0.20, 0.385, 0.665),
        lean=(0.10, 0.18),
    ),
    "pickup": _Kind(
        length=(4.9, 5.4),
        width=(1.80, 1.94),
        height=(1.66, 1.80),
        wheel=(0.36, 0.41),
        clearance=(0.26, 0.32),
        axles=(0.18, 0.77),
        profile=((0.0, 0.50), (0.03, 0.61), (0.27, 0.66), (0.38, 0.97), (0.46, 1.0), (0.545, 0.97), (0.575, 0.72)),
        belt=0.63,
        windows=((0.325, 0.445), (0.465, 0.545)),
        windscreen=(0.285, 0.375),
        rear_window=(0.549, 0.571),
        doors=(0.305, 0.455, 0.565),
        bed=(0.595, 0.985),
        lean=(0.18, 0.28),
    ),
}


def draw_car(rng: np.random.Generator, quantile: float) -> Car:
    """Samples a car.

    Args:
        rng: source of everything except the body style.
        quantile: chooses the body style, in [0, 1).
    """
    body = quantile_choice(BODIES, quantile)
    kind = _KINDS[body]
    length, height = float(rng.uniform(*kind.length)), float(rng.uniform(*kind.height))
    # Random offsets of both ends of the cabin, and of the heights of bonnet and boot.
    cabin = np.array([0.0, 0.3 + rng.uniform(-0.035, 0.035), 0.7 + rng.uniform(-0.035, 0.035), 1.0])
    bonnet, boot = rng.uniform(-0.035, 0.035, size=2)

    def along(fraction: float) -> float:
        return length * (0.5 - float(np.interp(fraction, [0.0, 0.3, 0.7, 1.0], cabin)))

    def between(fractions: tuple[float, float]) -> tuple[float, float]:
        return along(fractions[0]), along(fractions[1])

    def raised(place: float, level: float) -> float:
        return height * (level + (0.0 if level > 0.9 else bonnet if place < 0.5 else boot))

    windows = kind.windows
    if body == "van" and rng.random() < 0.5:  # a delivery van has windows only in its front doors
        windows = windows[:1]
    return Car(
        body=body,
        length=length,
        width=float(rng.uniform(*kind.width)),
        height=height,
        clearance=float(rng.uniform(*kind.clearance)),
        wheel=float(rng.uniform(*kind.wheel)),
        front_axle=length * (0.5 - kind.axles[0] - float(rng.uniform(-0.01, 0.01))),
        rear_axle=length * (0.5 - kind.axles[1] - float(rng.uniform(-0.01, 0.01))),
        taper=float(rng.uniform(0.05, 0.14)),
        rounding=float(rng.uniform(0.10, 0.24)),
        profile=tuple((along(place), raised(place, level)) for place, level in kind.profile),
        belt=height * (kind.belt + min(bonnet, boot)),
        lean=float(rng.uniform(*kind.lean)),
        windows=tuple(between(window) for window in windows),
        windscreen=between(kind.windscreen),
        rear_window=between(kind.rear_window),
        bed=between(kind.bed),
        doors=tuple(along(door) for door in kind.doors),
        paint=pick(rng, LACQUERS),
        second_paint=pick(rng, LACQUERS, ["ivory", "silver", "graphite", "black"]),
        livery=one_of(rng, ("plain", "plain", "plain", "band", "two_tone")),
        rim=one_of(rng, ("disc", "spokes")),
        rails=body in {"wagon", "van"} and bool(rng.random() < 0.5),
        dark_bumpers=bool(rng.random() < 0.35),
    )
