"""40 uninterrupted steps equal 20, `kill -9`, and 20 more bit for bit, in each stage and in real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.harness import SMALL_MODEL

STAGES = ("shape", "texture", "joint")
SMALL = [
    "--class=chair",
    *SMALL_MODEL,
    "--set=output.log_every=1",
    "--set=output.sample_every=0",
    "--set=output.save_every=20",
    *(
        f"--set={stage}.{setting}"
        for stage in STAGES
        for setting in ("batch_size=2", 'unit="steps"', "steady=20", "decaying=20", "average=0.9")
    ),
]


def start(data: Path, runs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "voncli", "train", f"--data={data}", f"--runs={runs}", *SMALL]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def kill_after(process: subprocess.Popen[bytes], runs: Path, stage: str, step: int) -> None:
    stats = runs / "chair" / "stats.jsonl"
    wanted = f'"stage": "{stage}", "step": {step},'
    while process.poll() is None and not (stats.is_file() and wanted in stats.read_text()):
        time.sleep(0.02)
    assert process.poll() is None, f"ended before step {step} of {stage}"
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_killed_run_equals_one_that_was_not(tiny_data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(tiny_data, whole).wait() == 0
    for stage in STAGES:
        kill_after(start(tiny_data, parts), parts, stage, 25)
        saved = parts / "chair" / "checkpoints"
        assert [each.name for each in saved.glob(f"{stage}-*")] == [f"{stage}-00000020"]
    assert start(tiny_data, parts).wait() == 0
    for stage in STAGES:
        for part in ("networks", "average", "training"):
            file = Path("chair", "checkpoints", f"{stage}-00000040", f"{part}.safetensors")
            expected, got = load_file(whole / file), load_file(parts / file)
            assert expected.keys() == got.keys()
            for name, tensor in expected.items():
                assert torch.equal(got[name], tensor), f"{stage}: {name}"
    logged = [(runs / "chair" / "stats.jsonl").read_text().splitlines() for runs in (whole, parts)]
    assert len(logged[0]) == len(logged[1]) == 120
