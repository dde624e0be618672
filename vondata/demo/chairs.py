"""A chair of the demo, from its measures to its parts."""

from __future__ import annotations

from vondata.demo.chair_base import build_base
from vondata.demo.chair_body import build_arms, build_back, build_seat
from vondata.demo.chair_design import Chair
from vondata.demo.mesh import Mesh
from vondata.demo.textures import Finish

BLACK_PLASTIC = Finish("plastic", (0.11, 0.11, 0.12))


def build_chair(chair: Chair) -> list[Mesh]:
    """The closed, overlapping parts of a chair in metres; object frame, feet at z = 0."""
    return [*build_base(chair), *build_seat(chair), *build_back(chair), *build_arms(chair)]


def chair_finishes(chair: Chair) -> dict[str, Finish]:
    """The finishes its parts name."""
    return {"frame": chair.frame, "cover": chair.cover, "trim": BLACK_PLASTIC}
