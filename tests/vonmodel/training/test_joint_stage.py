"""The joint stage: one step of every network on the sum, gradients through the projection."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vonmodel.config import TrainConfig, update
from vonmodel.model import GENERATORS
from vonmodel.training.stage import run_phase

MakeStage = Callable[..., Any]


@pytest.fixture
def config(tiny_config: TrainConfig) -> TrainConfig:
    return update(tiny_config, {"joint": {"batch_size": 2}}, "test")


def test_every_network_takes_exactly_one_step(
    config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    # The published code steps the shape generator twice: on the texture terms, then on its own.
    model, stage = make_stage(config, "joint")
    step = make_step(stage, 0)
    forwards = []
    handle = model.shape_generator.register_forward_hook(lambda *_: forwards.append(1))
    for phase in stage.phases:
        run_phase(phase, [step])
    handle.remove()
    assert len(forwards) == 1  # one set of shapes for all terms
    updates = {
        parameter: phase.optimiser.state[parameter]["step"].item()
        for phase in stage.phases
        for group in phase.optimiser.param_groups
        for parameter in group["params"]
    }
    assert set(updates) == set(model.parameters())
    assert set(updates.values()) == {1.0}


def test_texture_terms_reach_the_shape_generator(
    config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    model, stage = make_stage(update(config, {"joint": {"shape_weight": 0.0}}, "test"), "joint")
    # Visible shapes: an untrained generator's are grey everywhere.
    with torch.no_grad():
        model.shape_generator.to_volume.weight *= 40
    before = [each.clone() for each in model.shape_generator.parameters()]
    run_phase(stage.phases[0], [make_step(stage, 0)])
    gradients = [each.grad for each in model.shape_generator.parameters()]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    after = model.shape_generator.parameters()
    assert not any(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_shape_terms_are_weighted(config: TrainConfig, make_stage: MakeStage, make_step: MakeStage) -> None:
    terms = {}
    for weight in (0.05, 0.5):
        _, stage = make_stage(update(config, {"joint": {"shape_weight": weight}}, "test"), "joint")
        step = make_step(stage, 0)
        terms[weight] = stage.phases[0].losses(step, 0), stage.phases[1].losses(step, 0)
    for light, heavy in zip(terms[0.05], terms[0.5], strict=True):
        for name in light:
            factor = 10 if name.startswith("shape_") else 1
            assert heavy[name].item() == pytest.approx(factor * light[name].item(), rel=1e-3), name


def test_its_groups_have_their_own_rates_and_all_generators_are_averaged(
    config: TrainConfig, make_stage: MakeStage
) -> None:
    _, stage = make_stage(config, "joint")
    for phase in stage.phases:
        shape, texture = phase.optimiser.param_groups
        assert (shape["full_lr"], shape["betas"]) == (1e-4, (0.5, 0.9))
        assert (texture["full_lr"], texture["betas"]) == (2e-4, (0.5, 0.999))
    assert stage.averaged == GENERATORS


def test_it_loads_shapes_and_photos(config: TrainConfig, make_stage: MakeStage) -> None:
    _, stage = make_stage(config, "joint")
    batch = stage.load(3)
    assert batch.volumes is not None
    assert batch.images is not None
    assert len(batch.volumes) == len(batch.images) == 2
    assert len(batch.ids) == 4
