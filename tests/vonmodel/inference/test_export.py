import json
import re

import numpy as np
import pytest
import torch
import trimesh

from vondata.frames import object_to_gltf
from vondata.shapes.binvox import read_binvox
from vondata.shapes.source_file import Limits
from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.inference.export import ExportSettings, NoSurfaceError, export, shape_glb
from vonmodel.inference.views import camera_places, painted_mesh, spread
from vonmodel.mesh import SurfaceMesh, linear_of_srgb, to_pixels


def left_red_right_blue(session, monkeypatch):
    """A texture network that paints the left half of every picture red and the right half blue."""
    picture = torch.full((1, 3, 32, 32), -1.0)
    picture[:, 0, :, :16] = 1.0
    picture[:, 2, :, 16:] = 1.0
    monkeypatch.setattr(
        session.source.model.texture_generator, "forward", lambda depth, code: picture.expand(len(depth), -1, -1, -1)
    )


def one_colour(session, monkeypatch, colour=(0.5, -0.25, 0.75)):
    value = torch.tensor(colour).view(1, 3, 1, 1)
    monkeypatch.setattr(
        session.source.model.texture_generator, "forward", lambda depth, code: value.expand(len(depth), 3, 32, 32)
    )
    return to_pixels(value).reshape(3)


def test_one_colour_is_the_colour_of_every_vertex_also_where_nobody_looks(session, monkeypatch):
    colour = one_colour(session, monkeypatch)
    shape = session.shape(7)
    mesh = painted_mesh(session, shape, session.texture(0), session.mesh(shape))
    assert (mesh.colours == colour).all()


def test_vertices_have_the_colours_of_the_pixels_that_show_them(session, monkeypatch):
    left_red_right_blue(session, monkeypatch)
    monkeypatch.setattr("vonmodel.inference.views.AZIMUTHS", 1)
    monkeypatch.setattr("vonmodel.inference.views.ELEVATIONS_DEG", (0.0,))
    shape = session.shape(7)
    mesh = painted_mesh(session, shape, session.texture(0), session.mesh(shape))
    # From the front, at +y looking back, the object's left is at the image's left: +x.
    seen = (mesh.normals()[:, 1] > 0.7) & (mesh.vertices[:, 1] > mesh.vertices[:, 1].max() - 0.1)
    x = mesh.vertices[seen, 0] - (mesh.vertices[:, 0].max() + mesh.vertices[:, 0].min()) / 2
    red = mesh.colours[seen].astype(int) @ [1, 0, -1]
    rotation = viewpoint_rotation(torch.zeros(1), torch.zeros(1))[0].double().numpy()
    (_, column), _ = camera_places(mesh.vertices[seen], rotation, Camera(), 32)
    assert np.corrcoef(column, x)[0, 1] == pytest.approx(-np.sign(x @ red), abs=0.02)
    clear = np.abs(x) > 0.15
    assert (np.sign(red[clear]) == np.sign(x @ red) * np.sign(x[clear])).all()
    assert np.abs(red[clear]).min() > 200


def test_the_camera_sees_points_where_the_projection_draws_them(session):
    volume = torch.zeros(1, 32, 32, 32)
    volume[0, 20:23, 8:11, 24:27] = 1.0
    rotations = viewpoint_rotation(torch.tensor([0.7]), torch.tensor([0.3]))
    from vonmodel.projection import project

    seen = project(volume[None], rotations, image_size=64)
    rows, columns = np.nonzero(seen.silhouette[0, 0].numpy() > 0.5)
    point = -1 + 2 * np.array([[21.0, 9.0, 25.0]]) / 31
    (row, column), depth = camera_places(point, rotations[0].double().numpy(), Camera(), 64)
    assert (row[0], column[0]) == (pytest.approx(rows.mean(), abs=0.6), pytest.approx(columns.mean(), abs=0.6))
    assert depth[0] == pytest.approx(seen.depth.min().item(), abs=0.12)


def test_unknown_vertices_take_their_neighbours_colours():
    chain = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7]])
    values = np.zeros((8, 3))
    values[0], values[4] = 1.0, 0.2
    filled = spread(values, np.array([1, 0, 0, 0, 1, 0, 0, 0], dtype=bool), chain)
    assert filled[1, 0] == pytest.approx(1.0)
    assert filled[3, 0] == pytest.approx(0.2)
    assert filled[2, 0] == pytest.approx(0.6)
    assert (filled[5:] == filled[5, 0]).all()


def test_every_file_opens_watertight_where_the_voxels_are_and_in_its_colours(tmp_path, session, monkeypatch):
    colour = one_colour(session, monkeypatch)
    shape = session.shape(7)
    settings = ExportSettings(("glb", "obj", "ply", "binvox"), level=0.4)
    said = export(session, [shape], settings, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == said
    told = said["objects"][0]
    expected = session.mesh(shape, 0.4)
    for format in ("glb", "obj", "ply"):
        (mesh,) = trimesh.load_scene(tmp_path / "out" / told["files"][format], process=False).geometry.values()
        assert mesh.is_watertight, format
        assert mesh.is_winding_consistent, format
        assert mesh.volume > 0, format
        assert len(mesh.faces) == told["faces"] == len(expected.faces)
        np.testing.assert_allclose(mesh.vertices, object_to_gltf(expected.vertices), atol=1e-5)
        if format == "glb":
            np.testing.assert_allclose(
                mesh.visual.vertex_attributes["color"][:, :3],
                linear_of_srgb(np.tile(colour, (len(mesh.vertices), 1))),
                atol=1e-5,
            )
        else:
            assert (np.asarray(mesh.visual.vertex_colors)[:, :3] == colour).all()
    grid = read_binvox(tmp_path / "out" / told["files"]["binvox"], Limits())
    assert np.array_equal(grid.occupancy, shape.volume[0].numpy() > 0.4)
    np.testing.assert_allclose(grid.to_model(np.array([[0.0] * 3, [31.0] * 3])), [[-1] * 3, [1] * 3], atol=1e-6)
    html = (tmp_path / "out" / "index.html").read_text("utf-8")
    for name in re.findall(r'(?:src|href)="(?!data:)([^"]+)"', html):
        assert (tmp_path / "out" / name).is_file(), name


def test_the_level_decides_the_size(session):
    low, high = (
        trimesh.load(
            trimesh.util.wrap_as_stream(shape_glb(session, session.shape(7), level=level)),
            file_type="glb",
            force="mesh",
        )
        for level in (0.2, 0.8)
    )
    assert low.volume > high.volume > 0


def test_no_surface_at_the_level_says_what_there_is(tmp_path, session):
    flat = session.shape_of_volume("fog", torch.full((1, 32, 32, 32), 0.3))
    with pytest.raises(NoSurfaceError, match=r"fog has no surface at level 0\.5: its highest value is 0\.3"):
        export(session, [flat], ExportSettings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_normals_point_outwards():
    box = trimesh.creation.box()
    normals = SurfaceMesh(np.asarray(box.vertices), np.asarray(box.faces)).normals()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)
    assert ((normals * box.vertices).sum(axis=1) > 0.5).all()


def test_srgb_becomes_linear():
    values = linear_of_srgb(np.array([0, 10, 128, 255], dtype=np.uint8))
    assert values == pytest.approx([0.0, 10 / 255 / 12.92, 0.21586, 1.0], abs=1e-5)
