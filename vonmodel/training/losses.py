"""Loss functions of VON: WGAN-GP, relativistic GAN with R1 and R2, LSGAN, cycle, KL and mask losses.

All are pure functions without weights, averaged over the batch unless noted otherwise.

Notation of the paper: v a shape, x an image, v_2.5D a sketch, z_shape and z_texture codes; G generators, E encoders,
D critics.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vonmodel.precision import at_least_single

Scalar = Float[Tensor, ""]
PatchMaps = Sequence[Float[Tensor, "n 1 _ _"]]


def wasserstein_critic_loss(real_scores: Float[Tensor, " n"], fake_scores: Float[Tensor, " m"]) -> Scalar:
    """The shape critic's loss: E[D_shape(G_shape(z_shape))] - E[D_shape(v)].

    Args:
        real_scores: scores of the data's shapes.
        fake_scores: scores of generated shapes, generated without gradient.

    Returns:
        The loss, independent of the batch size like the penalty it is added to.
    """
    return at_least_single(fake_scores).mean() - at_least_single(real_scores).mean()


def wasserstein_generator_loss(fake_scores: Float[Tensor, " n"]) -> Scalar:
    """The shape generator's loss: -E[D_shape(G_shape(z_shape))]."""
    return -at_least_single(fake_scores).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Float[Tensor, "n *shape"],
    fake: Float[Tensor, "n *shape"],
    factors: Float[Tensor, " n"],
) -> Scalar:
    """WGAN-GP's gradient penalty: E[(||grad D(v')||_2 - 1)^2] at v' = a v + (1 - a) G(z), a sampled per item.

    Computed in float32 at least, also under autocast, as the penalty differentiates twice.

    Args:
        critic: gives one score a sample; a sample's score must depend on that sample alone (no batch norm).
        real: samples of the data.
        fake: generated samples; no gradient flows into them.
        factors: a, uniform in [0, 1]; see `interpolation_factors`.
    """
    with torch.autocast(real.device.type, enabled=False), torch.enable_grad():
        real, fake = at_least_single(real.detach()), at_least_single(fake.detach())
        share = factors.to(real).reshape(-1, *[1] * (real.dim() - 1))
        mixed = (share * real + (1.0 - share) * fake).requires_grad_()
        scores = critic(mixed)
        (slopes,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
        # The published code adds 1e-16 to the gradient; it keeps the norm differentiable at zero.
        norms = torch.linalg.vector_norm(slopes.flatten(1) + 1e-16, dim=1)
        penalty: Tensor = (norms - 1.0).square().mean()
    return penalty


def relativistic_critic_loss(real_scores: Float[Tensor, "*shape"], fake_scores: Float[Tensor, "*shape"]) -> Scalar:
    """The critic's loss of the relativistic pairing GAN (RpGAN): E[softplus(D(G(.)) - D(x))].

    A pair's term compares the score of its real sample with that of its generated one, instead of each with a fixed
    value, which removes local minima with mode dropping. It converges together with `critic_slope` of both sides, R1
    and R2 (Huang et al. 2024, "The GAN is dead; long live the GAN!").

    Args:
        real_scores: scores of the data, of samples or of their patches.
        fake_scores: scores of as many generated samples, generated without gradient.
    """
    return functional.softplus(at_least_single(fake_scores) - at_least_single(real_scores)).mean()


def relativistic_generator_loss(real_scores: Float[Tensor, "*shape"], fake_scores: Float[Tensor, "*shape"]) -> Scalar:
    """The generator's loss of the relativistic pairing GAN: E[softplus(D(x) - D(G(.)))]."""
    return relativistic_critic_loss(fake_scores, real_scores)


def critic_slope(
    critic: Callable[[Tensor], Tensor], samples: Float[Tensor, "n *shape"]
) -> tuple[Float[Tensor, "n *map"], Scalar]:
    """Scores of samples, and half the mean squared norm of the critic's gradient there: 1/2 E[||grad D(x)||_2^2].

    On samples of the data this is R1, on generated ones R2; their weight is the gamma of the papers. The scores are
    returned for reuse. Computed in float32 at least, also under autocast, as the penalty differentiates twice.

    Args:
        critic: gives one score a sample, or a map of scores whose mean is differentiated; a sample's scores must
            depend on that sample alone (no batch norm).
        samples: no gradient flows into them.
    """
    with torch.autocast(samples.device.type, enabled=False), torch.enable_grad():
        samples = at_least_single(samples.detach()).requires_grad_()
        scores = critic(samples)
        means = scores.flatten(1).mean(1) if scores.dim() > 1 else scores
        (slopes,) = torch.autograd.grad(means.sum(), samples, create_graph=True)
        penalty: Tensor = 0.5 * slopes.square().flatten(1).sum(1).mean()
    return scores, penalty


def pair_losses(
    critic: Callable[[Tensor], Tensor],
    real: Float[Tensor, "n *shape"],
    fake: Float[Tensor, "n *shape"],
    *,
    weights: tuple[float, float],
    slope_every: int,
    update: int,
) -> tuple[Scalar, Scalar]:
    """The relativistic critic's losses of an update: `relativistic_critic_loss`, and the weighted R1 and R2.

    Args:
        critic: see `critic_slope`.
        real: samples of the data.
        fake: as many generated samples, without gradient.
        weights: of R1, on `real`, and of R2, on `fake`.
        slope_every: the penalties are computed in one of this many updates, with as many times the weight.
        update: number of this update, from 0.
    """
    if update % slope_every:
        # Real and generated samples in one batch: a score does not depend on other samples.
        real_scores, fake_scores = critic(torch.cat([real, fake])).chunk(2)
        loss = relativistic_critic_loss(real_scores, fake_scores)
        return loss, torch.zeros_like(loss)
    (real_scores, real_slope), (fake_scores, fake_slope) = (critic_slope(critic, each) for each in (real, fake))
    slope = slope_every * (weights[0] * real_slope + weights[1] * fake_slope)
    return relativistic_critic_loss(real_scores, fake_scores), slope


def interpolation_factors(
    count: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Float[Tensor, " n"]:
    """Draws the interpolation factors of the gradient penalty, uniform in [0, 1], on the generator's device."""
    return torch.rand(count, generator=generator, device=generator.device).to(device)


def least_squares_critic_loss(real_maps: PatchMaps, fake_maps: PatchMaps) -> Scalar:
    """The LSGAN loss of the image and sketch critics: E[(D(x) - 1)^2] + E[D(G(.))^2], summed over the scales.

    Args:
        real_maps: patch scores of the data, one map per scale.
        fake_maps: patch scores of generated samples, generated without gradient.
    """
    return _distance_to(real_maps, 1.0) + _distance_to(fake_maps, 0.0)


def least_squares_generator_loss(fake_maps: PatchMaps) -> Scalar:
    """The LSGAN loss of generators against patch critics: E[(D(G(.)) - 1)^2], summed over the scales."""
    return _distance_to(fake_maps, 1.0)


def cycle_loss(reconstructed: Float[Tensor, "*shape"], original: Float[Tensor, "*shape"]) -> Scalar:
    """Mean absolute difference after a round trip; the original is a target and gets no gradient.

    The three cycles of the paper:
        sketch:  E[|| E_2.5D(G_texture(v_2.5D, z_texture)) - v_2.5D ||_1]
        image:   E[|| G_texture(E_2.5D(x), E_texture(x)) - x ||_1]
        texture: E[|| E_texture(G_texture(v_2.5D, z_texture)) - z_texture ||_1]
    with the mean over all elements of a sample in place of the sum.
    """
    return functional.l1_loss(at_least_single(reconstructed), at_least_single(original.detach()))


def code_divergence(mean: Float[Tensor, "n k"], log_variance: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """KL divergence of a texture or shape encoder from the prior: D_KL(E(x) || N(0, I)) of each sample.

    With mean m and variance s^2 this is -1/2 sum(1 + log s^2 - m^2 - s^2), summed over the elements of the code.

    Returns:
        One value per sample. The paper's expectation is their mean; the published training sums them.
    """
    mean, log_variance = at_least_single(mean), at_least_single(log_variance)
    return -0.5 * (1.0 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)


def flow_divergence(
    normal: Float[Tensor, "n k"], log_determinant: Float[Tensor, " n"], log_variance: Float[Tensor, "n k"]
) -> Float[Tensor, " n"]:
    """KL divergence of an encoder from a learned flow prior, estimated from one code drawn for each sample.

    D_KL(E(x) || p) = E[log q(c) - log p(c)] with log p(c) = log N(f(c); 0, I) + log |det df/dc| (Chen et al. 2017,
    eq. 9). The entropy of q is known, and only -log p(c) is estimated from the code c.

    Args:
        normal: f(c), the code through the flow.
        log_determinant: log |det df/dc| at c.
        log_variance: of the encoder, for every element of the code.

    Returns:
        One value per sample, with non-negative expectation; single values may be negative.
    """
    normal, log_variance = at_least_single(normal), at_least_single(log_variance)
    return 0.5 * (normal.square() - 1.0 - log_variance).sum(dim=1) - at_least_single(log_determinant)


def mask_loss(normalized_depth: Float[Tensor, "n 1 r r"], mask: Float[Tensor, "n 1 r r"]) -> Scalar:
    """Mean absolute difference of an image's estimated sketch, composed on -1, and its mask scaled to [-1, 1].

    It keeps the estimated depth away from the background inside the object.

    Args:
        normalized_depth: near 1, far and background -1.
        mask: 1 on the object, 0 elsewhere.
    """
    return functional.l1_loss(at_least_single(normalized_depth), 2.0 * at_least_single(mask) - 1.0)


def _distance_to(maps: PatchMaps, target: float) -> Scalar:
    return torch.stack([(at_least_single(scores) - target).square().mean() for scores in maps]).sum()
