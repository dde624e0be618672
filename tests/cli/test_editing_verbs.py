"""interpolate, transfer, reconstruct and export through the command."""

import json

import numpy as np
import pytest
import trimesh
from PIL import Image
from safetensors.numpy import load_file

from tests import harness
from vondata.shapes.binvox import read_binvox
from vondata.shapes.source_file import Limits
from vonmodel.networks import ShapeCodeRegressor
from vonmodel.reports.provenance import read_provenance


@pytest.fixture
def von(tiny_run, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VON_DATA", str(tiny_data))
    pixels = np.full((100, 100, 3), 240, dtype=np.uint8)
    pixels[20:80, 30:70] = (120, 70, 30)
    Image.fromarray(pixels).save("photo.png")
    Image.fromarray(np.full((100, 100, 3), 240, dtype=np.uint8)).save("blank.png")
    return harness.von


RECONSTRUCT = (
    "reconstruct",
    "photo.png",
    "--start",
    "search",
    "--candidate-count",
    "1",
    "--start-count",
    "1",
    "--steps",
    "1",
    "--view-count",
    "0",
    "--texture-count",
    "1",
    "--film",
    "none",
)


def test_a_reconstruction_serves_the_other_verbs(von, tmp_path):
    result = von(*RECONSTRUCT)
    assert result.exit_code == 0, result.output
    page = result.stdout.splitlines()[-1]
    assert page == "runs/chair/reconstructed/joint-00000020-photo/index.html"
    assert "photo: azimuth" in result.stdout
    found = json.loads((tmp_path / page).with_name("result.json").read_text())["objects"][0]
    folder = "runs/chair/reconstructed/joint-00000020-photo"
    for name in ("image", "overlap", "depth"):
        (file,) = (tmp_path / folder).glob(f"*/{name}.png")
        origin = read_provenance(file)
        assert (origin["shape"], origin["checkpoint"]["name"]) == ("photo", "joint-00000020")
        assert origin["azimuth_deg"] == pytest.approx(found["azimuth_deg"], abs=1e-3)
    (read,) = (tmp_path / folder).glob("*/depth-of-photo.png")
    assert read_provenance(read)["photo"] == "photo"
    exported = json.loads(
        von("export", "--shape", folder, "--format", "binvox", "--plain", "--level", "0.01", "--json").stdout
    )
    assert exported["objects"][0]["shape"] == "photo"
    assert exported["objects"][0]["shape_code"] == pytest.approx(found["shape_code"])
    carved = load_file(tmp_path / folder / found["volume"])["volume"].astype(np.float32)[0]
    grid = read_binvox(tmp_path / exported["folder"] / exported["objects"][0]["files"]["binvox"], Limits())
    assert np.array_equal(grid.occupancy, carved > 0.01)
    other = von("export", "--shape", folder, "--checkpoint", "joint-00000010")
    assert other.exit_code == 1
    assert "was made with checkpoint joint-00000020, not with joint-00000010" in other.stderr


def test_a_mesh_has_a_code_that_the_other_verbs_take(von, tmp_path, monkeypatch):
    network = ShapeCodeRegressor(32, 8)

    def train(source, settings, step):
        step(1, 1)
        return network

    monkeypatch.setattr("vonmodel.reconstruction.inversion.train_encoder", train)
    trimesh.creation.box((1.0, 2.0, 0.5)).export(tmp_path / "box.obj")
    result = von("invert", "box.obj", "shape1", "--steps", "2")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("Training the encoder of shapes, once for this checkpoint") == 1
    folder = "runs/chair/inverted/joint-00000020-box+shape1"
    assert result.stdout.splitlines()[-1] == f"{folder}/index.html"
    found = json.loads((tmp_path / folder / "result.json").read_text())["objects"]
    assert [each["name"] for each in found] == ["box", "chair shape1"]
    edited = json.loads(von("edit", "--shape", folder, "--count", "1", "--film", "none", "--json").stdout)
    assert [each["shape_code"] for each in edited["objects"]] == [
        pytest.approx(each["shape_code"], abs=1e-6) for each in found
    ]
    result = von("interpolate", "--shape", "box.obj", "--shape", "1", "--count", "2", "--film", "none", "--json")
    assert result.exit_code == 0, result.output
    assert "box.obj: the shape of its code overlaps it with IoU" in result.stderr


def test_transfer_and_interpolate_print_their_results(von):
    said = json.loads(von("transfer", "--photo", "photo.png", "--view-count", "0", "--film", "none", "--json").stdout)
    assert said["objects"][0]["textures"][0]["mask_origin"] == "plain"
    said = json.loads(
        von("interpolate", "--shape", "1", "--shape", "2", "--count", "2", "--film", "none", "--json").stdout
    )
    assert said["objects"][0]["varied"] == "shape"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("reconstruct", "blank.png", "none.png"), 1, "blank.png: nothing stands out"),
        (("reconstruct", "none.png", "blank.png"), 1, "none.png: no such file"),
        (("reconstruct",), 2, "Missing argument"),
        (("reconstruct", "photo.png", "--mask", "a.png", "--mask", "b.png"), 2, "2 --mask for 1 photo:"),
        (("reconstruct", "photo.png", "--run", "nowhere"), 1, "nowhere is not a run"),
        (("transfer",), 2, "--photo"),
        (("transfer", "--photo", "von.toml"), 1, "von.toml"),
        (("interpolate", "--shape", "1"), 1, "there is nothing to go between"),
        (("interpolate", "--shape", "1", "--shape", "shape1"), 1, "has no code to interpolate"),
        (("export", "--level", "nan"), 2, "not a finite number"),
        (("export", "--level", "0.999999"), 1, "has no surface at level 1"),
        (("export", "--format", "dwg"), 2, "--format"),
        (("export", "--shape", "photo.png"), 1, "--shape photo.png is not a shape"),
        (("export", "--shape", "none.obj"), 1, "none.obj: no such file"),
        (("invert",), 2, "Missing argument"),
        (("invert", "none.glb"), 1, "none.glb: no such file"),
        (("invert", "nowhere/chair"), 1, "nowhere/chair: no such file"),
        (("invert", "runs/chair/config.json"), 1, "as GLTF: 'asset' is missing (file_corrupt)"),
        (("invert", "runs"), 1, "runs: name a file, not a folder"),
        (("invert", "blank.png"), 1, "(format_unknown); convert the file: meshes to OBJ, PLY or GLB"),
        (("reconstruct", "runs"), 1, "runs: name a photo, not a folder"),
        (("transfer", "blank.png"), 2, "'blank.png' belongs to no option: did you mean --photo blank.png?"),
        (("invert", "shape99"), 1, "has no prepared chair 'shape99'"),
        (("invert", "shape1", "--up", "w"), 2, "--up"),
    ],
)
def test_mistakes_are_named(von, arguments, code, message):
    result = von(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said", "unsaid"),
    [
        (("export", "--format", "stl", "--vertex-colours"), "--vertex-colours has no effect", "--plain"),
        (("export", "--plain", "--texture-size", "512"), "--texture-size has no effect: --plain", "--texture has"),
        (("export", "--plain", "--texture", "3"), "--texture has no effect: --plain", "--texture-size"),
        (("export", "--plain", "--up", "z"), "--up has no effect: GLB", "--plain has"),
        (("export", "--plain", "--format", "obj", "--up", "z"), "", "no effect"),
        (("export", "--format", "binvox", "--smooth"), "--smooth has no effect: binvox", "--faces"),
        (
            (
                "interpolate",
                "--texture",
                "1",
                "--texture",
                "2",
                "--count",
                "2",
                "--film",
                "none",
                "--frame-count",
                "4",
            ),
            "--frame-count has no effect: --film none",
            "--film-size",
        ),
    ],
)
def test_options_without_effect_are_named(von, arguments, said, unsaid):
    result = von(*arguments)
    assert result.exit_code == 0, result.output
    assert said in result.stderr
    assert unsaid not in result.stderr
