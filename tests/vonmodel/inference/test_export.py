import dataclasses
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
from vonmodel.inference.export import (
    ExportSettings,
    ExportSettingsError,
    NoSurfaceError,
    export,
    placed,
    shape_glb,
    smoothed,
)
from vonmodel.inference.session import ModelSession
from vonmodel.inference.texture_baking import camera_places, painted_mesh, spread
from vonmodel.mesh import SurfaceMesh, linear_of_srgb, mesh_statistics, to_pixels
from vonmodel.reports.html import decimated


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


def test_one_colour_is_the_colour_of_every_vertex_also_of_hidden_ones(session, monkeypatch):
    colour = one_colour(session, monkeypatch)
    shape = session.shape(7)
    mesh = painted_mesh(session, shape, session.texture(0), session.mesh(shape))
    assert (mesh.colours == colour).all()


def test_vertices_have_the_colours_of_the_pixels_that_show_them(session, monkeypatch):
    left_red_right_blue(session, monkeypatch)
    monkeypatch.setattr("vonmodel.inference.texture_baking.AZIMUTHS", 1)
    monkeypatch.setattr("vonmodel.inference.texture_baking.ELEVATIONS_DEG", (0.0,))
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
    settings = ExportSettings(("glb", "obj", "ply", "stl", "binvox"), level=0.4, texture_px=256)
    said = export(session, [shape], settings, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == said
    told = said["objects"][0]
    expected = session.mesh(shape, 0.4)
    for format in ("glb", "obj", "ply", "stl"):
        (mesh,) = trimesh.load_scene(tmp_path / "out" / told["files"][format], process=False).geometry.values()
        assert len(mesh.faces) == told["faces"] == len(expected.faces)
        corners = object_to_gltf(expected.vertices)[expected.faces]
        np.testing.assert_allclose(mesh.vertices[mesh.faces], corners, atol=2e-5)
        if format in ("glb", "obj"):
            material = mesh.visual.material
            image = np.asarray(material.baseColorTexture if format == "glb" else material.image)
            assert image.shape == (256, 256, 3)
            assert np.abs(image.astype(int) - colour).max() <= 3  # JPEG
        elif format == "ply":
            assert (np.asarray(mesh.visual.vertex_colors)[:, :3] == colour).all()
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        assert mesh.is_watertight, format
        assert mesh.is_winding_consistent, format
        assert mesh.volume > 0, format
    grid = read_binvox(tmp_path / "out" / told["files"]["binvox"], Limits())
    assert np.array_equal(grid.occupancy, shape.volume[0].numpy() > 0.4)
    np.testing.assert_allclose(grid.to_model(np.array([[0.0] * 3, [31.0] * 3])), [[-1] * 3, [1] * 3], atol=1e-6)
    html = (tmp_path / "out" / "index.html").read_text("utf-8")
    for name in re.findall(r'(?:src|href)="(?!data:)([^"]+)"', html):
        assert (tmp_path / "out" / name).is_file(), name


def test_without_an_image_the_colours_are_at_the_vertices(tmp_path, session, monkeypatch):
    colour = one_colour(session, monkeypatch)
    said = export(session, [session.shape(7)], ExportSettings(vertex_colours=True), tmp_path / "out")
    (mesh,) = trimesh.load_scene(
        tmp_path / "out" / said["objects"][0]["files"]["glb"], process=False
    ).geometry.values()
    found = mesh.visual.vertex_attributes["color"][:, :3]
    np.testing.assert_allclose(found, linear_of_srgb(np.tile(colour, (len(mesh.vertices), 1))), atol=1e-5)
    assert said["objects"][0]["texture_px"] is None


def extents(mesh):
    return np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)])


def test_a_height_and_an_origin_place_the_object(session):
    mesh = session.mesh(session.shape(7))
    low, high = extents(placed(mesh, 0.9, "floor"))
    assert high[2] - low[2] == pytest.approx(0.9)
    np.testing.assert_allclose([low[2], low[0] + high[0], low[1] + high[1]], 0.0, atol=1e-9)
    np.testing.assert_allclose(extents(placed(mesh, None, "centre")).sum(axis=0), 0.0, atol=1e-9)
    np.testing.assert_array_equal(placed(mesh, None, "grid").vertices, mesh.vertices)
    original = extents(mesh)
    np.testing.assert_allclose((high - low) / 0.9, (original[1] - original[0]) / np.ptp(original[:, 2]))


