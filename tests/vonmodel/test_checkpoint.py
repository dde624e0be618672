"""Checkpoints: atomic writes, descriptions, and messages for damage."""

import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from vonmodel import checkpoint as module
from vonmodel.checkpoint import (
    CheckpointDamagedError,
    CheckpointError,
    CheckpointInfo,
    CheckpointState,
    CheckpointWriteError,
    checkpoint_name,
    list_checkpoints,
    load_model,
    newest_whole,
    prune_checkpoints,
    read_info,
    read_state,
    save_checkpoint,
    set_damaged_aside,
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


def test_the_hash_is_that_of_the_weights_only(tmp_path: Path) -> None:
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
    save_checkpoint(tmp_path, info(step=2), state())  # the leftover does no harm
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


DAMAGED_JSON = {
    "empty": b"",
    "cut": b"{",
    "null": b"null",
    "list": b"[]",
    "deep": b"[" * 100_000,
    "infinite": b'{"format": 1, "step": 1e999}',
    "not a number": b'{"format": NaN}',
    "no utf-8": b"\xff\xfe\x00",
    "wrong types": b'{"format": 1, "name": 3, "stage": "joint", "step": "20", "steps": true, "images_seen": []}',
    "huge": b" " * (1 << 20) + b"{}",
}


@pytest.mark.parametrize("content", DAMAGED_JSON.values(), ids=DAMAGED_JSON)
def test_a_damaged_description_is_passed_over_and_named(
    content: bytes, tiny_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tiny_run / "checkpoints" / "joint-00000020" / "checkpoint.json"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.json is damaged"):
        load_model(tiny_run, checkpoint="joint-00000020")
    assert load_model(tiny_run)[1].name == "joint-00000010"
    assert "joint-00000020/checkpoint.json is damaged" in caplog.text
    assert [each.step for each in list_checkpoints(tiny_run)] == [10]


def flip(file: Path, byte: int) -> None:
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)


def link_out(file: Path) -> None:
    outside = file.parents[4] / "outside.safetensors"
    outside.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(outside)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-4]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "a bit of the header": lambda file: flip(file, 9),
    "the last bit": lambda file: flip(file, -1),
    "linked": link_out,
    "a pipe": pipe,
    "a folder": folder,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("part", ["networks", "average", "training"])
def test_a_checkpoint_with_a_damaged_file_is_passed_over_and_named(
    damage: str, part: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    full = CheckpointState({"a": torch.ones(2)}, {"a": torch.zeros(2)}, {"step": torch.tensor(4.0)})
    older, newer = (save_checkpoint(run, info(step=step), full) for step in (1, 2))
    DAMAGE[damage](run / "checkpoints" / newer.name / f"{part}.safetensors")
    with pytest.raises(CheckpointDamagedError, match=rf"{part}\.safetensors is (missing or )?damaged"):
        read_state(run, newer)
    assert newest_whole(run) == older
    assert f"going on with checkpoint {older.name} in place of {newer.name}" in caplog.text
    DAMAGE[damage](run / "checkpoints" / older.name / f"{part}.safetensors")
    with pytest.raises(CheckpointDamagedError, match=f"are damaged: {newer.name}, {older.name}"):
        newest_whole(run)
    assert newest_whole(run, "texture") is None  # another stage is not held up


def test_damage_to_training_state_does_not_affect_inference(tiny_run: Path) -> None:
    flip(tiny_run / "checkpoints" / "joint-00000020" / "training.safetensors", -1)
    assert load_model(tiny_run)[1].step == 20


def test_damage_is_set_aside_before_training_goes_on(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, info(step=step), state())
    for step in (2, 3):
        flip(tmp_path / "checkpoints" / checkpoint_name("shape", step) / "networks.safetensors", -1)
    whole = newest_whole(tmp_path, "shape")
    set_damaged_aside(tmp_path, "shape", whole)
    assert [each.step for each in list_checkpoints(tmp_path)] == [1]
    prune_checkpoints(tmp_path, "shape", 1)
    assert newest_whole(tmp_path) == whole
    assert (tmp_path / "checkpoints" / "shape-00000003.damaged").is_dir()


@pytest.mark.parametrize("name", ["../../other/checkpoints/joint-00000020", "/etc", "joint-00000020/..", "."])
def test_names_never_lead_out_of_the_run(name: str, tiny_run: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_model(tiny_run, checkpoint=name)
    file = tiny_run / "checkpoints" / "joint-00000020" / "checkpoint.json"
    values = json.loads(file.read_text())
    del values["checksum"]
    file.write_text(json.dumps({**values, "name": name}))
    with pytest.raises(CheckpointError, match=r"its name cannot be used"):
        read_info(tiny_run, "joint-00000020")
    file.write_text(json.dumps({**values, "files": {"../networks.safetensors": "0" * 64}}))
    with pytest.raises(CheckpointError, match=r"its files cannot be used"):
        read_info(tiny_run, "joint-00000020")


def test_a_flipped_bit_of_a_description_is_noticed(tmp_path: Path) -> None:
    saved = save_checkpoint(tmp_path, info(), state())
    file = tmp_path / "checkpoints" / saved.name / "checkpoint.json"
    content = file.read_bytes()
    noticed = 0
    for place in range(len(content)):
        for bit in (1, 4, 64):
            file.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            try:
                assert dataclasses.asdict(read_info(tmp_path, saved.name)) == dataclasses.asdict(saved)
            except CheckpointError:
                noticed += 1
    assert noticed > 2 * len(content)  # the rest is space between the fields, and the name of the checksum


def test_checkpoints_of_0_1_0_have_one_hash(tmp_path: Path) -> None:
    saved = save_checkpoint(tmp_path, info(), state())
    file = tmp_path / "checkpoints" / saved.name / "checkpoint.json"
    values = json.loads(file.read_text())
    later = ("files", "saved", "checksum")
    file.write_text(json.dumps({name: value for name, value in values.items() if name not in later}))
    old = read_info(tmp_path, saved.name)
    assert (old.files, old.saved, old.sha256) == ({}, "", saved.sha256)
    assert newest_whole(tmp_path) == old
    flip(tmp_path / "checkpoints" / saved.name / "networks.safetensors", -1)
    with pytest.raises(CheckpointDamagedError):
        newest_whole(tmp_path)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: full")]
)
def test_a_full_disk_leaves_the_checkpoints_before(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save_checkpoint(tmp_path, info(step=1), state())

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(CheckpointWriteError, match=r"shape-00000002 cannot be written to .*checkpoints \("):
        save_checkpoint(tmp_path, info(step=2), state())
    assert [each.name for each in (tmp_path / "checkpoints").iterdir()] == [before.name]
    assert newest_whole(tmp_path) == before


def test_weights_of_another_model_and_runs_without_any(tiny_run: Path, tmp_path: Path) -> None:
    save_checkpoint(tiny_run, info("joint", 40), state())
    with pytest.raises(CheckpointError, match=r"joint-00000040 does not fit the model of config\.json"):
        load_model(tiny_run)
    with pytest.raises(CheckpointError, match="no checkpoint yet; train it first"):
        load_model(tmp_path / "nowhere")
