"""The objectives: closed forms, invariances, and absence of the published defects."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vonmodel.model import initialise_kaiming
from vonmodel.networks import ShapeCritic
from vonmodel.training import losses


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_critic_gains_by_scoring_real_above_fake() -> None:
    real, fake = torch.tensor([3.0, 5.0]), torch.tensor([1.0, -4.0, 0.0])
    assert losses.wasserstein_critic_loss(real, fake).item() == -1.0 - 4.0
    assert losses.wasserstein_generator_loss(fake).item() == 1.0


def test_the_penalty_of_a_linear_critic_is_its_slope_s_distance_from_one() -> None:
    direction = torch.tensor([3.0, 4.0])
    penalty = losses.gradient_penalty(lambda x: x @ direction, draw(5, 2), draw(5, 2, seed=1), torch.rand(5))
    assert penalty.item() == pytest.approx((5.0 - 1.0) ** 2)


def test_the_penalty_looks_between_real_and_fake_at_the_given_factors() -> None:
    # The slope of |x|^2 / 2 is x itself.
    real, fake, factors = draw(4, 3), draw(4, 3, seed=1), torch.tensor([0.0, 1.0, 0.25, 0.5])
    between = factors[:, None] * real + (1.0 - factors[:, None]) * fake
    expected = (between.norm(dim=1) - 1.0).square().mean()
    penalty = losses.gradient_penalty(lambda x: 0.5 * x.square().sum(1), real, fake, factors)
    torch.testing.assert_close(penalty, expected)


def test_the_penalty_is_per_sample_not_of_the_whole_batch() -> None:
    ones = torch.ones(4)
    penalty = losses.gradient_penalty(lambda x: x[:, 0], draw(4, 3), draw(4, 3, seed=1), ones)
    assert penalty.item() == pytest.approx(0.0, abs=1e-12)


def test_the_penalty_trains_the_critic_and_nothing_else() -> None:
    critic = ShapeCritic(16, 1)
    real, fake = torch.rand(2, 1, 16, 16, 16), torch.rand(2, 1, 16, 16, 16, requires_grad=True)
    with torch.no_grad():  # as a caller might who forgets that the penalty needs gradients
        penalty = losses.gradient_penalty(critic, real, fake, torch.rand(2))
    penalty.backward()
    assert fake.grad is None
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in critic.parameters())


def test_the_penalty_of_a_flat_critic_has_a_finite_gradient() -> None:
    slope = torch.zeros(3, requires_grad=True)
    penalty = losses.gradient_penalty(lambda x: x @ slope, draw(2, 3), draw(2, 3, seed=1), torch.rand(2))
    penalty.backward()
    assert penalty.item() == pytest.approx(1.0)
    assert slope.grad is not None
    assert slope.grad.isfinite().all()


def test_the_penalty_is_single_precision_under_autocast() -> None:
    critic = ShapeCritic(16, 2)
    real, fake, factors = torch.rand(2, 1, 16, 16, 16), torch.rand(2, 1, 16, 16, 16), torch.rand(2)
    expected = losses.gradient_penalty(critic, real, fake, factors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = losses.gradient_penalty(critic, real.bfloat16(), fake.bfloat16(), factors)
        again = losses.gradient_penalty(critic, real, fake, factors)
    assert penalty.dtype == torch.float32
    assert torch.equal(again, expected)


def test_pairs_are_compared_by_how_far_the_real_one_is_above() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 3.0])
    critic = [math.log1p(math.exp(-1.0)), math.log1p(math.exp(4.0))]
    generator = [math.log1p(math.exp(1.0)), math.log1p(math.exp(-4.0))]
    assert losses.relativistic_critic_loss(real, fake).item() == pytest.approx(sum(critic) / 2)
    assert losses.relativistic_generator_loss(real, fake).item() == pytest.approx(sum(generator) / 2)
    # Only differences count: scores may drift together.
    shifted = losses.relativistic_critic_loss(real + 7.0, fake + 7.0)
    assert shifted.item() == pytest.approx(sum(critic) / 2, rel=1e-5)


def test_the_slope_of_a_linear_critic_is_half_its_squared_length() -> None:
    direction = torch.tensor([3.0, 4.0])
    samples = draw(5, 2)
    scores, slope = losses.critic_slope(lambda x: x @ direction, samples)
    assert slope.item() == pytest.approx(12.5)
    torch.testing.assert_close(scores, samples @ direction)


def test_the_slope_is_taken_at_the_samples() -> None:
    # The gradient of sum(x^3) / 3 is x^2.
    samples = draw(4, 3)
    _, slope = losses.critic_slope(lambda x: x.pow(3).sum(1) / 3.0, samples)
    torch.testing.assert_close(slope, 0.5 * samples.pow(4).sum(1).mean())


def test_the_slope_of_a_map_of_scores_is_that_of_its_mean() -> None:
    samples = draw(3, 1, 4, 4)
    _, of_map = losses.critic_slope(lambda x: x.square(), samples)
    _, of_mean = losses.critic_slope(lambda x: x.square().mean((1, 2, 3)), samples)
    torch.testing.assert_close(of_map, of_mean)


def test_the_gradient_of_the_slope_is_that_of_finite_differences() -> None:
    weights = draw(3, 5).double().requires_grad_()
    samples = draw(4, 3, seed=1).double()
    assert torch.autograd.gradcheck(
        lambda w: losses.critic_slope(lambda x: torch.tanh(x @ w).sum(1), samples)[1], (weights,)
    )


def test_the_slope_trains_the_critic_and_nothing_else() -> None:
    critic, samples = ShapeCritic(16, 1), torch.rand(2, 1, 16, 16, 16, requires_grad=True)
    with torch.no_grad():  # as a caller might who forgets that the penalty needs gradients
        scores, slope = losses.critic_slope(critic, samples)
    (slope + scores.mean()).backward()
    assert samples.grad is None
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in critic.parameters())


def test_the_slope_is_single_precision_under_autocast() -> None:
    critic, samples = ShapeCritic(16, 2), torch.rand(2, 1, 16, 16, 16)
    expected = losses.critic_slope(critic, samples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = losses.critic_slope(critic, samples)
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
    assert losses.critic_slope(critic, samples.bfloat16())[1].dtype == torch.float32


def test_interpolation_factors_are_the_generator_s() -> None:
    factors = losses.interpolation_factors(1000, torch.Generator().manual_seed(1))
    assert torch.equal(factors, losses.interpolation_factors(1000, torch.Generator().manual_seed(1)))
    assert 0.0 <= factors.min() < 0.01
    assert 0.99 < factors.max() < 1.0


def test_patch_terms_are_means_per_scale_summed_over_scales() -> None:
    maps = [torch.full((2, 1, 3, 3), 0.5), torch.full((2, 1, 2, 2), 3.0)]
    assert losses.least_squares_generator_loss(maps).item() == pytest.approx(0.25 + 4.0)
    perfect = [torch.ones(2, 1, 3, 3), torch.ones(2, 1, 2, 2)]
    assert losses.least_squares_critic_loss(perfect, [0.0 * each for each in perfect]).item() == 0.0
    assert losses.least_squares_critic_loss(maps, maps).item() == pytest.approx(4.25 + 9.25)


def test_cycles_are_mean_absolute_differences_with_a_fixed_target() -> None:
    reconstructed, original = draw(2, 3).requires_grad_(), draw(2, 3, seed=1).requires_grad_()
    loss = losses.cycle_loss(reconstructed, original)
    loss.backward()
    assert loss.item() == pytest.approx((reconstructed - original).abs().mean().item())
    assert original.grad is None
    assert reconstructed.grad is not None


def test_the_divergence_is_that_of_the_normal_distributions() -> None:
    mean, log_variance = draw(6, 4), draw(6, 4, seed=1)
    encoded = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    prior = torch.distributions.Normal(torch.zeros(6, 4), torch.ones(6, 4))
    expected = torch.distributions.kl_divergence(encoded, prior).sum(1)
    torch.testing.assert_close(losses.code_divergence(mean, log_variance), expected)
    assert losses.code_divergence(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0.0, 0.0]


def test_the_mask_term_compares_depth_with_a_mask_from_minus_one_to_one() -> None:
    mask = (draw(2, 1, 4, 4) > 0).float()
    assert losses.mask_loss(2.0 * mask - 1.0, mask).item() == 0.0
    assert losses.mask_loss(1.0 - 2.0 * mask, mask).item() == 2.0


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: losses.wasserstein_critic_loss(x[:, 0, 0, 0], 2.0 * x[:, 0, 0, 1]),
        lambda x: losses.wasserstein_generator_loss(x[:, 0, 0, 0]),
        lambda x: losses.gradient_penalty(lambda y: y.square().sum((1, 2, 3)), x, -x, torch.full((len(x),), 0.3)),
        lambda x: losses.relativistic_critic_loss(x, 2.0 * x),
        lambda x: losses.relativistic_generator_loss(x, 2.0 * x),
        lambda x: losses.critic_slope(lambda y: y.square().sum((1, 2, 3)), x)[1],
        lambda x: losses.least_squares_critic_loss([x], [2.0 * x]),
        lambda x: losses.least_squares_generator_loss([x, x]),
        lambda x: losses.cycle_loss(x, 2.0 * x),
        lambda x: losses.code_divergence(x[:, 0, 0], x[:, 0, 1]).mean(),
        lambda x: losses.mask_loss(x, x),
    ],
)
def test_a_batch_repeated_has_the_same_loss(loss: Callable[[Tensor], Tensor]) -> None:
    batch = draw(3, 1, 4, 4)
    torch.testing.assert_close(loss(batch.repeat(5, 1, 1, 1)), loss(batch))


def test_half_precision_scores_give_single_precision_losses() -> None:
    scores = (1000.0 + draw(4096)).bfloat16()
    assert losses.wasserstein_generator_loss(scores).dtype == torch.float32
    assert losses.wasserstein_generator_loss(scores).item() == pytest.approx(-scores.double().mean().item(), abs=1e-3)


def published_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """The 2018 training ran over the batch as if it were a list of scales: a sum, where the penalty is a mean."""
    return fake_scores.sum() - real_scores.sum()


@pytest.mark.parametrize(
    ("critic_loss", "steady"), [(losses.wasserstein_critic_loss, True), (published_critic_loss, False)]
)
def test_score_and_penalty_keep_their_proportion_at_every_batch_size(critic_loss, steady: bool) -> None:
    real, fake, factors = torch.rand(2, 1, 16, 16, 16), torch.rand(2, 1, 16, 16, 16), torch.rand(2)

    def direction(repeats: int) -> Tensor:
        critic = ShapeCritic(16, 1)
        initialise_kaiming(critic, torch.Generator().manual_seed(0))
        a, b = (each.repeat(repeats, 1, 1, 1, 1) for each in (real, fake))
        loss = critic_loss(critic(a), critic(b)) + 10.0 * losses.gradient_penalty(
            critic, a, b, factors.repeat(repeats)
        )
        return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(critic.parameters()))])

    small, large = direction(1), direction(6)
    assert (functional.cosine_similarity(small, large, dim=0).item() > 1.0 - 1e-5) is steady
    assert math.isclose(small.norm().item(), large.norm().item(), rel_tol=1e-4) is steady
