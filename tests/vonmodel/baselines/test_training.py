import dataclasses
import json

import pytest
import torch

from vonmodel.baselines.configs import BaselineData
from vonmodel.baselines.training import BaselineJob, baseline_folder, load_baseline, train_baseline
from vonmodel.checkpoint import CheckpointError, read_state
from vonmodel.config import JointStageConfig, OutputConfig, ShapeStageConfig, TextureStageConfig
from vonmodel.run_folder import RunError, RunFolder, latest_run
from vonmodel.training.log import NonFiniteLossError

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
        run = RunFolder(tmp_path / folder)
        return BaselineJob(name, run, config, tiny_data, torch.device("cpu"), **others)

    return make


@pytest.mark.parametrize(("name", "stage", "items"), [("dcgan", "texture", 24), ("3dgan", "shape", 8)])
def test_a_baseline_has_the_data_and_the_steps_of_the_model(tiny_data, config, name, stage, items):
    data = BaselineData(name, config, tiny_data)
    assert (data.stage, len(data.dataset)) == (stage, items)
    assert data.budget.steps == 4 + 4 * 2 // 4  # its stage, and the joint one in batches of its own size
    batch, ids = data.batch(1)
    again, _ = data.batch(1)
    assert torch.equal(batch, again)
    assert len(batch) == len(ids) == 4
    assert set(ids) <= set(data.dataset.ids)


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp", "3dgan"])
def test_resumed_training_equals_uninterrupted_training(job, name):
    told = []
    whole = job(name, "whole", on_progress=told.append)
    finished = train_baseline(whole)
    assert (finished.step, finished.finished) == (6, True)
    assert told[-1].startswith(f"{name} 6/6  ")

    asked = iter([False, False, True])
    first = train_baseline(job(name, "parts", should_stop=lambda: next(asked)))
    assert (first.step, first.finished) == (3, False)
    parts = job(name, "parts")
    assert train_baseline(parts).sha256 == finished.sha256
    ours, theirs = (
        read_state(baseline_folder(each.run.path, name).path, finished).average for each in (whole, parts)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    folder = baseline_folder(parts.run.path, name)
    steps = [json.loads(line)["step"] for line in (folder.path / "stats.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert (folder.samples / f"{name}-00000006.png").is_file()
    assert train_baseline(parts) == finished  # nothing left to do


def test_a_trained_baseline_is_loaded_with_its_average(job):
    info = train_baseline(job("dcgan"))
    folder = baseline_folder(job("dcgan").run.path, "dcgan")
    model, loaded = load_baseline(folder, "dcgan")
    assert loaded == info
    average = read_state(folder.path, info).average
    torch.testing.assert_close(model.generator.to_image.weight, average["generator.to_image.weight"])
    assert not model.training
    codes = torch.randn(3, 100)
    torch.testing.assert_close(model.generator(codes)[:1], model.generator(codes[:1]), atol=1e-5, rtol=1e-4)


def test_a_baseline_never_passes_for_the_model(job, tmp_path):
    train_baseline(job("dcgan"))
    with pytest.raises(RunError):
        latest_run(tmp_path)
    assert not RunFolder(tmp_path / "run").exists


def test_what_does_not_fit_is_said(job, config):
    run = job("dcgan")
    folder = baseline_folder(run.run.path, "dcgan")
    folder.start(config)
    with pytest.raises(CheckpointError, match="train the baseline dcgan first"):
        load_baseline(folder, "dcgan")
    train_baseline(run)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_baseline(folder, "wgan-gp")
    with pytest.raises(RunError, match=r"texture\.steady"):
        train_baseline(
            dataclasses.replace(run, config=dataclasses.replace(config, texture=TextureStageConfig(steady=9)))
        )


def test_a_loss_that_is_no_number_stops_the_training(job, monkeypatch):
    from vonmodel.baselines import gan as game

    monkeypatch.setattr(game, "generator_loss", lambda objective, fake: fake.mean() * float("nan"))
    with pytest.raises(NonFiniteLossError, match="generator"):
        train_baseline(job("dcgan"))
