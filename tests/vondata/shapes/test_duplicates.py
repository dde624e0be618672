"""Duplicate shapes: found in any format, scaled and moved, and distinguished from similar shapes."""

import numpy as np
import pytest
import trimesh

from vondata.classes import load_class
from vondata.dataset.manifest import split_of
from vondata.dataset.shape_file import load_shape
from vondata.io.listing import open_tree
from vondata.shapes.prepare import ShapeSettings, prepare_shape
from vondata.shapes.sources import (
    REASON,
    distance_hash,
    duplicate_review,
    find_same_shapes,
    mesh_folder_items,
    shapenet_items,
)


def chair(arms=1):
    boxes = [((1, 0.1, 1), (0, 0.45, 0)), ((1, 0.7, 0.1), (0, 0.85, 0.45))]
    boxes += [((0.08, 0.2, 0.5), (side, 0.6, -0.05)) for side in (0.45, -0.45)[:arms]]
    boxes += [((0.1, 0.4, 0.1), (x, 0.2, z)) for x in (-0.45, 0.45) for z in (-0.45, 0.45)]
    return trimesh.util.concatenate([trimesh.creation.box(size).apply_translation(at) for size, at in boxes])


@pytest.fixture
def rows(tmp_path):
    """Rows of prepared meshes by their names."""

    def prepared(**meshes):
        for name, mesh in meshes.items():
            mesh.export(tmp_path / name.replace("_", "."))
        found = []
        for item in mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z"):
            values = prepare_shape(item, ShapeSettings(resolution=64), tmp_path / f"{item.id}.npz")
            found.append(values | {"id": item.id, "status": "prepared", "reason": None})
        return found

    return prepared


def test_copies_in_other_formats_scaled_and_moved_are_found(rows):
    raw = chair().apply_scale(100).apply_translation([3, -40, 5])
    cut = chair().subdivide()
    found = find_same_shapes(rows(a_obj=chair(), b_stl=raw, c_ply=cut, d_off=chair(arms=2), e_obj=chair(arms=0)))
    assert {id.split("-")[0] for id in found} == {"b", "c"}
    assert {id.split("-")[0] for id in found.values()} == {"a"}


def test_the_order_does_not_matter_and_whole_shapes_stay(rows):
    given = rows(a_obj=chair(), b_obj=chair(), c_obj=chair())
    given[0]["leaked_voxels"] = 7
    for order in (given, given[::-1]):
        assert {id.split("-")[0] for id in find_same_shapes(order)} == {"a", "c"}


def test_rows_without_a_hash_and_other_resolutions_take_no_part(rows):
    first, second = rows(a_obj=chair(), b_obj=chair())
    assert find_same_shapes([first, second | {"distance_hash": None}]) == {}
    assert find_same_shapes([first, second | {"resolution": 128}]) == {}
    assert find_same_shapes([first, second | {"area": second["area"] * 1.01}]) == {}
    assert find_same_shapes([first, second | {"status": "rejected", "reason": "timed_out"}]) == {}
    assert len(find_same_shapes([first, second | {"status": "rejected", "reason": REASON}])) == 1


def test_duplicates_share_a_split_or_are_dropped(rows):
    given = [row | {"duplicate_of": None, "split": split_of(row["id"])} for row in rows(a_obj=chair(), b_obj=chair())]
    first, second = (row["id"] for row in given)
    mark, drop = duplicate_review(False), duplicate_review(True)
    assert mark.change is not None
    assert drop.change is not None
    assert mark.find(given) == {}
    changes = mark.change(given)
    assert changes == {second: {"duplicate_of": first, "split": split_of(first)}}
    marked = [row | changes.get(row["id"], {}) for row in given]
    assert mark.change(marked) == {}
    assert drop.change(marked) == {second: {"duplicate_of": None, "split": split_of(second)}}
    assert drop.find(marked) == {second: (REASON, f"the same shape as {first}, which is kept")}
    alone = [marked[1]]
    assert mark.change(alone) == {second: {"duplicate_of": None, "split": split_of(second)}}


def test_hashes_hardly_depend_on_the_resolution(tmp_path):
    chair().export(tmp_path / "a.obj")
    (item,) = mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z")
    hashes = []
    for resolution in (64, 128):
        prepare_shape(item, ShapeSettings(resolution=resolution), tmp_path / "a.npz")
        hashes.append(distance_hash(load_shape(tmp_path / "a.npz").distance))
    first, second = (np.frombuffer(bytes.fromhex(each), np.uint8).astype(int) for each in hashes)
    assert np.abs(first - second).max() <= 4


def test_real_shapes_are_all_different(realdata, tmp_path):
    found = []
    for item in shapenet_items(open_tree(realdata / "ShapeNetCore.v2"), [load_class("car")]):
        values = prepare_shape(item, ShapeSettings(resolution=32), tmp_path / "a.npz")
        found.append(values | {"id": item.id, "status": "prepared", "reason": None})
    assert len(found) == 9
    assert find_same_shapes(found) == {}
