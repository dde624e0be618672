"""`von class`: lists, shows and checks classes, and makes one from a dataset."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from voncli.main import main

from vondata.classes import load_class


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["class", *arguments])


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_classes_are_listed() -> None:
    listed = json.loads(run("list", "--json").stdout)
    assert len(listed) == 58
    assert {"chair", "airplane", "misc"} <= {each["name"] for each in listed}
    assert not any(each["own"] for each in listed)
    assert len(run("list").stdout.splitlines()) == 58


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("my chair", "my-chair"), ("Stühle", "stuhle"), ("3chair", "chair"), ("a/b", "a-b"), ("", "my-class")],
)
def test_a_name_that_is_not_allowed_is_refused_with_one_that_is(name: str, allowed: str) -> None:
    refused = run("new", name)
    assert refused.exit_code == 2
    assert "lower-case letters a-z, digits, - and _" in refused.stderr
    assert refused.stderr.rstrip().endswith(f"such as {allowed}")
    assert not Path("classes").exists()
    assert run("new", allowed).exit_code == 0


def test_a_class_is_shown_as_its_file_is_read() -> None:
    shown = run("show", "plane")
    assert shown.exit_code == 0
    assert tomllib.loads(shown.stdout)["name"] == "airplane"
    assert json.loads(run("show", "chair", "--json").stdout)["synset"] == "03001627"
    wrong = run("show", "chiar")
    assert wrong.exit_code == 2
    assert "Error: unknown class 'chiar'; did you mean 'chair'" in wrong.stderr  # --class is no option of this verb


def test_a_file_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "throne.toml"
    file.write_text(run("show", "chair").stdout.replace('name = "chair"', 'name = "throne"'))
    found = run("check", str(file))
    assert found.exit_code == 1
    assert "synset 03001627 is that of class chair" in found.stderr
    file.write_text(file.read_text().replace("03001627", "").replace('"chair"', '"throne"'))
    assert run("check", str(file)).exit_code == 0
    file.write_text('name = "throne"\nsynset = "1"')
    problems = json.loads(run("check", str(file), "--json").stdout)["problems"]
    assert "synset '1' is not eight digits" in problems
    assert "viewpoints is missing" in problems
    assert run("check", str(tmp_path / "absent.toml")).exit_code == 1


def test_a_new_class_is_measured_on_a_dataset(tiny_data: Path, tmp_path: Path) -> None:
    made = run("new", "chair", "--data", str(tiny_data), "--json")
    assert made.exit_code == 0, made.stderr
    result = json.loads(made.stdout)
    assert result["measured"]["photos"] == 12
    assert result["measured"]["shapes"] == 8
    # The dataset's photos with a viewpoint lie between -90 and 82 degrees, all 20 degrees high.
    (band,) = result["viewpoints"]
    assert band["azimuth_deg"] == pytest.approx([-90, 82.2], abs=0.2)
    assert band["elevation_deg"] == [19.5, 20.5]
    # Its shapes are boxes off the middle.
    assert result["mirror_symmetry"] == (result["measured"]["mirrored_share"] >= 0.9)
    assert load_class("chair").viewpoints[0].weight == 1.0
    assert json.loads(run("show", "chair", "--json").stdout)["own"]
    again = run("new", "chair", "--data", str(tiny_data))
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert run("new", "chair", "--data", str(tiny_data), "--overwrite").exit_code == 0


def test_a_new_class_without_data_is_like_another(tmp_path: Path) -> None:
    made = run("new", "scooter", "--like", "motorcycle", "--alias", "moped")
    assert made.exit_code == 0, made.stderr
    assert Path(made.stdout.splitlines()[-1]) == Path("classes/scooter.toml")
    scooter = load_class("moped")
    assert scooter.name == "scooter"
    assert scooter.viewpoints == load_class("motorcycle").viewpoints
    assert np.isclose(sum(band.weight for band in scooter.viewpoints), 1.0)
    assert run("check", "classes/scooter.toml").exit_code == 0
    assert run("new", "Scooter Two").exit_code == 2
    assert "--data: nowhere is not there" in run("new", "tricycle", "--data", "nowhere").stderr
    taken = run("new", "throne", "--synset", "03001627")
    assert taken.exit_code == 2
    assert "synset 03001627 is that of class chair" in taken.stderr
