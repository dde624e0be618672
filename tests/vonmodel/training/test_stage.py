"""Phases of a stage: trained networks, number of updates, learning rates."""

import pytest
import torch
from torch import nn

from vonmodel.data.loader import Batch
from vonmodel.training.stage import Phase, Step, adam, learning_rate_share, run_phase, set_learning_rate


def step() -> Step:
    return Step(0, Batch(), torch.Generator().manual_seed(0))


def test_only_the_networks_of_the_phase_are_trained() -> None:
    learner, judge = nn.Linear(2, 2), nn.Linear(2, 1)
    for network in (learner, judge):
        network.requires_grad_(False)
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    old = learner.weight.clone()

    def losses(step: Step, repeat: int) -> dict[str, torch.Tensor]:
        assert all(each.requires_grad for each in learner.parameters())
        assert not any(each.requires_grad for each in judge.parameters())
        score = judge(learner(torch.ones(1, 2))).sum()
        return {"score": score, "twice": 2 * score}

    means, _ = run_phase(Phase("learn", (learner,), adam([((learner,), 0.1, (0.5, 0.9))]), losses), [step()])
    assert not torch.equal(learner.weight, old)
    assert all(torch.equal(value, before[name]) for name, value in judge.state_dict().items())
    assert judge.weight.grad is None
    assert means["twice"] == 2 * means["score"]
    assert not means["score"].requires_grad
    assert not any(each.requires_grad for each in learner.parameters())


def test_repeats_are_updates_and_the_log_has_their_mean() -> None:
    learner = nn.Linear(1, 1, bias=False)
    seen = []

    def losses(step: Step, repeat: int) -> dict[str, torch.Tensor]:
        seen.append((repeat, learner.weight.item()))
        return {"loss": learner.weight.sum() + repeat}

    optimiser = torch.optim.SGD([{"params": list(learner.parameters()), "lr": 1.0, "full_lr": 1.0}])
    start = learner.weight.item()
    means, _ = run_phase(Phase("learn", (learner,), optimiser, losses, repeats=3), [step()])
    assert seen == [(0, pytest.approx(start)), (1, pytest.approx(start - 1)), (2, pytest.approx(start - 2))]
    assert means["loss"].item() == pytest.approx(start)  # means of weight - repeat and of repeat


def test_the_schedule_is_steady_then_linear() -> None:
    assert [learning_rate_share(step, 3, 4) for step in range(3)] == [1.0] * 3
    assert [learning_rate_share(step, 3, 4) for step in range(3, 7)] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert learning_rate_share(0, 0, 1) == 0.5


def test_every_group_keeps_its_own_rate() -> None:
    one, two = nn.Linear(1, 1), nn.Linear(1, 1)
    optimiser = adam([((one,), 0.1, (0.5, 0.9)), ((two,), 0.4, (0.5, 0.999))])
    set_learning_rate(optimiser, 0.5)
    set_learning_rate(optimiser, 0.25)  # of the full rate, not of what it was
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.025, 0.1])
    assert [group["betas"] for group in optimiser.param_groups] == [(0.5, 0.9), (0.5, 0.999)]


def test_the_draws_of_a_step_repeat() -> None:
    first, second = step(), step()
    items = torch.zeros(2, 1)
    assert torch.equal(first.normal(3, items), second.normal(3, items))
    assert torch.equal(first.uniform(items), second.uniform(items))
    assert first.normal(3, items.double()).dtype == torch.float64
    other = Step(0, Batch(), torch.Generator().manual_seed(1))
    assert not torch.equal(step().normal(3, items), other.normal(3, items))
