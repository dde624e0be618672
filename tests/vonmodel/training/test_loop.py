"""The loop: resumed equals uninterrupted bit for bit; stages follow each other; a loss that is NaN stops."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from tests.harness import losses_by_step
from vonmodel.checkpoint import (
    CheckpointDamagedError,
    CheckpointInfo,
    CheckpointState,
    checkpoint_name,
    list_checkpoints,
    read_state,
    save_checkpoint,
)
from vonmodel.config import STAGES, StageName, TrainConfig, update
from vonmodel.distributed import Part
from vonmodel.model import build_model
from vonmodel.run_folder import RunBusyError, RunError, RunFolder
from vonmodel.training.log import NonFiniteLossError
from vonmodel.training.loop import TrainingJob, train, train_stage

CPU = torch.device("cpu")
Job = Callable[..., TrainingJob]


@pytest.fixture
def config(tiny_config: TrainConfig) -> TrainConfig:
    stage = {"batch_size": 2, "unit": "steps", "steady": 3, "decaying": 3, "average": 0.9}
    output = {"log_every": 2, "sample_every": 0, "save_every": 0, "workers": 1}
    changes = {
        "model": {"resampled": False, "depth_range": "item"},  # what is fast on a CPU
        "shape": {**stage, "critic_steps": 2},
        "texture": {**stage, "image_pool": 3},
        "joint": stage,
        "output": output,
    }
    return update(tiny_config, changes, "test")


@pytest.fixture
def job(tmp_path: Path, tiny_data: Path, config: TrainConfig) -> Job:
    """A job in a run folder of its own, its earlier stages finished with weights as they were drawn."""

    def make(name: str, stage: StageName = "shape", changes: dict[str, Any] | None = None) -> TrainingJob:
        changed = update(config, changes or {}, "test")
        run = RunFolder(tmp_path / name)
        run.start(changed)
        for before in STAGES[: STAGES.index(stage)]:
            if run.latest_checkpoint(before) is None:
                info = CheckpointInfo(checkpoint_name(before, 6), before, 6, 6, 12, "")
                weights = build_model(changed.model, 1).state_dict()
                save_checkpoint(run.path, info, CheckpointState(weights, {}, {}))
        return TrainingJob(run, changed, tiny_data, CPU)

    return make


def stopping_after(steps: int) -> Callable[[], bool]:
    asked = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) == steps

    return should_stop


def everything(run: RunFolder) -> dict[str, torch.Tensor]:
    newest = run.latest_checkpoint()
    assert newest is not None
    state = read_state(run.path, newest)
    return {
        f"{part}: {name}": tensor
        for part in ("networks", "average", "training")
        for name, tensor in getattr(state, part).items()
    }


def losses(run: RunFolder) -> dict[tuple[str, int], dict[str, float]]:
    return losses_by_step(run.path)


SIGNED = {
    "model": {"representation": "signed", "finer_grid": 48, "symmetric": True},
    "shape": {"objective": "relativistic", "slope_every": 2, "mirror": True, "average_half_life": 3.0},
}
ENCODED = {
    "model": {**SIGNED["model"], "shape_encoder": True, "shape_prior": 4},
    "shape": {**SIGNED["shape"], "critic_steps": 2, "reconstruction": 0.05, "kl": 1e-3, "critic_from": 0.4},
}
PAIRS = {
    "model": {**SIGNED["model"], "painter": "geometry", "critics": "residual", "rays_per_pixel": 2},
    "shape": SIGNED["shape"],
    "texture": {"objective": "relativistic", "slope_every": 2, "augment_colour": 0.5, "augment_shift": 0.125},
}
SURFACES = {**PAIRS, "model": {**PAIRS["model"], "surface_encoder": True}}
RECIPES = {"published": {}, "signed": SIGNED, "encoded": ENCODED, "pairs": PAIRS, "surfaces": SURFACES}


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    stage: StageName, changes: dict[str, Any], job: Job
) -> None:
    whole = job("whole", stage, changes)
    train_stage(whole, stage)
    parts = job("parts", stage, changes)
    for steps in (2, 1):
        info = train_stage(replace(parts, should_stop=stopping_after(steps)), stage)
        assert not info.finished
    assert info.step == 3
    assert train_stage(parts, stage).finished
    expected, got = everything(whole.run), everything(parts.run)
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name
    assert any(name.startswith("average") for name in expected)
    assert losses(parts.run)[(stage, 6)] == losses(whole.run)[(stage, 6)]


def test_a_killed_run_repeats_what_it_had_not_saved(job: Job) -> None:
    whole = job("whole")
    train_stage(whole, "shape")
    killed = job("killed", changes={"output": {"save_every": 2}})

    def die(progress: Any) -> None:
        if progress.step == 4:
            raise SystemExit("killed")

    with pytest.raises(SystemExit):
        train_stage(replace(killed, on_progress=die), "shape")
    assert [each.step for each in list_checkpoints(killed.run.path)] == [2]
    assert max(step for _, step in losses(killed.run)) == 4  # reported, not saved
    train_stage(killed, "shape")
    assert losses(killed.run) == losses(whole.run)
    expected, got = everything(whole.run), everything(killed.run)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_other_data_is_noticed(job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training = job("run")
    train_stage(replace(training, should_stop=stopping_after(1)), "shape")
    fewer = shutil.copytree(training.data, tmp_path / "fewer")
    rows = pd.read_parquet(fewer / "chair" / "shapes.parquet")
    rows.iloc[1:].to_parquet(fewer / "chair" / "shapes.parquet")
    assert not caplog.records
    train_stage(replace(training, data=fewer), "shape")
    assert "shapes or photos came or went since checkpoint shape-00000001" in caplog.text


def test_how_data_is_loaded_changes_nothing(job: Job) -> None:
    one = job("one", "texture", {"output": {"workers": 0, "cache_mb": 0}})
    two = job("two", "texture", {"output": {"workers": 3, "log_every": 1}})
    for each in (one, two):
        train_stage(each, "texture")
    expected, got = everything(one.run), everything(two.run)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_the_seed_changes_everything(job: Job) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        train_stage(job(name, changes={"seed": seed}), "shape")
    one, two = (everything(job(name, changes={"seed": seed}).run) for name, seed in (("one", 0), ("two", 1)))
    assert not torch.equal(one["networks: shape_critic.head.weight"], two["networks: shape_critic.head.weight"])


def test_all_stages_in_order_and_what_they_leave(job: Job) -> None:
    training = job("run", changes={"output": {"sample_every": 4}})
    seen = []
    info = train(replace(training, on_progress=seen.append))
    assert (info.stage, info.step, info.finished, info.images_seen) == ("joint", 6, True, 12)
    run = training.run
    assert [each.stage for each in list_checkpoints(run.path)] == list(STAGES)
    assert sorted(path.name for path in run.samples.iterdir()) == sorted(
        f"{stage}-{step:08d}.png" for stage in STAGES for step in (4, 6)
    )
    with Image.open(run.samples / "joint-00000006.png") as sheet:
        assert sheet.size == (8 * 100 + 4, 4 * 100 + 4)
    assert [(each.stage, each.step) for each in seen] == [(stage, step) for stage in STAGES for step in (2, 4, 6)]
    assert list(losses(run)) == [(stage, step) for stage in STAGES for step in (2, 4, 6)]
    lines = (run.path / "log.txt").read_text().splitlines()
    assert len(lines) == 9
    assert "images/s" in lines[0]
    assert "shape_critic" in lines[0]
    for stage in STAGES:
        assert list((run.path / "tensorboard" / stage).glob("events*"))
    before = (run.path / "log.txt").read_text()
    assert train(training) == info  # nothing is left to do
    assert (run.path / "log.txt").read_text() == before


def test_a_stage_begins_with_what_the_one_before_would_be_sampled_with(job: Job) -> None:
    training = job("run", changes={"texture": {"steady": 0, "decaying": 0}})
    train(training, ("shape", "texture"))
    shape, texture = (training.run.latest_checkpoint(stage) for stage in ("shape", "texture"))
    assert shape is not None
    assert texture is not None
    assert texture.step == 0
    left, taken = read_state(training.run.path, shape), read_state(training.run.path, texture)
    name = "shape_generator.to_volume.weight"
    assert torch.equal(taken.networks[name], left.average[name])
    assert not torch.equal(taken.networks[name], left.networks[name])
    critic = "shape_critic.head.weight"
    assert torch.equal(taken.networks[critic], left.networks[critic])


def test_a_stage_needs_the_one_before(job: Job) -> None:
    training = job("run")
    with pytest.raises(RunError, match=r"stage texture goes on from the finished stage shape.*or shape first"):
        train(training, ("texture",))
    train(replace(training, should_stop=stopping_after(1)), ("shape",))
    with pytest.raises(RunError, match="stage texture goes on from the finished stage shape"):
        train(training, ("texture",))


def test_stopping_ends_all_stages(job: Job) -> None:
    training = job("run")
    info = train(replace(training, should_stop=stopping_after(2)))
    assert (info.stage, info.step, info.finished) == ("shape", 2, False)


def test_only_the_newest_checkpoints_stay(job: Job) -> None:
    training = job("run", changes={"output": {"save_every": 1, "keep": 2}})
    train_stage(training, "shape")
    assert [each.step for each in list_checkpoints(training.run.path)] == [5, 6]


def test_training_goes_on_from_the_newest_whole_checkpoint(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    whole = job("whole", changes={"output": {"save_every": 1}})
    train(whole, ("shape",))
    parts = job("parts", changes={"output": {"save_every": 1}})
    train(replace(parts, should_stop=stopping_after(4)), ("shape",))
    damaged = parts.run.path / "checkpoints" / "shape-00000004"
    for file in ("networks.safetensors", "checkpoint.json"):
        (damaged / file).write_bytes(b"nothing")
    assert train(parts, ("shape",)).finished
    assert "going on with checkpoint shape-00000003 in place of shape-00000004" in caplog.text
    expected, got = everything(whole.run), everything(parts.run)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_the_damaged_end_of_a_stage_is_trained_again_before_the_next_begins(job: Job) -> None:
    training = job("run", changes={"output": {"save_every": 3}})
    ended = train(training, ("shape",))
    file = training.run.path / "checkpoints" / ended.name / "average.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(RunError, match="stage texture goes on from the finished stage shape"):
        train(training, ("texture",))
    assert train(training, ("shape", "texture")).stage == "texture"
    again = training.run.latest_checkpoint("shape")
    assert again is not None
    assert (again.name, again.sha256) == (ended.name, ended.sha256)


def test_a_damaged_earlier_stage_does_not_block_a_later_one(job: Job) -> None:
    training = job("run", "texture")
    train(replace(training, should_stop=stopping_after(1)), ("texture",))
    for file in (training.run.path / "checkpoints" / "shape-00000006").iterdir():
        file.write_bytes(b"nothing")
    assert train(training, ("shape", "texture")).finished
    with pytest.raises(CheckpointDamagedError, match="the end of stage shape"):
        train(training, ("shape",))


def test_a_second_training_of_a_run_is_refused(job: Job) -> None:
    training = job("run")

    def again(progress: Any) -> None:
        train(training, ("shape",))

    with pytest.raises(RunBusyError, match="is being trained by another process"):
        train(replace(training, on_progress=again), ("shape",))


def test_reports_that_cannot_be_written_stop_no_training(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    whole, training = job("whole"), job("run")
    for name in ("stats.jsonl", "log.txt"):
        (training.run.path / name).mkdir()
    shutil.rmtree(training.run.samples)
    for name in ("samples", "tensorboard"):
        (training.run.path / name).write_text("a file where a folder should be")
    seen: list[Any] = []
    for each in (whole, replace(training, on_progress=seen.append)):
        assert train(each, ("shape",)).finished
    assert [each.step for each in seen] == [2, 4, 6]
    expected, got = everything(whole.run), everything(training.run)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())
    for name in ("stats.jsonl", "log.txt", "samples", "tensorboard"):
        assert sum(f"{name} cannot be written" in each.message for each in caplog.records) == 1


def damage(monkeypatch: pytest.MonkeyPatch, stage: StageName, *steps: int) -> None:
    """Puts bad numbers into the first shape or photo of these steps."""
    from vonmodel.training import loop as module

    real_build = module.build_stage

    def build(*arguments: Any) -> Any:
        built = real_build(*arguments)
        load = built.load

        def load_damaged(step: int, part: Part) -> Any:
            batch = load(step, part).to(torch.device("cpu"))
            if step in steps:
                tensor = batch.volumes if stage == "shape" else batch.images
                tensor[0] = torch.nan
            return batch

        monkeypatch.setattr(built, "load", load_damaged)
        return built

    monkeypatch.setattr(module, "build_stage", build)


@pytest.mark.parametrize(
    ("stage", "phase", "term"), [("shape", "critic", "shape_"), ("texture", "painters", "image")]
)
def test_a_nan_loss_is_named(
    stage: StageName, phase: str, term: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = job("run", stage, {"output": {"save_every": 2, "log_every": 6}})
    damage(monkeypatch, stage, 2)
    with pytest.raises(NonFiniteLossError) as caught:
        train_stage(training, stage)
    where = json.loads((training.run.path / "nonfinite.json").read_text())
    assert (where["stage"], where["step"], where["phase"]) == (stage, 2, phase)
    assert any(each.startswith(term) for each in where["terms"])
    assert len(where["items"]) == 4
    for part in (
        f"stage {stage}, step 2, phase {phase}",
        where["items"][0],
        "learning rate",
        "leave such steps out",
    ):
        assert part in str(caught.value)
    assert [each.step for each in list_checkpoints(training.run.path, stage)] == [2]  # from before
    assert "is not finite" in (training.run.path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("stage", "phase", "term"), [("shape", "critic", "shape_"), ("texture", "painters", "image")]
)
def test_non_finite_steps_can_be_skipped(
    stage: StageName, phase: str, term: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = replace(job("run", stage), skip_nonfinite=True)
    damage(monkeypatch, stage, 2, 4)
    seen: list[Any] = []
    assert train_stage(replace(training, on_progress=seen.append), stage).finished
    assert [(each.step, each.skipped) for each in seen] == [(2, 0), (4, 1), (6, 2)]
    assert seen[-1].line().endswith("2 skipped")
    lines = [json.loads(line) for line in (training.run.path / "nonfinite.jsonl").read_text().splitlines()]
    assert [(each["stage"], each["step"], each["phase"]) for each in lines] == [(stage, 2, phase), (stage, 4, phase)]
    assert all(len(each["items"]) >= 2 for each in lines)
    assert all(each.startswith(term) for line in lines for each in line["terms"][:1])
    assert all(tensor.isfinite().all() for tensor in everything(training.run).values())


def test_persistent_non_finite_steps_end_training(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    training = replace(job("run", changes={"shape": {"steady": 40}}), skip_nonfinite=True)
    damage(monkeypatch, "shape", *range(1, 43))
    with pytest.raises(NonFiniteLossError, match="step 20, phase critic"):
        train_stage(training, "shape")


def test_checking_every_step_changes_nothing_without_nan(job: Job) -> None:
    plain, careful = job("plain"), replace(job("careful"), skip_nonfinite=True)
    for each in (plain, careful):
        train_stage(each, "shape")
    expected, got = everything(plain.run), everything(careful.run)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_distance_function_shapes_train_too(job: Job) -> None:
    training = job("run", changes={"model": {"representation": "distance"}})
    assert train(training).finished
