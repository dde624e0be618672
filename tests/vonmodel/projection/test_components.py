"""Largest components: both mechanisms against a flood fill, and against each other where trees grow deepest."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vonmodel.projection.framing import largest_component, largest_component_by_hooking

MECHANISMS = pytest.mark.parametrize("largest", [largest_component, largest_component_by_hooking])
Largest = Callable[[torch.Tensor], torch.Tensor]

masks = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays.arrays(np.bool_, shape)
)


def _flood(mask: np.ndarray) -> np.ndarray:
    """Components by flood fill, in row order of their first pixels; the first largest one."""
    best, unseen = set(), set(zip(*np.nonzero(mask), strict=True))
    while unseen:
        component, edge = set(), [min(unseen)]
        while edge:
            pixel = edge.pop()
            if pixel in unseen:
                unseen.discard(pixel)
                component.add(pixel)
                row, column = pixel
                edge += [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        if len(component) > len(best):
            best = component
    kept = np.zeros_like(mask)
    for pixel in best:
        kept[pixel] = True
    return kept


@MECHANISMS
@given(masks=masks)
def test_equals_a_flood_fill(largest: Largest, masks: np.ndarray) -> None:
    expected = np.stack([_flood(mask) for mask in masks])
    np.testing.assert_array_equal(largest(torch.from_numpy(masks)), expected)


@MECHANISMS
def test_of_equals_the_first_one_counts(largest: Largest) -> None:
    mask = torch.tensor([[[0, 0, 0, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1]]]).bool()
    assert largest(mask)[0].nonzero().tolist() == [[0, 3], [0, 4]]


@MECHANISMS
def test_corners_do_not_connect(largest: Largest) -> None:
    assert largest(torch.eye(4, dtype=torch.bool).unsqueeze(0)).sum() == 1


@MECHANISMS
@pytest.mark.parametrize("shape", [(0, 5, 5), (2, 5, 5)])
def test_nothing_gives_nothing(largest: Largest, shape: tuple[int, ...]) -> None:
    kept = largest(torch.zeros(shape, dtype=torch.bool))
    assert kept.shape == shape
    assert not kept.any()


def _serpentine(size: int) -> torch.Tensor:
    """One path that walks every other column up and down: the most turns that fit."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[:, ::2] = True
    mask[0, 1::4] = True
    mask[-1, 3::4] = True
    return mask


def _spiral(size: int) -> torch.Tensor:
    mask = torch.zeros(size, size, dtype=torch.bool)
    row, column, direction, length = 0, 0, (0, 1), size - 1
    mask[0, 0] = True
    for turn in range(size):
        for _ in range(length):
            row, column = row + direction[0], column + direction[1]
            mask[row, column] = True
        direction = (direction[1], -direction[0])
        length -= 2 if turn >= 2 and turn % 2 == 0 else 0
        if length <= 0:
            break
    return mask


@pytest.mark.parametrize("shape", [_serpentine(64), _spiral(64)])
def test_long_paths_are_one_component(shape: torch.Tensor) -> None:
    turned = torch.stack([torch.rot90(shape, quarter) for quarter in range(4)])
    torch.testing.assert_close(largest_component_by_hooking(turned), largest_component(turned))
    path = largest_component(turned)
    assert (path.sum((1, 2)) == shape.sum()).all()


def test_both_agree_on_noise_at_full_size() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, 128, 128, generator=generator) < torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(largest_component_by_hooking(noise), largest_component(noise))


def test_the_operator_is_well_formed() -> None:
    torch.library.opcheck(largest_component, (torch.rand(2, 6, 6) < 0.5,))
