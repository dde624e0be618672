"""Exponential moving average of weights (EMA), with which samples are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vonmodel.config import StageConfig

KeptShare = Callable[[int], float]
"""Share of the old average that step `step`, from 0, keeps."""
RAMP_UP = 0.1
"""The half-life is at most this share of the items seen, so that the start of a training is forgotten."""


def kept_by_decay(decay: float) -> KeptShare:
    """A fixed share; early steps keep less, so that the start is forgotten."""
    return lambda step: min(decay, (1.0 + step) / (10.0 + step))


def kept_by_half_life(half_life: float, batch_size: int) -> KeptShare:
    """What halves the weight of the past every `half_life` items seen, whatever the size of a batch.

    At most `RAMP_UP` of the items seen up to now (Karras et al., StyleGAN2-ADA).
    """
    return lambda step: 0.5 ** (1.0 / min(half_life / batch_size, RAMP_UP * (step + 1)))


def kept_share(config: StageConfig) -> KeptShare | None:
    """The share that a stage's configuration asks for; None where it keeps no average."""
    if config.average_half_life > 0.0:
        return kept_by_half_life(config.average_half_life, config.batch_size)
    return kept_by_decay(config.average) if config.average > 0.0 else None


class WeightAverage:
    """Exponential moving average of the parameters and statistics of some networks of a model.

    Attributes:
        values: the averages under the names of the model's state dict; empty where nothing is averaged.
    """

    def __init__(self, model: nn.Module, networks: Iterable[str], kept: KeptShare | None) -> None:
        """Starts from the present weights.

        Args:
            model: the model.
            networks: names of the networks to average.
            kept: share of the old average that a step keeps; None averages nothing.
        """
        self._kept = kept
        prefixes = tuple(f"{name}." for name in networks)
        weights = {} if kept is None else model.state_dict()
        self._sources = {name: value for name, value in weights.items() if name.startswith(prefixes)}
        self.values = {name: value.detach().clone() for name, value in self._sources.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Adds the weights after step `step`, from 0."""
        if self._kept is None:
            return
        share = 1.0 - self._kept(step)
        # Numbers that stand alone are no weights: they say how far classes are told apart.
        floating = [name for name, value in self.values.items() if value.is_floating_point() and value.dim() > 0]
        if floating:
            torch._foreach_lerp_(
                [self.values[name] for name in floating], [self._sources[name] for name in floating], share
            )
        for name in self.values.keys() - set(floating):
            self.values[name].copy_(self._sources[name])

    def restart(self) -> None:
        """Restarts from the present weights."""
        self.restore(self._sources)

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Restores saved averages."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Puts the averages into the model, in evaluation mode, and takes them out again."""
        modes = {module: module.training for module in model.modules()}
        trained = {name: value.clone() for name, value in self._sources.items()}
        model.load_state_dict(self.values, strict=False)
        model.eval()
        try:
            yield
        finally:
            model.load_state_dict(trained, strict=False)
            for module, mode in modes.items():
                module.training = mode
