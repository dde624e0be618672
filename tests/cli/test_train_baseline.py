import json

import pytest
from voncli.train import NAMES

from tests import harness
from vonmodel.baselines.models import BASELINES

QUICK = [
    *("--class", "chair", "--preset", "demo"),
    *(
        "--set",
        "texture.steady=2",
        "--set",
        "texture.decaying=1",
        "--set",
        "joint.steady=1",
        "--set",
        "joint.decaying=0",
    ),
    *("--set", "model.texture_base_channels=2", "--set", "model.shape_base_channels=2"),
    *("--set", "model.image_size=32", "--set", "texture.batch_size=8", "--set", "joint.batch_size=8"),
]


@pytest.fixture
def von(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VON_DATA", str(tiny_data))
    return lambda *arguments: harness.von("train", *arguments)


def test_every_baseline_can_be_asked_for():
    assert NAMES == BASELINES


def test_a_baseline_is_trained_beside_its_run(von, tmp_path):
    result = von("--baseline", "dcgan", *QUICK)
    assert result.exit_code == 0, result.output
    assert "Baseline dcgan is finished: checkpoint texture-00000004 in runs/chair/baselines/dcgan" in result.stdout
    assert (tmp_path / "runs/chair/baselines/dcgan/samples/dcgan-00000004.png").is_file()
    said = json.loads(von("--baseline", "dcgan", *QUICK, "--json").stdout)
    assert (said["finished"], said["checkpoint"]["step"]) == (True, 4)


def test_the_plan_is_printed_first(von, tmp_path):
    said = json.loads(von("--baseline", "wgan-gp", *QUICK, "--dry-run", "--json").stdout)
    assert (said["baseline"], said["steps"], said["items"], said["batch_size"]) == ("wgan-gp", 4, 24, 8)
    assert "steps: 4" in von("--baseline", "wgan-gp", *QUICK, "--dry-run").stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--baseline", "stylegan"), "--baseline"), (("--baseline", "lsgan", "--stage", "shape"), "--stage")],
)
def test_mistakes_are_named(von, arguments, message):
    result = von(*QUICK, *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True)
