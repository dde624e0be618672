"""What the training loop knows of a stage: phases as data, each with its networks, its optimiser and its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..batches import Batch
from ..config import StageConfig, StageName
from ..image_pool import ImagePool

Losses = Mapping[str, Tensor]


@dataclass
class Step:
    """One step on its way through the phases.

    Attributes:
        number: the step, from 0.
        batch: its data, on the device.
        generator: source of all its random numbers, on the CPU so that they are the same on every device.
        made: what one phase made and a later one needs, by name.
    """

    number: int
    batch: Batch
    generator: torch.Generator
    made: dict[str, Tensor] = field(default_factory=dict)

    def normal(self, count: int, size: int, device: torch.device) -> Tensor:
        """(count, size) standard normal numbers on the device."""
        return torch.randn(count, size, generator=self.generator).to(device, non_blocking=True)

    def uniform(self, count: int, device: torch.device) -> Tensor:
        """(count,) uniform numbers on the device."""
        return torch.rand(count, generator=self.generator).to(device, non_blocking=True)


@dataclass(frozen=True)
class Phase:
    """A part of the step in which some networks learn.

    Attributes:
        name: its name in the log.
        networks: who learns; all others stand still.
        optimiser: steps their parameters; its groups hold the full learning rate as `full_lr`.
        losses: weighted terms by name; their sum is minimised. Called with the step and the number of the repeat.
        repeats: updates in one step.
    """

    name: str
    networks: tuple[nn.Module, ...]
    optimiser: torch.optim.Optimizer
    losses: Callable[[Step, int], Losses]
    repeats: int = 1


class Stage(ABC):
    """A stage of training.

    Attributes:
        name: shape, texture or joint.
        config: its configuration.
        phases: what happens in a step, in this order.
        averaged: names of the networks of which a running average is kept.
        pools: past fakes by name, part of the stage's state.
    """

    name: StageName
    config: StageConfig
    phases: tuple[Phase, ...]
    averaged: tuple[str, ...]
    pools: Mapping[str, ImagePool]

    @abstractmethod
    def load(self, step: int) -> Batch:
        """The data of a step; called ahead of it, from other threads."""


def adam(groups: Iterable[tuple[Iterable[nn.Module], float, tuple[float, float]]]) -> torch.optim.Adam:
    """Adam over groups of (networks, learning rate, betas)."""
    return torch.optim.Adam(
        [
            {
                "params": [each for network in networks for each in network.parameters()],
                "lr": rate,
                "full_lr": rate,
                "betas": betas,
            }
            for networks, rate, betas in groups
        ]
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Sets every group to this share of its full learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = share * group["full_lr"]


def learning_rate_share(step: int, steady: int, decaying: int) -> float:
    """Share of the full learning rate at a step: 1 over the steady steps, then falling linearly towards 0."""
    return 1.0 if step < steady else (steady + decaying - step) / (decaying + 1)


def run_phase(phase: Phase, step: Step) -> dict[str, Tensor]:
    """Lets the networks of a phase learn from a step.

    Returns:
        The mean of every loss term over the repeats, without gradient, still on the device.
    """
    for network in phase.networks:
        network.requires_grad_(True)
    means: dict[str, Tensor] = {}
    for repeat in range(phase.repeats):
        losses = phase.losses(step, repeat)
        phase.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        phase.optimiser.step()
        for name, loss in losses.items():
            means[name] = means.get(name, torch.zeros_like(loss.detach())) + loss.detach() / phase.repeats
    for network in phase.networks:
        network.requires_grad_(False)
    return means
