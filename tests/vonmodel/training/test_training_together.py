"""Two processes that train one model in float64, compared with one process beyond rounding.

At the published learning rates a change of 1e-7 in the weights becomes 1e-3 in the losses of a single process within
13 steps of the shape stage, so float32 says little here.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.harness import logged_losses
from tests.vonmodel.training.together import CPU, run_together
from vonmodel.config import STAGES, StageName, TrainConfig, update
from vonmodel.distributed import is_writer, wait_for_all
from vonmodel.run_folder import RunFolder
from vonmodel.training.loop import TrainingJob, train

SIGNED = {
    "model": {"representation": "signed", "finer_grid": 48, "symmetric": True},
    "shape": {"objective": "relativistic", "slope_every": 2, "mirror": True, "average_half_life": 8.0},
}
PAIRS = {
    "model": {
        **SIGNED["model"],
        "painter": "geometry",
        "critics": "residual",
        "rays_per_pixel": 2,
        "exact_framing": True,
        "depth_range": "item",
    },
    "shape": SIGNED["shape"],
    "texture": {"objective": "relativistic", "slope_every": 2, "augment_colour": 0.5, "augment_shift": 0.125},
}


def learn(data: Path, runs: Path, steps: int, shapes: dict[str, dict[str, Any]]) -> None:
    """Every stage at its published rates, each from the same untrained weights, in a run of its own."""
    sizes = {"resolution": 32, "image_size": 32, "shape_base_channels": 2, "texture_base_channels": 4}
    for stage in STAGES:
        lengths = {
            each: {"batch_size": 4, "unit": "steps", "steady": steps * (each == stage), "decaying": 0}
            for each in STAGES
        }
        changes = {
            **lengths,
            "texture": {**lengths["texture"], "image_pool": 6},
            "model": {**sizes, "shape_code_size": 4, "resampled": False},
            "data": {"viewpoints": "class"},
            "output": {"log_every": 1, "sample_every": 0, "save_every": steps // 2, "workers": 1},
            "compute": {"precision": "float64"},
        }
        config, run = update(update(TrainConfig(), changes, "test"), shapes, "test"), RunFolder(runs / stage)
        if is_writer():
            run.start(config)
        wait_for_all()
        train(TrainingJob(run, config, data, CPU), STAGES[: STAGES.index(stage) + 1])


def losses(run: Path) -> list[dict[str, float]]:
    return [each for _, _, each in logged_losses(run)]


def assert_same_state(run: Path, other: Path, stage: StageName, step: int) -> None:
    """Weights and statistics, Adam's moments and pools."""
    checkpoint = Path("checkpoints", f"{stage}-{step:08d}")
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


@pytest.mark.parametrize(
    ("steps", "shapes"), [(2, {}), (2, SIGNED), (2, PAIRS), pytest.param(20, {}, marks=pytest.mark.slow)]
)
def test_steps_of_two_processes_equal_those_of_one(
    steps: int, shapes: dict[str, dict[str, Any]], tiny_data: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_together(2, learn, tiny_data, two, steps, shapes) == [0, 0]
    assert run_together(1, learn, tiny_data, one, steps, shapes) == [0]
    for stage in STAGES:
        expected, got = losses(one / stage), losses(two / stage)
        assert len(expected) == len(got) == steps
        for step, (terms, others) in enumerate(zip(expected, got, strict=True)):
            assert others == pytest.approx(terms, rel=1e-4, abs=1e-4), (stage, step)
        # Halfway: even 1e-15 grows to 1e-4 of a moment by the end of twenty steps.
        assert_same_state(one / stage, two / stage, stage, steps // 2)
