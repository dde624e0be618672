import pytest
import torch

from vonmodel.baselines.models import BASELINES, CONFIGS, Baseline, build_baseline
from vonmodel.config import ModelConfig

TINY = ModelConfig(resolution=16, image_size=32, shape_base_channels=2, texture_base_channels=2)


@pytest.mark.parametrize("name", BASELINES)
def test_networks_fit_each_other(name):
    model = build_baseline(name, TINY, 0).eval()
    drawn = model.generator(torch.randn(3, CONFIGS[name].code_size))
    if CONFIGS[name].draws == "images":
        assert drawn.shape == (3, 3, 32, 32)
        assert -1 <= drawn.min() <= drawn.max() <= 1
    else:
        assert drawn.shape == (3, 1, 16, 16, 16)
        assert 0 <= drawn.min() <= drawn.max() <= 1
    assert model.critic(drawn).shape == (3,)


def test_dcgan_has_the_published_number_of_weights():
    """The public reference implementation at 64 pixels, code 100, width 64: 3,576,704 and 2,765,568 weights.

    Ours has biases in the generator's last layer, and in the critic's first and last.
    """
    model = Baseline("dcgan", ModelConfig(resolution=16, image_size=64))
    generator, critic = (sum(each.numel() for each in part.parameters()) for part in (model.generator, model.critic))
    assert generator == 3_576_704 + 3
    assert critic == 2_765_568 + 64 + 1


def test_the_penalised_critic_has_no_batch_norm_and_scores_samples_independently():
    norms = {
        name: sum(isinstance(each, torch.nn.BatchNorm2d) for each in Baseline(name, TINY).critic.modules())
        for name in ("dcgan", "lsgan", "wgan-gp")
    }
    assert norms["dcgan"] == norms["lsgan"] > 0 == norms["wgan-gp"]
    critic = build_baseline("wgan-gp", TINY, 0).critic
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(critic(images)[1:2], critic(images[1:2]))


def test_initial_weights_are_a_function_of_the_seed():
    first, again, other = (build_baseline("dcgan", TINY, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["generator.to_image.weight"], other["generator.to_image.weight"])
    weights = build_baseline("dcgan", ModelConfig(image_size=64), 0).critic.layers[2].weight
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
