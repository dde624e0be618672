"""`von train`: output, refused arguments, and Ctrl-C in a real process."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result

from tests import harness
from tests.harness import SMALL_TRAINING as SMALL
from tests.harness import TIMEOUT_S, von, wait_until


def train(data: Path, runs: Path, *arguments: str) -> Result:
    return von("train", f"--data={data}", f"--runs={runs}", *arguments)


def test_all_stages_then_nothing_left_to_do(tiny_data: Path, tmp_path: Path) -> None:
    result = train(tiny_data, tmp_path, "--class=chair", *SMALL)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["shape", "texture", "joint"]
    assert all("2/2" in line and "images/s" in line for line in lines[:3])
    assert "Stage joint is finished: checkpoint joint-00000002" in result.stdout
    assert str(tmp_path / "chair" / "samples" / "joint-00000002.png") in result.stdout
    again = train(tiny_data, tmp_path, "--class=chair", *SMALL)
    assert again.exit_code == 0
    assert again.stdout.splitlines()[0].startswith("Stage joint is finished")


def test_json_goes_to_stdout_only(tiny_data: Path, tmp_path: Path) -> None:
    result = train(tiny_data, tmp_path, "--stage=shape", "--json", *SMALL)  # one class prepared: no need to name it
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["checkpoint"]["name"] == "shape-00000002"
    assert printed["finished"]
    assert Path(printed["sheet"]).is_file()
    assert "images/s" in result.stderr


def test_dry_run_says_what_would_be_and_writes_nothing(tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--class=chair", "--preset=published", "--set=model.resolution=32", "--set=model.image_size=32"]
    result = train(tiny_data, tmp_path / "runs", *arguments, "--dry-run", "--json")
    plan = json.loads(result.stdout)
    assert plan["config"]["model"]["resolution"] == 32
    assert plan["stages"]["shape"] == {
        "steps": 500,
        "decaying": 250,
        "done": 0,
        "batch_size": 8,
        "shapes": 8,
        "photos": None,
        "photos_with_viewpoint": None,
    }
    assert plan["stages"]["texture"]["photos"] == 24
    assert plan["stages"]["texture"]["photos_with_viewpoint"] == 12
    assert plan["stages"]["texture"]["steps"] == 400  # an epoch is 24 photos, two batches
    assert plan["parameters"]["shape_generator"] > 1e6
    assert not (tmp_path / "runs").exists()
    text = train(tiny_data, tmp_path / "runs", *arguments, "--dry-run").stdout
    for part in ('"resolution": 32', "shape_generator", "0 of 500 steps done", "24 photos (12 with viewpoint)"):
        assert part in text


def test_a_changed_configuration_is_refused_and_none_given_goes_on(tiny_data: Path, tmp_path: Path) -> None:
    train(tiny_data, tmp_path, "--class=chair", "--stage=shape", *SMALL)
    changed = train(tiny_data, tmp_path, "--class=chair", *SMALL, "--set=shape.learning_rate=0.5", "--seed=3")
    assert changed.exit_code == 1
    for part in ("seed was 0, now 3", "shape.learning_rate was 0.0001, now 0.5", "--run"):
        assert part in changed.stderr
    goes_on = train(tiny_data, tmp_path, "--class=chair", "--stage=shape")  # the run records its configuration
    assert goes_on.exit_code == 0
    writes_more = train(tiny_data, tmp_path, "--class=chair", "--stage=shape", *SMALL, "--set=output.log_every=1")
    assert writes_more.exit_code == 0


def test_a_run_that_is_named_knows_its_class_and_configuration(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = tmp_path / "data", tmp_path / "mine"
    shutil.copytree(tiny_data, data)
    train(data, tmp_path, "--stage=shape", f"--run={run}", *SMALL)
    for kind in ("shapes", "images"):
        shutil.copytree(data / "chair" / kind, data / "car" / kind)
        shutil.copy(data / "chair" / f"{kind}.parquet", data / "car" / f"{kind}.parquet")
    (tmp_path / "von.toml").write_text('[train]\npreset = "demo"\n')
    monkeypatch.chdir(tmp_path)
    goes_on = train(data, tmp_path, "--stage=shape", f"--run={run}")
    assert goes_on.exit_code == 0
    unnamed = train(data, tmp_path, "--stage=shape")
    assert "has shapes of car, chair: name the class with --class" in unnamed.stderr


def test_a_configuration_file(tiny_data: Path, tmp_path: Path) -> None:
    train(tiny_data, tmp_path / "one", "--class=chair", "--stage=shape", *SMALL)
    saved = tmp_path / "one" / "chair" / "config.json"
    result = train(
        tiny_data, tmp_path / "two", "--class=chair", f"--config={saved}", "--set=seed=5", "--dry-run", "--json"
    )
    expected = json.loads(saved.read_text())
    assert json.loads(result.stdout)["config"] == {**expected, "seed": 5}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--class=chare"], 2, "did you mean 'chair'?"),
        (["--class=car"], 1, "has no shapes of class 'car'; prepare them first (von prepare shapenet"),
        (["--class=chair", "--set=shape.stedy=3"], 1, "did you mean 'steady'?"),
        (["--class=chair", "--set=model.resolution=24"], 1, "resolution is 24; the networks exist for 16, 32"),
        (["--class=chair", "--preset=demo", "--set=model.image_size=64"], 1, "von prepare with --size 64"),
        (
            ["--class=chair", "--preset=demo", "--set=model.image_size=32", "--stage=texture"],
            1,
            "goes on from the finished stage shape",
        ),
        (["--class=chair", "--device=gpu"], 2, "--device gpu"),
        (["--class=chair", "--preset=fastest"], 2, "'demo', 'published', 'fast', 'modern'"),
    ],
)
def test_what_is_refused_in_words(
    arguments: list[str], code: int, message: str, tiny_data: Path, tmp_path: Path
) -> None:
    result = train(tiny_data, tmp_path, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert not list(tmp_path.rglob("config.json"))


def test_a_folder_of_other_things_is_no_place_for_a_run(tiny_data: Path, tmp_path: Path) -> None:
    before = sorted(tiny_data.rglob("*"))
    result = train(tiny_data, tmp_path, "--class=chair", "--stage=shape", *SMALL, f"--run={tiny_data}")
    assert result.exit_code == 1
    assert f"{tiny_data} holds other things than a run (chair" in result.stderr
    assert sorted(tiny_data.rglob("*")) == before

    file = tmp_path / "von.toml"
    file.touch()
    result = train(tiny_data, tmp_path, "--class=chair", "--stage=shape", *SMALL, f"--run={file}")
    assert result.exit_code == 1
    assert f"{file} is not a folder; name a new one (--run)" in result.stderr


def test_a_full_disk_is_reported_in_one_sentence(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("vonmodel.training.loop.save_checkpoint", full)
    result = train(tiny_data, tmp_path, "--class=chair", "--stage=shape", *SMALL)
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "Error: No space left on device; make room where the command writes, then run it again\n"
    )


def test_without_data_the_class_must_be_named(tmp_path: Path) -> None:
    result = train(tmp_path / "data", tmp_path)
    assert result.exit_code == 2
    assert "run von prepare shapenet (or meshes) first" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_run_resumes_as_if_uninterrupted(number: signal.Signals, tiny_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "voncli", "train", "--class=chair", "--stage=shape", f"--data={tiny_data}"]
    command += [*SMALL, "--set=shape.steady=60", "--set=output.log_every=5", "--set=output.save_every=10"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    subprocess.run([*command, f"--run={whole}"], check=True, env=environment, capture_output=True)
    process = subprocess.Popen(
        [*command, f"--run={stopped}"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: (stopped / "stats.jsonl").exists() or process.poll() is not None)
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "the same command resumes from there" in errors
    subprocess.run([*command, f"--run={stopped}"], check=True, env=environment, capture_output=True)
    one, two = (
        json.loads((run / "checkpoints" / "shape-00000060" / "checkpoint.json").read_text())
        for run in (whole, stopped)
    )
    for time_dependent in ("saved", "checksum"):
        assert one.pop(time_dependent) != two.pop(time_dependent)
    assert one == two  # the hash of the weights is part of it


@pytest.mark.slow
def test_a_closed_pipe_saves_as_a_signal_does(tiny_data: Path, tmp_path: Path) -> None:
    """As `von train | head -1`."""
    command = [sys.executable, "-m", "voncli", "train", "--class=chair", "--stage=shape", f"--data={tiny_data}"]
    command += [*SMALL, "--set=shape.steady=100000", "--set=output.log_every=1", "--set=output.save_every=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, f"--run={tmp_path / 'run'}"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"shape ")
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=TIMEOUT_S) == 130, errors
    assert b"Traceback" not in errors
    assert list((tmp_path / "run" / "checkpoints").glob("shape-*/checkpoint.json"))


def test_the_studio_runs_beside_the_training(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    class Studio:
        def __init__(self, command: list[str], **_: object) -> None:
            assert (tmp_path / "chair" / "config.json").is_file()  # there is a run to open
            calls.extend(command)

        def terminate(self) -> None:
            assert list((tmp_path / "chair" / "checkpoints").glob("shape-*"))  # not before the training ended
            calls.append("terminated")

        def wait(self) -> None:
            calls.append("waited")

    monkeypatch.setattr("voncli.train.subprocess.Popen", Studio)
    result = train(tiny_data, tmp_path, "--class=chair", "--stage=shape", "--serve", *SMALL)
    assert result.exit_code == 0, result.output
    assert calls[1:6] == ["-m", "voncli", "serve", f"--run={tmp_path / 'chair'}", f"--data={tiny_data}"]
    assert calls[-2:] == ["terminated", "waited"]
    assert f"von serve --run {tmp_path / 'chair'}" in result.stderr


def test_the_preset_of_a_run_is_named(tiny_data: Path, tmp_path: Path) -> None:
    from vonmodel.presets import PRESETS
    from vonmodel.run_folder import RunFolder

    RunFolder(tmp_path / "chair").start(PRESETS["demo"])
    result = train(tiny_data, tmp_path, "--class=chair", "--preset=published")
    assert result.exit_code == 2
    assert "was trained with preset demo: resume with --preset demo" in " ".join(result.stderr.split())


@pytest.mark.parametrize("minutes", ["nan", "inf", "0", "1e12"])
def test_patience_is_a_number_of_minutes(minutes: str) -> None:

    result = harness.von("train", "--patience", minutes)
    assert result.exit_code == 2
    assert "Invalid value for '--patience'" in result.output


def test_a_run_starts_from_another_ones_weights_and_is_trained_longer(
    tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"

    def train_shape(*arguments: str) -> Result:
        return train(tiny_data, tmp_path, f"--output={new}", "--class=chair", "--stage=shape", *arguments)

    short = (f"--config={tiny_run}/config.json", "--set=shape.unit=steps", "--set=shape.decaying=0")
    first = (*short, "--set=shape.steady=1", "--set=output.workers=0")
    for origin, message in ((f"{tiny_run}:joint-00000099", "joint-00000099"), (tmp_path, "no checkpoint yet")):
        result = train_shape(*first, f"--start-from={origin}")
        assert (result.exit_code, message in result.stderr) == (1, True), result.output
    assert not new.exists()
    for _ in range(2):  # the same command again changes nothing
        result = train_shape(*first, f"--start-from={tiny_run}:10")
        assert result.exit_code == 0, result.output
        assert f"checkpoint shape-00000001 in {new}" in result.stdout
    assert "has begun already" in train_shape(*first, f"--start-from={tiny_run}").stderr
    result = train_shape("--set=shape.steady=2")
    assert f"checkpoint shape-00000002 in {new}" in result.stdout, result.output
