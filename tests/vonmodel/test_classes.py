"""One model of several classes: embedding, blending, balanced batches, training that resumes, sampling by class."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from voncli.main import main

from tests.vonmodel.training.together import run_together
from vondata.dataset.manifest import manifest_path, output_folder
from vonmodel.checkpoint import (
    CheckpointInfo,
    CheckpointState,
    ClassNotInModelError,
    checkpoint_name,
    load_model,
    save_checkpoint,
)
from vonmodel.config import (
    STAGES,
    ConfigError,
    JointStageConfig,
    ModelConfig,
    ShapeStageConfig,
    TextureStageConfig,
    TrainConfig,
    apply_setting,
    load_config,
    save_config,
    update,
)
from vonmodel.distributed import is_writer, wait_for_all
from vonmodel.inference.sampling import generate_volumes
from vonmodel.inference.session import ModelSession, open_model
from vonmodel.model import VonModel, blend_classes, build_model, with_classes
from vonmodel.networks.blocks import ClassEmbedding, ClassScores
from vonmodel.run_folder import RunFolder
from vonmodel.training.loop import TrainingJob, train
from vonmodel.training.setup import build_stage, describe, open_data

CLASSES = ("chair", "car", "table")
SMALL = ModelConfig(
    resolution=16, image_size=32, shape_code_size=4, texture_code_size=3, shape_base_channels=1,
    texture_base_channels=4, classes=CLASSES, class_embedding=5,
)  # fmt: skip
PAINTERS = (
    {},
    {
        "painter": "geometry",
        "critics": "residual",
        "depth_range": "item",
        "resampled": False,
        "representation": "signed",
    },
)


@pytest.fixture(scope="session")
def three_classes(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny dataset as three classes of different sizes; ids say the class."""
    data = tmp_path_factory.mktemp("three") / "data"
    for name, kept in (("chair", 8), ("car", 5), ("table", 3)):
        for kind in ("shapes", "images"):
            rows = pd.read_parquet(manifest_path(tiny_data, "chair", kind)).head(kept).assign(**{"class": name})
            folder = output_folder(data, name, kind)
            folder.mkdir(parents=True)
            for id in rows["id"]:
                (file,) = output_folder(tiny_data, "chair", kind).glob(f"{id}.*")
                shutil.copy(file, folder / f"{name}-{file.name}")
            rows.assign(id=name + "-" + rows["id"]).to_parquet(manifest_path(data, name, kind))
    return data


def configured(**model: object) -> TrainConfig:
    """A training of a few steps a stage."""
    pairs = model.get("critics") == "residual"
    objective = "relativistic" if pairs else "least-squares"
    short = {"steady": 3, "decaying": 1, "unit": "steps", "batch_size": 3}
    return TrainConfig(
        seed=5,
        model=dataclasses.replace(SMALL, **model),
        shape=ShapeStageConfig(objective="relativistic" if pairs else "wgan-gp", critic_steps=2, **short),
        texture=TextureStageConfig(objective=objective, **short),
        joint=JointStageConfig(**{**short, "steady": 1}),
    )


def test_class_share_is_the_ramp() -> None:
    config = ShapeStageConfig(class_from=0.1, class_until=0.4)
    assert [config.class_share(step, 100) for step in (0, 10, 25, 40, 99)] == [0, 0, pytest.approx(0.5), 1, 1]
    assert JointStageConfig().class_share(0, 100) == 1.0
    hard = ShapeStageConfig(class_from=0.5, class_until=0.5)
    assert [hard.class_share(step, 10) for step in (0, 4, 5, 9)] == [0, 0, 1, 1]


def test_classes_are_a_field_of_names(tmp_path: Path) -> None:
    config = apply_setting(TrainConfig(), 'model.classes=["chair", "car"]')
    assert config.class_names == ("chair", "car")
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config
    assert TrainConfig().class_names == ("chair",)
    for wrong in ('["chair"]', '["chair", "chair"]', '["car", "table"]', "3", '["chair", 3]', "chair"):
        with pytest.raises(ConfigError, match=r"classes"):
            apply_setting(TrainConfig(), f"model.classes={wrong}")


@pytest.mark.parametrize("other", PAINTERS)
def test_one_class_has_the_networks_it_always_had(other: dict[str, object]) -> None:
    one = build_model(dataclasses.replace(SMALL, classes=(), **other), 3)
    several = build_model(dataclasses.replace(SMALL, **other), 3)
    added = several.state_dict().keys() - one.state_dict().keys()
    assert added
    assert all("embedding" in name or "class_scores" in name for name in added)
    assert not any(isinstance(each, ClassEmbedding | ClassScores) for each in one.modules())
    with torch.device("meta"):
        VonModel(dataclasses.replace(SMALL, **other))


