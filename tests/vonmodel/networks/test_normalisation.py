"""Whole-sample normalisation: its statistics, its invariances, its precision."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.networks.blocks import WholeSampleNorm


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_a_sample_gets_mean_zero_and_unbiased_deviation_one() -> None:
    normed = WholeSampleNorm(3).double()(7.0 + 4.0 * noise(2, 3, 5, 5)).flatten(1)
    torch.testing.assert_close(normed.mean(1), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(normed.std(1, correction=1), torch.ones(2, dtype=torch.float64), atol=1e-4, rtol=0)


def test_epsilon_is_added_to_the_deviation_not_to_the_variance() -> None:
    features = noise(1, 2, 3, 3) * 1e-5
    expected = (features - features.mean()) / (features.std() + 1e-5)
    torch.testing.assert_close(WholeSampleNorm(2).double()(features), expected)


@given(scale=st.floats(0.1, 1e3), shift=st.floats(-1e3, 1e3))
def test_scale_and_shift_of_the_input_do_not_matter(scale: float, shift: float) -> None:
    norm, features = WholeSampleNorm(3).double(), noise(2, 3, 6, 6)
    torch.testing.assert_close(norm(scale * features + shift), norm(features), rtol=0, atol=1e-3)


def test_gain_and_offset_belong_to_channels() -> None:
    norm = WholeSampleNorm(2).double()
    plain = norm(noise(1, 2, 4, 4))
    with torch.no_grad():
        norm.gamma.copy_(torch.tensor([2.0, -1.0]))
        norm.beta.copy_(torch.tensor([0.5, 3.0]))
    changed = norm(noise(1, 2, 4, 4))
    torch.testing.assert_close(changed[:, 0], 2.0 * plain[:, 0] + 0.5)
    torch.testing.assert_close(changed[:, 1], 3.0 - plain[:, 1])


def test_statistics_of_half_precision_are_single() -> None:
    # In bfloat16 the mean of 16384 numbers around 100 would be off by far more than their deviation of 1.
    features = (100.0 + noise(1, 4, 64, 64)).to(torch.bfloat16)
    normed = WholeSampleNorm(4)(features)
    assert normed.dtype == torch.bfloat16
    exact = WholeSampleNorm(4).double()(features.double())
    torch.testing.assert_close(normed.double(), exact, rtol=0.01, atol=0.01)


def test_a_constant_sample_has_finite_gradients() -> None:
    features = torch.full((1, 2, 4, 4), 3.0, requires_grad=True)
    normed = WholeSampleNorm(2)(features)
    normed.square().sum().backward()
    assert torch.equal(normed, torch.zeros_like(normed))
    assert features.grad is not None
    assert features.grad.isfinite().all()
