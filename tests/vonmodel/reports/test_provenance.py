import json

import numpy as np
import pytest

from vonmodel.mesh import write_png
from vonmodel.reports.provenance import PNG_KEY, Provenance, read_provenance
from vonmodel.reports.video import write_film

CHECKPOINT = {"name": "joint-5", "stage": "joint", "step": 5, "sha256": "ab", "images_seen": 9}
PROVENANCE = Provenance("chair", "runs/chaise longue ⌂", CHECKPOINT, 32, 64, {"von": "1.2"}, {"truncation": 0.5})
PIXELS = np.zeros((4, 4, 3), dtype=np.uint8)


def test_a_picture_says_what_made_it(tmp_path):
    content = {"shape": "seed 7", "texture": [0.5, -1.0], "azimuth_deg": 40.0, "elevation_deg": None}
    write_png(tmp_path / "a.png", PIXELS, PROVENANCE.png_text(**content))
    found = read_provenance(tmp_path / "a.png")
    assert found == {
        "class": "chair",
        "run": "runs/chaise longue ⌂",
        "checkpoint": {"name": "joint-5", "stage": "joint", "step": 5, "sha256": "ab"},
        "versions": {"von": "1.2"},
        "sampling": {"truncation": 0.5},
        "shape": "seed 7",
        "texture": [0.5, -1.0],
        "azimuth_deg": 40.0,
    }


@pytest.mark.parametrize("suffix", ["webp", "gif", "mp4"])
def test_a_film_says_what_made_it(tmp_path, suffix):
    frames = np.stack([np.zeros((16, 16, 3), dtype=np.uint8), np.full((16, 16, 3), 90, dtype=np.uint8)])
    write_film(tmp_path / f"said.{suffix}", frames, PROVENANCE.png_text(shape_codes=["~" + "A" * 3000, "~B"]))
    found = read_provenance(tmp_path / f"said.{suffix}")
    assert found == PROVENANCE.record(shape_codes=["~" + "A" * 3000, "~B"])
    write_film(tmp_path / f"silent.{suffix}", frames)
    assert read_provenance(tmp_path / f"silent.{suffix}") is None


def test_people_read_it_too():
    text = PROVENANCE.png_text(shape="seed 7", azimuth_deg=40.0)
    assert text["Software"] == "VON 1.2"
    assert text["Description"] == "chair, shape seed 7, azimuth 40.0"


@pytest.mark.parametrize("text", [{}, {PNG_KEY: "no json"}, {PNG_KEY: "[1]"}, {PNG_KEY: "[" * 100_000}])
def test_pictures_of_others_say_nothing(tmp_path, text):
    write_png(tmp_path / "a.png", PIXELS, text)
    assert read_provenance(tmp_path / "a.png") is None


def test_the_record_is_json():
    assert json.loads(json.dumps(PROVENANCE.record(shape="seed 1")))["shape"] == "seed 1"
