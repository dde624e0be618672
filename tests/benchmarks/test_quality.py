"""Comparison of configurations at equal training time: arms, training lengths, and the page."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import ARMS, Contest, parse_arm, with_lengths
from benchmarks.quality_page import write_page
from benchmarks.quality_scores import nearest_ratio
from vonmodel.config import TrainConfig


def test_arms_are_presets_with_changes_or_baselines() -> None:
    plain = parse_arm("plain=modern,model.critics=patch,shape.r1=2")
    assert (plain.name, plain.preset, plain.baseline) == ("plain", "modern", None)
    config = plain.config("car", 3, ("model.resolution=32",))
    assert (config.class_name, config.seed, config.model.critics) == ("car", 3, "patch")
    assert (config.model.resolution, config.shape.r1) == (32, 2.0)
    assert [arm.name for arm in ARMS] == ["published", "modern", "dcgan", "lsgan", "wgan-gp", "3dgan"]
    assert [arm.baseline for arm in ARMS] == [None, None, "dcgan", "lsgan", "wgan-gp", "3dgan"]
    with pytest.raises(argparse.ArgumentTypeError, match="no preset or baseline x"):
        parse_arm("a=x")


def test_lengths_are_steps_of_which_the_last_decay() -> None:
    config = with_lengths(TrainConfig(), {"shape": 100, "joint": 0})
    assert config.shape.steps(7) == (60, 40)
    assert config.joint.steps(7) == (0, 0)


def test_runs_lie_by_class_seed_and_arm(tmp_path: Path) -> None:
    contest = Contest(tmp_path, tmp_path / "out", 1.0, (), None)
    assert contest.run(parse_arm("published"), "car", 2).path == tmp_path / "out/car/2/published"
    assert contest.run(parse_arm("lsgan"), "car", 2).path == tmp_path / "out/car/2/lsgan/baselines/lsgan"


def test_copies_are_nearer_than_photos_are_to_each_other() -> None:
    photos = np.random.default_rng(0).normal(size=(40, 5))
    assert nearest_ratio(photos[:10], photos) == pytest.approx(0.0, abs=1e-6)
    others = np.random.default_rng(1).normal(size=(40, 5))
    assert nearest_ratio(others, photos) == pytest.approx(1.0, rel=0.3)


def test_the_page_holds_every_arm_and_escapes_its_name(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "sheet.png")
    interval = {"value": 0.1234, "low": 0.1, "high": 0.2, "level": 0.95}
    row = {
        "class": "chair",
        "seed": 0,
        "arm": "<b>",
        "processor_s": 61.4,
        "images": {"random": {"kid": interval, "fid": interval, "recall": 0.5}},
        "shapes": {"shapes": {"largest_piece": [1.0, 0.9], "nearest_iou": [0.5, 0.7]}},
        "consistency": {"difference_15": 0.02, "difference_30": None},
        "sheet": str(tmp_path / "sheet.png"),
    }
    bare = {**row, "arm": "3dgan", "images": {}, "shapes": {}, "consistency": None}
    result = {"machine": "m", "seconds": 60.0, "scoring": {"features": ["random"], "split": "test"}}
    text = write_page(tmp_path, {**result, "rows": [row, bare]}).read_text()
    for part in ("&lt;b&gt;", "0.1 to 0.2", "0.1234", "0.950", "0.020", "3dgan", "data:image/png;base64,"):
        assert part in text
    assert "<b>" not in text
