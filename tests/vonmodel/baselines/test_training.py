import dataclasses
import json

import pytest
import torch

from vonmodel.baselines import training as gan
from vonmodel.baselines.training import baseline_folder, load_baseline, plan_baseline, train_baseline
from vonmodel.checkpoint import CheckpointError, read_state, save_checkpoint
from vonmodel.config import JointStageConfig, OutputConfig, ShapeStageConfig, TextureStageConfig
from vonmodel.run_folder import RunError, RunFolder, latest_run
from vonmodel.training.log import NonFiniteLossError
from vonmodel.training.loop import TrainingJob

SHORT = {"unit": "steps", "average": 0.9}


@pytest.fixture
def config(tiny_config):
    return dataclasses.replace(
        tiny_config,
        shape=ShapeStageConfig(batch_size=4, steady=2, decaying=2, **SHORT),
        texture=TextureStageConfig(batch_size=4, steady=3, decaying=1, **SHORT),
        joint=JointStageConfig(batch_size=2, steady=2, decaying=2, unit="steps"),
        output=OutputConfig(log_every=2, sample_every=3, save_every=3),
    )


@pytest.fixture
def job(tmp_path, tiny_data, config):
    def make(name, folder="run", **others):
        run = baseline_folder(tmp_path / folder, name)
        run.start(config)
        return TrainingJob(run, config, tiny_data, torch.device("cpu"), **others)

    return make


@pytest.mark.parametrize(("name", "items"), [("dcgan", 24), ("3dgan", 8)])
def test_a_baseline_has_the_data_and_the_steps_of_the_model(tiny_data, config, name, items):
    plan = plan_baseline(name, config, tiny_data)
    assert (plan.items, plan.batch_size) == (items, 4)
    assert plan.steady + plan.decaying == 4 + 4 * 2 // 4  # its stage, and the joint one in batches of its own size


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp", "3dgan"])
def test_resumed_training_equals_uninterrupted_training(job, name):
    reports = []
    whole = job(name, "whole", on_progress=reports.append)
    finished = train_baseline(whole, name)
    assert (finished.step, finished.finished) == (6, True)
    assert reports[-1].line().startswith(f"{name} 6/6  ")

    asked = iter([False, False, True])
    first = train_baseline(job(name, "parts", should_stop=lambda: next(asked)), name)
    assert (first.step, first.finished) == (3, False)
    parts = job(name, "parts")
    assert train_baseline(parts, name).sha256 == finished.sha256
    ours, theirs = (read_state(each.run.path, finished).average for each in (whole, parts))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    folder = parts.run
    steps = [json.loads(line)["step"] for line in (folder.path / "stats.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert (folder.samples / f"{name}-00000006.png").is_file()
    assert train_baseline(parts, name) == finished  # nothing left to do


def test_a_trained_baseline_is_loaded_with_its_average(job):
    training = job("dcgan")
    info, folder = train_baseline(training, "dcgan"), training.run
    model, loaded = load_baseline(folder, "dcgan")
    assert loaded == info
    average = read_state(folder.path, info).average
    torch.testing.assert_close(model.generator.to_image.weight, average["generator.to_image.weight"])
    assert not model.training
    codes = torch.randn(3, 100)
    torch.testing.assert_close(model.generator(codes)[:1], model.generator(codes[:1]), atol=1e-5, rtol=1e-4)


def test_a_baseline_never_passes_for_the_model(job, tmp_path):
    train_baseline(job("dcgan"), "dcgan")
    with pytest.raises(RunError):
        latest_run(tmp_path)
    assert not RunFolder(tmp_path / "run").exists


def test_mismatches_are_reported(job, config):
    training = job("dcgan")
    folder = training.run
    with pytest.raises(CheckpointError, match="train the baseline dcgan first"):
        load_baseline(folder, "dcgan")
    train_baseline(training, "dcgan")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_baseline(folder, "wgan-gp")
    with pytest.raises(RunError, match=r"texture\.steady"):
        train_baseline(
            dataclasses.replace(training, config=dataclasses.replace(config, texture=TextureStageConfig(steady=9))),
            "dcgan",
        )


@pytest.mark.parametrize("name", ["dcgan", "3dgan"])
def test_a_loss_that_is_nan_stops_the_training_and_is_named(job, monkeypatch, name):
    monkeypatch.setattr(gan, "generator_loss", lambda objective, fake: fake.mean() * float("nan"))
    training = job(name)
    with pytest.raises(NonFiniteLossError, match=f"stage {name}, step 0, phase generator"):
        train_baseline(training, name)
    where = json.loads((training.run.path / "nonfinite.json").read_text())
    assert (where["stage"], where["phase"], where["terms"]) == (name, "generator", ["generator"])


def test_training_state_of_another_loop_is_refused(job):
    """Version 0.1.0 trained baselines in a loop of its own, whose finished checkpoints are still read."""
    training = job("dcgan")
    asked = iter([False, True])
    info = train_baseline(dataclasses.replace(training, should_stop=lambda: next(asked)), "dcgan")
    state = read_state(training.run.path, info)
    old = {name.removeprefix("optimiser."): value for name, value in state.training.items()}
    save_checkpoint(training.run.path, info, dataclasses.replace(state, training=old))
    assert load_baseline(training.run, "dcgan")[1].step == 2
    with pytest.raises(CheckpointError, match="new run folder"):
        train_baseline(training, "dcgan")
