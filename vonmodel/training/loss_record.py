"""Losses on their way from the device to the log, and the search for one that is not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vonmodel.config import StageName
from vonmodel.parallel import mean_everywhere, told_by_all


class NonFiniteLossError(ArithmeticError):
    """A loss became infinite or not a number.

    Attributes:
        where: step, phase, terms and the ids of the items.
    """

    def __init__(self, where: dict[str, Any]) -> None:
        self.where = where
        super().__init__(
            f"stage {where['stage']}, step {where['step']}, phase {where['phase']}: "
            f"{', '.join(where['terms'])} is not finite; items {', '.join(where['items'])}. "
            "The last checkpoint is from before. Look at these items, lower the learning rate in another --run, or "
            "leave such steps out with --skip-nonfinite"
        )


class LossRecord:
    """Losses since the last report, kept on the device so that no step waits for the host."""

    def __init__(self, stage: StageName) -> None:
        self._stage = stage
        self._steps: list[tuple[int, tuple[str, ...]]] = []
        self._values: dict[str, list[Tensor]] = {}

    def add(self, step: int, items: tuple[str, ...], losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Takes in the losses of a step, by phase and term."""
        self._steps.append((step, items))
        for phase, terms in losses.items():
            for term, value in terms.items():
                self._values.setdefault(f"{phase}/{term}", []).append(value)

    def read(self) -> dict[str, float]:
        """Means over the steps since the last call and over all processes, by `phase/term`.

        Raises:
            NonFiniteLossError: names the first step with a loss that is not finite, in whichever process.
        """
        if not self._steps:
            return {}
        names = list(self._values)
        table = torch.stack([torch.stack(values) for values in self._values.values()]).double().cpu()
        means = mean_everywhere(table).numpy()
        if not np.isfinite(means).all():
            own = None if torch.isfinite(table).all() else self._where(names, table.numpy())
            # Gradients are exchanged: what is bad in one process is bad in all of them a phase later.
            phases = list(dict.fromkeys(name.partition("/")[0] for name in names))
            found = [where for where in told_by_all(own) if where is not None]
            raise NonFiniteLossError(min(found, key=lambda where: (where["step"], phases.index(where["phase"]))))
        self._steps.clear()
        self._values.clear()
        return dict(zip(names, means.mean(axis=1).tolist(), strict=True))

    def _where(self, names: list[str], table: npt.NDArray[np.float64]) -> dict[str, Any]:
        column = int((~np.isfinite(table)).any(axis=0).argmax())
        step, items = self._steps[column]
        bad = [name for name, value in zip(names, table[:, column], strict=True) if not math.isfinite(value)]
        phase = bad[0].partition("/")[0]
        terms = [name.partition("/")[2] for name in bad if name.startswith(f"{phase}/")]
        return {"stage": self._stage, "step": step, "phase": phase, "terms": terms, "items": list(items)}
