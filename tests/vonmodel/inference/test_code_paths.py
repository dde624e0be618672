"""Paths between codes: their ends, their speed, their length; and the published misplaced parenthesis."""

import pytest
import torch
from torch import Tensor

from vonmodel.inference.interpolate import interpolate_linear, interpolate_spherical


def codes(count: int = 3, size: int = 200) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(count, size, generator=rng), torch.randn(count, size, generator=rng)


def published_interpolation(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """The 2018 code, with its parenthesis closed too late: (1 - t z) in place of (1 - t) z."""
    t = fractions.reshape(-1, 1, 1)
    return t * end + (1 - t * start)


@pytest.mark.parametrize(
    ("interpolate", "right"),
    [(interpolate_linear, True), (interpolate_spherical, True), (published_interpolation, False)],
)
def test_a_path_starts_and_ends_at_its_codes(interpolate, right: bool) -> None:
    start, end = codes()
    path = interpolate(start, end, torch.tensor([0.0, 1.0]))
    assert path.shape == (2, 3, 200)
    reached = torch.allclose(path[0], start, atol=1e-5) and torch.allclose(path[1], end, atol=1e-5)
    assert reached is right


@pytest.mark.parametrize(
    ("interpolate", "right"),
    [(interpolate_linear, True), (interpolate_spherical, True), (published_interpolation, False)],
)
def test_a_path_between_a_code_and_itself_stays(interpolate, right: bool) -> None:
    start, _ = codes()
    path = interpolate(start, start, torch.linspace(0.0, 1.0, 5))
    assert torch.allclose(path, start.expand(5, -1, -1), atol=1e-5) is right


def test_the_straight_path_has_equal_steps() -> None:
    start, end = codes()
    steps = interpolate_linear(start, end, torch.linspace(0.0, 1.0, 7)).diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=1e-5, rtol=0)


def test_the_round_path_turns_at_a_constant_rate_and_lengthens_evenly() -> None:
    start, end = (each.double() for each in codes())
    path = interpolate_spherical(start, 3.0 * end, torch.linspace(0.0, 1.0, 9, dtype=torch.float64))
    lengths = path.norm(dim=-1)
    torch.testing.assert_close(lengths.diff(n=2, dim=0), torch.zeros(7, 3, dtype=torch.float64))
    directions = path / lengths[..., None]
    turns = torch.arccos((directions[1:] * directions[:-1]).sum(-1))
    torch.testing.assert_close(turns, turns[:1].expand_as(turns))
    assert turns.sum(0).min() > 1.0


def test_the_round_path_is_not_shorter_half_way_and_the_straight_one_is() -> None:
    start, end = codes()
    typical, half = 200**0.5, torch.tensor([0.5])
    assert interpolate_spherical(start, end, half).norm(dim=-1).min() > 0.9 * typical
    assert interpolate_linear(start, end, half).norm(dim=-1).max() < 0.8 * typical


@pytest.mark.parametrize("factor", [-1.0, 0.0, 1.0, 2.0])
def test_where_no_circle_is_defined_the_path_is_straight(factor: float) -> None:
    start, _ = codes()
    fractions = torch.linspace(0.0, 1.0, 4)
    path = interpolate_spherical(start, factor * start, fractions)
    torch.testing.assert_close(path, interpolate_linear(start, factor * start, fractions), rtol=1e-4, atol=1e-4)


def test_a_single_code_needs_no_batch() -> None:
    start, end = (each[0] for each in codes())
    for interpolate in (interpolate_linear, interpolate_spherical):
        assert interpolate(start, end, torch.linspace(0.0, 1.0, 4)).shape == (4, 200)


def test_gradients_reach_both_ends() -> None:
    start, end = (each.requires_grad_() for each in codes())
    interpolate_spherical(start, end, torch.tensor([0.3])).square().sum().backward()
    for each in (start, end):
        assert each.grad is not None
        assert each.grad.isfinite().all()
        assert each.grad.abs().sum() > 0