def test_embedding_by_its_equation() -> None:
    embedding = ClassEmbedding(3, 4, 2)
    codes, weights = torch.randn(5, 4), torch.softmax(torch.randn(5, 3), dim=1)
    embedding.blend.fill_(0.25)
    made = embedding(torch.cat([codes, weights], dim=1))
    expected = torch.stack(
        [
            torch.cat([z, 0.25 * sum(w[c] * embedding.vectors[c] for c in range(3))])
            for z, w in zip(codes, weights, strict=True)
        ]
    )
    torch.testing.assert_close(made, expected)
    embedding.choose(2)
    chosen = embedding(codes)
    torch.testing.assert_close(chosen, embedding(torch.cat([codes, torch.eye(3)[[2] * 5]], dim=1)))


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (torch.nn.Linear(6, 3), (4, 6)),
        (torch.nn.Conv2d(6, 3, 2), (4, 6, 3, 3)),
        (torch.nn.Conv3d(6, 3, 2), (4, 6, 2, 2, 2)),
    ],
)
def test_class_scores_pick_the_row_of_the_class(head: torch.nn.Module, shape: tuple[int, ...]) -> None:
    scores, features = ClassScores(head), torch.randn(shape)
    which = torch.tensor([2, 0, 1, 2])
    scores.blend.fill_(0.5)
    made = scores(features, torch.eye(3)[which])
    expected = 0.5 * torch.stack([head(features)[row, c] for row, c in enumerate(which)])[:, None]
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("other", PAINTERS)
def test_without_blending_no_network_knows_the_class(other: dict[str, object]) -> None:
    model = build_model(dataclasses.replace(SMALL, **other), 1).eval()
    for share, alike in ((0.0, True), (1.0, False)):
        blend_classes([model], share)
        shapes = [model.generate_shapes(with_classes(torch.ones(1, 4), torch.eye(3)[[c]])) for c in range(3)]
        assert torch.equal(shapes[0], shapes[1]) == alike
        scores = [model.shape_critic(shapes[0], torch.eye(3)[[c]]) for c in range(3)]
        assert torch.equal(scores[0], scores[1]) == alike
        images = torch.rand(1, model.image_critic.in_channels, 32, 32)
        judged = [model.image_critic(images, torch.eye(3)[[c]]) for c in range(2)]
        pairs = zip(*judged, strict=True) if isinstance(judged[0], list) else [judged]
        assert all(torch.equal(a, b) == alike for a, b in pairs)


@given(st.integers(0, 40), st.integers(1, 9))
def test_batches_are_balanced_and_every_class_visits_its_items_equally(step: int, size: int) -> None:
    places = [divmod(step * size + row, 3) for row in range(size)]
    counts = np.bincount([which for _, which in places], minlength=3)
    assert counts.max() - counts.min() <= 1


def test_the_flow_of_shape_codes_leaves_the_weights_of_classes_as_they_are() -> None:
    model = build_model(dataclasses.replace(SMALL, shape_encoder=True, shape_prior=2), 1).eval()
    codes, classes = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.eye(3)
    latents = model.shape_prior.inverse(codes)
    torch.testing.assert_close(
        model.generate_shapes(with_classes(codes, classes)), model.decode_shapes(with_classes(latents, classes))
    )


def test_a_batch_has_shapes_and_photos_of_the_same_classes(three_classes: Path) -> None:
    config = configured()
    data = open_data(config, three_classes, "texture")
    assert data.items == 3 * 8
    assert [each.class_name for each in data.classes] == list(CLASSES)
    stage = build_stage(config, "texture", build_model(config.model, 0), data, 100)
    seen: dict[str, list[str]] = {name: [] for name in CLASSES}
    for step in range(8):
        batch = stage.load(step)
        assert batch.classes is not None
        names = [CLASSES[int(each)] for each in batch.classes.argmax(1)]
        assert [id.split("-")[0] for id in batch.ids] == names * 2
        for id, name in zip(batch.ids[:3], names, strict=True):
            seen[name].append(id)
    # Twenty-four rows are eight of each class: every chair once, every table twice or three times.
    assert len(set(seen["chair"])) == 8
    assert sorted(np.unique(seen["table"], return_counts=True)[1]) == [2, 3, 3]
    plan = describe(config, three_classes, RunFolder(three_classes / "none"), ["texture"])
    assert plan["stages"]["texture"]["shapes"] == 16


@pytest.mark.parametrize("other", PAINTERS)
def test_a_training_of_three_classes_resumes_bit_for_bit(
    three_classes: Path, tmp_path: Path, other: dict[str, object]
) -> None:
    config = configured(**other)

    def run(name: str, stops: int) -> dict[str, torch.Tensor]:
        folder = RunFolder(tmp_path / name)
        folder.start(config)
        for _ in range(stops):
            stop = itertools.chain([False], itertools.repeat(True)).__next__
            train(TrainingJob(folder, config, three_classes, torch.device("cpu"), should_stop=stop))
        train(TrainingJob(folder, config, three_classes, torch.device("cpu")))
        return load_model(folder.path)[0].state_dict()

    whole, in_pieces = run("whole", 0), run("pieces", 3)
    assert all(torch.equal(value, in_pieces[key]) for key, value in whole.items())
    assert all(value == 1.0 for key, value in whole.items() if key.endswith("blend"))
    start = build_model(config.model, config.seed).state_dict()
    for key in ("shape_generator.embedding.vectors", "texture_generator.embedding.vectors"):
        assert not torch.equal(whole[key], start[key])
    assert not torch.equal(
        whole["shape_critic.class_scores.head.weight"], start["shape_critic.class_scores.head.weight"]
    )


