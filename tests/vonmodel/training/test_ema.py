"""The running average of weights against its closed form."""

import math

import pytest
import torch
from torch import nn

from vonmodel.config import ShapeStageConfig
from vonmodel.training.loop import WeightAverage, kept_by_decay, kept_by_half_life, kept_share


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
    average = WeightAverage(model, ["generator"], kept_by_decay(0.5))
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 4.0, 8.0, 3.0, 1.0, 0.0, 5.0, 2.0, 9.0, 1.0, 1.0]):
        set_weight(model, value)
        average.update(step)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
        assert average.values["generator.0.weight"].item() == pytest.approx(expected, rel=1e-6)


def test_statistics_are_averaged_and_counters_copied(model: Pair) -> None:
    average = WeightAverage(model, ["generator"], kept_by_decay(0.9))
    model.train()
    model.generator(torch.randn(8, 1) + 3.0)
    average.update(0)
    mean, count = (average.values[f"generator.1.{name}"] for name in ("running_mean", "num_batches_tracked"))
    assert mean.item() == pytest.approx(0.9 * model.generator[1].running_mean.item(), rel=1e-6)
    assert count.item() == 1
    assert not any(name.startswith("critic") for name in average.values)


def test_applied_and_taken_out_again(model: Pair) -> None:
    average = WeightAverage(model, ["generator"], kept_by_decay(0.5))
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
    average = WeightAverage(model, ["generator"], None)
    assert average.values == {}
    average.update(0)
    with average.applied(model):
        assert not model.training


def test_restart_and_restore(model: Pair) -> None:
    average = WeightAverage(model, ["generator"], kept_by_decay(0.9))
    set_weight(model, 7.0)
    average.restart()
    assert average.values["generator.0.weight"].item() == 7.0
    saved = {name: value.clone() for name, value in average.values.items()}
    set_weight(model, 9.0)
    average.update(0)
    average.restore(saved)
    assert average.values["generator.0.weight"].item() == 7.0


def test_a_half_life_later_weights_count_half(model: Pair) -> None:
    # From so late a step on that the start no longer shortens the half-life.
    average = WeightAverage(model, ["generator"], kept_by_half_life(32.0, batch_size=4))
    set_weight(model, 1.0)
    for step in range(1000, 1008):
        average.update(step)
    assert average.values["generator.0.weight"].item() == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_the_half_life_counts_items_not_steps(batch_size: int) -> None:
    kept = kept_by_half_life(64.0, batch_size)
    steps = range(10_000 // batch_size, (10_000 + 128) // batch_size)
    assert math.prod(kept(step) for step in steps) == pytest.approx(0.25, rel=1e-6)


def test_early_the_half_life_is_a_tenth_of_what_was_seen() -> None:
    kept = kept_by_half_life(1e9, batch_size=8)
    assert kept(0) == pytest.approx(0.5**10)
    assert kept(999) == pytest.approx(0.5 ** (8 / 800))


def test_a_stage_averages_by_half_life_by_decay_or_not_at_all() -> None:
    by_decay = kept_share(ShapeStageConfig(average=0.5))
    by_half_life = kept_share(ShapeStageConfig(batch_size=8, average=0.5, average_half_life=16.0))
    assert kept_share(ShapeStageConfig()) is None
    assert by_decay is not None
    assert by_decay(10**6) == 0.5
    assert by_half_life is not None
    assert by_half_life(10**6) == pytest.approx(0.5**0.5)
