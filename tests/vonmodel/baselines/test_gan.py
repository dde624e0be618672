import dataclasses

import pytest
import torch
from torch.nn import functional

from vonmodel.baselines.models import CONFIGS, build_baseline
from vonmodel.baselines.training import GanStage, critic_loss, generator_loss
from vonmodel.config import ModelConfig, TextureStageConfig
from vonmodel.data.loader import Batch
from vonmodel.training.stage import Step, run_step

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


def play(name, *, gan=None, share=1.0, batch_size=4):
    """Runs one step; which networks changed, the losses by phase, and how often each optimiser stepped."""
    gan = gan or CONFIGS[name]
    model = build_baseline(name, TINY, 0).requires_grad_(False).train()
    before = {key: value.clone() for key, value in model.named_parameters()}
    stage = GanStage(name, model, gan, TextureStageConfig(batch_size=batch_size), None)
    steps = dict.fromkeys((phase.name for phase in stage.phases), 0)
    for phase in stage.phases:

        def count(*_, name=phase.name):
            steps[name] += 1

        phase.optimiser.register_step_post_hook(count)
    size = (3, 32, 32) if gan.draws == "images" else (1, 16, 16, 16)
    real = torch.rand(batch_size * gan.critic_steps, *size, generator=torch.Generator().manual_seed(0))
    batch = Batch(images=real) if gan.draws == "images" else Batch(volumes=real)
    step = Step(0, batch, torch.Generator().manual_seed(1))
    losses, sound = run_step(stage, [step], learning_rate=share)
    assert sound
    changed = {
        key.partition(".")[0] for key, value in model.named_parameters() if not torch.equal(value, before[key])
    }
    return changed, losses, steps


@pytest.mark.parametrize("name", ["dcgan", "lsgan", "wgan-gp"])
def test_both_sides_learn_in_a_step(name):
    changed, losses, steps = play(name)
    assert changed == {"generator", "critic"}
    assert steps == {"critic": CONFIGS[name].critic_steps, "generator": 1}
    assert set(losses["critic"]) == {"critic"} | ({"penalty"} if name == "wgan-gp" else set())
    assert set(losses["generator"]) == {"generator"}
    assert all(
        torch.isfinite(loss) and not loss.requires_grad for terms in losses.values() for loss in terms.values()
    )


def test_each_update_of_the_critic_sees_items_of_its_own(monkeypatch):
    """The items of a step, in order: 5 batches of 2 for the 5 updates of the critic."""
    seen = []
    model = build_baseline("wgan-gp", TINY, 0)
    stage = GanStage("wgan-gp", model, CONFIGS["wgan-gp"], TextureStageConfig(batch_size=2), None)
    monkeypatch.setattr(
        model.critic, "forward", lambda images: seen.append(images[:, 0, 0, 0]) or images.sum((1, 2, 3))
    )
    real = torch.arange(10.0)[:, None, None, None].expand(-1, 3, 32, 32)
    step = Step(0, Batch(images=real), torch.Generator().manual_seed(0))
    for repeat in range(5):
        stage.phases[0].losses(step, repeat)
    assert [each.tolist() for each in seen[::3]] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_critic_that_is_too_good_waits():
    gan = CONFIGS["3dgan"]
    never, always = (dataclasses.replace(gan, accuracy_limit=limit) for limit in (-0.1, 0.999))
    assert play("3dgan", gan=never)[2] == {"critic": 0, "generator": 1}
    assert play("3dgan", gan=always)[2] == {"critic": 1, "generator": 1}


def test_without_a_learning_rate_nothing_moves():
    assert play("dcgan", share=0.0)[0] == set()
