"""Parameters of the demo's procedural chairs, and their random sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vondata.render.mesh import DYES, LACQUERS, WOODS, Finish, Surface, one_of, pick, quantile_choice

Base = Literal["legs", "sled", "cantilever", "star", "pedestal", "block"]
Leg = Literal["square", "tapered", "round", "turned"]
Stretchers = Literal["none", "sides", "h", "box"]
Seat = Literal["plank", "padded", "cushioned", "round"]
Back = Literal["ladder", "spindles", "panel", "curved", "padded", "cross", "hoop"]
Arms = Literal["none", "rest", "bent", "pad", "panel"]
Family = Literal["dining", "windsor", "upholstered", "stool", "tubular", "office", "tulip", "club"]

# Shares of the families; most are wooden chairs with four legs, as in real collections.
FAMILIES: dict[Family, float] = {
    "dining": 0.34,
    "upholstered": 0.16,
    "windsor": 0.10,
    "stool": 0.08,
    "tubular": 0.10,
    "office": 0.12,
    "tulip": 0.04,
    "club": 0.06,
}


@dataclass(frozen=True)
class Chair:
    """Parameters of a chair, in metres and radians; its seat is centred over the origin, its front faces +y.

    Attributes:
        family: the kind of chair.
        base: type of the base.
        width: of the seat.
        depth: of the seat.
        seat_height: from the floor to the seat's upper side.
        seat_thickness: of the seat with its upholstery.
        seat: type of the seat.
        leg: shape of the legs.
        leg_size: thickness of legs or tubes.
        splay: outward lean of the legs.
        apron: whether there is a frame below the seat.
        stretchers: bars between the legs.
        stretcher_height: of those bars above the floor.
        back: type of the back.
        back_height: above the seat.
        rake: lean of the back.
        bow: distance of the back's middle behind its sides.
        rails: number of rails or spindles.
        arms: type of the arm rests.
        arm_height: above the seat.
        frame: finish of legs and posts.
        cover: finish of the upholstery, or of a plain seat.
    """

    family: Family
    base: Base
    width: float
    depth: float
    seat_height: float
    seat_thickness: float
    seat: Seat
    leg: Leg
    leg_size: float
    splay: float
    apron: bool
    stretchers: Stretchers
    stretcher_height: float
    back: Back
    back_height: float
    rake: float
    bow: float
    rails: int
    arms: Arms
    arm_height: float
    frame: Finish
    cover: Finish

    @property
    def under_seat(self) -> float:
        """Height of the seat's lower side."""
        return self.seat_height - self.seat_thickness


def draw_chair(rng: np.random.Generator, quantile: float) -> Chair:
    """Samples a chair.

    Args:
        rng: source of everything except the family.
        quantile: chooses the family, in [0, 1); evenly spread quantiles give the families' exact shares.
    """
    family = quantile_choice(FAMILIES, quantile)
    kinds = _KINDS[family]
    frame, cover = _finishes(rng, family)
    stool, club = family == "stool", family == "club"
    seat = one_of(rng, kinds.seats)
    return Chair(
        family=family,
        base=one_of(rng, kinds.bases),
        width=float(rng.uniform(*kinds.width)),
        depth=float(rng.uniform(*kinds.depth)),
        seat_height=float(rng.uniform(*kinds.seat_height)),
        seat_thickness=float(rng.uniform(0.10, 0.14) if club else rng.uniform(*_THICKNESS[seat])),
        seat=seat,
        leg=one_of(rng, kinds.legs),
        leg_size=float(rng.uniform(*kinds.leg_size)),
        splay=float(np.radians(rng.uniform(*kinds.splay_deg))),
        apron=family in {"dining", "upholstered"} and bool(rng.random() < 0.6),
        stretchers=one_of(rng, kinds.stretchers),
        stretcher_height=float(rng.uniform(0.24, 0.32) if stool else rng.uniform(0.10, 0.2)),
        back=one_of(rng, kinds.backs),
        back_height=float(rng.uniform(*kinds.back_height)),
        rake=float(np.radians(rng.uniform(4.0, 15.0))),
        bow=float(rng.uniform(*kinds.bow)),
        rails=int(rng.integers(2, 5)),
        arms=one_of(rng, kinds.arms),
        arm_height=float(rng.uniform(0.19, 0.25)),
        frame=frame,
        cover=cover,
    )


