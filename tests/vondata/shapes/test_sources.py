"""Collections: what counts as a model, which of its files is read, and ids that stay."""

import json
import os
import struct

import pytest

from vondata.classes import load_class
from vondata.io.listing import open_tree
from vondata.shapes.prepare import ShapeSettings, prepare_shape
from vondata.shapes.sources import CollectionMissingError, mesh_folder_items, shapenet_items
from vondata.types import Item, Rejected

CHAIR, CAR = load_class("chair"), load_class("car")


def touch(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "ShapeNetCore"
    for file in (
        "v2/models/model_normalized.obj",
        "v2/models/model_normalized.mtl",
        "v2/models/model_normalized.solid.binvox",
        "v2/models/model_normalized.surface.binvox",
        "v2/images/texture0.jpg",
        "v1/model.obj",
        "v1/images/a.jpg",
        "voxels/models/model_normalized.surface.binvox",
        "other/models/thing.PLY",
        "nothing/models/model_normalized.json",
        ".hidden/model.obj",
    ):
        touch(root / CHAIR.synset / file)
    (root / CHAIR.synset / "empty").mkdir()
    touch(root / CHAIR.synset / "taxonomy.txt")
    touch(root / CAR.synset / "a" / "model.obj")
    return root


def by_id(items):
    items = list(items)
    assert len({item.id for item in items}) == len(items)
    return {item.id: item for item in items}


def read(item: Item) -> str:
    return "/".join(item.inputs[0].split("/")[-2:])


def test_every_model_folder_is_an_item(tree):
    items = by_id(shapenet_items(open_tree(tree), [CHAIR]))
    assert set(items) == {"v2", "v1", "voxels", "other", "nothing", "empty"}
    assert read(items["v2"]) == "models/model_normalized.obj"
    assert read(items["v1"]) == "v1/model.obj"
    assert read(items["voxels"]) == "models/model_normalized.surface.binvox"
    assert read(items["other"]) == "models/thing.PLY"
    for id in ("nothing", "empty"):
        assert items[id].rejected is not None
        assert items[id].rejected[0] == "no_mesh"
        assert items[id].inputs == ()
    assert all(item.class_name == "chair" for item in items.values())
    assert items["v2"].fields == {"up": "y", "front": "-z"}


def test_one_option_takes_the_voxels(tree):
    items = by_id(shapenet_items(open_tree(tree), [CHAIR], source="binvox"))
    assert read(items["v2"]) == "models/model_normalized.solid.binvox"
    assert read(items["v1"]) == "v1/model.obj"


def test_the_front_is_detected_from_the_layout(tree):
    for source in ("mesh", "binvox"):
        items = by_id(shapenet_items(open_tree(tree), [CHAIR], source=source))
        assert {id: item.fields["front"] for id, item in items.items() if item.inputs} == {
            "v1": "x",
            "v2": "-z",
            "voxels": "-z",
            "other": "-z",
        }
    for file in ("a/model.binvox", "b/models/model.obj", "c/chair.obj", "d/model_normalized.obj"):
        touch(tree / CAR.synset / file)
    touch(tree / CAR.synset / "a" / "model.obj").unlink()
    fronts = {id: item.fields["front"] for id, item in by_id(shapenet_items(open_tree(tree), [CAR])).items()}
    assert fronts == {"a": "x", "b": "-z", "c": "-z", "d": "-z"}


def test_the_front_and_up_can_be_given(tree):
    for item in shapenet_items(open_tree(tree), [CHAIR], up="z", front="-y"):
        assert not item.inputs or item.fields == {"up": "z", "front": "-y"}
    with pytest.raises(ValueError, match="same axis"):
        next(iter(shapenet_items(open_tree(tree), [CHAIR], up="x")))


@pytest.mark.parametrize("source", ["mesh", "binvox"])
def test_further_meshes_of_a_model_folder_are_rows(tmp_path, source):
    names = ("v2/models/model_normalized.obj", "v2/models/model_normalized.solid.binvox", "v2/images/texture.jpg")
    further = ("v2/models/chair.ply", "v2/model.obj", "v2/b.fbx", "v2/c.obj.gz", "v2/deep/d/model.OFF", "v2/e.binvox")
    for name in (*names, *further):
        touch(tmp_path / CHAIR.synset / name)
    items = by_id(shapenet_items(open_tree(tmp_path), [CHAIR], source=source))
    assert read(items["v2"]) == f"models/model_normalized.{'obj' if source == 'mesh' else 'solid.binvox'}"
    found = {
        item.source.partition(f"{CHAIR.synset}/")[2]: item.rejected[0] for item in items.values() if item.rejected
    }
    assert found == dict.fromkeys(further, "second_mesh")
    assert all("models/model_normalized" in item.rejected[1] for item in items.values() if item.rejected)


def test_models_below_a_folder_of_folders_are_rows(tmp_path):
    """As with the models in folders train/ and test/: only the first is read."""
    for number in range(3):
        touch(tmp_path / CHAIR.synset / "train" / f"m{number}" / "models" / "model_normalized.obj")
    items = list(shapenet_items(open_tree(tmp_path), [CHAIR]))
    assert [item.rejected and item.rejected[0] for item in items] == [None, "second_mesh", "second_mesh"]


def test_meshes_beside_the_model_folders_are_rows(tree):
    loose = ("a.obj", "b.glb", "c.binvox", "d.dae", "e.ply.gz")
    for name in (*loose, "notes.txt", ".f.obj"):
        touch(tree / CHAIR.synset / name)
    items = by_id(shapenet_items(open_tree(tree), [CHAIR]))
    found = {os.path.basename(item.source): item.rejected[0] for item in items.values() if item.rejected}
    assert found == {**dict.fromkeys(loose, "loose_mesh"), "nothing": "no_mesh", "empty": "no_mesh"}


def test_a_model_in_a_format_that_is_not_read_is_rejected_by_its_content(tmp_path):
    touch(tmp_path / CHAIR.synset / "m" / "model.fbx", b"Kaydara FBX Binary  \0")
    (item,) = shapenet_items(open_tree(tmp_path), [CHAIR])
    with pytest.raises(Rejected, match="an FBX file"):
        prepare_shape(item, ShapeSettings(), tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("names", "solid"),
    [
        (["model.binvox", "model.presolid.binvox"], "model.presolid.binvox"),
        (["model.binvox", "model.surface.binvox", "model.solid.binvox"], "model.solid.binvox"),
        (["chair.surface.binvox", "chair.binvox"], "chair.binvox"),
        (["chair.surface.binvox", "chair.SOLID.binvox"], "chair.SOLID.binvox"),
    ],
)
def test_the_solid_among_several_grids(tmp_path, names, solid):
    for name in names:
        touch(tmp_path / CHAIR.synset / "m" / name)
    (item,) = shapenet_items(open_tree(tmp_path), [CHAIR], source="binvox")
    assert read(item) == f"m/{solid}"
    items = list(mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z", source="binvox"))
    assert [read(item) for item in items if not item.rejected] == [f"m/{solid}"]
    rejected = [item.rejected for item in items if item.rejected]
    assert len(rejected) == len(names) - 1
    assert all(reason == "surface_grid" and solid in detail for reason, detail in rejected)


def test_grids_of_other_models_are_items(tmp_path):
    for name in ("a.solid.binvox", "b.surface.binvox", "c.binvox", "sub/a.surface.binvox"):
        touch(tmp_path / name)
    assert not any(
        item.rejected for item in mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z", source="binvox")
    )


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ((), {"a/raw.obj", "a/normalized.obj", "b/raw.ply", "b/normalized.obj"}),
        (("normalized.obj",), {"a/normalized.obj", "b/normalized.obj"}),
        (("*/normalized.*", "raw.ply"), {"a/normalized.obj", "b/normalized.obj", "b/raw.ply"}),
        (("a/*",), {"a/raw.obj", "a/normalized.obj"}),
        (("*.mesh",), {"b/odd.mesh"}),
    ],
)
def test_patterns_choose_files(tmp_path, patterns, found):
    for name in ("a/raw.obj", "a/normalized.obj", "b/raw.ply", "b/normalized.obj", "b/odd.mesh"):
        touch(tmp_path / name)
    assert {
        read(item) for item in mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z", patterns=patterns)
    } == found


