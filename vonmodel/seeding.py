"""Training's randomness as a function of (seed, stage, step), and its half precision."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed of its own for every (seed, purpose); equal on every machine and in every process."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """The NumPy generator of this purpose, for choices made on data."""
    return np.random.default_rng(derived_seed(seed, *purpose))


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """The torch generator of this purpose; on the CPU, so that every device trains on the same draws."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def epoch_positions(step: int, batch_size: int, items: int, *, seed: int, purpose: str) -> list[int]:
    """Which items step `step` trains on: every epoch visits every item once, in an order of its own.

    Batches run on across the end of an epoch, so none is smaller than the others.

    Args:
        step: the step, from 0.
        batch_size: items a step.
        items: size of the dataset, at least 1.
        seed: the run's seed.
        purpose: what the order is for; datasets with different purposes are ordered independently.

    Returns:
        `batch_size` positions in [0, items).
    """
    positions: list[int] = []
    place = step * batch_size
    while len(positions) < batch_size:
        epoch, start = divmod(place, items)
        order = numpy_generator(seed, purpose, "epoch", epoch).permutation(items)
        taken = order[start : start + batch_size - len(positions)]
        positions.extend(int(each) for each in taken)
        place += len(taken)
    return positions


Precision = Literal["float32", "bfloat16", "float64"]


def at_least_single(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values in float32, or unchanged if they are float32 or float64 already."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def weights_in(precision: Precision) -> torch.dtype:
    """The type of weights and data where networks convolve in this precision."""
    return torch.float64 if precision == "float64" else torch.float32


def computing_in(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Opens contexts in which networks convolve in this precision; weights and their updates stay what they are."""
    if precision != "bfloat16":
        return nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)