@dataclass(frozen=True)
class _Kinds:
    """Choices (repeated ones are more likely) and ranges of a family."""

    bases: tuple[Base, ...]
    seats: tuple[Seat, ...]
    backs: tuple[Back, ...]
    arms: tuple[Arms, ...] = ("none",)
    legs: tuple[Leg, ...] = ("square",)
    stretchers: tuple[Stretchers, ...] = ("none",)
    width: tuple[float, float] = (0.42, 0.52)
    depth: tuple[float, float] = (0.42, 0.50)
    seat_height: tuple[float, float] = (0.43, 0.48)
    leg_size: tuple[float, float] = (0.05, 0.065)
    splay_deg: tuple[float, float] = (0.0, 5.0)
    back_height: tuple[float, float] = (0.40, 0.54)
    bow: tuple[float, float] = (0.0, 0.03)


_THICKNESS: dict[Seat, tuple[float, float]] = {
    "plank": (0.04, 0.055),
    "padded": (0.07, 0.10),
    "cushioned": (0.075, 0.10),
    "round": (0.045, 0.07),
}
_KINDS: dict[Family, _Kinds] = {
    "dining": _Kinds(
        bases=("legs",),
        seats=("plank", "plank", "cushioned", "padded"),
        backs=("ladder", "ladder", "spindles", "panel", "cross"),
        arms=("none", "none", "none", "rest"),
        legs=("square", "tapered", "round", "turned"),
        stretchers=("none", "sides", "h", "box"),
    ),
    "upholstered": _Kinds(
        bases=("legs",),
        seats=("padded", "cushioned"),
        backs=("padded", "padded", "curved"),
        arms=("none", "none", "rest", "bent"),
        legs=("square", "tapered", "round"),
        stretchers=("none", "none", "h"),
        splay_deg=(0.0, 9.0),
        bow=(0.01, 0.05),
    ),
    "windsor": _Kinds(
        bases=("legs",),
        seats=("plank", "round"),
        backs=("hoop", "hoop", "curved"),
        legs=("round", "turned"),
        stretchers=("h", "box", "sides"),
        splay_deg=(6.0, 12.0),
        leg_size=(0.05, 0.06),
        bow=(0.03, 0.07),
    ),
    "stool": _Kinds(
        bases=("legs",),
        seats=("plank", "padded", "round"),
        backs=("ladder", "panel", "curved"),
        legs=("square", "round", "tapered"),
        stretchers=("box",),
        width=(0.38, 0.44),
        depth=(0.36, 0.42),
        seat_height=(0.60, 0.68),
        splay_deg=(3.0, 7.0),
        back_height=(0.26, 0.34),
    ),
    "tubular": _Kinds(
        bases=("sled", "sled", "cantilever"),
        seats=("plank", "padded"),
        backs=("panel", "padded", "curved"),
        arms=("none", "none", "bent"),
        leg_size=(0.045, 0.055),
        splay_deg=(0.0, 6.0),
        back_height=(0.36, 0.46),
        bow=(0.01, 0.05),
    ),
    "office": _Kinds(
        bases=("star",),
        seats=("padded",),
        backs=("padded", "padded", "curved"),
        arms=("none", "pad", "pad"),
        width=(0.46, 0.52),
        depth=(0.44, 0.50),
        seat_height=(0.46, 0.52),
        back_height=(0.42, 0.60),
        bow=(0.02, 0.06),
    ),
    "tulip": _Kinds(
        bases=("pedestal",),
        seats=("round", "cushioned"),
        backs=("curved",),
        width=(0.44, 0.50),
        depth=(0.44, 0.50),
        bow=(0.08, 0.14),
        back_height=(0.36, 0.44),
    ),
    "club": _Kinds(
        bases=("block",),
        seats=("padded",),
        backs=("padded",),
        arms=("panel",),
        width=(0.46, 0.68),
        depth=(0.54, 0.68),
        seat_height=(0.38, 0.46),
        back_height=(0.34, 0.56),
        bow=(0.0, 0.02),
    ),
}


def _finishes(rng: np.random.Generator, family: Family) -> tuple[Finish, Finish]:
    """Finishes of frame and cover."""
    cloths: tuple[Surface, ...] = ("cloth", "cloth", "stripes", "checks", "leather")
    cover = Finish(one_of(rng, cloths), pick(rng, DYES))
    if family in {"tubular", "office"}:
        frame = Finish("metal", pick(rng, LACQUERS, ["silver", "graphite", "black"]))
    elif family == "tulip":
        frame = Finish("plastic", pick(rng, LACQUERS, ["ivory", "red", "yellow", "blue", "black", "orange"]))
    elif rng.random() < 0.22:
        frame = Finish("lacquer", pick(rng, LACQUERS))
    else:
        frame = Finish("wood", pick(rng, WOODS))
    return frame, cover
