"""`von import-published`: weights and data of the 2018 release, and every verb on the imported run and dataset."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from voncli.main import main

from tests.vondata import test_published_archive as archives
from tests.vonmodel import test_published_run as releases
from vondata.dataset.manifest import read_manifest
from vonmodel.checkpoint import load_model
from vonmodel.published import PLACES, read_state_dict


def von(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small weights in the release's layout, and the data archive."""
    monkeypatch.chdir(tmp_path)
    releases.write_release(tmp_path / "release" / "final_models", "voxel")
    archives.write_archive(tmp_path / "release" / "data")
    return tmp_path / "release"


def test_everything_works_with_what_was_imported(release: Path) -> None:
    done = von("import-published", str(release), "--class", "car", "--size", "32", "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["run"]["representation"] == "occupancy"
    assert result["run"]["drawn_at_random"] == []
    assert result["data"]["shapes"]["car"]["prepared"] == 2
    assert result["data"]["images"]["car"]["found"] == 3
    assert read_manifest(Path("data"), "car", "shapes")["status"].tolist() == ["prepared"] * 2
    with Image.open(result["run"]["sheet"]) as sheet:
        assert sheet.size[0] > 700
        assert len(sheet.convert("L").getcolors(256) or []) > 20

    assert von("generate", "--class", "car", "--count", "1", "--view-count", "1", "-o", "made").exit_code == 0
    assert Path("made/index.html").is_file()
    assert von("edit", "--run", "runs/car", "--shape", "1", "-o", "edited").exit_code == 0
    scored = von("evaluate", "--class", "car", "--fid", "--features", "random", "--split", "all", "--json")
    assert scored.exit_code == 0, scored.stderr


def test_training_goes_on_from_what_was_imported(release: Path) -> None:
    assert von("import-published", str(release), "--size", "32").exit_code == 0
    before = {key: value.clone() for key, value in load_model(Path("runs/car"))[0].state_dict().items()}
    few = ("--set", "joint.unit=steps", "--set", "joint.batch_size=2", "--set", "data.split=all", "--device", "cpu")
    here = von("train", "--class", "car", "--set", "data.split=all", "--dry-run", "--json")
    assert here.exit_code != 0  # the run has the published configuration, and keeps it
    config = ("--config", "runs/car/config.json", "--set", "joint.steady=2", "--set", "joint.decaying=0")
    tuned = von(
        "train", "--start-from", "runs/car", "--class", "car", "-o", "runs/tuned", "--stage", "joint", *config, *few
    )
    assert tuned.exit_code == 0, tuned.stderr
    model, info = load_model(Path("runs/tuned"))
    assert (info.name, info.finished) == ("joint-00000002", True)
    after = model.state_dict()
    changed = [key for key, value in before.items() if not torch.equal(after[key], value)]
    for place in PLACES.values():
        assert any(key.startswith(place) for key in changed), place


def test_missing_files_are_reported(tmp_path: Path, release: Path) -> None:
    weights = str(release / "final_models")
    (tmp_path / "empty").mkdir()
    nothing = von("import-published", str(tmp_path / "empty"))
    assert nothing.exit_code == 1
    assert "holds nothing of the release" in nothing.stderr
    other = von("import-published", str(release), "--class", "chair")
    assert other.exit_code == 1
    assert "holds nothing of class chair" in other.stderr
    assert von("import-published", weights, "--class", "car", "--representation", "distance").exit_code == 1
    releases.write_release(release / "final_models", "df", "chair")
    both = von("import-published", weights)
    assert both.exit_code == 2
    assert "weights of car, chair" in both.stderr


def test_weights_that_make_nothing_are_refused(release: Path) -> None:
    path = release / "final_models" / "models_3D" / "car_voxel_G_3D.pth"
    weights = read_state_dict(path)
    damaged = {key: value.clone() for key, value in weights.items()}
    damaged["toRGB_16.0.weight"].fill_(float("nan"))
    torch.save(damaged, path)
    refused = von("import-published", str(release / "final_models"), "--class", "car")
    assert refused.exit_code == 1
    assert "not finite" in refused.stderr
    assert not Path("runs/car").exists()
    torch.save(weights, path)
    assert von("import-published", str(release / "final_models"), "--class", "car").exit_code == 0
