"""Training stages as sequences of phases (networks, optimiser and losses), their updates, and the image pool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.config import StageConfig, StageName
from vonmodel.data.loader import Batch
from vonmodel.distributed import (
    WHOLE,
    Part,
    any_everywhere,
    averaging_gradients,
    backward,
    joined_everywhere,
    own_gradients,
    process_count,
    rank,
)


class ImagePool:
    """An image pool that shows a critic past fakes in place of half of the new ones (Shrivastava et al. 2017, 2.3).

    Attributes:
        capacity: how many fakes it holds; 0 passes new ones through.
        images: (k, c, h, w) the fakes it holds now; None before the first.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.images: Tensor | None = None

    def exchange(
        self, fakes: Float[Tensor, "n c h w"], generator: torch.Generator, part: Part = WHOLE
    ) -> Float[Tensor, "n c h w"]:
        """Stores new fakes and returns as many for the critic.

        While the pool fills, a fake is stored and returned. Then, with probability 1/2, it is swapped with one from
        the pool. `generator` is on the CPU, so no device is synchronised. All training processes hold the same pool,
        of the fakes of all of them.

        Args:
            fakes: new fakes; no gradient flows through the pool.
            generator: decides which fakes are swapped; draws for the whole batch.
            part: which part of the batch the fakes are.
        """
        fakes = fakes.detach()
        if self.capacity == 0:
            return fakes
        decisions = [self.decide(generator) for _ in range(len(fakes) * part.of)]
        # The parts of all processes with the same index among each process's own.
        pieces, everyone = part.of // process_count(), joined_everywhere(fakes)
        parts = [Part(process * pieces + part.index % pieces, part.of) for process in range(process_count())]
        rows = [row for each in parts for row in each.rows(len(decisions))]
        shown = []
        for fake, row in zip(torch.split(everyone, 1), rows, strict=True):
            swap, place = decisions[row]
            if self.images is None or len(self.images) < self.capacity:
                self.images = fake.clone() if self.images is None else torch.cat([self.images, fake])
                shown.append(fake)
            elif swap:
                shown.append(self.images[place : place + 1].clone())
                self.images[place] = fake[0]
            else:
                shown.append(fake)
        return torch.cat(shown[rank() * len(fakes) : (rank() + 1) * len(fakes)])

    def decide(self, generator: torch.Generator) -> tuple[bool, int]:
        """Draws whether a fake is swapped with a past one, and with which."""
        swap = torch.rand((), generator=generator).item() < 0.5
        return swap, int(torch.randint(self.capacity, (), generator=generator).item())


Losses = Mapping[str, Tensor]


@dataclass
class Step:
    """The state of one step, or of a part of it, passed through the phases.

    Attributes:
        number: the step, from 0.
        batch: its data, on the device.
        generator: source of all its random numbers, on the CPU so that they are the same on every device; in the same
            state for all parts of a step.
        part: the part of the step's items.
        made: tensors of one phase for later ones, by name.
    """

    number: int
    batch: Batch
    generator: torch.Generator
    part: Part = WHOLE
    made: dict[str, Tensor] = field(default_factory=dict)

    def normal(self, size: int, like: Tensor) -> Tensor:
        """(len(like), size) standard normal numbers: this part's rows of those of the whole step."""
        return self._own(torch.randn(len(like) * self.part.of, size, generator=self.generator), like)

    def uniform(self, like: Tensor) -> Tensor:
        """(len(like),) uniform numbers, likewise."""
        return self._own(torch.rand(len(like) * self.part.of, generator=self.generator), like)

    def _own(self, drawn: Tensor, like: Tensor) -> Tensor:
        rows = self.part.rows(len(drawn))
        own = drawn[rows.start : rows.stop]
        # Only copies from pinned memory are asynchronous.
        return (own.pin_memory() if like.is_cuda else own).to(like, non_blocking=True)


@dataclass(frozen=True)
class Phase:
    """A part of the step in which some networks are trained.

    Attributes:
        name: its name in the log.
        networks: those that are trained; all others are frozen.
        optimiser: steps their parameters; its groups hold the full learning rate as `full_lr`.
        losses: weighted terms by name; their sum is minimised. Called with the step and the number of the repeat.
        repeats: updates in one step.
        begins: first step of the stage with this phase.
        takes_place: called after the losses of an update with the parts of the step; the update is skipped if it
            returns false. None makes every update. It must return the same in all processes.
    """

    name: str
    networks: tuple[nn.Module, ...]
    optimiser: torch.optim.Optimizer
    losses: Callable[[Step, int], Losses]
    repeats: int = 1
    begins: int = 0
    takes_place: Callable[[Sequence[Step]], bool] | None = None

    @cached_property
    def objective(self) -> nn.Module:
        """The losses as a module with the trained parameters; several processes average their gradients.

        Must first be accessed while these networks require gradients.
        """
        return averaging_gradients(_Objective(self))


