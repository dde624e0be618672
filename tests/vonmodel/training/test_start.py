"""Runs that start from another run's weights, and finished runs that are trained longer."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    CheckpointState,
    load_model,
    read_state,
    save_checkpoint,
)
from vonmodel.config import TrainConfig, update
from vonmodel.data.datasets import EmptySplitError
from vonmodel.model import build_model
from vonmodel.networks.blocks import LEAK, grown
from vonmodel.networks.texture_networks import GeometryPainter, ResidualCritic
from vonmodel.run_folder import ConfigChangedError, RunFolder, StageBegunError
from vonmodel.training.loop import TrainingJob, train
from vonmodel.training.setup import open_data
from vonmodel.training.start import Origin, StartedElsewhereError, start_from

CPU = torch.device("cpu")
STAGE = {"batch_size": 2, "unit": "steps", "steady": 2, "decaying": 1, "average": 0.9}


@pytest.fixture
def config(tiny_config: TrainConfig) -> TrainConfig:
    changes = {
        "model": {"resampled": False, "depth_range": "item"},
        **dict.fromkeys(("shape", "texture", "joint"), STAGE),
        "output": {"log_every": 5, "sample_every": 0, "save_every": 0, "workers": 0},
    }
    return update(tiny_config, changes, "test")


@pytest.fixture
def job(tmp_path: Path, tiny_data: Path, config: TrainConfig) -> TrainingJob:
    return TrainingJob(RunFolder(tmp_path / "new"), config, tiny_data, CPU)


def test_a_new_run_starts_with_the_weights_another_is_sampled_with(job: TrainingJob, tiny_run: Path) -> None:
    expected, source = load_model(tiny_run)
    info = start_from(job, "shape", Origin(tiny_run))
    assert info is not None
    assert (info.name, info.step, info.finished) == ("shape-00000000", 0, False)
    job.run.start(job.config)  # what start_from left does no harm
    weights = read_state(job.run.path, info).networks
    assert all(torch.equal(weights[name], value) for name, value in expected.state_dict().items())
    assert json.loads((job.run.path / "started-from.json").read_text())["sha256"] == source.sha256
    ended = train(job, ("shape",))
    assert (ended.step, ended.finished) == (3, True)
    moved = read_state(job.run.path, ended).networks
    name = "shape_generator.to_volume.weight"
    assert 0 < (moved[name] - weights[name]).abs().max() < 0.05
    painter = "texture_generator"
    assert all(torch.equal(moved[key], weights[key]) for key in weights if key.startswith(painter))


def test_a_later_stage_may_be_the_first(job: TrainingJob, tiny_run: Path) -> None:
    start_from(job, "joint", Origin(tiny_run, "joint-00000010"))
    job.run.start(job.config)
    assert train(job).stage == "joint"  # the stages before are passed


def test_starting_again_changes_nothing_and_elsewhere_is_refused(job: TrainingJob, tiny_run: Path) -> None:
    start_from(job, "shape", Origin(tiny_run))
    before = {file: file.read_bytes() for file in job.run.path.rglob("*") if file.is_file()}
    assert start_from(job, "shape", Origin(tiny_run)) is None
    with pytest.raises(StartedElsewhereError, match="has begun already, and not from joint-00000010"):
        start_from(job, "shape", Origin(tiny_run, "joint-00000010"))
    assert {file: file.read_bytes() for file in job.run.path.rglob("*") if file.is_file()} == before


def test_weights_of_other_sizes_are_named(job: TrainingJob, tiny_run: Path) -> None:
    wider = update(job.config, {"model": {"shape_base_channels": 5}}, "test")
    with pytest.raises(CheckpointError, match=r"do not fit this model: .*model\.shape_base_channels.* differ"):
        start_from(dataclasses.replace(job, config=wider), "shape", Origin(tiny_run))
    assert not job.run.path.exists()


def lengthened(job: TrainingJob, **changes: dict[str, float]) -> TrainingJob:
    return dataclasses.replace(job, config=update(job.config, changes, "test"))


def test_a_finished_stage_is_trained_longer(job: TrainingJob) -> None:
    job.run.start(job.config)
    assert train(job, ("shape",)).step == 3
    longer = lengthened(job, shape={"steady": 4})
    longer.run.start(longer.config)
    ended = train(longer, ("shape",))
    assert (ended.step, ended.steps, ended.finished) == (5, 5, True)
    assert longer.run.config().shape.steady == 4
    assert train(longer, ("shape",)) == ended


def test_only_longer_and_only_where_no_later_stage_has_begun(job: TrainingJob) -> None:
    job.run.start(job.config)
    for changes in (
        {"shape": {"steady": 1}},
        {"shape": {"steady": 9, "learning_rate": 0.5}},
        {"shape": {"steady": 9}, "seed": job.config.seed + 1},
        {"shape": {"unit": "epochs"}},
    ):
        with pytest.raises(ConfigChangedError):
            job.run.check(update(job.config, changes, "test"))
    state = CheckpointState({"a": torch.zeros(1)}, {}, {})
    save_checkpoint(job.run.path, CheckpointInfo("texture-00000001", "texture", 1, 3, 2, ""), state)
    job.run.check(lengthened(job, texture={"steady": 9}, joint={"decaying": 2}).config)
    with pytest.raises(StageBegunError, match="stage shape cannot be made longer, as stage texture has begun"):
        job.run.check(lengthened(job, shape={"steady": 9}).config)


def test_an_empty_training_part_says_so_and_all_parts_can_be_used(
    job: TrainingJob, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vonmodel.data import datasets

    real = datasets.read_manifest
    monkeypatch.setattr(datasets, "read_manifest", lambda *asked: real(*asked).assign(split="val"))
    with pytest.raises(EmptySplitError, match=r"the train part of .* has no shapes of class chair; .* \d+ in val"):
        open_data(job.config, tiny_data, "texture")
    everything = update(job.config, {"data": {"split": "all"}}, "test")
    assert len(open_data(everything, tiny_data, "texture").shapes) > 0


def inputs_of(module: nn.Module, seen: list[Tensor]) -> None:
    module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))


def test_a_painter_grows_to_twice_the_pixels() -> None:
    small, large = (GeometryPainter(size, code_size=4, base_channels=2).body for size in (64, 128))
    large.load_state_dict(grown(small.state_dict(), large))
    maps, style, seen = torch.randn(2, 12, 128, 128), torch.randn(2, 64), []
    for network in (small, large):
        inputs_of(network.middle, seen)
        network(maps, style)
    torch.testing.assert_close(seen[1], functional.avg_pool2d(seen[0], 2), msg="on the way down nothing changed")
    for network in (small, large):  # two bottlenecks that say the same show whether the way up changes anything
        network.middle.register_forward_hook(lambda *call: torch.ones_like(call[2]))
    torch.testing.assert_close(large(maps, style), small(maps, style))


def test_a_critic_grows_to_twice_the_pixels() -> None:
    small, large = (ResidualCritic(4, size, base_channels=2).body for size in (64, 128))
    large.load_state_dict(grown(small.state_dict(), large))
    images, seen = torch.randn(2, 4, 128, 128), []
    inputs_of(large.last, seen)
    result = large(images)
    features = small.stem(images)
    for block in small.blocks:
        features = functional.avg_pool2d(block(features), 2)
    features = functional.avg_pool2d(features, 2)
    torch.testing.assert_close(seen[0], features)
    torch.testing.assert_close(result, functional.leaky_relu(small.last(features), LEAK))


@pytest.mark.parametrize("painter", ["geometry", "field"])
def test_a_run_starts_from_one_on_images_of_half_the_size(
    tmp_path: Path, tiny_data: Path, config: TrainConfig, painter: str
) -> None:
    model = {"painter": painter, "critics": "residual", "representation": "signed", "texture_base_channels": 2}
    texture = {"objective": "relativistic"}
    small, large = (
        update(config, {"model": {**model, "image_size": size}, "texture": texture}, "test") for size in (64, 128)
    )
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    for photo in (data / "chair" / "images").rglob("*.png"):
        Image.open(photo).resize((128, 128), Image.Resampling.NEAREST).save(photo)
    first = TrainingJob(RunFolder(tmp_path / "small"), small, data, CPU)
    first.run.start(small)
    train(first, ("shape", "texture"))
    job = TrainingJob(RunFolder(tmp_path / "large"), large, data, CPU)
    assert start_from(job, "texture", Origin(first.run.path)) is not None
    assert train(job, ("texture",)).finished


def test_a_run_with_a_prior_of_shapes_starts_from_one_without(
    tmp_path: Path, tiny_data: Path, config: TrainConfig
) -> None:
    encoded = {"model": {"shape_encoder": True}, "shape": {"reconstruction": 0.1, "kl": 0.01}}
    without = update(config, encoded, "test")
    model = build_model(without.model, 3)
    state = CheckpointState(model.state_dict(), {}, {})
    first = RunFolder(tmp_path / "without")
    first.start(without)
    save_checkpoint(first.path, CheckpointInfo("shape-00000003", "shape", 3, 3, 6, ""), state)
    job = TrainingJob(
        RunFolder(tmp_path / "with"), update(without, {"model": {"shape_prior": 2}}, "test"), tiny_data, CPU
    )
    assert start_from(job, "shape", Origin(first.path)) is not None
    job.run.start(job.config)
    started, _ = load_model(job.run.path)
    codes = torch.randn(2, without.model.shape_code_size)
    torch.testing.assert_close(
        started.generate_shapes(started.shape_prior(codes)[0]), model.eval().generate_shapes(codes)
    )
    assert train(job, ("shape",)).finished


def test_networks_of_few_pixels_do_not_grow(
    tmp_path: Path, tiny_data: Path, tiny_run: Path, config: TrainConfig
) -> None:
    larger = update(config, {"model": {"image_size": 64}}, "test")
    job = TrainingJob(RunFolder(tmp_path / "new"), larger, tiny_data, CPU)
    with pytest.raises(CheckpointError, match=r"do not fit this model: model\.image_size"):
        start_from(job, "texture", Origin(tiny_run))
