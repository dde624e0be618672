"""Two processes that train one model, in float64: what rounding cannot explain is an error.

At the published learning rates a change of 1e-7 in the weights becomes 1e-3 in the losses of a single process within
13 steps of the shape stage, so float32 says little here.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vonmodel.config import STAGES, StageName, TrainConfig, update
from vonmodel.parallel import is_writer, processes_joined, wait_for_all
from vonmodel.run_folder import RunFolder
from vonmodel.training import TrainingJob, train

STEPS = 20
CPU = torch.device("cpu")


def learn(data: Path, runs: Path) -> None:
    """Every stage at its published rates, each from the same untrained weights, in a run of its own."""
    sizes = {"resolution": 32, "image_size": 32, "shape_base_channels": 2, "texture_base_channels": 4}
    for stage in STAGES:
        lengths = {
            each: {"batch_size": 4, "unit": "steps", "steady": STEPS * (each == stage), "decaying": 0}
            for each in STAGES
        }
        changes = {
            **lengths,
            "texture": {**lengths["texture"], "image_pool": 6},
            "model": {**sizes, "shape_code_size": 4, "resampled": False},
            "data": {"viewpoints": "class"},
            "output": {"log_every": 1, "sample_every": 0, "save_every": STEPS // 2, "workers": 1},
            "compute": {"precision": "float64"},
        }
        config, run = update(TrainConfig(), changes, "test"), RunFolder(runs / stage)
        if is_writer():
            run.start(config)
        wait_for_all()
        train(TrainingJob(run, config, data, CPU), STAGES[: STAGES.index(stage) + 1])


def losses(run: Path) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (run / "stats.jsonl").read_text().splitlines()]


def assert_same_state(run: Path, other: Path, stage: StageName) -> None:
    """Weights and statistics, Adam's moments and pools, halfway: even 1e-15 grows to 1e-4 of a moment by the end."""
    checkpoint = Path("checkpoints", f"{stage}-{STEPS // 2:08d}")
    (networks, others), (training, got) = (
        [load_file(each / checkpoint / f"{file}.safetensors") for each in (run, other)]
        for file in ("networks", "training")
    )
    for name, value in networks.items():
        torch.testing.assert_close(others[name], value, atol=1e-6, rtol=0, msg=name)
    assert training.keys() == got.keys()
    kinds = {name: name.rpartition(".")[2] for name in training}
    for name, value in training.items():
        # A bias before an instance norm has no gradient but rounding: its moments are as nothing beside the others.
        largest = max(training[each].abs().max().item() for each in training if kinds[each] == kinds[name])
        size = max(value.abs().max().item(), 1e-4 * largest)
        torch.testing.assert_close(got[name], value, atol=1e-4 * size, rtol=0, msg=name)


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The runs of one process and of two."""
    folder = tmp_path_factory.mktemp("together")
    one, two = folder / "one", folder / "two"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    joined = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(tiny_data), str(two)],
            env={**os.environ, **joined, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, told = process.communicate(timeout=600)
            assert process.returncode == 0, told
            assert "Warning" not in told
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    learn(tiny_data, one)
    return one, two


@pytest.mark.parametrize("stage", STAGES)
def test_twenty_steps_of_two_processes_equal_those_of_one(stage: StageName, runs: tuple[Path, Path]) -> None:
    one, two = (each / stage for each in runs)
    expected, got = losses(one), losses(two)
    assert len(expected) == len(got) == STEPS
    for step, (terms, others) in enumerate(zip(expected, got, strict=True)):
        assert others == pytest.approx(terms, rel=1e-4, abs=1e-4), step
    assert_same_state(one, two, stage)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with processes_joined(CPU):
        learn(Path(sys.argv[1]), Path(sys.argv[2]))
