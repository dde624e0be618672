"""The shape stage: the published objective, without its defects."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vonmodel.batches import Batch
from vonmodel.config import ShapeStageConfig, TrainConfig, update
from vonmodel.model import build_model
from vonmodel.published import load_published
from vonmodel.seeding import torch_generator
from vonmodel.stages import Step, learning_rate_share, run_phase, set_learning_rate
from vonmodel.stages.shape import shape_critic_losses

MakeStage = Callable[..., Any]


def test_the_critics_objective_is_the_published_one(
    tiny_config: TrainConfig, golden_arrays: Callable[[str], dict[str, Tensor]]
) -> None:
    weights = golden_arrays("shape_discriminator_32")
    given = golden_arrays("shape_objective_32")
    model = build_model(dataclasses.replace(tiny_config.model, shape_base_channels=4, shape_code_size=20), 0)
    model.shape_critic = load_published(
        "net_D_3D", {key.removeprefix("weight:"): value for key, value in weights.items() if key[:7] == "weight:"}
    )

    class Given(Step):
        def uniform(self, like: Tensor) -> Tensor:
            return given["interpolation"].flatten()

    step = Given(0, Batch(), torch.Generator())
    losses = shape_critic_losses(model, given["real"].float(), given["fake_training_mode"], step, 10.0)
    assert losses["shape_penalty"].item() == pytest.approx(given["gradient_penalty"].item(), rel=1e-4)
    # The published terms are summed over the batch; ours are means, as the penalty is.
    published = given["critic_fake"].sum() - given["critic_real"].sum()
    assert losses["shape_critic"].item() == pytest.approx(published.item() / 3, rel=1e-4)


def test_the_balance_of_terms_does_not_depend_on_the_batch_size(tiny_config: TrainConfig) -> None:
    # The published code sums scores and averages the penalty: twice the batch halves the weight of the penalty.
    model = build_model(tiny_config.model, 0)
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.rand(3, 1, 32, 32, 32, generator=generator) for _ in range(2))

    class Middle(Step):
        def uniform(self, like: Tensor) -> Tensor:
            return torch.full((len(like),), 0.5)

    step = Middle(0, Batch(), torch.Generator())
    once = shape_critic_losses(model, real, fake, step, 10.0)
    twice = shape_critic_losses(model, torch.cat([real, real]), torch.cat([fake, fake]), step, 10.0)
    for name, loss in once.items():
        assert twice[name].item() == pytest.approx(loss.item(), rel=1e-4), name


def test_both_learning_rates_follow_the_schedule(tiny_config: TrainConfig, make_stage: MakeStage) -> None:
    # The published code schedules the generator's optimiser twice and the critic's never.
    _, stage = make_stage(tiny_config, "shape")
    for phase in stage.phases:
        set_learning_rate(phase.optimiser, learning_rate_share(99, 50, 50))
    rates = {phase.name: phase.optimiser.param_groups[0]["lr"] for phase in stage.phases}
    assert rates == {"critic": pytest.approx(1e-4 / 51 * 1), "generator": pytest.approx(1e-4 / 51 * 1)}


def test_the_critic_takes_its_steps_on_different_shapes(
    tiny_config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    config = update(tiny_config, {"shape": {"critic_steps": 2, "batch_size": 3}}, "test")
    model, stage = make_stage(config, "shape")
    step = make_step(stage, 0)
    assert len(step.batch.ids) == len(set(step.batch.ids)) == 6
    seen = []
    handle = model.shape_critic.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    run_phase(stage.phases[0], [step])
    handle.remove()
    reals = [each for each in seen if torch.equal(each, each.round())]  # the data alone is 0 and 1
    assert torch.equal(torch.cat(reals), step.batch.volumes)


def test_a_step_moves_critic_then_generator(
    tiny_config: TrainConfig, make_stage: MakeStage, make_step: MakeStage
) -> None:
    model, stage = make_stage(tiny_config, "shape")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step = make_step(stage, 0)
    moved = []
    for phase in stage.phases:
        losses, _ = run_phase(phase, [step])
        assert all(torch.isfinite(loss) for loss in losses.values())
        now = model.state_dict()
        moved.append({name.partition(".")[0] for name in now if not torch.equal(now[name], before[name])})
    assert [phase.name for phase in stage.phases] == ["critic", "generator"]
    # Batch norm's statistics of the generator move with the fakes that the critic sees; its weights do not.
    assert moved[0] == {"shape_critic", "shape_generator"}
    assert moved[1] == {"shape_critic", "shape_generator"}


@pytest.mark.slow
def test_it_learns_a_box(tiny_config: TrainConfig, make_stage: MakeStage, make_step: MakeStage) -> None:
    config = dataclasses.replace(
        tiny_config,
        model=dataclasses.replace(tiny_config.model, shape_base_channels=4),
        shape=ShapeStageConfig(batch_size=8, learning_rate=1e-3),
    )
    model, stage = make_stage(config, "shape")
    for number in range(250):
        step = make_step(stage, number)
        for phase in stage.phases:
            run_phase(phase, [step])
    model.eval()
    with torch.no_grad():
        made = model.generate_shapes(torch.randn(16, 8, generator=torch_generator(0, "test"))) > 0.5
    real = make_step(stage, 0).batch.volumes > 0.5
    overlap = (made[:, None] & real).flatten(2).sum(-1) / (made[:, None] | real).flatten(2).sum(-1)
    assert (overlap.max(dim=1).values > 0.5).sum() >= 8
