"""A chair of the demo, from its measures to its parts."""

from __future__ import annotations

import numpy as np

from vondata.demo.chair_base import build_base
from vondata.demo.chair_body import build_arms, build_back, build_seat
from vondata.demo.chair_design import Chair
from vondata.demo.mesh import Mesh
from vondata.demo.textures import Finish, Material, make_material

BLACK_PLASTIC = Finish("plastic", (0.17, 0.17, 0.18))


def build_chair(chair: Chair) -> list[Mesh]:
    """The closed, overlapping parts of a chair in metres; object frame, feet at z = 0."""
    return [*build_base(chair), *build_seat(chair), *build_back(chair), *build_arms(chair)]


def chair_materials(chair: Chair, rng: np.random.Generator) -> dict[str, Material]:
    """The materials its parts name."""
    finishes = {"frame": chair.frame, "cover": chair.cover, "trim": BLACK_PLASTIC}
    return {name: make_material(finish, rng) for name, finish in finishes.items()}
