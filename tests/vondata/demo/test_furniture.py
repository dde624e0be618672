"""The demo's tables and lamps: families, measures, closed parts, symmetry, contact with the floor."""

import numpy as np
import pytest

from vondata.demo.furniture import (
    LAMPS,
    TABLES,
    build_lamp,
    build_table,
    draw_lamp,
    draw_table,
    lamp_materials,
    table_materials,
)
from vondata.demo.write import DemoSettings, write_demo
from vondata.render.mesh import signed_volume

KINDS = {
    "table": (draw_table, build_table, table_materials, TABLES),
    "lamp": (draw_lamp, build_lamp, lamp_materials, LAMPS),
}


def drawn(name: str, seed: int):
    draw, build, materials, _ = KINDS[name]
    rng = np.random.default_rng(seed)
    item = draw(rng, (0.31 * seed) % 1.0)
    return item, build(item), materials(item, rng)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_parts_are_closed_and_of_known_materials(name: str, seed: int) -> None:
    _, parts, materials = drawn(name, seed)
    assert {part.material for part in parts} <= set(materials)
    for part in parts:
        edges = np.sort(part.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        _, counts = np.unique(edges, axis=0, return_counts=True)
        assert (counts == 2).all(), part.material
        assert signed_volume(part) > 0


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_they_stand_on_the_floor_as_tall_as_they_are_drawn(name: str, seed: int) -> None:
    item, parts, _ = drawn(name, seed)
    vertices = np.concatenate([part.vertices for part in parts])
    assert vertices[:, 2].min() == pytest.approx(0.0, abs=1e-9)
    assert vertices[:, 2].max() == pytest.approx(item.height, rel=0.12)
    assert -vertices[:, 0].min() == pytest.approx(vertices[:, 0].max(), rel=0.02)


def test_quantiles_give_every_family_its_share() -> None:
    for draw, _, _, shares in KINDS.values():
        rng = np.random.default_rng(0)
        families = [draw(rng, (number + 0.5) / 200).family for number in range(200)]
        assert sum(shares.values()) == pytest.approx(1.0)
        for family, share in shares.items():
            assert families.count(family) == pytest.approx(200 * share, abs=1)


def test_a_demo_of_four_classes_leaves_chairs_and_cars_as_they_were(tmp_path) -> None:
    few = write_demo(tmp_path / "few", DemoSettings(chairs=1, cars=1, photos_per_object=0, seed=4))
    many = write_demo(tmp_path / "many", DemoSettings(1, 1, 2, 1, photos_per_object=0, seed=4))
    assert few.models == {"chair": 1, "car": 1}
    assert many.models == {"chair": 1, "car": 1, "table": 2, "lamp": 1}
    for file in (tmp_path / "few" / "ShapeNetCore.v2").rglob("*.obj"):
        same = tmp_path / "many" / file.relative_to(tmp_path / "few")
        assert same.read_bytes() == file.read_bytes()
    assert len(list((tmp_path / "many" / "ShapeNetCore.v2" / "04379243").iterdir())) == 2
    assert len(list((tmp_path / "many" / "ShapeNetCore.v2" / "03636649").iterdir())) == 1
