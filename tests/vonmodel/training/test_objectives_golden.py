"""Both published objectives, term by term and down to the gradients, from the same weights and random numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vonmodel.model import on_background
from vonmodel.networks import sample_code
from vonmodel.published import PublishedName, load_published
from vonmodel.training import losses

# Largest relative difference found: 3e-7 in losses and gradient norms, 4e-7 in pixels.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def arrays(path: Path) -> dict[str, Tensor]:
    with np.load(path) as stored:
        return {key: torch.from_numpy(value) for key, value in stored.items() if value.dtype.kind in "fiu"}


def network(golden: Path, file: str, name: PublishedName) -> nn.Module:
    stored = arrays(golden / f"{file}.npz")
    return load_published(name, {k.removeprefix("weight:"): v for k, v in stored.items() if k.startswith("weight:")})


def gradient_norm(trained: nn.Module) -> float:
    return torch.stack([each.grad.square().sum() for each in trained.parameters()]).sum().sqrt().item()


@pytest.fixture
def texture(golden: Path) -> dict[str, nn.Module]:
    return {
        "texture_generator": network(golden, "texture_generator_64", "net_G_AB"),
        "sketch_encoder": network(golden, "sketch_encoder_64", "net_G_BA"),
        "texture_encoder": network(golden, "texture_encoder_64", "net_E"),
        "image_critic": network(golden, "image_discriminator_64", "net_D_A"),
        "sketch_critic": network(golden, "sketch_discriminator_64", "net_D_B"),
    }


def test_texture_objective(golden: Path, texture: dict[str, nn.Module]) -> None:
    given = arrays(golden / "texture_objective_64.npz")
    paint, read_sketch, read_texture, judge_image, judge_sketch = texture.values()
    depth, depth_mask, code = given["sketch_depth"], given["sketch_mask"], given["texture_code"]
    image, image_mask = given["image"], given["image_mask"]

    fake_image = on_background(paint(depth, code), depth_mask, 1.0)
    fake_sketch = on_background(read_sketch(image), image_mask, -1.0)
    sketch_again = on_background(read_sketch(fake_image), depth_mask, -1.0)
    mean, log_variance = read_texture(image)
    image_code = sample_code(mean, log_variance, given["encoder_noise_real"])
    image_again = on_background(paint(fake_sketch, image_code), image_mask, 1.0)
    code_again = sample_code(*read_texture(fake_image), given["encoder_noise_fake"])
    for made, key in (
        (fake_image, "fake_image"),
        (fake_sketch, "fake_sketch"),
        (sketch_again, "reconstructed_sketch"),
        (image_again, "reconstructed_image"),
    ):
        torch.testing.assert_close(made, given[key], **CLOSE)

    terms = {
        "image_adversarial": losses.least_squares_generator_loss(judge_image(fake_image)),
        "sketch_adversarial": losses.least_squares_generator_loss(judge_sketch(fake_sketch)),
        "sketch_cycle": 10.0 * losses.cycle_loss(sketch_again, depth),
        "image_cycle": 25.0 * losses.cycle_loss(image_again, image),
        "texture_cycle": 1.0 * losses.cycle_loss(code_again, code),
        "texture_kl": 0.001 * losses.code_divergence(mean, log_variance).sum(),
        "sketch_mask": 2.5 * losses.mask_loss(fake_sketch, image_mask),
    }
    total = torch.stack(list(terms.values())).sum()
    critics = {
        "image_discriminator": losses.least_squares_critic_loss(judge_image(image), judge_image(fake_image.detach())),
        "sketch_discriminator": losses.least_squares_critic_loss(
            judge_sketch(depth), judge_sketch(fake_sketch.detach())
        ),
    }
    for key, value in {**terms, "generator_total": total, **critics}.items():
        assert value.item() == pytest.approx(given[f"loss:{key}"].item(), rel=1e-4, abs=1e-5), key
    total.backward()
    for key in ("texture_generator", "sketch_encoder", "texture_encoder"):
        assert gradient_norm(texture[key]) == pytest.approx(given[f"grad_norm:{key}"].item(), rel=1e-4), key


def test_losses_of_the_stored_tensors(golden: Path) -> None:
    given = arrays(golden / "texture_objective_64.npz")
    terms = {
        "sketch_cycle": 10.0 * losses.cycle_loss(given["reconstructed_sketch"], given["sketch_depth"]),
        "image_cycle": 25.0 * losses.cycle_loss(given["reconstructed_image"], given["image"]),
        "sketch_mask": 2.5 * losses.mask_loss(given["fake_sketch"], given["image_mask"]),
    }
    for key, value in terms.items():
        assert value.item() == pytest.approx(given[f"loss:{key}"].item(), rel=1e-4), key


def test_shape_objective(golden: Path) -> None:
    given = arrays(golden / "shape_objective_32.npz")
    generator = network(golden, "shape_generator_32", "net_G_3D").train()
    critic = network(golden, "shape_discriminator_32", "net_D_3D").train()
    real = given["real"].float()
    fake = generator(given["code"].flatten(1))
    torch.testing.assert_close(fake, given["fake_training_mode"], **CLOSE)
    torch.testing.assert_close(critic(real), given["critic_real"], **CLOSE)
    torch.testing.assert_close(critic(fake), given["critic_fake"], **CLOSE)
    penalty = 10.0 * losses.gradient_penalty(critic, real, fake, given["interpolation"][:, 0])
    assert penalty.item() == pytest.approx(given["gradient_penalty"].item(), rel=1e-4)
    penalty.backward()
    assert gradient_norm(critic) == pytest.approx(given["grad_norm_discriminator"].item(), rel=1e-4)
