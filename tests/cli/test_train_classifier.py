import json
import shutil

import pandas as pd
import pytest

from tests import harness
from vondata.dataset.manifest import manifest_path


@pytest.fixture
def folder(tiny_data, tmp_path, monkeypatch):
    """A folder with shapes of two classes, of which some are held out."""
    monkeypatch.chdir(tmp_path)
    for name in ("chair", "car"):
        shutil.copytree(tiny_data / "chair", tmp_path / "data" / name)
        frame = pd.read_parquet(manifest_path(tmp_path / "data", name, "shapes"))
        frame["split"] = ["train"] * 6 + ["val", "test"]
        frame.assign(**{"class": name}).to_parquet(manifest_path(tmp_path / "data", name, "shapes"))
    return tmp_path


def von(*arguments):
    small = ("--steps", "2", "--base-channels", "2", "--overwrite")
    return harness.von("train-classifier", *small, *arguments)


def test_a_classifier_is_not_overwritten_unasked(folder):
    file = folder / "runs" / "shape-classifier.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"ten hours of work")
    result = harness.von("train-classifier")
    assert (result.exit_code, "let --overwrite replace it" in result.stderr) == (2, True)
    assert file.read_bytes() == b"ten hours of work"


def test_accuracy_and_hash_are_printed(folder):
    said = json.loads(von("--json").stdout)
    assert (said["classes"], said["resolution"], said["representation"]) == (["car", "chair"], 32, "occupancy")
    assert sum(said["held_out"].values()) == 4
    result = von()
    assert result.exit_code == 0, result.output
    assert "on 4 held-out shapes" in result.stdout
    assert said["sha256"] in result.stdout
    assert "written to runs/shape-classifier.safetensors" in result.stdout
    assert (folder / "runs" / "shape-classifier.safetensors").is_file()


def test_it_sees_what_the_latest_run_draws(folder, tiny_run):
    config = json.loads((tiny_run / "config.json").read_text())
    config["model"] |= {"resolution": 16, "representation": "distance"}
    (tiny_run / "config.json").write_text(json.dumps(config))
    said = json.loads(von("--json").stdout)
    assert (said["resolution"], said["representation"]) == (16, "distance")
    assert json.loads(von("--resolution", "32", "--json").stdout)["resolution"] == 32


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("--class", "chair"),
            1,
            "two classes or more apart; only chair is named, and data has prepared shapes of: car",
        ),
        (("--output", "data"), 1, "data is a folder; name a file to write"),
        (("--class", "chair", "--class", "unicorn"), 2, "unicorn"),
        (("--resolution", "20"), 1, "resolution is 20"),
        (("--resolution", "64"), 1, "64"),
        (("--data", "nowhere"), 1, "none"),
    ],
)
def test_mistakes_are_named(folder, arguments, code, message):
    result = von(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_shapes_are_scored_with_it(folder, tiny_run):
    assert von().exit_code == 0
    result = harness.von("evaluate", "--shape-fid", "--shape-count", "3")
    assert result.exit_code == 0, result.output
    assert "Shape FID: " in result.stdout
    assert "on 4 held-out shapes" in result.stdout
    (folder / "runs" / "shape-classifier.safetensors").unlink()
    result = harness.von("evaluate", "--shape-fid")
    assert (result.exit_code, "von train-classifier" in result.stderr) == (1, True)
