"""The texture objective by pairs: its terms by hand, which networks each term trains, and which networks take it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from vonmodel.config import ConfigError, TrainConfig, update
from vonmodel.distributed import Part
from vonmodel.networks import ResidualCritic
from vonmodel.projection import FramedSketch, geometry_maps
from vonmodel.training.stage import Step, run_phase, run_step
from vonmodel.training.texture_stage import (
    draw_variation,
    paired_critic_losses,
    paired_texture_losses,
    shift_images,
    vary_colours,
    with_mask,
)

MakeStage = Callable[..., Any]
PAIRS = {
    "model": {
        "painter": "geometry",
        "critics": "residual",
        "rays_per_pixel": 2,
        "exact_framing": True,
        "depth_range": "item",
    },
    "texture": {
        "objective": "relativistic",
        "r1": 2.0,
        "r2": 3.0,
        "slope_every": 2,
        "augment_colour": 0.5,
        "augment_shift": 0.125,
        "generated_share": 0.0,
        "batch_size": 4,
    },
    "joint": {"batch_size": 2},
}


@pytest.fixture
def config(tiny_config: TrainConfig) -> TrainConfig:
    return update(tiny_config, PAIRS, "test")


def test_terms_are_those_written_out(config: TrainConfig, make_stage: MakeStage, make_step: MakeStage) -> None:
    model, stage = make_stage(config, "texture")
    weights, step = config.texture, make_step(stage, 0)
    sketch = model.sketch(step.batch.volumes, step.batch.rotations)
    losses = paired_texture_losses(model, sketch, step, weights)
    critic = paired_critic_losses(model, step, weights)

    # The same draws in the same order.
    again = make_step(stage, 0)
    photo, mask = again.batch.images, again.batch.masks
    code = again.normal(model.config.texture_code_size, photo)
    image = model.paint(sketch, code)

    def shown(picture, silhouette):
        variation = draw_variation(again, picture, colour=0.5, shift=0.125)
        return shift_images(with_mask(vary_colours(picture, variation), silhouette), variation)

    real = model.image_critic(shown(photo, mask))
    fake = model.image_critic(shown(image, sketch.silhouette))
    expected = functional.softplus(real - fake).mean()
    torch.testing.assert_close(losses["image_adversarial"], expected)
    regression = ((model.texture_encoder(image)[0] - code) ** 2).mean()
    torch.testing.assert_close(losses["texture_cycle"], weights.texture_cycle * regression)
    variation = draw_variation(again, photo, colour=0.5, shift=0.0)
    depth = model.sketch_encoder(vary_colours(image, variation))
    depth = sketch.silhouette * depth - (1 - sketch.silhouette)
    off = (depth - sketch.normalized_depth).abs().mean()
    torch.testing.assert_close(losses["sketch_cycle"], weights.sketch_cycle * off)

    pair = [shown(photo, mask).requires_grad_(), shown(image.detach(), sketch.silhouette).requires_grad_()]
    scores = [model.image_critic(each) for each in pair]
    torch.testing.assert_close(critic["image_critic"], functional.softplus(scores[1] - scores[0]).mean())
    slopes = [torch.autograd.grad(score.sum(), each)[0] for score, each in zip(scores, pair, strict=True)]
    norms = [slope.square().sum((1, 2, 3)).mean() for slope in slopes]
    # r1 / 2 E||.||^2 + r2 / 2 E||.||^2, twice as heavy as it is there in every second step only.
    torch.testing.assert_close(critic["image_slope"], 2.0 * (2.0 / 2.0 * norms[0] + 3.0 / 2.0 * norms[1]))


def test_a_surface_encoder_adds_the_image_cycle(
    config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    config = update(
        config,
        {"model": {"surface_encoder": True}, "texture": {"image_cycle": 7.0, "kl": 0.5, "sketch_cycle": 3.0}},
        "test",
    )
    model, stage = make_stage(config, "texture")
    weights, step = config.texture, make_step(stage, 0)
    sketch = model.sketch(step.batch.volumes, step.batch.rotations)
    losses = paired_texture_losses(model.requires_grad_(), sketch, step, weights)

    photo, mask = step.batch.images, step.batch.masks
    maps = model.sketch_encoder.maps(photo, mask)
    mean, log_variance = model.texture_encoder(photo)
    # The same draws in the same order: of the code, of three variations, of the noise.
    drawn = make_step(stage, 0)
    drawn.normal(model.config.texture_code_size, photo)
    for shift in (0.125, 0.125, 0.0):
        draw_variation(drawn, photo, colour=0.5, shift=shift)
    code = mean + (0.5 * log_variance).exp() * drawn.normal(model.config.texture_code_size, photo)
    again = mask * model.texture_generator(maps, code) + 1 - mask
    torch.testing.assert_close(losses["image_cycle"], 7.0 * (again - photo).abs().mean())
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    torch.testing.assert_close(losses["texture_kl"], 0.5 * 4 * divergence)

    losses["image_cycle"].backward(retain_graph=True)
    assert all(each.grad is None for each in model.sketch_encoder.parameters())
    for network in (model.texture_generator, model.texture_encoder):
        assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())
    model.zero_grad()
    losses["surface_cycle"].backward()
    assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in model.sketch_encoder.parameters())
    assert all(each.grad is None for each in model.texture_generator.parameters())


def test_a_surface_encoder_learns_what_the_painter_sees(
    config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    config = update(config, {"model": {"surface_encoder": True}}, "test")
    model, stage = make_stage(config, "texture")
    step = make_step(stage, 0)
    sketch = model.sketch(step.batch.volumes, step.batch.rotations)
    seen = geometry_maps(sketch)
    # An encoder that answers with what is there makes no error.
    model.sketch_encoder.maps = lambda image, mask: seen  # type: ignore[method-assign]
    losses = paired_texture_losses(model, sketch, step, config.texture)
    assert losses["surface_cycle"] == 0
    assert losses["sketch_cycle"] == 0


def test_an_encoder_of_surfaces_needs_a_painter_of_surfaces(tiny_config: TrainConfig) -> None:
    config = update(tiny_config, {"model": {"surface_encoder": True}}, "test")
    with pytest.raises(ConfigError, match=r"model\.surface_encoder"):
        config.check_objective()


def test_the_slope_is_penalised_every_second_step(
    config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    _, stage = make_stage(config, "texture")
    slopes = []
    for number in range(4):
        losses, _ = run_step(stage, [make_step(stage, number)], learning_rate=0.0)
        slopes.append(losses["critics"]["image_slope"].item())
    assert slopes[0] > 0
    assert slopes[2] > 0
    assert slopes[1] == slopes[3] == 0


def test_the_sketch_encoder_asks_nothing_of_the_painter(
    config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    model, stage = make_stage(config, "texture")
    step = make_step(stage, 0)
    sketch = model.sketch(step.batch.volumes, step.batch.rotations)
    losses = paired_texture_losses(model.requires_grad_(), sketch, step, config.texture)
    losses["sketch_cycle"].backward(retain_graph=True)
    assert all(each.grad is None for each in model.texture_generator.parameters())
    losses["texture_cycle"].backward()
    for network in (model.texture_generator, model.texture_encoder):
        assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())


def test_there_is_one_critic_of_images_with_masks(
    config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    model, stage = make_stage(config, "texture")
    assert isinstance(model.image_critic, ResidualCritic)
    assert model.sketch_critic is None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for phase in stage.phases:
        run_phase(phase, [make_step(stage, 0)] if phase is None else [step := make_step(stage, 0)])
        break
    run_phase(stage.phases[1], [step])
    now = model.state_dict()
    moved = {name.partition(".")[0] for name in now if not torch.equal(now[name], before[name])}
    assert moved == {"texture_generator", "sketch_encoder", "texture_encoder", "image_critic"}


@pytest.mark.parametrize("painter", ["published", "geometry", "field"])
@pytest.mark.parametrize("critics", ["patch", "residual"])
def test_every_painter_takes_every_critic(
    config: TrainConfig, make_stage: MakeStage, make_step: MakeStage, painter: str, critics: str
) -> None:
    chosen = update(config, {"model": {"painter": painter, "critics": critics}}, "test")
    for name in ("texture", "joint"):
        _, stage = make_stage(chosen, name)
        losses, sound = run_step(stage, [make_step(stage, 0)], learning_rate=1.0, careful=True)
        assert sound
        assert "image_slope" in losses["critics"]


def test_parts_make_the_same_gradients_as_the_whole(config: TrainConfig, make_stage: MakeStage) -> None:
    """Accumulated over two parts, in float64, every gradient is that of the batch in one piece."""
    gradients = []
    for pieces in (1, 2):
        model, stage = make_stage(config, "texture")
        model.double()
        parts = [
            Step(
                0,
                stage.load(0, Part(i, pieces)).to(torch.device("cpu"), torch.float64),
                torch.Generator().manual_seed(5),
                Part(i, pieces),
            )
            for i in range(pieces)
        ]
        run_step(stage, parts, learning_rate=0.0)
        gradients.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for whole, accumulated in zip(*gradients, strict=True):
        torch.testing.assert_close(accumulated, whole, atol=1e-9, rtol=1e-6)


def test_texture_terms_reach_the_shapes_in_the_joint_stage(
    config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    model, stage = make_stage(update(config, {"joint": {"shape_weight": 0.0}}, "test"), "joint")
    with torch.no_grad():
        model.shape_generator.to_volume.weight *= 40
    run_phase(stage.phases[0], [make_step(stage, 0)])
    gradients = [each.grad for each in model.shape_generator.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize(("field", "value"), [("painter", "geometry"), ("painter", "field"), ("critics", "residual")])
def test_objectives_of_other_networks_are_refused(
    tiny_config: TrainConfig, make_stage: MakeStage, field: str, value: str
) -> None:
    config = update(tiny_config, {"model": {field: value}}, "test")
    with pytest.raises(ConfigError, match=rf"model\.{field} is {value}.*texture\.objective"):
        make_stage(config, "texture")
    make_stage(dataclasses.replace(config, texture=update(config.texture, PAIRS["texture"], "test")), "texture")


def test_a_sketch_without_its_surface_is_refused(config: TrainConfig, make_stage: MakeStage) -> None:
    model, _ = make_stage(config, "texture")
    flat = torch.zeros(1, 1, 32, 32)
    with pytest.raises(TypeError, match="SurfaceSketch"):
        model.paint(FramedSketch(flat, flat, flat), torch.zeros(1, model.config.texture_code_size))
