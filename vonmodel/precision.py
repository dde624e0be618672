"""Precision of training: float32, bfloat16 autocast of the networks, or float64."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

Precision = Literal["float32", "bfloat16", "float64"]


def at_least_single(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values in float32, or unchanged if they are float32 or float64 already."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def weights_in(precision: Precision) -> torch.dtype:
    """The type of weights and data for networks that convolve in this precision."""
    return torch.float64 if precision == "float64" else torch.float32


def computing_in(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Returns the context in which networks convolve in this precision; weights and their updates keep their type."""
    if precision != "bfloat16":
        return nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)