def test_a_pattern_that_nothing_matches_is_named(tmp_path):
    touch(tmp_path / "a.obj")
    with pytest.raises(CollectionMissingError, match=r"no file that matches b\*\.obj or c\.obj"):
        list(mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z", patterns=["b*.obj", "c.obj"]))


def test_classes_by_synset(tree):
    assert {item.class_name for item in shapenet_items(open_tree(tree), [CHAIR, CAR])} == {"chair", "car"}
    assert [item.id for item in shapenet_items(open_tree(tree), [CAR])] == ["a"]


def test_missing_collections_say_what_is_missing(tree, tmp_path):
    with pytest.raises(CollectionMissingError, match="is not a folder"):
        list(shapenet_items(open_tree(tmp_path / "none"), [CHAIR]))
    with pytest.raises(CollectionMissingError, match=f"{load_class('sofa').synset} \\(sofa\\)"):
        list(shapenet_items(open_tree(tree), [load_class("sofa")]))
    with pytest.raises(CollectionMissingError, match="is not a folder"):
        list(mesh_folder_items(open_tree(tree / CHAIR.synset / "taxonomy.txt"), "chair", "y", "-z"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(CollectionMissingError, match=r"holds no file ending in \.obj"):
        list(mesh_folder_items(open_tree(tmp_path / "bare"), "chair", "y", "-z"))


def test_meshes_anywhere_under_a_folder(tmp_path):
    for name in (
        "a.obj",
        "sub/a.obj",
        "sub/deep/b.GLB",
        "sub_a.ply",
        "c.stl",
        "d.off",
        "e.gltf",
        "f.txt",
        "g.binvox",
    ):
        touch(tmp_path / name)
    items = list(mesh_folder_items(open_tree(tmp_path), "chair", "z", "x"))
    assert len({item.id for item in items}) == len(items) == 7
    assert all(item.fields == {"up": "z", "front": "x"} for item in items)
    assert [
        read(item).split("/")[-1]
        for item in mesh_folder_items(open_tree(tmp_path), "chair", "z", "x", source="binvox")
    ] == ["g.binvox"]


def test_meshes_in_formats_that_are_not_read_are_rows(tmp_path):
    touch(tmp_path / "a.obj", b"v 0 0 0\n")
    touch(tmp_path / "b.fbx", b"Kaydara FBX Binary  \0")
    touch(tmp_path / "c.dae", b"<?xml version='1.0'?><COLLADA/>")
    items = list(mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z"))
    assert [read(item).split("/")[-1] for item in items] == ["a.obj", "b.fbx", "c.dae"]
    for item in items[1:]:
        with pytest.raises(Rejected) as caught:
            prepare_shape(item, ShapeSettings(), tmp_path / "a.npz")
        assert caught.value.reason == "format_unknown"


def test_ids_do_not_depend_on_the_neighbours(tmp_path):
    touch(tmp_path / "sub" / "b.obj")
    (alone,) = mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z")
    for name in ("a.obj", "sub/b.ply", "sub_b.obj"):
        touch(tmp_path / name)
    assert alone.id in {item.id for item in mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z")}


def test_axes_are_checked_at_once(tmp_path):
    touch(tmp_path / "a.obj")
    with pytest.raises(ValueError, match="same axis"):
        next(iter(mesh_folder_items(open_tree(tmp_path), "chair", "y", "-y")))


@pytest.mark.parametrize(
    "name", ["spaces in name.obj", "ünïcode ✓.obj", "a" * 200 + ".obj", "-dash.obj", "a:b*c?.obj", "semi;colon.obj"]
)
def test_names_become_safe_ids(tmp_path, name):
    touch(tmp_path / name)
    (item,) = mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z")
    assert len(item.id) <= 120
    assert set(item.id) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert not item.id.startswith((".", "-"))


def test_names_that_are_no_text(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.obj"
    with open(raw, "wb") as file:
        file.write(b"x")
    (item,) = mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z")
    assert item.source.endswith("caf\\xe9.obj")
    assert os.path.exists(item.inputs[0])
    item.source.encode("utf-8")


def test_links_out_of_the_root_are_not_followed(tmp_path, tree):
    outside = touch(tmp_path / "outside" / "model.obj")
    folder = tree / CHAIR.synset
    (folder / "linked").symlink_to(outside.parent)
    (folder / "file").mkdir()
    (folder / "file" / "model.obj").symlink_to(outside)
    (folder / "inner").symlink_to(folder / "v1")
    items = by_id(shapenet_items(open_tree(tree), [CHAIR]))
    assert items["linked"].rejected is not None
    assert items["linked"].rejected[0] == "outside_root"
    assert items["file"].rejected is not None
    assert items["file"].rejected[0] == "outside_root"
    assert items["inner"].rejected is None


def test_links_that_lead_nowhere_in_place_of_model_folders_are_rows(tree):
    folder = tree / CHAIR.synset
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "away").symlink_to(tree.parent / f"{tree.name}-nowhere")
    (folder / "notes.txt").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe")
    items = by_id(shapenet_items(open_tree(tree), [CHAIR]))
    assert {id: items[id].rejected[0] for id in ("gone", "circle", "away", "pipe")} == {
        "gone": "source_missing",
        "circle": "source_missing",
        "away": "outside_root",
        "pipe": "source_unreadable",
    }
    assert len(items) == 10


def test_odd_entries_become_rows(tmp_path):
    (tmp_path / "loop.obj").symlink_to(tmp_path / "loop.obj")
    (tmp_path / "gone.obj").symlink_to(tmp_path / "nowhere.obj")
    (tmp_path / "folder.obj").mkdir()
    os.mkfifo(tmp_path / "pipe.obj")
    found = {
        item.source.split("/")[-1]: item.rejected
        for item in mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z")
    }
    assert {name: rejected[0] for name, rejected in found.items() if rejected} == {
        "loop.obj": "source_missing",
        "gone.obj": "source_missing",
        "folder.obj": "source_unreadable",
        "pipe.obj": "source_unreadable",
    }


def test_the_files_that_a_gltf_has_its_data_in_are_inputs(tmp_path):
    """A row is made again when they change or come."""
    uris = ["my%20data.bin", "gone.bin", "../outside.bin", "data:;base64,AAAA"]
    tree = {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": each} for each in uris] + [{}],
        "images": [{"uri": "a.png"}],
    }
    text = json.dumps(tree).encode()
    touch(tmp_path / "top" / "a.gltf", text)
    touch(tmp_path / "top" / "b.glb", struct.pack("<4s3I4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text)
    touch(tmp_path / "top" / "broken.gltf", b'{"uri"')
    for name in ("outside.bin", "top/my data.bin", "top/a.png"):
        touch(tmp_path / name)

    def found():
        items = mesh_folder_items(open_tree(tmp_path / "top"), "chair", "y", "-z")
        return [[os.path.basename(each) for each in item.inputs] for item in items]

    assert found() == [["a.gltf", "my data.bin"], ["b.glb", "my data.bin"], ["broken.gltf"]]
    touch(tmp_path / "top" / "gone.bin")
    assert found()[0] == ["a.gltf", "my data.bin", "gone.bin"]
    many = b'{"buffers": [{"uri": "gone.bin"}], "extras": [' + b"0," * 4_000_000 + b"0]}"
    touch(tmp_path / "top" / "broken.gltf", many)  # more values than the reader takes: not parsed here either
    assert found()[2] == ["broken.gltf"]


def test_packed_meshes_are_rows(tmp_path):
    for name in ("a.obj.gz", "b.PLY.XZ", "c.zip", "d.txt.gz", "e.stl"):
        touch(tmp_path / name, b"\x1f\x8b\x08" + bytes(20))
    items = list(mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z"))
    assert [os.path.basename(item.source) for item in items] == ["a.obj.gz", "b.PLY.XZ", "e.stl"]
    with pytest.raises(Rejected, match="packed by gzip") as caught:
        prepare_shape(items[0], ShapeSettings(), tmp_path / "a.npz")
    assert caught.value.reason == "format_unknown"


def test_loops_of_folders_end(tmp_path):
    touch(tmp_path / "a" / "model.obj")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    items = list(mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z"))
    assert [item.rejected and item.rejected[0] for item in items] == [None, "linked_folder"]


def test_linked_folders_are_rows_and_links_to_files_are_followed(tmp_path):
    root, away = tmp_path / "root", tmp_path / "away"
    touch(away / "model.obj")
    touch(root / "a" / "model.obj")
    (root / "inside").symlink_to(root / "a")
    (root / "outside").symlink_to(away)
    (root / "gone").symlink_to(tmp_path / "root" / "unmounted")
    (root / ".hidden").symlink_to(root / "a")
    (root / "file.obj").symlink_to(root / "a" / "model.obj")
    items = list(mesh_folder_items(open_tree(root), "chair", "y", "-z"))
    assert {os.path.relpath(item.source, root): item.rejected and item.rejected[0] for item in items} == {
        "a/model.obj": None,
        "file.obj": None,
        "inside": "linked_folder",
        "outside": "outside_root",
        "gone": "source_missing",
    }
    assert len({item.id for item in items}) == len(items)


def test_a_tree_of_linked_folders_alone_is_rows(tmp_path):
    touch(tmp_path / "away" / "model.obj")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "outside").symlink_to(tmp_path / "away")
    (item,) = mesh_folder_items(open_tree(tmp_path / "root"), "chair", "y", "-z")
    assert item.rejected[0] == "outside_root"


def test_linked_folders_of_a_model_and_of_a_synset_are_rows(tmp_path, tree):
    folder = tree / CHAIR.synset
    touch(tmp_path / "away" / "model_normalized.obj")
    (folder / "round").symlink_to(folder)
    for name, target in (("in", folder / "v2" / "models"), ("out", tmp_path / "away")):
        (folder / name).mkdir()
        (folder / name / "models").symlink_to(target)
    items = by_id(shapenet_items(open_tree(tree), [CHAIR]))
    assert {id: items[id].rejected[0] for id in ("round", "in", "out")} == {
        "round": "linked_folder",
        "in": "linked_folder",
        "out": "outside_root",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_folders_that_cannot_be_listed_are_rows(tmp_path):
    touch(tmp_path / "a.obj")
    (tmp_path / "closed").mkdir(mode=0)
    try:
        items = list(mesh_folder_items(open_tree(tmp_path), "chair", "y", "-z"))
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert [item.rejected[0] for item in items if item.rejected] == ["source_unreadable"]


def test_real_trees(realdata):
    items = list(shapenet_items(open_tree(realdata / "ShapeNetCore.v2"), [CHAIR, CAR]))
    assert len(items) == 46
    assert not any(item.rejected for item in items)
