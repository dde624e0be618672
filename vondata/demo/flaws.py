"""What is wrong with meshes of real collections, done to the demo's on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_never

import numpy as np

from vondata.demo.draws import quantile_choice
from vondata.demo.mesh import Mesh, concatenated, face_normals

Flaw = Literal["none", "bottomless", "single_sided", "holes", "double_sided", "inside_out"]

# In the order of quantiles; every second object is sound (though its parts overlap, as all do).
SHARES: dict[Flaw, float] = {
    "none": 0.56,
    "bottomless": 0.10,
    "single_sided": 0.08,
    "holes": 0.08,
    "double_sided": 0.10,
    "inside_out": 0.08,
}


def flaw_of(quantile: float) -> Flaw:
    """The flaw for a quantile in [0, 1)."""
    return quantile_choice(SHARES, quantile)


def with_flaw(parts: Sequence[Mesh], flaw: Flaw, rng: np.random.Generator) -> list[Mesh]:
    """Applies a flaw to the parts of an object (object frame).

    Args:
        parts: closed parts.
        flaw: `bottomless` drops what looks down, as many modellers do; `single_sided` leaves every thin upright
            board only its front; `holes` drops one face in eighty; `double_sided` doubles every face the other way
            round; `inside_out` turns a third of the parts.
        rng: chooses faces and parts.
    """
    match flaw:
        case "none":
            return list(parts)
        case "bottomless":
            return [part.keeping(face_normals(part)[:, 2] > -0.9) for part in parts]
        case "single_sided":
            return [_front_only(part) if _is_board(part) else part for part in parts]
        case "holes":
            return [part.keeping(rng.random(len(part.faces)) > 1 / 80) for part in parts]
        case "double_sided":
            return [concatenated([part, part.flipped()], part.material) for part in parts]
        case "inside_out":
            return [part.flipped() if rng.random() < 1 / 3 else part for part in parts]
        case _:
            assert_never(flaw)


def _is_board(part: Mesh) -> bool:
    width, depth, height = np.ptp(part.vertices, axis=0)
    return bool(depth < 0.3 * min(width, height) or (depth < 0.09 and width > 0.3))


def _front_only(part: Mesh) -> Mesh:
    return part.keeping(face_normals(part)[:, 1] > 0.3)
