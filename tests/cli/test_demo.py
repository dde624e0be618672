import json
import tomllib

import pytest
from voncli.main import main
from voncli.settings import FOLDERS, load_settings

from tests import harness

FEW = ("--chair-count", "1", "--car-count", "1", "--photo-count", "2")


@pytest.fixture
def von(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: harness.von("demo", *arguments)


def test_the_demo_is_written_and_the_next_commands_are_printed(von, tmp_path):
    result = von("here", *FEW)
    assert result.exit_code == 0, result.output
    assert "1 chair in ShapeNetCore.v2/, 1 photo in rooms in pix3d/, 1 on white in photos/chair/" in result.stdout
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[-7:] == [
        "cd here",
        "von prepare shapenet",
        "von prepare images",
        "von train --class chair",
        "von evaluate --fid",
        "von generate",
        "von serve --open",
    ]
    assert (tmp_path / "here" / "von.toml").is_file()
    again = von("here", *FEW)
    assert again.exit_code == 0
    assert "nothing is changed" in again.stdout


def test_json_is_all_there_is_on_standard_output(von):
    result = von("here", *FEW, "--json")
    said = json.loads(result.stdout)
    assert (said["models"], said["written"]) == ({"chair": 1, "car": 1}, True)
    assert said["settings"]["seed"] == 0
    assert said["next"][0] == "von prepare shapenet"
    assert json.loads(von("here", *FEW, "--json").stdout)["written"] is False


def test_the_folder_is_called_demo_if_not_named(von, tmp_path):
    assert von("--chair-count", "1", "--car-count", "0", "--photo-count", "0").exit_code == 0
    assert (tmp_path / "demo" / "von-demo.json").is_file()


def test_mistakes_are_named(von, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    result = von("full", *FEW)
    assert (result.exit_code, "full is not empty" in result.stderr) == (1, True)
    result = von("here", "--chair-count", "-1")
    assert (result.exit_code, "--chair-count" in result.stderr) == (2, True)
    result = von("here", "--chair-count", "0", "--car-count", "0")
    assert (result.exit_code, "every count is 0" in result.stderr) == (2, True)


def test_a_demo_with_other_contents_is_named_by_the_options_that_made_it(von, tmp_path):
    assert von("here", "--chair-count", "1", "--car-count", "0", "--photo-count", "0").exit_code == 0
    result = von("here", *FEW)
    assert result.exit_code == 1
    assert "it was made with --chair-count 1 --car-count 0 --photo-count 0" in result.stderr
    for content in ("{", "[]", '{"format": 1, "settings": {"boats": 1}}', '{"format": 2}'):
        (tmp_path / "here" / "von-demo.json").write_text(content)
        result = von("here", *FEW)
        assert result.exit_code == 1
        assert "here/von-demo.json is damaged, or of another version; name a new" in result.stderr


def test_the_next_commands_are_of_a_class_that_is_there(von):
    assert (
        "von train --class car" in von("here", "--chair-count", "0", "--car-count", "1", "--photo-count", "0").stdout
    )


def test_every_command_accepts_the_settings(von, tmp_path, monkeypatch):
    assert von("here", *FEW).exit_code == 0
    monkeypatch.chdir(tmp_path / "here")
    settings = load_settings(main)
    assert settings["train"] == {"preset": "demo"}
    assert settings["evaluate"]["features"] == "random"
    paths = tomllib.loads((tmp_path / "here" / "von.toml").read_text())["paths"]
    assert set(paths) == set(FOLDERS)
    for name in ("shapenet", "pix3d", "photos"):
        assert (tmp_path / "here" / paths[name]).is_dir()
