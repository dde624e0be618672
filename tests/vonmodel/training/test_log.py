"""Training reports: means since the last one, in log, statistics and TensorBoard; and the search for NaN losses."""

import json
import math
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vonmodel.config import ShapeStageConfig, TrainConfig
from vonmodel.data.loader import Batch
from vonmodel.distributed import WHOLE, Part
from vonmodel.run_folder import RunFolder
from vonmodel.training.log import LossRecord, Monitor, NonFiniteLossError, Progress
from vonmodel.training.stage import Stage


class Nothing(Stage):
    name = "shape"
    config = ShapeStageConfig(batch_size=4)
    phases = ()
    averaged = ()
    pools: ClassVar = {}

    def load(self, step: int, part: Part = WHOLE) -> Batch:
        return Batch()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.start(TrainConfig())
    return folder


def losses(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {"critic": {"a": torch.tensor(value), "b": torch.tensor(2 * value)}}


def test_means_since_the_last_report(run: RunFolder) -> None:
    seen: list[Progress] = []
    with Monitor(run, Nothing(), 0, seen.append) as monitor:
        for number, value in enumerate([1.0, 3.0, 7.0]):
            monitor.add(number, (f"item{number}",), losses(value))
            if number > 0:
                monitor.report(number + 1, 10, 0.5)
    assert [each.losses for each in seen] == [
        {"critic/a": 2.0, "critic/b": 4.0},
        {"critic/a": 7.0, "critic/b": 14.0},
    ]
    assert all(each.images_per_s > 0 and each.seconds_left > 0 for each in seen)
    assert (seen[1].step, seen[1].steps, seen[1].learning_rate_share) == (3, 10, 0.5)
    lines = [json.loads(line) for line in (run.path / "stats.jsonl").read_text().splitlines()]
    assert [line["losses"] for line in lines] == [each.losses for each in seen]
    assert (run.path / "log.txt").read_text().splitlines() == [each.line() for each in seen]


def test_the_line() -> None:
    progress = Progress("shape", 50, 1600, {"critic/shape_critic": -12.3456}, 81.23, 1.0, 125.0)
    assert progress.line() == "shape 50/1600  shape_critic -12.35  81.2 images/s  2:05 left"


def test_tensorboard_has_curves_and_sheets_and_forgets_what_runs_again(run: RunFolder) -> None:
    def train(start: int, stop: int, value: float) -> None:
        with Monitor(run, Nothing(), start, lambda progress: None) as monitor:
            for number in range(start, stop):
                monitor.add(number, (f"item{number}",), losses(value))
                monitor.report(number + 1, 10, 1.0)
            monitor.sheet(stop, np.zeros((8, 8, 3), dtype=np.uint8))

    train(0, 4, 1.0)
    second = int(time.time())
    while int(time.time()) == second:  # TensorBoard reads files in the order of their names, which tell seconds
        time.sleep(0.02)
    train(2, 5, 5.0)  # resumed from step 2
    assert (run.samples / "shape-00000005.png").exists()
    events = EventAccumulator(str(run.path / "tensorboard" / "shape"))
    events.Reload()
    assert [(each.step, each.value) for each in events.Scalars("critic/a")] == [
        (1, 1.0),
        (2, 1.0),
        (3, 5.0),
        (4, 5.0),
        (5, 5.0),
    ]
    assert events.Images("samples")
    lines = [json.loads(line) for line in (run.path / "stats.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_nan_loss_is_named(bad: float) -> None:
    record = LossRecord("texture")
    for number in range(6):
        spoilt = bad if number >= 3 else 1.0
        record.add(
            number,
            (f"chair{number}", f"photo{number}"),
            {
                "painters": {"cycle": torch.tensor(1.0)},
                "critics": {"image": torch.tensor(spoilt), "sketch": torch.tensor(1.0)},
            },
        )
    with pytest.raises(NonFiniteLossError) as caught:
        record.read()
    assert caught.value.where == {
        "stage": "texture",
        "step": 3,
        "phase": "critics",
        "terms": ["image"],
        "items": ["chair3", "photo3"],
    }
    assert "stage texture, step 3, phase critics: image is not finite; items chair3, photo3" in str(caught.value)


def test_terms_that_begin_between_two_reports_count_from_there() -> None:
    record = LossRecord("shape")
    for number in range(4):
        critic = {"critic": {"shape_critic": torch.tensor(number + 2.0)}} if number >= 2 else {}
        record.add(number, (), {**critic, "generator": {"shape_kl": torch.tensor(float(number))}})
    assert record.read() == {"generator/shape_kl": 1.5, "critic/shape_critic": 4.5}
    record.add(
        4, (), {"critic": {"shape_critic": torch.tensor(math.nan)}, "generator": {"shape_kl": torch.tensor(0.0)}}
    )
    with pytest.raises(NonFiniteLossError, match="step 4, phase critic: shape_critic is not finite"):
        record.read()


def test_it_is_saved_and_logged(run: RunFolder) -> None:
    with Monitor(run, Nothing(), 0, lambda progress: None) as monitor:
        monitor.add(0, ("item0",), losses(float("nan")))
        with pytest.raises(NonFiniteLossError):
            monitor.report(1, 10, 1.0)
    assert json.loads((run.path / "nonfinite.json").read_text())["items"] == ["item0"]
    assert "not finite" in (run.path / "log.txt").read_text()
    assert not (run.path / "stats.jsonl").exists()


def test_reading_does_not_wait_for_more(run: RunFolder) -> None:
    record = LossRecord("shape")
    record.add(0, (), {"critic": {"a": torch.tensor(1.0)}})
    assert record.read() == {"critic/a": 1.0}
    record.add(1, (), {"critic": {"a": torch.tensor(5.0)}})
    assert record.read() == {"critic/a": 5.0}
