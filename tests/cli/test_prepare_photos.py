"""Options of `von prepare images`: near-duplicates, and the user's own segmentation network."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image, ImageDraw

from tests import harness
from vondata.dataset.manifest import read_manifest

sys.path.insert(0, str(Path(__file__).parents[1] / "vondata" / "images"))
from onnx_file import colour_network

Von = Callable[..., Result]


@pytest.fixture
def von(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Von:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VON_DATA", raising=False)

    def run(*arguments: str) -> Result:
        fixed = ["--photos", "photos", "--workers", "0", "--no-report", "--json"]
        return harness.von("prepare", "images", *fixed, *arguments)

    return run


def draw_chair(background: Image.Image) -> Image.Image:
    """A red chair of a few strokes."""
    pen = ImageDraw.Draw(background)
    for box in ((60, 30, 80, 130), (60, 100, 150, 125), (60, 125, 72, 180), (138, 125, 150, 180)):
        pen.rectangle(box, fill=(200, 30, 40))
    return background


def save(name: str, photo: Image.Image, **options: object) -> None:
    path = Path("photos/chair") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    photo.save(path, **options)


def status(data: str = "data") -> dict[str, str]:
    rows = read_manifest(Path(data), "chair", "images")
    return {
        Path(source).name: reason for source, reason in zip(rows["source"], rows["reason"].fillna(""), strict=True)
    }


def test_copies_are_kept_once_and_on_demand(von: Von) -> None:
    chair = draw_chair(Image.new("RGB", (220, 220), "white"))
    save("large.png", chair)
    save("coarse.jpg", chair, quality=60)
    save("small.jpg", chair.resize((150, 150)), quality=90)
    first = json.loads(von().stdout)["classes"]["chair"]
    assert (first["prepared"], first["reasons"]) == (1, {"duplicate_photo": 2})
    assert status()["small.jpg"] == "duplicate_photo"  # the other two are of the same size
    kept = json.loads(von("--keep-duplicates").stdout)["classes"]["chair"]
    assert (kept["worked"], kept["prepared"], kept["reasons"]) == (0, 3, {})
    assert set(status().values()) == {""}
    again = json.loads(von().stdout)["classes"]["chair"]
    assert (again["worked"], again["prepared"]) == (0, 1)


def test_a_user_network_segments_photos(von: Von, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    tiles = rng.choice([[30, 160, 60], [40, 70, 200], [120, 120, 120], [230, 230, 230]], size=(11, 11))
    wall = Image.fromarray(tiles.astype(np.uint8)).resize((220, 220), Image.Resampling.NEAREST)
    save("busy.png", draw_chair(wall))
    von()
    assert status()["busy.png"].startswith("mask_")
    weights = tmp_path / "red.onnx"
    weights.write_bytes(colour_network([40.0, -20.0, -20.0], -8.0, 128))
    weights.with_suffix(".toml").write_text(
        "size_px = 128\nmean = [0, 0, 0]\nstd = [1, 1, 1]\nstretch = false\n", "utf-8"
    )
    result = json.loads(von("--segmenter", "red.onnx").stdout)["classes"]["chair"]
    assert (result["worked"], result["prepared"]) == (1, 1)
    assert read_manifest(Path("data"), "chair", "images")["mask_origin"].tolist() == ["segmenter"]
    weights.rename("elsewhere.onnx")
    weights.with_suffix(".toml").rename("elsewhere.toml")
    assert json.loads(von("--segmenter", "elsewhere.onnx").stdout)["classes"]["chair"]["worked"] == 0


def test_a_wrong_network_is_named(von: Von) -> None:
    save("a.png", draw_chair(Image.new("RGB", (220, 220), "white")))
    result = von("--segmenter", "nothing.onnx")
    assert result.exit_code == 2
    assert "--segmenter: " in result.output
    assert "nothing.onnx cannot be read" in result.output
    assert not Path("data").exists()
