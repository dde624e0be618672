from collections import Counter

import numpy as np
import pytest

from vondata.demo.collection import make_object
from vondata.demo.primitives import box


@pytest.mark.parametrize("name", ["chair", "car", "table", "lamp"])
def test_objects_are_centred_with_a_diagonal_of_one(name):
    for index in range(8):
        item = make_object(name, index, seed=3)
        used = np.concatenate([part.vertices[part.faces.reshape(-1)] for part in item.parts])
        low, high = used.min(axis=0), used.max(axis=0)
        np.testing.assert_allclose(low, -high, atol=1e-12)
        assert np.linalg.norm(high - low) == pytest.approx(1.0)
        assert sum(len(part.faces) for part in item.parts) == len(item.normals)
        assert {part.material for part in item.parts} == set(item.materials)


def test_objects_depend_only_on_class_seed_and_index():
    first, again, other = make_object("chair", 5, 1), make_object("chair", 5, 1), make_object("chair", 5, 2)
    assert (first.id, first.family, first.flaw) == (again.id, again.family, again.flaw)
    for part, same in zip(first.parts, again.parts, strict=True):
        np.testing.assert_array_equal(part.vertices, same.vertices)
    np.testing.assert_array_equal(first.materials["frame"].texture, again.materials["frame"].texture)
    assert first.id != other.id
    assert len({make_object("car", index, 0).id for index in range(20)}) == 20


def test_families_and_flaws_are_independent():
    pairs = Counter((item.family, item.flaw) for item in (make_object("car", index, 0) for index in range(50)))
    assert len({family for family, _ in pairs}) == 5
    assert len({flaw for _, flaw in pairs}) == 6
    assert sum(count for (_, flaw), count in pairs.items() if flaw == "none") == pytest.approx(0.56 * 50, abs=4)
    assert len({flaw for family, flaw in pairs if family == "sedan"}) >= 3


def test_more_parts_bring_their_material_along():
    item = make_object("chair", 0, 0)
    more = item.with_part(box((0.1, 0.1, 0.1)).of("thing"), item.materials["frame"])
    assert len(more.normals) == len(item.normals) + len(more.parts[-1].faces)
    assert "thing" in more.materials
    assert "thing" not in item.materials
