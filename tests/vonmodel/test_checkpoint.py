"""Checkpoints appear whole or not at all, say what they are, and refuse damage in words."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from vonmodel import checkpoint as module
from vonmodel.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    CheckpointState,
    checkpoint_name,
    list_checkpoints,
    load_model,
    prune_checkpoints,
    read_info,
    read_state,
    save_checkpoint,
)
from vonmodel.config import StageName, TrainConfig
from vonmodel.model import build_model


def info(stage: StageName = "shape", step: int = 5) -> CheckpointInfo:
    return CheckpointInfo(checkpoint_name(stage, step), stage, step, 10, 8 * step, "")


def state(value: float = 1.0) -> CheckpointState:
    return CheckpointState({"a": torch.full((2, 3), value)}, {}, {"step": torch.tensor(4.0)})


def test_round_trip(tmp_path: Path) -> None:
    saved = save_checkpoint(tmp_path, info(), state())
    assert len(saved.sha256) == 64
    assert read_info(tmp_path, saved.name) == saved
    loaded = read_state(tmp_path, saved)
    assert torch.equal(loaded.networks["a"], torch.ones(2, 3))
    assert loaded.average == {}
    assert loaded.training["step"].shape == ()
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("*.p*kl"))


def test_the_hash_is_that_of_the_weights_alone(tmp_path: Path) -> None:
    one = save_checkpoint(tmp_path, info(step=1), state())
    two = save_checkpoint(tmp_path, info(step=2), dataclasses.replace(state(), training={}))
    other = save_checkpoint(tmp_path, info(step=3), state(2.0))
    assert one.sha256 == two.sha256 != other.sha256


def test_strided_weights_are_saved_as_what_they_hold(tmp_path: Path) -> None:
    strided = torch.arange(32.0).view(2, 2, 2, 2, 2).to(memory_format=torch.channels_last_3d)
    saved = save_checkpoint(tmp_path, info(), CheckpointState({"w": strided, "t": strided.mT}, {}, {}))
    assert torch.equal(read_state(tmp_path, saved).networks["w"], strided)
    assert torch.equal(read_state(tmp_path, saved).networks["t"], strided.mT)


def test_listed_by_stage_and_step(tmp_path: Path) -> None:
    for stage, step in (("joint", 1), ("shape", 10), ("shape", 9), ("texture", 3)):
        save_checkpoint(tmp_path, info(stage, step), state())
    assert [each.name for each in list_checkpoints(tmp_path)] == [
        "shape-00000009",
        "shape-00000010",
        "texture-00000003",
        "joint-00000001",
    ]
    assert [each.step for each in list_checkpoints(tmp_path, "shape")] == [9, 10]
    assert list_checkpoints(tmp_path, "shape")[1].finished
    assert not list_checkpoints(tmp_path, "shape")[0].finished


@pytest.mark.parametrize("dies_in", ["save_file", "_flush", "_sha256"])
def test_what_is_half_written_does_not_count(dies_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, info(step=1), state())

    def die(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(module, dies_in, die)
        with pytest.raises(RuntimeError, match="killed"):
            save_checkpoint(tmp_path, info(step=2), state())
    assert [each.step for each in list_checkpoints(tmp_path)] == [1]
    save_checkpoint(tmp_path, info(step=2), state())  # what was left over is in nobody's way
    assert [each.step for each in list_checkpoints(tmp_path)] == [1, 2]


def test_saving_again_replaces(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, info(), state(1.0))
    saved = save_checkpoint(tmp_path, info(), state(2.0))
    assert read_state(tmp_path, saved).networks["a"][0, 0] == 2.0
    assert len(list_checkpoints(tmp_path)) == 1


def test_pruning_keeps_the_newest_of_the_stage(tmp_path: Path) -> None:
    for step in range(1, 6):
        save_checkpoint(tmp_path, info(step=step), state())
    save_checkpoint(tmp_path, info("texture", 1), state())
    prune_checkpoints(tmp_path, "shape", 2)
    assert [each.name for each in list_checkpoints(tmp_path)] == [
        "shape-00000004",
        "shape-00000005",
        "texture-00000001",
    ]
    prune_checkpoints(tmp_path, "shape", 0)
    assert len(list_checkpoints(tmp_path, "shape")) == 1
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_the_newest_model_of_a_run(tiny_run: Path, tiny_config: TrainConfig) -> None:
    model, newest = load_model(tiny_run)
    assert newest.step == 20
    assert not model.training
    assert not any(each.requires_grad for each in model.parameters())
    expected = build_model(tiny_config.model, 2).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    _, older = load_model(tiny_run, checkpoint="joint-00000010")
    assert older.step == 10


def test_averaged_weights_are_used_where_there_are_some(tiny_run: Path, tiny_config: TrainConfig) -> None:
    weights = build_model(tiny_config.model, 0).state_dict()
    name = "shape_generator.to_volume.weight"
    averaged = CheckpointState(weights, {name: torch.full_like(weights[name], 0.5)}, {})
    save_checkpoint(tiny_run, info("joint", 30), averaged)
    model, _ = load_model(tiny_run)
    assert (model.shape_generator.to_volume.weight == 0.5).all()


def test_errors_say_what_is_there(tiny_run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint 'last'; it has: joint-00000010, joint-00000020"):
        load_model(tiny_run, checkpoint="last")
    folder = tiny_run / "checkpoints" / "joint-00000020"
    values = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps({**values, "format": 9}))
    with pytest.raises(CheckpointError, match="has format 9; this version of VON reads 1"):
        load_model(tiny_run)
    (folder / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"checkpoint\.json is damaged"):
        load_model(tiny_run)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_weights(damage: str, tiny_run: Path) -> None:
    file = tiny_run / "checkpoints" / "joint-00000020" / "networks.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=r"networks\.safetensors is missing or damaged"):
        load_model(tiny_run)


def test_weights_of_another_model_and_runs_without_any(tiny_run: Path, tmp_path: Path) -> None:
    save_checkpoint(tiny_run, info("joint", 40), state())
    with pytest.raises(CheckpointError, match=r"joint-00000040 does not fit the model of config\.json"):
        load_model(tiny_run)
    with pytest.raises(CheckpointError, match="no checkpoint yet; train it first"):
        load_model(tmp_path / "nowhere")