class _Objective(nn.Module):
    """A phase as one forward pass of one module, as `DistributedDataParallel` requires.

    Inside it networks may run several times, through the projection, and be differentiated with respect to their
    input, as by the gradient penalty: outside, one backward pass reaches each parameter once.
    """

    def __init__(self, phase: Phase) -> None:
        super().__init__()
        # Without the buffers, which DistributedDataParallel would broadcast: batch norms already share them.
        self.learning = nn.ParameterList(each for network in phase.networks for each in network.parameters())
        self._losses = phase.losses

    def forward(self, part: Step, repeat: int) -> Losses:
        """The weighted terms."""
        return self._losses(part, repeat)


class Stage(ABC):
    """A stage of training.

    Attributes:
        name: shape, texture or joint.
        label: its name in logs and sample sheets and for its random numbers: `name`, except for a baseline's stage.
        config: its configuration.
        phases: the phases of a step, in order.
        averaged: names of the networks whose running average is kept.
        pools: past fakes by name, part of the stage's state.
    """

    name: StageName
    config: StageConfig
    phases: tuple[Phase, ...]
    averaged: tuple[str, ...]
    pools: Mapping[str, ImagePool]

    @property
    def label(self) -> str:
        """See the attributes."""
        return self.name

    @abstractmethod
    def load(self, step: int, part: Part = WHOLE) -> Batch:
        """The data of a step, or of a part of it; called ahead of the step, from other threads."""


def adam(
    groups: Iterable[tuple[Iterable[nn.Module], float, tuple[float, float]]], *, fused: bool = False
) -> torch.optim.Adam:
    """Adam over groups of (networks, learning rate, betas); `fused` makes an update one pass over memory."""
    return torch.optim.Adam(
        [
            {
                "params": [each for network in networks for each in network.parameters()],
                "lr": rate,
                "full_lr": rate,
                "betas": betas,
            }
            for networks, rate, betas in groups
        ],
        fused=fused or None,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Sets every group to this fraction of its full learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = share * group["full_lr"]


def learning_rate_share(step: int, steady: int, decaying: int) -> float:
    """Fraction of the full learning rate at a step: 1 over the steady steps, then falling linearly towards 0."""
    return 1.0 if step < steady else (steady + decaying - step) / (decaying + 1)


def run_phase(
    phase: Phase,
    parts: Sequence[Step],
    *,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    careful: bool = False,
) -> tuple[dict[str, Tensor], bool]:
    """Updates the networks of a phase from a step.

    Args:
        phase: the phase.
        parts: the parts of the step that this process computes in sequence; their gradients are averaged with each
            other and with those of other processes.
        precision: opens the context that the losses are computed in.
        careful: check losses and gradients before each update, and skip it if one of them is not finite. The host
            synchronises with the device.

    Returns:
        The mean of every loss term over parts and repeats, without gradient, still on the device; and whether all
        losses and gradients were finite. The phase ends after an update that was not.
    """
    for network in phase.networks:
        network.requires_grad_(True)
    learning = [each for network in phase.networks for each in network.parameters()]
    means: dict[str, Tensor] = {}
    sound = True
    for repeat in range(phase.repeats):
        phase.optimiser.zero_grad(set_to_none=True)
        for part in parts:
            with nullcontext() if part is parts[-1] else own_gradients(phase.objective):
                with precision():
                    losses = phase.objective(part, repeat)
                backward(torch.stack(list(losses.values())).sum() / len(parts))
            for name, loss in losses.items():
                share = loss.detach() / (phase.repeats * len(parts))
                means[name] = means.get(name, torch.zeros_like(share)) + share
        sound = not careful or _is_sound(means, learning)
        if not sound:
            phase.optimiser.zero_grad(set_to_none=True)
            break
        if phase.takes_place is None or phase.takes_place(parts):
            phase.optimiser.step()
    for network in phase.networks:
        network.requires_grad_(False)
    return means, sound


def run_step(
    stage: Stage,
    parts: Sequence[Step],
    *,
    learning_rate: float,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    careful: bool = False,
) -> tuple[dict[str, dict[str, Tensor]], bool]:
    """All phases of a step; arguments as in `run_phase`, and the fraction of the full learning rate.

    Returns:
        The losses by phase and term, and whether all of them were finite; phases after one that was not are skipped.
    """
    losses: dict[str, dict[str, Tensor]] = {}
    for phase in stage.phases:
        if parts[0].number < phase.begins:
            continue
        set_learning_rate(phase.optimiser, learning_rate)
        losses[phase.name], sound = run_phase(phase, parts, precision=precision, careful=careful)
        if not sound:
            return losses, False
    return losses, True


def _is_sound(losses: Losses, parameters: Iterable[nn.Parameter]) -> bool:
    """Whether losses and gradients are finite, in every process."""
    slopes = torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
    finite = torch.isfinite(torch.stack([*losses.values(), slopes.to(next(iter(losses.values())))])).all()
    return not any_everywhere(not finite)
