"""The run folder keeps its configuration and drops statistics of steps that a killed run lost."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch

from vonmodel.checkpoint import CheckpointInfo, CheckpointState, save_checkpoint
from vonmodel.config import TrainConfig, update
from vonmodel.run_folder import RunBusyError, RunError, RunFolder, latest_run

STATE = CheckpointState({"a": torch.ones(2)}, {}, {})


def test_a_run_starts_once_and_goes_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "chair")
    assert not run.exists
    run.start(TrainConfig())
    run.start(TrainConfig())
    assert run.exists
    assert run.config() == TrainConfig()
    environment = json.loads((run.path / "environment.json").read_text())
    assert {"von", "torch", "python", "platform", "gpu"} <= environment.keys()
    assert run.latest_checkpoint() is None


def test_another_configuration_is_refused_naming_the_fields(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.start(TrainConfig())
    changed = update(TrainConfig(), {"seed": 4, "shape": {"learning_rate": 0.5}}, "test")
    with pytest.raises(RunError) as caught:
        run.start(changed)
    for part in ("seed was 0, now 4", "shape.learning_rate was 0.0001, now 0.5", "start another run", str(tmp_path)):
        assert part in str(caught.value)
    assert run.config() == TrainConfig()


def test_when_it_writes_may_change(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.start(TrainConfig())
    other = update(TrainConfig(), {"output": {"log_every": 3}}, "test")
    run.start(other)
    assert run.config() == other


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run: it has no config\.json; train one first"):
        RunFolder(tmp_path).config()


def test_statistics_are_rewound_to_the_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for stage, step in (("shape", 50), ("shape", 100), ("texture", 50), ("texture", 100), ("texture", 150)):
        run.log_stats({"stage": stage, "step": step})
    with (tmp_path / "stats.jsonl").open("a") as stream:
        stream.write('{"stage": "texture", "st')  # cut by the kill
    run.rewind_stats("texture", 100)
    run.log_stats({"stage": "texture", "step": 101})
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("shape", 50),
        ("shape", 100),
        ("texture", 50),
        ("texture", 100),
        ("texture", 101),
    ]


def test_a_metric_names_its_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(ValueError, match="must name its checkpoint"):
        run.append_metric({"fid": 3.0})
    run.append_metric({"fid": 3.0, "checkpoint": "joint-00000010"})
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["fid"] == 3.0


def test_the_latest_run_is_the_one_with_the_newest_checkpoint(tiny_run: Path) -> None:
    runs = tiny_run.parent
    other = runs / "car" / "checkpoints" / "shape-00000001"
    other.mkdir(parents=True)
    description = {"name": "shape-00000001", "stage": "shape", "step": 1, "steps": 9, "images_seen": 1, "format": 1}
    (other / "checkpoint.json").write_text(json.dumps(description))  # as 0.1.0 wrote it, without its time
    os.utime(other / "checkpoint.json", (1, 1))
    assert latest_run(runs).path == tiny_run
    os.utime(other / "checkpoint.json", (2**32, 2**32))
    assert latest_run(runs).path == runs / "car"
    with pytest.raises(RunError, match="no run with a checkpoint"):
        latest_run(runs / "car")


def test_the_latest_run_is_so_by_what_it_says_and_not_by_the_times_of_its_files(tmp_path: Path) -> None:
    """Copied folders, and a clock set back on the machine that copies."""
    for name, seconds in (("first", 2**31), ("second", 1)):
        save_checkpoint(tmp_path / name, CheckpointInfo("shape-00000001", "shape", 1, 9, 1, ""), STATE)
        os.utime(tmp_path / name / "checkpoints" / "shape-00000001" / "checkpoint.json", (seconds, seconds))
    assert latest_run(tmp_path).path == tmp_path / "second"


def test_a_run_is_trained_by_only_one_process(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "checkpoints" / ".shape-00000002.removed").mkdir(parents=True)
    (tmp_path / "checkpoints" / ".shape-00000003.partial").mkdir()
    with run.locked():
        assert list((tmp_path / "checkpoints").iterdir()) == []  # what a killed process left
        expected = rf"is being trained by another process \(process {os.getpid()} on .* since 20\d\d-"
        with pytest.raises(RunBusyError, match=expected), RunFolder(tmp_path).locked():
            pass
    with run.locked():
        pass
    assert not (tmp_path / "training.lease").exists()


DAMAGED_LINES = [
    b"null",
    b"[]",
    b"7",
    b"[" * 100_000,
    b'{"stage": "shape", "step": 1e999}',
    b'{"stage": ["shape"]}',
    b"\xff\xfe",
]


def test_damaged_statistics_are_dropped_and_the_others_stay(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log_stats({"stage": "shape", "step": 50})
    with (tmp_path / "stats.jsonl").open("ab") as stream:
        stream.write(b"\n".join([*DAMAGED_LINES, b'{"stage": "sha']))
    run.log_stats({"stage": "shape", "step": 60})
    run.rewind_stats("shape", 60)
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 60]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_statistics_that_are_no_file_stop_nothing(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "stats.jsonl"
    match kind:
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
        case "link":
            file.symlink_to(tmp_path.parent)
    run = RunFolder(tmp_path)
    run.rewind_stats("shape", 1)
    assert "cannot be rewound" in caplog.text
    with pytest.raises(OSError, match=r"stats\.jsonl|Is a directory"):
        run.log_stats({"stage": "shape", "step": 1})


def test_the_newest_checkpoint_of_a_stage(tiny_run: Path) -> None:
    run = RunFolder(tiny_run)
    newest = run.latest_checkpoint()
    assert newest is not None
    assert dataclasses.astuple(newest)[:3] == ("joint-00000020", "joint", 20)
    assert run.latest_checkpoint("shape") is None


def test_a_pipe_in_place_of_the_environment_is_replaced(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.start(TrainConfig())
    (run.path / "environment.json").unlink()
    os.mkfifo(run.path / "environment.json")
    run.start(TrainConfig())
    assert json.loads((run.path / "environment.json").read_text())
