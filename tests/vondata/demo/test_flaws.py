import numpy as np
import pytest

from vondata.demo.collection import SHARES, flaw_of, with_flaw
from vondata.demo.primitives import box, tube
from vondata.render.mesh import boundary_edges, concatenated, face_normals, signed_volume

PARTS = [
    box((0.5, 0.5, 0.1), (0.0, 0.0, 0.5)),
    box((0.5, 0.03, 0.4), (0.0, -0.25, 0.8)),
    *(tube(np.array([[x, y, 0.0], [x, y, 0.5]]), 0.03) for x in (-0.2, 0.2) for y in (-0.2, 0.2)),
]


def test_objects_without_flaws_are_unchanged(rng):
    assert with_flaw(PARTS, "none", rng) == PARTS


def test_bottomless_parts_show_no_face_from_below(rng):
    parts = with_flaw(PARTS, "bottomless", rng)
    assert all(face_normals(part)[:, 2].min() > -0.9 for part in parts)
    assert all(boundary_edges(part) > 0 for part in parts)


def test_single_sided_boards_face_the_front(rng):
    parts = with_flaw(PARTS, "single_sided", rng)
    assert face_normals(parts[1])[:, 1].min() > 0.3
    assert len(parts[0].faces) == len(PARTS[0].faces)
    assert len(parts[3].faces) == len(PARTS[3].faces)


def test_holes_take_about_one_face_in_eighty(rng):
    many = [PARTS[2]] * 400
    kept = sum(len(part.faces) for part in with_flaw(many, "holes", rng))
    total = sum(len(part.faces) for part in many)
    assert 1 - kept / total == pytest.approx(1 / 80, rel=0.2)


def test_double_sided_faces_enclose_nothing(rng):
    parts = with_flaw(PARTS, "double_sided", rng)
    assert [len(part.faces) for part in parts] == [2 * len(part.faces) for part in PARTS]
    assert signed_volume(concatenated(parts)) == pytest.approx(0.0, abs=1e-12)


def test_inside_out_turns_some_parts_and_not_all(rng):
    signs = [signed_volume(part) > 0 for part in with_flaw(PARTS * 5, "inside_out", rng)]
    assert 0.1 < 1 - np.mean(signs) < 0.6


def test_flaws_come_in_their_shares():
    drawn = [flaw_of((index + 0.5) / 200) for index in range(200)]
    for flaw, share in SHARES.items():
        assert drawn.count(flaw) == pytest.approx(200 * share, abs=1)
    assert sum(SHARES.values()) == pytest.approx(1.0)
