import dataclasses
import json
import re

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from tests.harness import on_white
from vondata.frames import object_to_gltf
from vonmodel.checkpoint import CheckpointInfo
from vonmodel.inference.generate import (
    GenerateSettings,
    choose_viewpoints,
    generate,
    is_unfinished,
    spread_viewpoints,
)
from vonmodel.inference.sampling import render
from vonmodel.inference.session import LoadedModel, ModelSession
from vonmodel.mesh import to_pixels
from vonmodel.model import build_model
from vonmodel.reports.provenance import read_provenance
from vonmodel.studio.view_request import decode_code


def sampler(count, rng):
    return rng.uniform([-1.0, 0.0], [1.0, 0.5], (count, 2))


@pytest.fixture
def source(tmp_path, tiny_config):
    model = build_model(tiny_config.model, 0).eval().requires_grad_(False)
    info = CheckpointInfo("joint-00000020", "joint", 20, 20, 160, "ab" * 32)
    return LoadedModel(model, info, tmp_path / "run", "chair", sampler)


def files_of(gallery):
    for shape in gallery.shapes:
        if shape.mesh:
            yield shape.mesh
        for view in shape.views:
            yield from (view.silhouette, view.depth, *view.images)


def test_everything_asked_for_is_there_and_nothing_else(tmp_path, source):
    told = []
    settings = GenerateSettings(shapes=2, views=3, textures=2)
    gallery = generate(source, settings, tmp_path / "out", lambda *each: told.append(each))
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {*files_of(gallery), "generated.json", "index.html"}
    assert len([name for name in written if name.endswith(".png")]) == 2 * 3 * (2 + 2)
    assert told == [("pictures", 1, 2), ("pictures", 2, 2), ("meshes", 1, 2), ("meshes", 2, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_pictures_are_there_before_any_mesh(tmp_path, source):
    pages = []

    def look(page):
        files = {path.suffix for path in page.parent.rglob("*") if path.is_file()}
        pages.append((page, files, "load this page again" in page.read_text("utf-8")))
        saved = json.loads((page.parent / "generated.json").read_text("utf-8"))
        assert [shape["mesh"] for shape in saved["shapes"]] == [None, None]

    gallery = generate(source, GenerateSettings(shapes=2, views=1, textures=1), tmp_path / "out", on_pictures=look)
    assert pages == [(tmp_path / "out" / "index.html", {".png", ".json", ".html"}, True)]
    assert all(shape.mesh for shape in gallery.shapes)
    assert "load this page again" not in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_every_file_that_the_page_names_is_there(tmp_path, source):
    generate(source, GenerateSettings(shapes=2, views=2, textures=2), tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text("utf-8")
    named = set(re.findall(r'(?:src|href)="(?!data:)([^"]+)"', html))
    assert len(named) == 2 * (1 + 2 * (2 + 2)) + 1
    for name in named:
        assert (tmp_path / "out" / name).is_file(), name


def test_each_picture_can_be_drawn_again_from_the_json_file(tmp_path, source):
    generate(source, GenerateSettings(shapes=2, views=2, textures=2, seed=9), tmp_path / "out")
    said = json.loads((tmp_path / "out" / "generated.json").read_text())
    assert said["checkpoint"] == dataclasses.asdict(source.checkpoint)
    for shape in said["shapes"]:
        volume = source.model.generate_shapes(torch.tensor([shape["code"]]))
        for view, viewpoint in zip(shape["views"], said["viewpoints_deg"], strict=True):
            for file, code in zip(view["images"], said["texture_codes"], strict=True):
                again = render(source.model, volume, np.radians([viewpoint]), torch.tensor([code]))
                stored = on_white(tmp_path / "out" / file).transpose(2, 0, 1)
                assert np.abs(to_pixels(again.images[0]) - stored).max() <= 1
                origin = read_provenance(tmp_path / "out" / file)
                assert decode_code(origin["texture_code"]) == tuple(code)
                assert decode_code(origin["shape_code"]) == tuple(shape["code"])
                assert (origin["azimuth_deg"], origin["elevation_deg"]) == pytest.approx(viewpoint, abs=1e-3)
                assert origin["checkpoint"]["sha256"] == source.checkpoint.sha256
            depth = np.asarray(Image.open(tmp_path / "out" / view["depth"])).astype(int)
            assert np.abs(to_pixels(again.sketch.normalized_depth[0, 0]) - depth).max() <= 1


def test_fewer_shapes_are_the_first_of_more(tmp_path, source):
    few = generate(source, GenerateSettings(shapes=1, views=2, textures=1), tmp_path / "few")
    more = generate(source, GenerateSettings(shapes=2, views=2, textures=2), tmp_path / "more")
    assert few.shapes[0].code == more.shapes[0].code
    assert few.texture_codes[0] == more.texture_codes[0]
    assert few.viewpoints_deg == more.viewpoints_deg


def test_meshes_open_watertight_and_upright(tmp_path, source):
    volume = torch.zeros(1, 1, 32, 32, 32)
    volume[0, 0, 4:28, 4:12, 3:8] = 1.0
    volume[0, 0, 4:9, 4:9, 8:28] = 1.0
    source.model.generate_shapes = lambda codes: volume
    gallery = generate(source, GenerateSettings(shapes=1, views=1, textures=1), tmp_path / "out")
    mesh = trimesh.load(tmp_path / "out" / gallery.shapes[0].mesh, force="mesh")
    mesh.merge_vertices(merge_norm=True, merge_tex=True)
    assert mesh.is_watertight
    assert len(mesh.faces) == gallery.shapes[0].faces
    step = 2 / 31
    corners = np.array(
        [[-1 + 3.5 * step, -1 + 3.5 * step, -1 + 2.5 * step], [-1 + 27.5 * step, -1 + 11.5 * step, -1 + 27.5 * step]]
    )
    turned = object_to_gltf(corners)
    np.testing.assert_allclose(mesh.bounds, [turned.min(axis=0), turned.max(axis=0)], atol=1e-5)


def test_a_shape_without_surface_has_pictures_but_no_mesh(tmp_path, source):
    source.model.generate_shapes = lambda codes: torch.zeros(1, 1, 32, 32, 32)
    gallery = generate(source, GenerateSettings(shapes=1, views=1, textures=1), tmp_path / "out")
    assert gallery.shapes[0].mesh is None
    assert not list((tmp_path / "out").rglob("*.glb"))
    assert "no surface" in (tmp_path / "out" / "index.html").read_text()
    assert (np.asarray(Image.open(tmp_path / "out" / gallery.shapes[0].views[0].silhouette)) == 0).all()


def test_the_level_decides_the_surface(tmp_path, source):
    ramp = torch.linspace(0, 1, 32).view(1, 1, 1, 1, 32).expand(1, 1, 32, 32, 32)
    source.model.generate_shapes = lambda codes: ramp
    bottoms = []
    for level in (0.3, 0.8):
        gallery = generate(source, GenerateSettings(1, 1, 1, level=level), tmp_path / "out")
        mesh = trimesh.load(tmp_path / "out" / gallery.shapes[0].mesh, force="mesh")
        bottoms.append(mesh.bounds[0, 1])
    np.testing.assert_allclose(bottoms, [-1 + 2 * 0.3, -1 + 2 * 0.8], atol=1e-3)


class Killed(Exception):
    """A process that ends in the middle."""


def killed_after(task, done):
    def report(what, count, _):
        if (what, count) == (task, done):
            raise Killed

    return report


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_generation_killed_among_its_meshes_is_continued_to_the_same_result(tmp_path, source):
    settings = GenerateSettings(shapes=3, views=1, textures=1)
    with pytest.raises(Killed):
        generate(source, settings, tmp_path / "out", killed_after("meshes", 1))
    saved = json.loads((tmp_path / "out" / "generated.json").read_text())
    assert [shape["mesh"] for shape in saved["shapes"]] == ["shape-01/mesh.glb", None, None]
    assert [path.parent.name for path in (tmp_path / "out").rglob("*.glb")] == ["shape-01"]
    assert is_unfinished(source, settings, tmp_path / "out")
    first = (tmp_path / "out" / "shape-01" / "mesh.glb").stat().st_mtime_ns
    told = []
    generate(source, settings, tmp_path / "out", lambda *each: told.append(each))
    assert told == [("meshes", 1, 3), ("meshes", 2, 3), ("meshes", 3, 3)]
    assert (tmp_path / "out" / "shape-01" / "mesh.glb").stat().st_mtime_ns == first
    generate(source, settings, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not is_unfinished(source, settings, tmp_path / "out")


def test_what_a_kill_left_beside_the_record_is_made_again(tmp_path, source):
    settings = GenerateSettings(shapes=2, views=1, textures=1)
    whole = contents_of_run(source, settings, tmp_path / "whole")
    with pytest.raises(Killed):
        generate(source, settings, tmp_path / "out", killed_after("meshes", 1))
    # As if killed between the mesh and its entry in the record, and in the middle of writing the next mesh.
    (tmp_path / "out" / "shape-01" / "mesh.glb").write_bytes(b"")
    (tmp_path / "out" / "shape-01" / "mesh.view").unlink()
    (tmp_path / "out" / "shape-02" / f".mesh.{'0' * 32}.glb").write_bytes(b"half")
    assert contents_of_run(source, settings, tmp_path / "out") == whole


def contents_of_run(source, settings, folder):
    generate(source, settings, folder)
    return contents(folder)


@pytest.mark.parametrize(
    "other", [{"shapes": 3}, {"textures": 2}, {"seed": 1}, {"level": 0.4}, {"azimuths_deg": (10.0,)}]
)
def test_another_generation_is_not_continued(tmp_path, source, other):
    settings = GenerateSettings(shapes=2, views=1, textures=1)
    with pytest.raises(Killed):
        generate(source, settings, tmp_path / "out", killed_after("meshes", 1))
    assert not is_unfinished(source, dataclasses.replace(settings, **other), tmp_path / "out")
    next((tmp_path / "out").rglob("*-depth.png")).unlink()
    assert not is_unfinished(source, settings, tmp_path / "out")


def degrees(**given):
    return np.degrees(choose_viewpoints(GenerateSettings(views=4, **given), sampler))


def test_every_given_azimuth_meets_every_given_elevation():
    viewpoints = degrees(azimuths_deg=(10.0, -20.0), elevations_deg=(5.0, 15.0))
    np.testing.assert_allclose(viewpoints, [[10, 5], [10, 15], [-20, 5], [-20, 15]])


def test_sampled_viewpoints_are_not_alike():
    candidates = np.radians([[0.0, 0.0], [1.0, 0.0], [359.0, 1.0], [90.0, 0.0], [180.0, 10.0], [90.0, 90.0]])
    spread = np.degrees(spread_viewpoints(candidates, 4))
    np.testing.assert_allclose(spread[:2], [[0, 0], [180, 10]])
    np.testing.assert_allclose(sorted(spread[2:].tolist()), [[90, 0], [90, 90]])
    for seed in range(20):
        azimuths = np.degrees(choose_viewpoints(GenerateSettings(views=3, seed=seed), sampler))[:, 0]
        assert np.diff(azimuths).min() > 12, seed  # of 114 degrees


def test_without_a_trained_critic_typical_codes_score_best(tmp_path, source):
    untrained = dataclasses.replace(source, critic_trained=False)
    session = ModelSession(untrained)
    code = torch.linspace(-1, 1, source.config.shape_code_size)
    near, far = (session.score(session.shape_of_code(scale * code, "a")) for scale in (0.5, 1.0))
    assert near == pytest.approx(0.5 * far)
    assert near > far
    generated = generate(untrained, GenerateSettings(2, 1, 1), tmp_path / "out")
    assert [each.score for each in generated.shapes] == pytest.approx(
        [-np.linalg.norm(each.code) for each in generated.shapes]
    )
    text = (tmp_path / "out/index.html").read_text("utf-8")
    assert "best first: shapes in one piece, by how typical their codes are" in text
    assert generate(source, GenerateSettings(2, 1, 1), tmp_path / "other").scores_by == "critic"


def test_angles_not_given_are_drawn_from_the_class():
    drawn = degrees()
    assert drawn.shape == (4, 2)
    assert (np.diff(drawn[:, 0]) > 0).all()
    assert (np.abs(drawn) < 60).all()
    seen_from = degrees(azimuths_deg=(50.0, -20.0, 10.0))
    np.testing.assert_allclose(seen_from[:, 0], [-20, 10, 50])
    assert ((seen_from[:, 1] > 0) & (seen_from[:, 1] < 30)).all()
    lifted = degrees(elevations_deg=(5.0, 15.0))
    np.testing.assert_allclose(sorted(lifted[:, 1]), [5, 15])
    assert len(set(lifted[:, 0])) == 2
