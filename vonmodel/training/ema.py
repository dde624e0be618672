"""A running average of weights, which samples are drawn with: less noisy than any single step's weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of the parameters and statistics of some networks of a model.

    Attributes:
        values: the averages under the names of the model's state dict; empty where nothing is averaged.
    """

    def __init__(self, model: nn.Module, networks: Iterable[str], decay: float) -> None:
        """Starts from the present weights.

        Args:
            model: the model.
            networks: names of the networks to average.
            decay: share of the old average that a step keeps; 0 averages nothing.
        """
        self._decay = decay
        prefixes = tuple(f"{name}." for name in networks)
        self._sources = {
            name: value for name, value in model.state_dict().items() if decay > 0.0 and name.startswith(prefixes)
        }
        self.values = {name: value.detach().clone() for name, value in self._sources.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after step `step`, from 0; early steps count more, so that the start is forgotten."""
        share = 1.0 - min(self._decay, (1.0 + step) / (10.0 + step))
        floating = [name for name, value in self.values.items() if value.is_floating_point()]
        if floating:
            torch._foreach_lerp_(
                [self.values[name] for name in floating], [self._sources[name] for name in floating], share
            )
        for name in self.values.keys() - set(floating):
            self.values[name].copy_(self._sources[name])

    def restart(self) -> None:
        """Starts anew from the present weights."""
        self.restore(self._sources)

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Goes on from saved averages."""
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