def test_up_turns_the_files_and_not_the_glb(tmp_path, session):
    shape, expected = session.shape(7), session.mesh(session.shape(7))
    settings = ExportSettings(("glb", "stl"), up="z", texture=None)
    said = export(session, [shape], settings, tmp_path / "out")["objects"][0]
    upright = trimesh.load(tmp_path / "out" / said["files"]["stl"]).bounds
    np.testing.assert_allclose(upright[:, 2], extents(expected)[:, 2], atol=1e-5)
    np.testing.assert_allclose(upright[:, 1], -extents(expected)[::-1, 1], atol=1e-5)
    glb = trimesh.load(tmp_path / "out" / said["files"]["glb"], force="mesh").bounds
    np.testing.assert_allclose(glb[:, 1], extents(expected)[:, 2], atol=1e-5)


def test_a_finer_grid_smoothing_and_a_budget_of_faces(session):
    shape = session.shape(7)
    coarse, fine = session.mesh(shape), session.mesh(shape, grid=96)
    assert len(fine.faces) > 4 * len(coarse.faces)
    before, smooth = trimesh.Trimesh(fine.vertices, fine.faces), smoothed(fine)
    after = trimesh.Trimesh(smooth.vertices, smooth.faces)  # joins vertices at the same place
    assert after.is_watertight
    assert after.volume == pytest.approx(before.volume, rel=0.03)
    small = decimated(fine, 1000)
    assert 500 < len(small.faces) <= 1000
    assert trimesh.Trimesh(small.vertices, small.faces).volume == pytest.approx(before.volume, rel=0.03)


def test_a_piece_that_decimation_collapses_leaves_nothing_behind():
    rough, crumb = trimesh.creation.icosphere(4, 0.7), trimesh.creation.icosphere(1, 0.01)
    rough.vertices *= np.random.default_rng(0).normal(1, 0.02, (len(rough.vertices), 1))
    both = trimesh.util.concatenate([rough, crumb.apply_translation([0.9, 0, 0])])
    small = decimated(SurfaceMesh(np.asarray(both.vertices), np.asarray(both.faces)), 200)
    assert mesh_statistics(small)["parts"] == 1
    assert set(small.faces.ravel()) == set(range(len(small.vertices)))


def test_crumbs_beside_a_generated_shape_are_exported_only_with_all_pieces(tmp_path, session, monkeypatch):
    volume = torch.zeros(1, 1, 32, 32, 32)
    volume[0, 0, 4:24, 4:24, 4:24] = 1.0
    volume[0, 0, 25, 10, 10] = 1.0  # too near to be a loose piece
    monkeypatch.setattr(session.source.model, "generate_shapes", lambda codes: volume)
    sampling = session.source.sampling
    for pieces, parts in (("largest", 1), ("all", 2)):
        source = dataclasses.replace(session.source, sampling=dataclasses.replace(sampling, pieces=pieces))
        each = ModelSession(source)
        whole = each.mesh(each.shape(7))
        assert mesh_statistics(whole)["parts"] == parts
        said = export(each, [each.shape(7)], ExportSettings(faces=100, texture=None), tmp_path / pieces)
        mesh = trimesh.load(tmp_path / pieces / said["objects"][0]["files"]["glb"], force="mesh")
        assert mesh.body_count == parts
        assert mesh.is_watertight
    given = session.shape_of_volume("given", volume[0])
    assert mesh_statistics(session.mesh(given))["parts"] == 2


def test_smoothing_takes_the_roughness_and_leaves_the_volume():
    ball, rng = trimesh.creation.icosphere(4, radius=0.7), np.random.default_rng(0)
    rough = SurfaceMesh(ball.vertices * rng.normal(1.0, 0.01, (len(ball.vertices), 1)), np.asarray(ball.faces))
    smooth = smoothed(rough)
    before, after = (np.linalg.norm(each.vertices, axis=1) for each in (rough, smooth))
    assert after.std() < 0.5 * before.std()
    assert trimesh.Trimesh(smooth.vertices, smooth.faces).volume == pytest.approx(ball.volume, rel=0.01)


@pytest.mark.parametrize("wrong", [{"faces": 3}, {"texture_px": 1}, {"height": -1.0}, {"grid": 4096}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ExportSettingsError, match=str(next(iter(wrong.values())))):
        ExportSettings(**wrong)


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
