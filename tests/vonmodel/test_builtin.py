"""Built-in models: packed in half precision, unpacked into ordinary runs."""

import os
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from tests import harness
from vonmodel import builtin
from vonmodel.api import load_run
from vonmodel.builtin import (
    PACKED,
    BuiltinModelError,
    builtin_name,
    builtin_names,
    describe_builtin,
    first_seed_of,
    pack_builtin,
    packed_weight,
    spoken_run,
    unpack_builtin,
    unpacked_weights,
)
from vonmodel.checkpoint import (
    INVERSE,
    CheckpointState,
    list_checkpoints,
    load_model,
    read_inverse,
    save_checkpoint,
    save_inverse,
)
from vonmodel.inference.session import open_model
from vonmodel.model import build_model
from vonmodel.run_folder import RunFolder

CARD = {"data": "boxes", "recipe": "none", "scores": "bad", "limits": "many"}


@pytest.fixture
def package(tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of built-in models, with the tiny run in it as chair."""
    folder = tmp_path / "package"
    folder.mkdir()
    pack_builtin(tiny_run, folder / "chair.safetensors", CARD, first_seed=7)
    monkeypatch.setattr(builtin, "models_folder", lambda: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_names(package: Path) -> None:
    assert builtin_names() == ("chair",)
    assert builtin_name(Path("builtin:chair")) == "chair"
    assert builtin_name("runs/chair") is None


def test_unpacking_restores_the_packed_run(package: Path, tiny_run: Path, tmp_path: Path) -> None:
    run = unpack_builtin("chair")
    assert run.path.parent == tmp_path / "cache" / "von" / "models"
    original, info = load_model(tiny_run)
    unpacked, again = load_model(run.path)
    assert (again.name, again.stage, again.step) == (info.name, info.stage, info.step)
    assert run.config() == RunFolder(tiny_run).config()
    ours, theirs = original.state_dict(), unpacked.state_dict()
    for name, value in ours.items():
        if name.startswith(PACKED):
            assert theirs[name].dtype == value.dtype
            rows = value.float().flatten(1).abs().amax(1) if value.dim() > 1 else value.float().abs()
            bound = (rows * 0.006 + 1e-4).reshape(-1, *[1] * (value.dim() - 1)) if value.dim() else 1e-6
            assert ((theirs[name] - value).abs() <= bound).all(), name
    codes = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unpacked.generate_shapes(codes), original.generate_shapes(codes), rtol=0, atol=0.02)
    assert describe_builtin("chair").card == CARD
    assert (first_seed_of(run.path), first_seed_of(tiny_run)) == (7, 0)


def test_networks_that_invert_the_checkpoint_come_along(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = list_checkpoints(tiny_run)[-1].sha256
    weights = {"head.weight": torch.randn(80, 64), "head.bias": torch.randn(80)}
    save_inverse(tiny_run, "line", weights, sha256)
    save_inverse(tiny_run, "older", weights, "0" * 64)
    (tmp_path / "package").mkdir()
    pack_builtin(tiny_run, tmp_path / "package" / "chair.safetensors", CARD)
    monkeypatch.setattr(builtin, "models_folder", lambda: tmp_path / "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = unpack_builtin("chair").path
    found = read_inverse(run, "line", list_checkpoints(run)[-1].sha256)
    assert found is not None
    torch.testing.assert_close(found, weights, rtol=0, atol=0.03)
    assert [file.stem for file in (run / INVERSE).iterdir()] == ["line"]
    pack_builtin(tiny_run, tmp_path / "package" / "chair.safetensors", CARD, with_inverse=False)
    assert not (unpack_builtin("chair").path / INVERSE).exists()


def test_large_weights_take_a_byte_and_critics_of_images_none(package: Path) -> None:
    with safe_open(package / "chair.safetensors", "pt") as stored:
        names = set(stored.keys())
        large = stored.get_tensor("shape_generator.stages.0.conv.weight")
    assert large.dtype == torch.int8
    assert {name.partition(".")[0] for name in names} == set(PACKED) - {"shape_prior"}  # this model has none


@given(st.integers(0, 99), st.sampled_from([1e-9, 1e-3, 1.0, 300.0]))
def test_eight_bits_err_by_half_a_step(seed: int, size: float) -> None:
    weight = size * torch.randn(64, 16, 4, generator=torch.Generator().manual_seed(seed))
    weight[3] = 0.0
    back = unpacked_weights(packed_weight("a.weight", weight))["a.weight"]
    step = weight.abs().flatten(1).amax(1) / 127.0
    assert ((back - weight).abs() <= 0.52 * step[:, None, None] + 1e-5).all()


def test_what_is_unpacked_already_stays(package: Path) -> None:
    run = unpack_builtin("chair")
    written = run.path / "config.json"
    os.utime(written, (1, 1))
    assert unpack_builtin("chair").path == run.path
    assert written.stat().st_mtime == 1
    assert [each.name for each in run.path.parent.iterdir()] == [run.path.name]


def test_another_version_has_a_folder_of_its_own(package: Path, tiny_run: Path) -> None:
    run = unpack_builtin("chair")
    earlier = list_checkpoints(tiny_run)[0].name
    pack_builtin(tiny_run, package / "chair.safetensors", CARD, earlier)
    other = unpack_builtin("chair")
    assert other.path != run.path
    assert [each.name for each in list_checkpoints(other.path)] == [earlier]


def test_results_name_it_as_every_machine_does(package: Path, tiny_run: Path, tmp_path: Path) -> None:
    run = unpack_builtin("chair").path
    assert spoken_run(run) == "builtin:chair"
    assert spoken_run(tiny_run) == str(tiny_run)
    shutil.copytree(run, tmp_path / "own")  # a copy may be trained on
    assert spoken_run(tmp_path / "own") == str(tmp_path / "own")
    opened = open_model(run, data=tmp_path / "nowhere")
    assert opened.provenance.record()["run"] == "builtin:chair"


def test_it_can_be_sent_as_runs_are(package: Path, tmp_path: Path) -> None:
    sent = harness.von("push", "builtin:chair", str(tmp_path / "sent"))
    assert sent.exit_code == 0, sent.output
    assert load_run(tmp_path / "sent", data=tmp_path / "nowhere").class_name == "chair"


def test_an_unknown_or_damaged_model_is_named(package: Path) -> None:
    with pytest.raises(BuiltinModelError, match=r"builtin:sofa: the package has builtin:chair"):
        unpack_builtin("sofa")
    with pytest.raises(BuiltinModelError, match="the package has"):
        unpack_builtin("../package/chair")
    for content in (b"", b"\xff" * 64, (package / "chair.safetensors").read_bytes()[:-10]):
        (package / "chair.safetensors").write_bytes(content)
        with pytest.raises(BuiltinModelError, match="damaged"):
            unpack_builtin("chair")


def test_from_python(package: Path, tmp_path: Path) -> None:
    model = load_run("builtin:chair", data=tmp_path / "nowhere")
    assert model.class_name == "chair"
    assert model.config.resolution == 32


def test_the_package_s_own_models() -> None:
    described = [describe_builtin(name) for name in builtin_names()]
    assert {each.name for each in described} <= {"chair", "car"}
    files = [Path(str(builtin.models_folder())) / f"{name}.safetensors" for name in builtin_names()]
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    for model in described:
        assert {"data", "recipe", "scores", "limits"} <= model.card.keys()
        assert model.config.class_name == model.name


def test_a_joined_run_has_the_shapes_of_one_and_the_painter_of_the_other(tiny_run: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "pack_builtin_model.py"
    join_runs = runpy.run_path(str(script))["join_runs"]
    config, (painter, info) = RunFolder(tiny_run).config(), load_model(tiny_run)
    other = RunFolder(tmp_path / "other")
    other.start(config)
    shapes = build_model(config.model, 5)
    saved = save_checkpoint(other.path, info, CheckpointState(shapes.state_dict(), {}, {}))
    save_inverse(other.path, "regressor", {"weight": torch.arange(3.0)}, saved.sha256)
    join_runs(tiny_run, other.path, tmp_path / "joined")
    joined, its_info = load_model(tmp_path / "joined")
    assert any(name.startswith("shape_generator.") for name in joined.state_dict())
    for name, value in joined.state_dict().items():
        expected = shapes if name.startswith("shape_") else painter
        assert torch.equal(value, expected.state_dict()[name]), name
    inverse = read_inverse(tmp_path / "joined", "regressor", its_info.sha256)
    assert inverse is not None
    assert torch.equal(inverse["weight"], torch.arange(3.0))
