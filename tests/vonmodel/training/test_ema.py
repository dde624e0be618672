"""The running average of weights against its closed form."""

import pytest
import torch
from torch import nn

from vonmodel.training.ema import WeightAverage


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
        self.critic = nn.Linear(1, 1)


@pytest.fixture
def model() -> Pair:
    pair = Pair()
    with torch.no_grad():
        pair.generator[0].weight.fill_(0.0)
    return pair


def set_weight(model: Pair, value: float) -> None:
    with torch.no_grad():
        model.generator[0].weight.fill_(value)


def test_closed_form(model: Pair) -> None:
    average = WeightAverage(model, ["generator"], 0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 4.0, 8.0, 3.0, 1.0, 0.0, 5.0, 2.0, 9.0, 1.0, 1.0]):
        set_weight(model, value)
        average.update(step)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
        assert average.values["generator.0.weight"].item() == pytest.approx(expected, rel=1e-6)


def test_statistics_are_averaged_and_counters_copied(model: Pair) -> None:
    average = WeightAverage(model, ["generator"], 0.9)
    model.train()
    model.generator(torch.randn(8, 1) + 3.0)
    average.update(0)
    mean, count = (average.values[f"generator.1.{name}"] for name in ("running_mean", "num_batches_tracked"))
    assert mean.item() == pytest.approx(0.9 * model.generator[1].running_mean.item(), rel=1e-6)
    assert count.item() == 1
    assert not any(name.startswith("critic") for name in average.values)


def test_applied_and_taken_out_again(model: Pair) -> None:
    average = WeightAverage(model, ["generator"], 0.5)
    set_weight(model, 4.0)
    average.update(0)
    model.train()
    model.critic.eval()
    with average.applied(model):
        assert model.generator[0].weight.item() == pytest.approx(average.values["generator.0.weight"].item())
        assert not model.training
    assert model.generator[0].weight.item() == 4.0
    assert model.generator.training
    assert not model.critic.training


def test_without_decay_nothing_is_kept(model: Pair) -> None:
    average = WeightAverage(model, ["generator"], 0.0)
    assert average.values == {}
    average.update(0)
    with average.applied(model):
        assert not model.training


def test_restart_and_restore(model: Pair) -> None:
    average = WeightAverage(model, ["generator"], 0.9)
    set_weight(model, 7.0)
    average.restart()
    assert average.values["generator.0.weight"].item() == 7.0
    saved = {name: value.clone() for name, value in average.values.items()}
    set_weight(model, 9.0)
    average.update(0)
    average.restore(saved)
    assert average.values["generator.0.weight"].item() == 7.0
