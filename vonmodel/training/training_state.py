"""What a stage carries from step to step besides weights: optimisers and image pools, as named tensors and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vonmodel.training.stage import Phase, Stage


def training_tensors(stage: Stage) -> dict[str, Tensor]:
    """The state of all optimisers and pools of a stage."""
    tensors: dict[str, Tensor] = {}
    for phase in stage.phases:
        for index, values in phase.optimiser.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"{_prefix(phase)}{index}.{name}"] = value
    for name, pool in stage.pools.items():
        if pool.images is not None:
            tensors[f"pool.{name}"] = pool.images
    return tensors


def restore_training(stage: Stage, tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Puts saved state back into a stage that was just built."""
    for phase in stage.phases:
        prefix = _prefix(phase)
        parameters = [each for group in phase.optimiser.param_groups for each in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, _, name = key.removeprefix(prefix).partition(".")
                # Moments lie in memory as their parameter does, or every update would take the slow way.
                laid = value if value.dim() == 0 else torch.empty_like(parameters[int(index)]).copy_(value)
                state.setdefault(int(index), {})[name] = laid
        groups = phase.optimiser.state_dict()["param_groups"]
        phase.optimiser.load_state_dict({"state": state, "param_groups": groups})
    for name, pool in stage.pools.items():
        images = tensors.get(f"pool.{name}")
        pool.images = None if images is None else images.to(device)


def _prefix(phase: Phase) -> str:
    return f"optimiser.{phase.name}."
