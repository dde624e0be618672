"""The texture stage: the published objective down to gradients, and its schedule of shapes."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from vonmodel.config import ModelConfig, TextureStageConfig, TrainConfig, update
from vonmodel.data.loader import Batch
from vonmodel.model import VonModel, build_model
from vonmodel.projection import FramedSketch
from vonmodel.published import PublishedName, load_published
from vonmodel.training.stage import ImagePool, Step, run_phase
from vonmodel.training.texture_stage import texture_critic_losses, texture_losses

MakeStage = Callable[..., Any]
Arrays = Callable[[str], dict[str, Tensor]]

NETWORKS: dict[str, tuple[str, PublishedName]] = {
    "texture_generator": ("texture_generator_64", "net_G_AB"),
    "sketch_encoder": ("sketch_encoder_64", "net_G_BA"),
    "texture_encoder": ("texture_encoder_64", "net_E"),
    "image_critic": ("image_discriminator_64", "net_D_A"),
    "sketch_critic": ("sketch_discriminator_64", "net_D_B"),
}


class GivenDraws(Step):
    """A step whose normal numbers are given: texture code, then the noise of both encodings."""

    draws: Iterator[Tensor]

    def normal(self, size: int, like: Tensor) -> Tensor:
        return next(self.draws)


@pytest.fixture
def published(golden_arrays: Arrays) -> VonModel:
    model = build_model(ModelConfig(resolution=32, image_size=64, shape_base_channels=2, texture_base_channels=4), 0)
    for name, (file, published_name) in NETWORKS.items():
        stored = golden_arrays(file)
        weights = {key.removeprefix("weight:"): value for key, value in stored.items() if key[:7] == "weight:"}
        setattr(model, name, load_published(published_name, weights))
    return model


def given_step(given: dict[str, Tensor]) -> tuple[GivenDraws, FramedSketch]:
    step = GivenDraws(0, Batch(images=given["image"], masks=given["image_mask"]), torch.Generator())
    step.draws = iter([given["texture_code"], given["encoder_noise_real"], given["encoder_noise_fake"]])
    return step, FramedSketch(given["sketch_mask"], torch.zeros(2, 1, 64, 64), given["sketch_depth"])


def test_the_objective_is_the_published_one(published: VonModel, golden_arrays: Arrays) -> None:
    given = golden_arrays("texture_objective_64")
    step, sketch = given_step(given)
    losses = texture_losses(published, sketch, step, TextureStageConfig(batch_size=2))
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(given[f"loss:{name}"].item(), rel=1e-4, abs=1e-5), name
    total = torch.stack(list(losses.values())).sum()
    assert total.item() == pytest.approx(given["loss:generator_total"].item(), rel=1e-4)
    total.backward()
    for name in ("texture_generator", "sketch_encoder", "texture_encoder"):
        squares = [each.grad.square().sum() for each in getattr(published, name).parameters()]
        norm = torch.stack(squares).sum().sqrt().item()
        assert norm == pytest.approx(given[f"grad_norm:{name}"].item(), rel=1e-3), name
    pools = {"images": ImagePool(0), "sketches": ImagePool(0)}
    critics = texture_critic_losses(published, step, pools)
    assert critics["image_critic"].item() == pytest.approx(given["loss:image_discriminator"].item(), rel=1e-4)
    assert critics["sketch_critic"].item() == pytest.approx(given["loss:sketch_discriminator"].item(), rel=1e-4)


def test_the_divergence_counts_the_configured_batch_however_it_is_dealt_out(
    tiny_config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    weights = TextureStageConfig(batch_size=8)
    model, stage = make_stage(update(tiny_config, {"texture": {"batch_size": 8}}, "test"), "texture")
    batch = make_step(stage, 0).batch
    whole, parts = 0.0, 0.0
    for start, stop in ((0, 8), (0, 4), (4, 8)):
        part = Batch(images=batch.images[start:stop], masks=batch.masks[start:stop])
        step = Step(0, part, torch.Generator().manual_seed(0))
        sketch = FramedSketch(*(part.masks for _ in range(3)))
        loss = texture_losses(model.eval(), sketch, step, weights)["texture_kl"].item()
        whole, parts = (loss, parts) if stop - start == 8 else (whole, parts + loss / 2)
    assert parts == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(("share", "first"), [(0.0, 10), (0.3, 7), (1.0, 0)])
def test_first_prepared_shapes_then_generated_ones(
    share: float, first: int, tiny_config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    config = update(tiny_config, {"texture": {"generated_share": share, "batch_size": 2}}, "test")
    model, stage = make_stage(config, "texture", steps=10)
    generated = []
    handle = model.shape_generator.register_forward_hook(lambda *_: generated.append(True))
    for number in (0, 6, 7, 9):
        generated.clear()
        step = make_step(stage, number)
        run_phase(stage.phases[0], [step])
        assert bool(generated) == (number >= first)
        assert (step.batch.volumes is None) == (number >= first)
    handle.remove()


def test_a_step_moves_painters_then_critics_and_no_shape(
    tiny_config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    config = update(tiny_config, {"texture": {"generated_share": 1.0, "batch_size": 2}}, "test")
    model, stage = make_stage(config, "texture")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step = make_step(stage, 0)
    moved = []
    for phase in stage.phases:
        run_phase(phase, [step])
        now = model.state_dict()
        moved.append({name.partition(".")[0] for name in now if not torch.equal(now[name], before[name])})
    painters = {"texture_generator", "sketch_encoder", "texture_encoder"}
    assert moved == [painters, painters | {"image_critic", "sketch_critic"}]
    assert all(pool.images is not None and len(pool.images) == 2 for pool in stage.pools.values())


def test_the_sketch_has_the_viewpoint_of_its_photo(
    tiny_config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    config = update(tiny_config, {"texture": {"generated_share": 0.0, "batch_size": 3}}, "test")
    model, stage = make_stage(config, "texture")
    step = make_step(stage, 0)
    run_phase(stage.phases[0], [step])
    expected = model.sketch(step.batch.volumes, step.batch.rotations).normalized_depth
    assert torch.equal(step.made["real_depth"], expected)


def test_fakes_for_the_critics_carry_no_gradient(
    tiny_config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    config = update(tiny_config, {"texture": {"batch_size": 2}}, "test")
    _, stage = make_stage(config, "texture")
    step = make_step(stage, 0)
    run_phase(stage.phases[0], [step])
    assert not any(made.requires_grad for made in step.made.values())


def test_weights_weigh(tiny_config: TrainConfig, make_stage: MakeStage, make_step: MakeStage) -> None:
    model, stage = make_stage(update(tiny_config, {"texture": {"batch_size": 2}}, "test"), "texture")
    step = make_step(stage, 0)
    sketch = FramedSketch(step.batch.masks, step.batch.masks, 2 * step.batch.masks - 1)
    names = {
        "sketch_cycle": "sketch_cycle",
        "image_cycle": "image_cycle",
        "texture_cycle": "texture_cycle",
        "kl": "texture_kl",
        "mask": "sketch_mask",
    }
    plain = texture_losses(model, sketch, make_step(stage, 0), TextureStageConfig(batch_size=2))
    for field, term in names.items():
        weights = dataclasses.replace(TextureStageConfig(batch_size=2), **{field: 0.0})
        losses = texture_losses(model, sketch, make_step(stage, 0), weights)
        assert [name for name, loss in losses.items() if loss != plain[name]] == [term]
        assert losses[term] == 0
