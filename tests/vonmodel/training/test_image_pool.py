"""The pool of past fakes: fills, swaps half, loses nothing it holds, is reproducible by its generator."""

import pytest
import torch

from vonmodel.training.stage import ImagePool


def numbered(start: int, count: int) -> torch.Tensor:
    return torch.arange(start, start + count, dtype=torch.float32).view(-1, 1, 1, 1)


def test_without_capacity_new_fakes_pass() -> None:
    pool = ImagePool(0)
    assert torch.equal(pool.exchange(numbered(0, 3), torch.Generator()), numbered(0, 3))
    assert pool.images is None


def test_while_it_fills_fakes_are_stored_and_returned() -> None:
    pool = ImagePool(4)
    assert torch.equal(pool.exchange(numbered(0, 3), torch.Generator()), numbered(0, 3))
    assert pool.images is not None
    assert torch.equal(pool.images, numbered(0, 3))


def test_afterwards_half_are_swapped_and_none_is_in_two_places() -> None:
    pool, generator = ImagePool(10), torch.Generator().manual_seed(0)
    pool.exchange(numbered(0, 10), generator)
    alive, swapped = set(range(10)), 0
    for start in range(10, 410):
        shown = pool.exchange(numbered(start, 1), generator).flatten().tolist()
        assert pool.images is not None
        held = pool.images.flatten().tolist()
        assert len(set(held)) == 10
        assert sorted([*held, *shown]) == sorted([*alive, start])  # everything is either held or shown
        alive, swapped = set(held), swapped + (shown != [start])
    assert 160 < swapped < 240


def test_what_was_shown_does_not_change_later() -> None:
    pool, generator = ImagePool(1), torch.Generator().manual_seed(0)
    pool.exchange(numbered(0, 1), generator)
    shown = [pool.exchange(numbered(i, 1), generator) for i in range(1, 9)]
    copies = [each.clone() for each in shown]
    pool.exchange(numbered(9, 5), generator)
    assert all(torch.equal(one, two) for one, two in zip(shown, copies, strict=True))


def test_no_gradient_passes_and_the_generator_decides() -> None:
    fakes = numbered(0, 6).requires_grad_()
    results = []
    for _ in range(2):
        pool, generator = ImagePool(3), torch.Generator().manual_seed(5)
        results.append([pool.exchange(fakes + i, generator) for i in range(4)])
    assert not results[0][0].requires_grad
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize("capacity", [1, 7])
def test_it_never_holds_more_than_its_capacity(capacity: int) -> None:
    pool = ImagePool(capacity)
    pool.exchange(numbered(0, 20), torch.Generator())
    assert pool.images is not None
    assert len(pool.images) == capacity
