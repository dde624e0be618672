"""Training on several devices: the same losses as on one; a killed process ends the job, which resumes."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import harness

STAGES = ("shape", "texture", "joint")
SMALL = [
    "--class=chair",
    *harness.SMALL_MODEL,
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
        command(data, runs, *arguments),
        env=one_thread,
        capture_output=True,
        text=True,
        timeout=harness.TIMEOUT_S,
        check=False,
    )


def assert_same_losses(runs: Path, others: Path) -> None:
    expected, got = (harness.losses_by_step(each / "chair") for each in (runs, others))
    assert expected.keys() == got.keys()
    for step, terms in expected.items():
        assert got[step] == pytest.approx(terms, rel=1e-4, abs=1e-4), step


def test_two_devices_train_as_one(tiny_data: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = "--stage=shape", *lengths(3, "shape")
    done = train(tiny_data, two, *arguments, "--devices=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Stage shape is finished") == 1  # one process prints
    assert "Warning" not in done.stderr
    alone = harness.von(*command(tiny_data, one, *arguments)[3:])
    assert alone.exit_code == 0, alone.output
    assert_same_losses(one, two)
    assert (two / "chair" / "samples" / "shape-00000003.png").is_file()


@pytest.mark.slow
def test_twenty_steps_in_float32_have_the_same_losses_where_rounding_is_not_amplified(
    tiny_data: Path, tmp_path: Path
) -> None:
    # tests/vonmodel/test_training_together.py does the published rates, in float64.
    slowly = [f"--set={stage}.learning_rate=3e-6" for stage in STAGES]
    runs = tmp_path / "one", tmp_path / "two"
    for each, devices in zip(runs, (1, 2), strict=True):
        arguments = [*lengths(20, *STAGES), *slowly, "--set=joint.shape_learning_rate=3e-6", f"--devices={devices}"]
        done = train(tiny_data, each, *arguments)
        assert done.returncode == 0, done.stderr
    assert_same_losses(*runs)


@pytest.mark.slow
def test_pieces_of_a_batch_add_up(tiny_data: Path, tmp_path: Path) -> None:
    # Excludes what depends on the composition of a batch: learning batch norm, the depth range, the order of a pool.
    alone = [*lengths(0, "shape"), "--set=model.depth_range=item", "--set=texture.image_pool=0"]
    runs = tmp_path / "whole", tmp_path / "pieces"
    for each, pieces, devices in zip(runs, (1, 2), (1, 2), strict=True):
        dealt = [f"--set=compute.accumulate={pieces}", f"--devices={devices}", '--set=compute.precision="float64"']
        for stage in ("shape", "texture"):
            done = train(tiny_data, each, f"--stage={stage}", *lengths(4, "texture"), *alone, *dealt)
            assert done.returncode == 0, done.stderr
    assert_same_losses(*runs)
    networks = Path("chair", "checkpoints", "texture-00000004", "networks.safetensors")
    expected, got = (load_file(each / networks) for each in runs)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, atol=1e-6, rtol=0, msg=name)


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
    harness.wait_until(lambda: job.poll() is not None or list(checkpoints.glob("shape-*/checkpoint.json")))
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    assert len(children) == 2
    os.kill(int(children[1]), signal.SIGKILL)
    _, told = job.communicate(timeout=harness.TIMEOUT_S)
    assert job.returncode == 1
    assert "training process 1 of 0 to 1 was ended by SIGKILL" in told
    assert "resumes from the last checkpoint" in told
    reached = _reached(checkpoints)
    assert 5 <= reached < 400
    # The rest would take long: a signal after some more steps ends all processes, as Ctrl-C ends a single one.
    job = subprocess.Popen(
        command(tiny_data, tmp_path, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    harness.wait_until(lambda: job.poll() is not None or _reached(checkpoints) > reached)
    job.send_signal(signal.SIGTERM)
    _, told = job.communicate(timeout=harness.TIMEOUT_S)
    assert job.returncode == 130, told
    assert told.count("Stopping after this step") == 1
    assert "resumes from there" in told


def _reached(checkpoints: Path) -> int:
    """The step of the newest checkpoint of the shape stage."""
    return max(int(each.name[-8:]) for each in checkpoints.glob("shape-*"))


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_job_when_patience_ends(tiny_data: Path, tmp_path: Path) -> None:
    arguments = [
        "--stage=shape",
        *lengths(400, "shape"),
        "--set=output.save_every=5",
        "--devices=2",
        "--patience=0.2",
    ]
    job = subprocess.Popen(
        command(tiny_data, tmp_path, *arguments),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoints = tmp_path / "chair" / "checkpoints"
    harness.wait_until(lambda: job.poll() is not None or list(checkpoints.glob("shape-*/checkpoint.json")))
    hanging = int(Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()[1])
    os.kill(hanging, signal.SIGSTOP)
    _, told = job.communicate(timeout=harness.TIMEOUT_S)
    assert job.returncode == 1
    assert "another process of this training ended or does not answer" in told
    assert "resumes from the last checkpoint" in told
    assert "training process 1 did not end within 15 s of the others: killed" in told
    assert not Path(f"/proc/{hanging}").exists()


@pytest.mark.parametrize("port_is_taken", [False, True])
def test_a_process_without_the_others_says_so(port_is_taken: bool, tiny_data: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        if not port_is_taken:
            other.close()
        joining = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        arguments = command(tiny_data, tmp_path, "--stage=shape", *lengths(2, "shape"), "--patience=0.02")[3:]
        done = harness.von(*arguments, **joining)
    assert done.exit_code == 1
    assert f"training process 0 (WORLD_SIZE 2, MASTER_ADDR 127.0.0.1, MASTER_PORT {port})" in done.stderr
    assert ("EADDRINUSE" if port_is_taken else "1/2 clients joined") in done.stderr


@pytest.mark.slow
def test_torchrun_starts_it_too(tiny_data: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "voncli"]
    arguments = command(tiny_data, tmp_path, "--stage=shape", *lengths(2, "shape"))[3:]
    done = subprocess.run(
        [*launcher, *arguments], capture_output=True, text=True, timeout=harness.TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Stage shape is finished") == 1


def test_a_batch_that_cannot_be_dealt_out_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    arguments = command(tiny_data, tmp_path, "--stage=shape", *lengths(2, "shape"), "--devices=3")[3:]
    done = harness.von(*arguments)
    assert done.exit_code == 1
    assert "shape.batch_size: a batch of 4 cannot be divided evenly into 3 parts" in done.stderr
    assert not list(tmp_path.iterdir())
