"""Materials of mesh files: textures and colours at the right places, grey if unavailable, no files from outside."""

import os

import numpy as np
import pytest
import trimesh
from PIL import Image

from vondata.render.caster import Caster
from vondata.render.mesh import linear_colour
from vondata.render.textured_mesh import MAX_TEXTURE_PX, load_render_mesh, material_files
from vondata.types import Rejected

# A square of two triangles, x to the left half red, to the right half blue; the image's first row is its upper edge.
SQUARE = """mtllib square.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl paint
f 1/1 2/2 3/3
f 1/1 3/3 4/4
"""


@pytest.fixture
def square(tmp_path):
    """A folder with the square, its material and a texture of four colours: red, green above blue, white."""

    def write(material="newmtl paint\nKd 0.2 0.2 0.2\nmap_Kd texture.png\n", size=2):
        pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
        Image.fromarray(pixels.repeat(size // 2, 0).repeat(size // 2, 1)).save(tmp_path / "texture.png")
        (tmp_path / "square.mtl").write_text(material)
        (tmp_path / "square.obj").write_text(SQUARE)
        return tmp_path / "square.obj"

    return write


def colour_at(mesh, x, y):
    """Linear colour where the ray along z meets the square at (x, y) of the file, 0 to 1 across and up."""
    low, high = mesh.corners.reshape(-1, 3).min(axis=0), mesh.corners.reshape(-1, 3).max(axis=0)
    origin = np.array([low[0] + x * (high[0] - low[0]), low[1] + y * (high[1] - low[1]), -2.0])
    hits = Caster(mesh).cast(origin, np.array([[0.0, 0.0, 1.0]], dtype=np.float32))
    assert len(hits.rays) == 1
    return hits.albedo[0]


def test_a_texture_lies_as_its_coordinates_say(square) -> None:
    mesh = load_render_mesh(square())
    for x, y, colour in ((0.2, 0.8, [1, 0, 0]), (0.8, 0.8, [0, 1, 0]), (0.2, 0.2, [0, 0, 1]), (0.8, 0.2, [1, 1, 1])):
        np.testing.assert_allclose(colour_at(mesh, x, y), colour, atol=1e-6)


def test_a_texture_of_many_materials_is_looked_up_once(square, monkeypatch) -> None:
    path = square("newmtl paint\nmap_Kd -s 1 1 1 texture.png\n" * 1000)
    looked_up, resolve = [], os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda name: looked_up.append(name) or resolve(name))
    found = material_files(path, path.parent)
    assert [os.path.basename(each) for each in found] == ["square.mtl", "texture.png"]
    assert len(looked_up) < 10


def test_a_plain_material_has_its_colour(square) -> None:
    mesh = load_render_mesh(square("newmtl paint\nKd 0.8 0.4 0.2\n"))
    np.testing.assert_allclose(colour_at(mesh, 0.5, 0.4), linear_colour(np.array([0.8, 0.4, 0.2])), atol=0.01)


def test_large_textures_are_averaged_down(square) -> None:
    mesh = load_render_mesh(square(size=2 * MAX_TEXTURE_PX))
    assert max(mesh.materials[0].texture.shape) == MAX_TEXTURE_PX
    np.testing.assert_allclose(colour_at(mesh, 0.2, 0.8), [1, 0, 0], atol=1e-6)


def test_colours_of_vertices(tmp_path) -> None:
    mesh = trimesh.creation.box((1, 1, 1))
    mesh.visual.vertex_colors = np.tile([[200, 100, 50, 255]], (8, 1))
    mesh.export(tmp_path / "box.ply")
    read = load_render_mesh(tmp_path / "box.ply")
    np.testing.assert_allclose(colour_at(read, 0.4, 0.3), linear_colour(np.array([200, 100, 50]) / 255), atol=0.01)


def test_glb_keeps_its_texture(square, tmp_path) -> None:
    scene = trimesh.load_scene(square("newmtl paint\nKd 1 1 1\nmap_Kd texture.png\n"))
    scene.export(tmp_path / "square.glb")
    mesh = load_render_mesh(tmp_path / "square.glb")
    np.testing.assert_allclose(colour_at(mesh, 0.2, 0.8), [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(colour_at(mesh, 0.2, 0.2), [0, 0, 1], atol=1e-6)


@pytest.mark.parametrize("material", ["newmtl paint\nmap_Kd ../secret.png\n", "newmtl paint\nmap_Kd none.png\n"])
def test_nothing_is_read_from_outside_and_what_is_missing_is_done_without(square, tmp_path, material) -> None:
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path.parent / "secret.png")
    mesh = load_render_mesh(square(material))
    colour = colour_at(mesh, 0.2, 0.8)
    assert colour.max() == pytest.approx(colour.min(), abs=0.02)  # grey


def test_a_texture_elsewhere_in_the_collection_is_read_where_that_is_its_root(square, tmp_path) -> None:
    (tmp_path / "images").mkdir()
    path = square("newmtl paint\nmap_Kd ../images/texture.png\n")
    (tmp_path / "texture.png").rename(tmp_path / "images" / "texture.png")
    (tmp_path / "models").mkdir()
    for file in (path, path.with_suffix(".mtl")):
        file.rename(tmp_path / "models" / file.name)
    mesh = load_render_mesh(tmp_path / "models" / "square.obj", root=tmp_path)
    np.testing.assert_allclose(colour_at(mesh, 0.2, 0.8), [1, 0, 0], atol=1e-6)


def test_the_box_is_centred_and_its_diagonal_is_one(tmp_path) -> None:
    mesh = trimesh.creation.box((3, 5, 2))
    mesh.apply_translation((10, -4, 7))
    mesh.export(tmp_path / "box.stl")
    corners = load_render_mesh(tmp_path / "box.stl").corners.reshape(-1, 3)
    np.testing.assert_allclose(corners.min(axis=0), -corners.max(axis=0), atol=1e-9)
    assert np.linalg.norm(np.ptp(corners, axis=0)) == pytest.approx(1.0)


def test_what_is_no_mesh_is_rejected_with_a_reason(tmp_path) -> None:
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    with pytest.raises(Rejected) as found:
        load_render_mesh(tmp_path / "flat.obj")
    assert found.value.reason == "empty_mesh"
    (tmp_path / "note.obj").write_text("no mesh")
    with pytest.raises(Rejected):
        load_render_mesh(tmp_path / "note.obj")
