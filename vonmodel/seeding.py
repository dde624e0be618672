"""Random generators derived from (seed, stage, step), so that a resumed training equals an uninterrupted one."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed derived from (seed, purpose); equal on every machine and in every process."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """The NumPy generator of this purpose, for choices made on data."""
    return np.random.default_rng(derived_seed(seed, *purpose))


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """The torch generator of this purpose; on the CPU, so that every device trains on the same draws."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def epoch_positions(step: int, batch_size: int, items: int, *, seed: int, purpose: str) -> list[int]:
    """The items of step `step`: every epoch visits every item once, in a random order of its own.

    Batches continue across the end of an epoch, so all have the same size.

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
