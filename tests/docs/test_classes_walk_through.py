"""The walk-through of docs/classes.md, command by command, on meshes and photos that VON has no class for."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from voncli.main import main

from tests.harness import SMALL_MODEL
from vondata.classes import load_class
from vondata.dataset.manifest import prepared, read_manifest
from vondata.demo.write import DemoSettings, write_demo

PAGE = Path(__file__).resolve().parents[2] / "docs" / "classes.md"
STEPS = re.search(r"<!-- walk-through -->\n```\n(.*?)```\n<!-- end", PAGE.read_text("utf-8"), re.DOTALL)
# The page's commands at a test's size: in this process, on all of the few items, for a step or two. The surface of
# what a model of one step makes is noise: at the page's 64^3 it has 430,000 faces, which take minutes to unwrap.
SHORTER = {
    "prepare": ["--workers", "0"],
    "train": [
        *("--device", "cpu", "--set", "data.split=all"),
        *(word for value in SMALL_MODEL for word in ("--set", value.removeprefix("--set="))),
        *(word for stage in ("shape", "texture", "joint") for word in ("--set", f"{stage}.steady=1")),
        *(word for stage in ("shape", "texture", "joint") for word in ("--set", f"{stage}.decaying=0")),
        *(word for stage in ("shape", "texture", "joint") for word in ("--set", f"{stage}.batch_size=2")),
    ],
    "generate": ["--view-count", "1", "--texture-count", "1"],
}


@pytest.fixture
def own_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with eight meshes, and photos on white, of objects without a class."""
    write_demo(tmp_path / "demo", DemoSettings(chairs=0, cars=8, photos_per_object=2, seed=1))
    (tmp_path / "meshes").mkdir()
    for model in sorted((tmp_path / "demo" / "ShapeNetCore.v2").rglob("*.obj")):
        shutil.copy(model, tmp_path / "meshes" / f"{model.parents[1].name}.obj")
    shutil.copytree(tmp_path / "demo" / "photos" / "car", tmp_path / "photos" / "scooter")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_walk_through_works(own_things: Path) -> None:
    assert STEPS is not None
    lines = STEPS[1].splitlines()
    assert len(lines) == 7
    outputs = []
    for line in lines:
        words = shlex.split(line)[1:]
        done = CliRunner().invoke(main, [*words, *SHORTER.get(words[0], [])])
        assert done.exit_code == 0, f"{line}\n{done.output}"
        outputs.append(done.output)
    scooter = load_class("scooter")
    assert scooter.mirror_symmetry
    assert "symmetric by 8 shapes" in outputs[3]
    assert len(prepared(read_manifest(Path("data"), "scooter", "shapes"))) == 8
    assert len(read_manifest(Path("data"), "scooter", "images")) > 4
    (made,) = Path("runs/scooter/generated").iterdir()
    assert len(json.loads((made / "generated.json").read_text())["shapes"]) == 4
