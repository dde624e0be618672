"""Training on several devices: the same losses as on one; a killed process ends the job; it goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from voncli.main import main

STAGES = ("shape", "texture", "joint")
SMALL = [
    "--class=chair",
    "--set=model.resolution=32",
    "--set=model.image_size=32",
    "--set=model.shape_base_channels=2",
    "--set=model.texture_base_channels=4",
    "--set=model.shape_code_size=4",
    "--set=model.resampled=false",
    "--set=model.depth_range=batch",
    "--set=texture.image_pool=6",
    "--set=output.log_every=1",
    "--set=output.sample_every=0",
    *(f'--set={stage}.unit="steps"' for stage in STAGES),
    *(f"--set={stage}.batch_size=4" for stage in STAGES),
]


def lengths(steps: int, *stages: str) -> list[str]:
    return [
        f"--set={stage}.{name}={value}" for stage in stages for name, value in (("steady", steps), ("decaying", 0))
    ]


def command(data: Path, runs: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "voncli", "train", f"--data={data}", f"--runs={runs}", *SMALL, *arguments]


def train(data: Path, runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(data, runs, *arguments), env=one_thread, capture_output=True, text=True, timeout=600, check=False
    )


def losses(runs: Path) -> dict[tuple[str, int], dict[str, float]]:
    lines = [json.loads(line) for line in (runs / "chair" / "stats.jsonl").read_text().splitlines()]
    return {(line["stage"], line["step"]): line["losses"] for line in lines}


def assert_same_losses(runs: Path, others: Path) -> None:
    expected, got = losses(runs), losses(others)
    assert expected.keys() == got.keys()
    for step, terms in expected.items():
        assert got[step] == pytest.approx(terms, rel=1e-4, abs=1e-4), step


def test_two_devices_train_as_one(tiny_data: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for runs, devices in ((one, 1), (two, 2)):
        done = train(tiny_data, runs, "--stage=shape", *lengths(3, "shape"), f"--devices={devices}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Stage shape is finished") == 1  # one process speaks
    assert_same_losses(one, two)
    assert (two / "chair" / "samples" / "shape-00000003.png").is_file()


@pytest.mark.slow
def test_twenty_steps_of_every_stage_on_two_devices_equal_those_on_one(tiny_data: Path, tmp_path: Path) -> None:
    # At the published rates a change of 1e-7 in the weights becomes 1e-3 in the losses of one device within 13 steps.
    slowly = [f"--set={stage}.learning_rate=3e-6" for stage in STAGES]
    runs = tmp_path / "one", tmp_path / "two"
    for each, devices in zip(runs, (1, 2), strict=True):
        arguments = [*lengths(20, *STAGES), *slowly, "--set=joint.shape_learning_rate=3e-6", f"--devices={devices}"]
        done = train(tiny_data, each, *arguments)
        assert done.returncode == 0, done.stderr
    assert_same_losses(*runs)
    # Losses hardly feel such rates, but Adam's moments are means of the gradients themselves. Those of the other
    # stages agree to 3e-6 (texture) and 5e-3 (joint) after one step and drift to a tenth within twenty.
    file = Path("chair", "checkpoints", "shape-00000020", "training.safetensors")
    expected, got = (load_file(each / file) for each in runs)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, atol=5e-3 * value.abs().max().item(), rtol=0, msg=name)


@pytest.mark.slow
def test_pieces_of_a_batch_add_up(tiny_data: Path, tmp_path: Path) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    for runs, accumulate in ((whole, 1), (pieces, 2)):
        # Without batch norm in what is compared: the critic's first losses.
        done = train(tiny_data, runs, "--stage=shape", *lengths(1, "shape"), f"--set=compute.accumulate={accumulate}")
        assert done.returncode == 0, done.stderr
    assert losses(pieces)["shape", 1]["critic/shape_penalty"] == pytest.approx(
        losses(whole)["shape", 1]["critic/shape_penalty"], rel=0.02
    )


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_it_goes_on(tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--stage=shape", *lengths(400, "shape"), "--set=output.save_every=5", "--devices=2"]
    job = subprocess.Popen(
        command(tiny_data, tmp_path, *arguments),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoints = tmp_path / "chair" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("shape-*/checkpoint.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    assert len(children) == 2
    os.kill(int(children[1]), signal.SIGKILL)
    _, told = job.communicate(timeout=120)
    assert job.returncode == 1
    assert "training process 1 of 0 to 1 was ended by SIGKILL" in told
    assert "goes on from the last checkpoint" in told
    reached = max(int(each.name[-8:]) for each in checkpoints.glob("shape-*"))
    assert 5 <= reached < 400
    # The rest would take long: a signal after some more steps ends it as Ctrl-C does one alone.
    job = subprocess.Popen(
        command(tiny_data, tmp_path, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while max(int(each.name[-8:]) for each in checkpoints.glob("shape-*")) <= reached and job.poll() is None:
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    _, told = job.communicate(timeout=120)
    assert job.returncode == 130, told
    assert told.count("Stopping after this step") == 1
    assert "goes on from there" in told


@pytest.mark.slow
def test_torchrun_starts_it_too(tiny_data: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "voncli"]
    arguments = command(tiny_data, tmp_path, "--stage=shape", *lengths(2, "shape"))[3:]
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Stage shape is finished") == 1


def test_a_batch_that_cannot_be_dealt_out_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    arguments = command(tiny_data, tmp_path, "--stage=shape", *lengths(2, "shape"), "--devices=3")[3:]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "shape.batch_size: a batch of 4 cannot be dealt out evenly to 3 parts" in done.stderr
    assert not list(tmp_path.iterdir())
