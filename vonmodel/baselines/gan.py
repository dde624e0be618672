"""One step of a baseline: its critic's updates, then its generator's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from vonmodel.baselines.configs import Objective, Recipe
from vonmodel.baselines.models import Baseline
from vonmodel.training.losses import (
    gradient_penalty,
    interpolation_factors,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)


class Game:
    """Generator and critic with their optimisers.

    Attributes:
        optimisers: by the name of the network.
    """

    def __init__(self, model: Baseline, recipe: Recipe) -> None:
        self._model, self._recipe = model, recipe
        self.optimisers: Mapping[str, torch.optim.Adam] = {
            "critic": torch.optim.Adam(model.critic.parameters(), recipe.critic_rate, recipe.betas),
            "generator": torch.optim.Adam(model.generator.parameters(), recipe.generator_rate, recipe.betas),
        }

    def play(self, real: Tensor, generator: torch.Generator, share: float) -> dict[str, Tensor]:
        """One step.

        Args:
            real: a batch for each update of the critic, one after the other.
            generator: source of all its random numbers, on the CPU.
            share: of the full learning rates.

        Returns:
            The losses by name, without gradient; those of the critic are the last update's.
        """
        recipe = self._recipe
        for name, rate in (("critic", recipe.critic_rate), ("generator", recipe.generator_rate)):
            self.optimisers[name].param_groups[0]["lr"] = share * rate
        losses: dict[str, Tensor] = {}
        for batch in real.chunk(recipe.critic_steps):
            losses |= self._critic(batch, generator)
        fake = self._fakes(len(real) // recipe.critic_steps, generator, real.device)
        self._model.critic.requires_grad_(False)
        losses["generator"] = generator_loss(recipe.objective, self._model.critic(fake))
        self._update("generator", losses["generator"])
        self._model.critic.requires_grad_(True)
        return {name: loss.detach() for name, loss in losses.items()}

    def _critic(self, real: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        recipe, critic = self._recipe, self._model.critic
        with torch.no_grad():
            fake = self._fakes(len(real), generator, real.device)
        real_scores, fake_scores = critic(real), critic(fake)
        losses = {"critic": critic_loss(recipe.objective, real_scores, fake_scores)}
        if recipe.gradient_penalty > 0.0:
            factors = interpolation_factors(len(real), generator, real.device)
            losses["penalty"] = recipe.gradient_penalty * gradient_penalty(critic, real, fake, factors)
        right = torch.cat([real_scores > 0.0, fake_scores <= 0.0]).float().mean()
        if recipe.accuracy_limit >= 1.0 or right <= recipe.accuracy_limit:
            self._update("critic", torch.stack(list(losses.values())).sum())
        return losses

    def _update(self, name: str, loss: Tensor) -> None:
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimisers[name].step()

    def _fakes(self, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
        codes = torch.randn(count, self._recipe.code_size, generator=generator).to(device)
        fakes: Tensor = self._model.generator(codes)
        return fakes


def critic_loss(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """What the critic minimises, from its scores (n,) of real and generated samples.

    cross_entropy: -E[log s(D(x))] - E[log(1 - s(D(G(z))))] with the logistic function s (Goodfellow et al. 2014);
    least_squares: E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2 (Mao et al. 2017); wasserstein: E[D(G(z))] - E[D(x)].
    """
    match objective:
        case "cross_entropy":
            return functional.softplus(-real).mean() + functional.softplus(fake).mean()
        case "least_squares":
            return ((real - 1.0).square().mean() + fake.square().mean()) / 2.0
        case "wasserstein":
            return wasserstein_critic_loss(real, fake)


def generator_loss(objective: Objective, fake: Tensor) -> Tensor:
    """What the generator minimises: -E[log s(D(G(z)))], E[(D(G(z)) - 1)^2] / 2, or -E[D(G(z))]."""
    match objective:
        case "cross_entropy":
            return functional.softplus(-fake).mean()
        case "least_squares":
            return (fake - 1.0).square().mean() / 2.0
        case "wasserstein":
            return wasserstein_generator_loss(fake)
