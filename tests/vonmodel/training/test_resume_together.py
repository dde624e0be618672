"""Several processes in one training, killed and restarted, equal uninterrupted ones bit for bit."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.harness import logged_losses
from tests.vonmodel.training.together import CPU, run_together
from vonmodel.config import STAGES, TrainConfig, update
from vonmodel.data.loader import Batch, ShapeSource
from vonmodel.distributed import DisagreementError, is_writer, rank, wait_for_all
from vonmodel.run_folder import RunFolder
from vonmodel.training.log import NonFiniteLossError, Progress
from vonmodel.training.loop import TrainingJob, train
from vonmodel.training.setup import open_data


def learn(data: Path, run: Path, half: int, batch_size: int, killed: bool) -> None:
    """Trains all stages for twice `half` steps each; killed, the writer dies once in each, a step after it saved."""
    lengths = {"batch_size": batch_size, "unit": "steps", "steady": half, "decaying": half, "average": 0.9}
    changes = {
        "model": {
            "resolution": 32,
            "image_size": 32,
            "shape_base_channels": 2,
            "texture_base_channels": 4,
            "shape_code_size": 4,
            "resampled": False,
        },
        "shape": lengths,
        # The pool is overfull halfway.
        "texture": {**lengths, "image_pool": batch_size},
        "joint": lengths,
        "output": {"log_every": 1, "sample_every": 0, "save_every": half, "keep": 100, "workers": 1},
    }
    config, folder = update(TrainConfig(seed=4), changes, "test"), RunFolder(run)

    def die(progress: Progress) -> None:
        tombstone = run / f"killed-{progress.stage}"
        if progress.step == half + 1 and not tombstone.exists():
            tombstone.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    if is_writer():
        folder.start(config)
    wait_for_all()
    train(TrainingJob(folder, config, data, CPU, on_progress=die if killed else lambda progress: None))


def disagree(data: Path, run: Path) -> None:
    """Trains with another learning rate, then on other data, in each process."""
    for name, changes in (("configuration", {"shape": {"learning_rate": 1e-4 * (1 + rank())}}), ("data", {})):
        sizes = {"model": {"resolution": 32, "image_size": 32, "shape_base_channels": 2, "texture_base_channels": 4}}
        config, folder = update(TrainConfig(), {**sizes, **changes}, "test"), RunFolder(run / f"{name}-{rank()}")
        folder.start(config)
        own = data
        if name == "data" and rank():
            own = Path(shutil.copytree(data, run / "fewer"))
            rows = pd.read_parquet(own / "chair" / "shapes.parquet")
            rows.iloc[1:].to_parquet(own / "chair" / "shapes.parquet")
        with pytest.raises(DisagreementError, match=rf"see a different {name} \(process 0: \w+, 1: \w+\)"):
            train(TrainingJob(folder, config, own, CPU))


def test_processes_that_were_started_with_different_things_say_so(tiny_data: Path, tmp_path: Path) -> None:
    assert run_together(2, disagree, tiny_data, tmp_path) == [0, 0]


def go_wrong(data: Path, run: Path) -> None:
    """Trains where the second process alone reads a shape of NaN."""

    def load(source: ShapeSource, *arguments: Any) -> Batch:
        batch = loaded(source, *arguments)
        assert batch.volumes is not None
        return replace(batch, volumes=batch.volumes.float() * (torch.nan if rank() else 1.0))

    loaded, ShapeSource.load = ShapeSource.load, load  # type: ignore[assignment,method-assign]
    sizes = {"resolution": 32, "image_size": 32, "shape_base_channels": 2, "texture_base_channels": 4}
    config, folder = update(TrainConfig(), {"model": sizes, "shape": {"batch_size": 2}}, "test"), RunFolder(run)
    if is_writer():
        folder.start(config)
    wait_for_all()
    with pytest.raises(NonFiniteLossError, match="stage shape, step 0, phase critic") as caught:
        train(TrainingJob(folder, update(config, {"output": {"log_every": 2}}, "test"), data, CPU))
    own = ShapeSource(open_data(config, data, "shape").shapes, "shape", config.seed).load(0, 2).ids
    assert caught.value.where["items"] == [own[1]]


def test_nan_in_one_process_stops_all(tiny_data: Path, tmp_path: Path) -> None:
    assert run_together(2, go_wrong, tiny_data, tmp_path) == [0, 0]
    assert json.loads((tmp_path / "nonfinite.json").read_text())["step"] == 0


# Two numbers have one sum, three have several: what rounds differently in another order shows with three processes.
@pytest.mark.parametrize(
    ("count", "half"),
    [(2, 1), pytest.param(3, 2, marks=pytest.mark.slow), pytest.param(2, 20, marks=pytest.mark.slow)],
)
def test_killed_processes_go_on_bit_for_bit(count: int, half: int, tiny_data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_together(count, learn, tiny_data, whole, half, count, False) == [0] * count
    for _ in STAGES:
        codes = run_together(count, learn, tiny_data, parts, half, count, True)
        assert codes == [-signal.SIGKILL] + [1] * (count - 1)
    assert run_together(count, learn, tiny_data, parts, half, count, True) == [0] * count
    assert len(logged_losses(whole)) == 6 * half
    assert logged_losses(parts) == logged_losses(whole)
    files = sorted(each.relative_to(whole) for each in whole.glob("checkpoints/*/*.safetensors"))
    assert len(files) == 3 * 2 * 3  # stages, checkpoints, files
    for file in files:
        expected, got = load_file(whole / file), load_file(parts / file)
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            assert torch.equal(got[name], value), (file, name)
