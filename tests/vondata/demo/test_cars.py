from collections import Counter

import numpy as np
import pytest

from vondata.demo.car_design import BODIES, draw_car
from vondata.demo.cars import build_body, build_car, car_materials, top_height
from vondata.render.mesh import PartMesh, boundary_edges, concatenated, distinct_rows, face_normals, signed_volume

COUNT = 50


@pytest.fixture(scope="module")
def cars():
    designs = [draw_car(np.random.default_rng([7, index]), (index + 0.5) / COUNT) for index in range(COUNT)]
    return [(design, build_car(design)) for design in designs]


def joined(parts):
    whole = concatenated(parts)
    vertices, index = distinct_rows(whole.vertices)
    return PartMesh(vertices, index[whole.faces], whole.uvs)


def test_bodies_are_closed_shells_of_paint_glass_and_underside(cars):
    for design, _ in cars:
        body = build_body(design)
        assert [part.material for part in body] == ["paint", "glass", "dark"]
        assert all(len(part.faces) for part in body)
        shell = joined(body)
        assert boundary_edges(shell) == 0, design
        box = design.length * design.width * design.height
        assert 0.35 * box < signed_volume(shell) < 0.85 * box


def test_fittings_are_closed_and_look_outwards(cars):
    for design, parts in cars:
        for part in parts[3:]:
            assert boundary_edges(part) == 0, design
            assert signed_volume(part) > 0, design


def test_cars_stand_on_four_wheels(cars):
    for design, parts in cars:
        tyres = [part for part in parts if part.material == "rubber"]
        assert len(tyres) == 4
        centres = np.array([part.vertices.mean(axis=0) for part in tyres])
        assert sorted({axle.round(6) for axle in centres[:, 1]}) == pytest.approx(
            [design.rear_axle, design.front_axle]
        )
        lowest = concatenated(parts).vertices[:, 2].min()
        assert 0.0 <= lowest < 0.02 * design.wheel
        np.testing.assert_allclose(centres[:, 2], design.wheel, atol=1e-9)


def test_arches_leave_room_for_the_wheels(cars):
    for design, _ in cars:
        shell = concatenated(build_body(design))
        for axle in (design.front_axle, design.rear_axle):
            distance = np.hypot(shell.vertices[:, 1] - axle, shell.vertices[:, 2] - design.wheel)
            assert distance.min() > 1.05 * design.wheel


def test_the_bonnet_is_in_front_and_lower_than_the_roof(cars):
    for design, _ in cars:
        bonnet = top_height(design, design.windscreen[0] + 0.2)
        assert bonnet < 0.8 * design.height
        assert top_height(design, design.windscreen[1] - 0.3) > 0.93 * design.height
        assert design.windscreen[0] > 0 > design.rear_axle


def test_windows_are_at_the_sides_and_upright(cars):
    for design, _ in cars:
        glass = build_body(design)[1]
        normals = face_normals(glass)
        assert (normals[:, 2] > -0.01).all()
        sides = np.abs(normals[:, 0]) > 0.7
        assert sides.sum() >= 4 * len(design.windows) / 2
        assert glass.vertices[glass.faces][sides][..., 2].min() >= design.belt - 0.15


def test_beds_are_open(cars):
    for design, _ in cars:
        if design.body != "pickup":
            continue
        paint = build_body(design)[0]
        centres, normals = paint.vertices[paint.faces].mean(axis=1), face_normals(paint)
        inside = (centres[:, 1] < design.bed[0] - 0.1) & (centres[:, 1] > design.bed[1] + 0.1)
        floor = inside & (normals[:, 2] > 0.99) & (np.abs(centres[:, 0]) < 0.3)
        assert floor.any()
        assert centres[floor][:, 2].max() < top_height(design, design.bed[1] + 1.0) - 0.14


def test_there_is_variety(cars):
    designs = [design for design, _ in cars]
    counts = Counter(design.body for design in designs)
    for body, share in BODIES.items():
        assert counts[body] == pytest.approx(share * COUNT, abs=1)
    assert {design.livery for design in designs} == {"plain", "band", "two_tone"}
    assert {design.rim for design in designs} == {"disc", "spokes"}
    assert len({design.paint for design in designs}) == COUNT


def test_all_materials_are_known_and_doors_are_drawn(cars):
    for design, parts in cars[::7]:
        materials = car_materials(design)
        assert {part.material for part in parts} <= set(materials)
        texture = materials["paint"].texture.astype(int).sum(axis=-1)
        assert texture.min() < 0.7 * np.median(texture)
