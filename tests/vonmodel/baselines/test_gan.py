import dataclasses

import pytest
import torch
from torch.nn import functional

from vonmodel.baselines.configs import RECIPES
from vonmodel.baselines.gan import Game, critic_loss, generator_loss
from vonmodel.baselines.models import build_baseline
from vonmodel.config import ModelConfig

TINY = ModelConfig(resolution=16, image_size=32, shape_base_channels=2, texture_base_channels=2)


def test_objectives_are_those_of_their_papers():
    real, fake = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([0.1, 0.7])
    one, zero = torch.ones_like, torch.zeros_like
    entropy = functional.binary_cross_entropy_with_logits
    expected = entropy(real, one(real)) + entropy(fake, zero(fake))
    torch.testing.assert_close(critic_loss("cross_entropy", real, fake), expected)
    torch.testing.assert_close(generator_loss("cross_entropy", fake), entropy(fake, one(fake)))
    squares = functional.mse_loss
    expected = (squares(real, one(real)) + squares(fake, zero(fake))) / 2
    torch.testing.assert_close(critic_loss("least_squares", real, fake), expected)
    torch.testing.assert_close(generator_loss("least_squares", fake), squares(fake, one(fake)) / 2)
    torch.testing.assert_close(critic_loss("wasserstein", real, fake), fake.mean() - real.mean())
    torch.testing.assert_close(generator_loss("wasserstein", fake), -fake.mean())


def play(name, *, recipe=None, share=1.0, real=None):
    """Plays one step; which networks changed, the losses, and how often each optimiser stepped."""
    recipe = recipe or RECIPES[name]
    model = build_baseline(name, TINY, 0).train()
    before = {key: value.clone() for key, value in model.named_parameters()}
    game = Game(model, recipe)
    steps = dict.fromkeys(game.optimisers, 0)
    for network, optimiser in game.optimisers.items():

        def count(*_, network=network):
            steps[network] += 1

        optimiser.register_step_post_hook(count)
    if real is None:
        size = (3, 32, 32) if recipe.draws == "images" else (1, 16, 16, 16)
        real = torch.rand(4 * recipe.critic_steps, *size, generator=torch.Generator().manual_seed(0))
    losses = game.play(real, torch.Generator().manual_seed(1), share)
    changed = {
        key.partition(".")[0] for key, value in model.named_parameters() if not torch.equal(value, before[key])
    }
    return changed, losses, steps


@pytest.mark.parametrize("name", ["dcgan", "lsgan", "wgan-gp"])
def test_both_sides_learn_in_a_step(name):
    changed, losses, steps = play(name)
    assert changed == {"generator", "critic"}
    assert steps == {"critic": RECIPES[name].critic_steps, "generator": 1}
    assert set(losses) == {"critic", "generator"} | ({"penalty"} if name == "wgan-gp" else set())
    assert all(torch.isfinite(loss) and not loss.requires_grad for loss in losses.values())


def test_a_critic_that_is_too_good_waits():
    recipe = RECIPES["3dgan"]
    never, always = (dataclasses.replace(recipe, accuracy_limit=limit) for limit in (-0.1, 0.999))
    assert play("3dgan", recipe=never)[2] == {"critic": 0, "generator": 1}
    assert play("3dgan", recipe=always)[2] == {"critic": 1, "generator": 1}


def test_without_a_learning_rate_nothing_moves():
    assert play("dcgan", share=0.0)[0] == set()
