"""The bank of sketches is rendered once, stored atomically, and rendered again when anything changes."""

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest

from vondata.classes import load_class
from vondata.dataset.manifest import ManifestMissingError, manifest_path
from vondata.dataset.shape_file import load_shape, save_shape
from vondata.matching import BankSettings, NoShapesError, build_bank, choose_shapes

from .conftest import DESIGNS

COARSE = BankSettings(azimuth_step_deg=60.0, elevation_step_deg=24.0)
CHAIR = load_class("chair")


class Counter:
    def __init__(self):
        self.calls = []

    def __call__(self, done, total):
        self.calls.append((done, total))


@pytest.fixture
def shapes(chairs, tmp_path):
    copies = {}
    for id, path in choose_shapes(chairs, "chair").items():
        copies[id] = tmp_path / path.name
        copies[id].write_bytes(path.read_bytes())
    return copies


def same(a, b):
    return all(
        np.array_equal(getattr(a.cues, name), getattr(b.cues, name)) for name in ("silhouette", "edges", "shading")
    )


def test_shapes_are_the_prepared_ones_and_a_sample_stays_the_same(chairs):
    every = choose_shapes(chairs, "chair")
    assert list(every) == sorted(DESIGNS)
    assert all(path.is_file() for path in every.values())
    two, three = choose_shapes(chairs, "chair", 2), choose_shapes(chairs, "chair", 3)
    assert len(two) == 2
    assert two.items() <= three.items() <= every.items()


def test_a_bank_has_every_view_of_every_shape(shapes):
    told = Counter()
    bank = build_bank(shapes, CHAIR, COARSE, workers=2, on_shape=told)
    assert bank.shape_ids == tuple(shapes)
    assert len(bank.cues) == len(shapes) * len(bank.grid.views_deg)
    assert told.calls == [(done, 4) for done in (1, 2, 3, 4)]
    last = build_bank({"wide": shapes["wide"]}, CHAIR, COARSE)
    views = len(bank.grid.views_deg)
    np.testing.assert_array_equal(bank.cues.silhouette[-views:], last.cues.silhouette)


def test_the_cache_answers_for_the_same_content_only(shapes, tmp_path):
    cache, told = tmp_path / "cache" / "chair.npz", Counter()
    drawn = build_bank(shapes, CHAIR, COARSE, cache=cache, on_shape=told)
    again = build_bank(shapes, CHAIR, COARSE, cache=cache, on_shape=told)
    assert len(told.calls) == 4
    assert same(drawn, again)
    nearer = dataclasses.replace(COARSE, camera_distance=2.0)
    build_bank(shapes, CHAIR, nearer, cache=cache, on_shape=told)
    assert len(told.calls) == 8
    changed = load_shape(shapes["wide"])
    save_shape(shapes["wide"], dataclasses.replace(changed, distance=changed.distance[::-1].copy()))
    build_bank(shapes, CHAIR, nearer, cache=cache, on_shape=told)
    assert len(told.calls) == 12
    assert [path.name for path in cache.parent.iterdir()] == ["chair.npz"]


@pytest.mark.parametrize("content", [b"", b"no archive", "half"], ids=["empty", "other", "torn"])
def test_a_damaged_cache_is_drawn_anew_and_said_so(shapes, tmp_path, content, caplog):
    cache, told = tmp_path / "chair.npz", Counter()
    drawn = build_bank(shapes, CHAIR, COARSE, cache=cache)
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with caplog.at_level(logging.WARNING):
        again = build_bank(shapes, CHAIR, COARSE, cache=cache, on_shape=told)
    assert same(drawn, again)
    assert len(told.calls) == 4
    assert "chair.npz is damaged" in caplog.text
    assert build_bank(shapes, CHAIR, COARSE, cache=cache, on_shape=told)
    assert len(told.calls) == 4


def test_without_shapes_there_is_nothing_to_match(tmp_path):
    with pytest.raises(ManifestMissingError, match=r"no shapes of class .*prepare them first"):
        choose_shapes(tmp_path, "chair")
    (tmp_path / "chair").mkdir()
    row = {"id": "a", "class": "chair", "status": "rejected", "split": "train"}
    pd.DataFrame([row]).to_parquet(manifest_path(tmp_path, "chair", "shapes"))
    with pytest.raises(NoShapesError, match="no prepared shape of class 'chair'"):
        choose_shapes(tmp_path, "chair")
    with pytest.raises(NoShapesError, match="chair"):
        build_bank({}, CHAIR)
