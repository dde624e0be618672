"""The Python API: loading runs, rendering, editing one factor with the others fixed, meshes and files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

import vonmodel
from vonmodel.api import ArgumentError, TrainedModel
from vonmodel.checkpoint import ClassNotInModelError
from vonmodel.inference.sampling import SeedError
from vonmodel.inference.session import CodeError
from vonmodel.reconstruction.reconstruct import ReconstructSettings


@pytest.fixture
def model(session) -> TrainedModel:
    return TrainedModel(session)


def test_a_run_is_loaded_by_path_url_and_class(tiny_run: Path, tiny_data: Path) -> None:
    by_path = vonmodel.load_run(tiny_run, data=tiny_data)
    by_url = vonmodel.load_run(f"file://{tiny_run.resolve()}", data=tiny_data)
    assert by_path.class_name == by_url.class_name == "chair"
    view = by_path.view(3, 1, 40.0, 20.0)
    np.testing.assert_array_equal(by_path.render(view).image, by_url.render(by_url.view(3, 1, 40.0, 20.0)).image)
    assert vonmodel.load_run(tiny_run, class_name="chair", data=tiny_data).class_name == "chair"
    with pytest.raises(ClassNotInModelError, match="this model is of chair, not of car"):
        vonmodel.load_run(tiny_run, class_name="car")
    assert vonmodel.__version__


def test_no_other_name_is_made_up() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_runs'"):
        _ = vonmodel.load_runs


def test_what_is_rendered(model: TrainedModel) -> None:
    size = model.config.image_size
    seen = model.render(model.view(7, 3, 40.0, 20.0))
    assert seen.image.shape == (size, size, 3)
    assert seen.image.dtype == np.uint8
    assert seen.silhouette.shape == seen.depth.shape == (size, size)
    assert seen.silhouette.min() >= 0.0
    assert seen.silhouette.max() > 0.9
    assert (seen.image[seen.silhouette == 0.0] == 255).all()  # the object on white
    assert seen.depth[seen.silhouette == 0.0].max() == -1.0  # far
    assert model.render_all([]) == []


def test_a_batch_of_views_equals_single_views(model: TrainedModel) -> None:
    views = [model.view(seed, seed, 10.0 * seed, 20.0) for seed in range(3)]
    for together, view in zip(model.render_all(views), views, strict=True):
        np.testing.assert_allclose(together.image.astype(int), model.render(view).image.astype(int), atol=1)


def test_one_factor_changes_and_the_others_stay(model: TrainedModel) -> None:
    view = model.view(7, 3, 40.0, 20.0)
    turned = model.edit(view, azimuth_deg=70.0)
    assert turned.shape is view.shape
    assert turned.elevation_deg == view.elevation_deg
    np.testing.assert_array_equal(turned.texture, view.texture)
    worn = model.edit(view, texture=4)
    np.testing.assert_array_equal(model.render(worn).silhouette, model.render(view).silhouette)
    assert (model.render(model.edit(view, shape=8)).silhouette != model.render(view).silhouette).any()


def test_codes_by_seed_by_number_and_as_they_are(model: TrainedModel) -> None:
    np.testing.assert_array_equal(model.texture(5), model.texture("5"))
    assert (model.texture("5:2") != model.texture(5)).any()
    code = model.texture(5)
    np.testing.assert_array_equal(model.texture(code), code)
    np.testing.assert_array_equal(model.texture(list(code)), code)
    assert model.shapes(3, seed=2)[1].key == model.shape("2:2").key
    with pytest.raises(CodeError):
        model.texture(np.zeros(len(code) + 1))
    with pytest.raises(CodeError):
        model.texture(np.full(len(code), np.nan))
    with pytest.raises(SeedError):
        model.texture("seven")
    with pytest.raises(ArgumentError, match="finite number of degrees"):
        model.view(7, 3, float("nan"))


def test_an_angle_that_is_not_given_is_drawn_as_the_class_is_seen(model: TrainedModel) -> None:
    drawn = [model.view(seed=seed) for seed in range(8)]
    assert len({view.azimuth_deg for view in drawn}) == 8
    assert all(-130.0 <= view.azimuth_deg <= 120.0 and 0.0 <= view.elevation_deg <= 38.0 for view in drawn)
    assert model.view(seed=3).azimuth_deg == drawn[3].azimuth_deg


def test_a_path_has_its_ends_and_turns_the_shorter_way(model: TrainedModel) -> None:
    start, end = model.view(1, 2, 170.0, 10.0), model.view(3, 4, -170.0, 30.0)
    path = model.interpolate(start, end, 5)
    assert [view.azimuth_deg for view in path] == pytest.approx([170.0, 175.0, 180.0, 185.0, 190.0])
    assert [view.elevation_deg for view in path] == pytest.approx([10.0, 15.0, 20.0, 25.0, 30.0])
    np.testing.assert_allclose(path[0].texture, start.texture, atol=1e-6)
    np.testing.assert_allclose(path[-1].texture, end.texture, atol=1e-6)
    np.testing.assert_allclose(path[-1].shape.code, end.shape.code, atol=1e-6)
    with pytest.raises(ArgumentError, match="two ends"):
        model.interpolate(start, end, 1)
    carved = dataclasses.replace(start, shape=dataclasses.replace(start.shape, code=None))
    with pytest.raises(ArgumentError, match="no path"):
        model.interpolate(carved, end, 3)


def test_a_turntable_comes_back_to_where_it_began(model: TrainedModel) -> None:
    view = model.view(7, 3, 40.0, 20.0)
    frames = model.turntable(view, 4)
    np.testing.assert_array_equal(frames[0].image, model.render(view).image)
    np.testing.assert_array_equal(frames[2].image, model.render(model.edit(view, azimuth_deg=220.0)).image)


def test_a_photo_gives_its_texture_and_its_parts(model: TrainedModel, tmp_path: Path) -> None:
    seen = model.render(model.view(7, 3, 40.0, 20.0))
    pixels = np.dstack([seen.image, np.round(seen.silhouette * 255).astype(np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    view = model.transfer(pixels, model.view(8))
    np.testing.assert_array_equal(view.texture, model.texture_of(pixels))
    assert model.texture_of(tmp_path / "photo.png").shape == view.texture.shape
    phases = []
    quick = ReconstructSettings(4, 4, ((2, 2),), carve_steps=0, texture_steps=2, start="search")
    found = model.reconstruct(pixels, quick, lambda phase, done, total: phases.append(phase))
    assert 0.0 < found.silhouette_iou <= 1.0
    assert 0.0 < found.confidence <= 1.0
    assert set(phases) == {"search", "fit", "texture"}
    assert model.render(found.view).image.shape == seen.image.shape
    with pytest.raises(ArgumentError, match="alpha"):
        model.texture_of(seen.image)


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl"])
def test_an_exported_shape_is_a_closed_mesh(model: TrainedModel, tmp_path: Path, suffix: str) -> None:
    path = model.export(7, tmp_path / "made" / f"chair{suffix}", texture=3)
    mesh = trimesh.load(path, force="mesh")
    assert len(mesh.faces) == len(model.mesh(7).faces)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    assert mesh.is_watertight


def test_voxels_are_exported_and_other_suffixes_refused(model: TrainedModel, tmp_path: Path) -> None:
    assert model.export(7, tmp_path / "chair.binvox").read_bytes().startswith(b"#binvox")
    with pytest.raises(ArgumentError, match=r"written as \.glb"):
        model.export(7, tmp_path / "chair.blend")


def test_a_mesh_has_the_colours_of_a_texture(model: TrainedModel) -> None:
    assert model.mesh(7).colours is None
    painted = model.mesh(7, texture=3)
    assert painted.colours.shape == (len(painted.vertices), 3)
