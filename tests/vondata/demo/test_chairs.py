from collections import Counter

import numpy as np
import pytest

from vondata.demo.chair_design import FAMILIES, draw_chair
from vondata.demo.chairs import build_chair, build_seat, chair_materials
from vondata.render.mesh import boundary_edges, concatenated, signed_volume

COUNT = 120


@pytest.fixture(scope="module")
def chairs():
    designs = [draw_chair(np.random.default_rng([7, index]), (index + 0.5) / COUNT) for index in range(COUNT)]
    return [(design, build_chair(design)) for design in designs]


def test_every_part_is_closed_and_looks_outwards(chairs):
    for design, parts in chairs:
        for part in parts:
            assert boundary_edges(part) == 0, design
            assert signed_volume(part) > 0, design


def test_chairs_stand_on_the_floor_and_have_their_back_behind(chairs):
    for design, parts in chairs:
        vertices = concatenated(parts).vertices
        assert -0.005 < vertices[:, 2].min() < 0.02, design
        assert vertices[vertices[:, 2] > vertices[:, 2].max() - 0.05][:, 1].max() < 0, design
        assert vertices[:, 2].max() > design.seat_height + 0.9 * design.back_height


def test_chairs_are_symmetric_but_for_the_star_foot(chairs):
    for design, parts in chairs:
        vertices = concatenated(parts).vertices
        assert vertices[:, 0].max() == pytest.approx(-vertices[:, 0].min(), abs=1e-6), design


def test_the_seat_is_where_it_is_said_to_be(chairs):
    for design, _ in chairs:
        vertices = concatenated(build_seat(design)).vertices
        assert vertices[:, 2].max() == pytest.approx(design.seat_height, abs=0.006), design
        assert np.abs(vertices.mean(axis=0)[:2]).max() < 1e-9


def test_families_come_in_their_shares(chairs):
    counts = Counter(design.family for design, _ in chairs)
    for family, share in FAMILIES.items():
        assert counts[family] == pytest.approx(share * COUNT, abs=1)


def test_there_is_variety(chairs):
    designs = [design for design, _ in chairs]
    assert {design.back for design in designs} == {"ladder", "spindles", "panel", "curved", "padded", "cross", "hoop"}
    assert {design.base for design in designs} == {"legs", "sled", "cantilever", "star", "pedestal", "block"}
    assert {design.leg for design in designs} == {"square", "tapered", "round", "turned"}
    assert {design.stretchers for design in designs} == {"none", "sides", "h", "box"}
    assert {design.arms for design in designs} == {"none", "rest", "bent", "pad", "panel"}
    assert {design.seat for design in designs} == {"plank", "padded", "cushioned", "round"}
    assert len({(design.frame, design.cover) for design in designs}) == COUNT


def test_legs_are_thick_enough_for_a_grid_of_32_voxels(chairs):
    for design, parts in chairs:
        vertices = concatenated(parts).vertices
        diagonal = np.linalg.norm(np.ptp(vertices, axis=0))
        assert design.leg_size > 0.033 * diagonal, design


def test_five_star_feet(chairs):
    office = next(parts for design, parts in chairs if design.base == "star")
    low = np.concatenate([part.vertices for part in office])
    low = low[low[:, 2] < 0.03]
    angles = np.degrees(np.arctan2(low[:, 1], low[:, 0])) % 72
    assert (np.minimum(np.abs(angles - 18), 72 - np.abs(angles - 18)) < 8).all()


def test_all_materials_are_known(chairs):
    for design, parts in chairs[::10]:
        assert {part.material for part in parts} <= set(chair_materials(design, np.random.default_rng(0)))