def train_in_double(data: Path, run: Path) -> None:
    """The training of three classes in float64, by as many processes as there are."""
    config = update(configured(), {"compute": {"precision": "float64"}}, "test")
    config = update(config, {stage: {"batch_size": 4} for stage in STAGES}, "test")
    folder = RunFolder(run)
    if is_writer():
        folder.start(config)
    wait_for_all()
    train(TrainingJob(folder, config, data, torch.device("cpu")))


def test_two_processes_train_what_one_does(three_classes: Path, tmp_path: Path) -> None:
    train_in_double(three_classes, tmp_path / "one")
    assert run_together(2, train_in_double, three_classes, tmp_path / "two") == [0, 0]
    one, two = (
        load_file(tmp_path / each / "checkpoints/joint-00000002/networks.safetensors") for each in ("one", "two")
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-6, rtol=0, msg=name)


@pytest.fixture(scope="session")
def three_class_run(three_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run of three classes with distinct embeddings."""
    config = dataclasses.replace(configured(**PAINTERS[1]), seed=2)
    folder = RunFolder(tmp_path_factory.mktemp("several") / "runs" / "chair+car+table")
    folder.start(config)
    info = CheckpointInfo(checkpoint_name("joint", 1), "joint", 1, 1, 3, "")
    save_checkpoint(folder.path, info, CheckpointState(build_model(config.model, 2).state_dict(), {}, {}))
    return folder.path


def test_a_session_makes_its_class(three_class_run: Path, three_classes: Path) -> None:
    model, _ = load_model(three_class_run)
    for index, name in enumerate((None, "car", "table")):
        session = ModelSession(open_model(three_class_run, data=three_classes, class_name=name))
        assert session.source.class_name == CLASSES[index]
        code = session.code(7, "shape")
        assert len(code) == SMALL.shape_code_size
        expected = model.generate_shapes(with_classes(code[None], torch.eye(3)[[index]]))
        torch.testing.assert_close(generate_volumes(session.source.model, code[None]), expected)
        told = session.between_classes(code[None], torch.tensor([1.0]), "table")
        table = model.generate_shapes(with_classes(code[None], torch.eye(3)[[2]]))
        torch.testing.assert_close(generate_volumes(session.source.model, told), table)
        assert session.shape(told[0]).code is not None
    with pytest.raises(ClassNotInModelError, match="of chair, car, table, not of lamp"):
        open_model(three_class_run, data=three_classes, class_name="lamp")
    with pytest.raises(ClassNotInModelError):
        session.between_classes(code[None], torch.zeros(1), "lamp")


def test_verbs_take_a_class_of_a_model_of_several(
    three_class_run: Path, three_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VON_DATA", str(three_classes))

    def von(*arguments: str) -> dict[str, object]:
        done = CliRunner().invoke(main, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    run = ("--run", str(three_class_run))
    scored = von("evaluate", *run, "--fid", "--features", "random", "--max-count", "4")
    assert [line["class"] for line in scored["results"]] == list(CLASSES)
    runs = ("--runs", str(three_class_run.parent))
    one = von("evaluate", "--class", "car", *runs, "--fid", "--features", "random", "--max-count", "4")
    assert [line["class"] for line in one["results"]] == ["car"]
    by_class = {line["class"]: line["value"] for line in scored["results"]}
    assert one["results"][0]["value"] == pytest.approx(by_class["car"])
    few = ("--count", "1", "--view-count", "1", "--texture-count", "1")
    assert von("generate", *run, "--class", "table", *few, "-o", "made")["shapes"]
    going = ("--class", "chair", "--to-class", "car", "--count", "3", "--film", "none", "-o", "way")
    way = von("interpolate", *run, *going)
    (path,) = way["objects"]
    assert path["varied"] == "class"
    assert len(path["pictures"]) == 3
    wrong = CliRunner().invoke(main, ["generate", *run, "--class", "lamp"])
    assert wrong.exit_code == 1
    assert "not of lamp" in wrong.stderr


def test_one_command_trains_several_classes(
    three_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_config(dataclasses.replace(configured(), model=dataclasses.replace(SMALL, classes=())), Path("small.json"))
    arguments = ["train", "--class", "chair", "--class", "table", "--config", "small.json", "--stage", "shape"]
    done = CliRunner().invoke(main, [*arguments, "--data", str(three_classes), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    config = RunFolder(Path("runs/chair+table")).config()
    assert (config.class_name, config.model.classes) == ("chair", ("chair", "table"))
    refused = CliRunner().invoke(main, [*arguments[:5], "--baseline", "dcgan", "--data", str(three_classes)])
    assert refused.exit_code == 2
    assert "a baseline is of one class" in refused.stderr
