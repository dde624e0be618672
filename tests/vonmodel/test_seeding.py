"""Randomness is a function of the seed and its purpose, and epochs visit everything once."""

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.seeding import derived_seed, epoch_positions, numpy_generator, torch_generator


def test_seeds_are_the_same_everywhere() -> None:
    # Recorded values: a change would make every run on disk resume differently.
    assert derived_seed(0, "shape", "step", 17) == 7286993371155135439
    assert 0 <= derived_seed(-1, "x") < 2**63


def test_purposes_are_independent() -> None:
    seeds = {derived_seed(seed, stage, step) for seed in range(5) for stage in ("a", "b") for step in range(20)}
    assert len(seeds) == 200
    assert derived_seed(1, "a", 12) != derived_seed(1, "a1", 2)


def test_generators_repeat_and_do_not_change_the_global_state() -> None:
    before = torch.random.get_rng_state()
    first, second = (torch.randn(4, generator=torch_generator(3, "x", 1)) for _ in range(2))
    assert torch.equal(first, second)
    assert np.array_equal(numpy_generator(3, "x").random(4), numpy_generator(3, "x").random(4))
    assert torch.equal(before, torch.random.get_rng_state())


@given(items=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 3))
def test_every_epoch_visits_every_item_once(items: int, batch_size: int, seed: int) -> None:
    steps = -(-3 * items // batch_size)
    visited = [
        position
        for step in range(steps)
        for position in epoch_positions(step, batch_size, items, seed=seed, purpose="test")
    ]
    assert len(visited) == steps * batch_size
    for epoch in range(3):
        assert Counter(visited[epoch * items : (epoch + 1) * items]) == Counter(range(items))


def test_epochs_differ_in_their_order() -> None:
    first, second = (epoch_positions(step, 50, 50, seed=0, purpose="test") for step in range(2))
    assert first != second
    assert first != epoch_positions(0, 50, 50, seed=1, purpose="test")
    assert first != epoch_positions(0, 50, 50, seed=0, purpose="other")
