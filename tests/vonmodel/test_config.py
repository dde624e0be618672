"""The configuration refuses unknown fields and invalid values, and survives a round trip through JSON."""

import dataclasses
import json
from pathlib import Path

import pytest

from vonmodel.config import (
    ConfigError,
    StageConfig,
    TrainConfig,
    apply_setting,
    difference,
    load_config,
    save_config,
    update,
    value_of,
)
from vonmodel.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_json(preset: str, tmp_path: Path) -> None:
    save_config(PRESETS[preset], tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == PRESETS[preset]


def test_the_published_preset_has_the_papers_numbers() -> None:
    config = PRESETS["published"]
    assert (config.model.resolution, config.model.image_size) == (128, 128)
    assert (config.model.shape_code_size, config.model.texture_code_size) == (200, 8)
    assert (config.model.shape_base_channels, config.model.texture_base_channels) == (64, 64)
    shape, texture, joint = config.shape, config.texture, config.joint
    assert (shape.batch_size, shape.steady, shape.decaying, shape.unit) == (8, 250, 250, "epochs")
    assert (shape.learning_rate, shape.beta1, shape.beta2, shape.gradient_penalty) == (1e-4, 0.5, 0.9, 10)
    assert (texture.batch_size, texture.steady, texture.decaying, texture.unit) == (12, 100, 100, "epochs")
    assert (texture.learning_rate, texture.beta1, texture.beta2, texture.image_pool) == (2e-4, 0.5, 0.999, 50)
    assert (texture.sketch_cycle, texture.image_cycle, texture.texture_cycle) == (10, 25, 1)
    assert (texture.kl, texture.mask) == (0.001, 2.5)
    assert (joint.batch_size, joint.shape_weight) == (6, 0.05)
    assert (config.data.hue_jitter, config.data.shift_px, config.data.mirror) == (0.1, 2, True)
    assert config.model.resampled
    assert config.model.depth_range == "batch"
    assert not any(each.average for each in (shape, texture, joint))


def test_lengths_in_epochs_and_steps() -> None:
    assert StageConfig(batch_size=8, steady=250, decaying=250).steps(6778) == (250 * 847, 250 * 847)
    assert StageConfig(batch_size=8, steady=3, decaying=0.5).steps(5) == (3, 0)  # an epoch is at least one step
    assert StageConfig(batch_size=8, steady=100, decaying=20, unit="steps").steps(6778) == (100, 20)


def test_settings_are_typed() -> None:
    config = TrainConfig()
    assert apply_setting(config, "shape.learning_rate=1e-4").shape.learning_rate == 1e-4
    assert apply_setting(config, "shape.gradient_penalty=5").shape.gradient_penalty == 5.0
    assert isinstance(apply_setting(config, "shape.gradient_penalty=5").shape.gradient_penalty, float)
    assert apply_setting(config, "model.representation=distance").model.representation == "distance"
    assert apply_setting(config, "data.mirror=false").data.mirror is False
    assert apply_setting(config, "seed=7").seed == 7


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("shape.learnin_rate=1", "unknown field 'learnin_rate'; did you mean 'learning_rate'?"),
        ("shap.steady=1", "unknown field 'shap'; did you mean 'shape'?"),
        ("shape.zzz=1", "known fields: batch_size"),
        ("shape.batch_size=2.5", "2.5 is not of type int"),
        ("shape.batch_size=true", "True is not of type int"),
        ("data.mirror=1", "1 is not of type bool"),
        ("shape.learning_rate=fast", "'fast' is not of type float"),
        ("model.representation=points", "'points' is not one of occupancy, distance"),
        ("shape.steady", "write it as stage.field=value"),
        ("shape=3", "expected a table of fields"),
        ("seed.x=3", "is not of type int"),
        ("shape.batch_size=0", "shape.batch_size is 0: it must be at least 1"),
        ("texture.steady=-1", "texture.steady is -1.0: it must be at least 0"),
        ("joint.average=1.5", "joint.average is 1.5: it must be at least 0 and under 1"),
        ("texture.generated_share=2", "texture.generated_share is 2.0: it must be at least 0 and at most 1"),
        ("shape.learning_rate=NaN", "shape.learning_rate is nan"),
    ],
)
def test_settings_that_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r".*") as caught:
        apply_setting(TrainConfig(), setting)
    assert message in str(caught.value)
    assert setting.partition("=")[0].partition(".")[0] in str(caught.value)


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"shape": {"steady": 3}, "class_name": "car"}))
    config = load_config(file, PRESETS["demo"])
    assert config.shape == dataclasses.replace(PRESETS["demo"].shape, steady=3.0)
    assert config.class_name == "car"
    assert config.model == PRESETS["demo"].model


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not valid JSON"), ('{"shapes": {}}', "did you mean 'shape'"), ("[]", "table")]
)
def test_files_that_are_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json cannot be read"):
        load_config(tmp_path / "nowhere.json")


def test_difference_names_what_matters() -> None:
    config = TrainConfig()
    other = update(config, {"shape": {"steady": 1}, "seed": 2, "output": {"log_every": 7}}, "test")
    assert difference(config, other) == ["seed", "shape.steady"]
    assert value_of(other, "shape.steady") == 1.0
    assert difference(config, config) == []
