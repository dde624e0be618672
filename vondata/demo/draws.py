"""Choices of the random designs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


def one_of(rng: np.random.Generator, choices: tuple[Choice, ...]) -> Choice:
    """One of the choices; repeated ones are likelier."""
    return choices[int(rng.integers(len(choices)))]


def quantile_choice(shares: Mapping[Choice, float], quantile: float) -> Choice:
    """The choice whose share, stacked in order, covers a quantile in [0, 1); shares sum to 1."""
    edges = np.cumsum(list(shares.values()))
    return list(shares)[min(int(np.searchsorted(edges, quantile, side="right")), len(edges) - 1)]
