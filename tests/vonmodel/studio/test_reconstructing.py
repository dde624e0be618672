"""Reconstructing a photo over HTTP: progress, result, cancelling, and what goes wrong."""

import io
import math
import re
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from tests.harness import wait_until
from vonmodel.reconstruction.reconstruct import Phase, Reconstructor, ReconstructSettings
from vonmodel.studio import state as models
from vonmodel.studio.uploads import PHASES

SMALL = ReconstructSettings(2, 2, ((2, 2),), carve_steps=2, texture_steps=2, start="search")
ENDLESS = ReconstructSettings(2, 2, ((1, 10**9),), texture_steps=0, start="search")


@pytest.fixture
def photo():
    picture = np.zeros((80, 80, 4), dtype=np.uint8)
    picture[20:70, 25:60] = (180, 40, 30, 255)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def settings(monkeypatch):
    """Sets the effort of reconstructions in tests."""
    chosen = [SMALL]
    monkeypatch.setattr(models, "Reconstructor", lambda session: Reconstructor(session, chosen[0]))
    return chosen


def test_every_phase_has_words():
    assert set(PHASES) == set(get_args(Phase))
    ends = [end for _, end, _ in PHASES.values()]
    assert [start for start, _, _ in PHASES.values()] == [0.0, *ends[:-1]]
    assert ends[-1] == 1.0


def begun(studio, photo):
    key = studio.ask("/api/photos", method="POST", body=photo).json["photo"]
    answer = studio.ask(f"/api/reconstructions?photo={key}", method="POST", body=b"")
    assert answer.status == 202
    return f"/api/tasks/{answer.json['id']}"


def ended(studio, task):
    wait_until(lambda: studio.ask(task).json["state"] not in {"waiting", "working"})
    return studio.ask(task).json


def test_a_photo_becomes_a_link(studio, settings, photo, tiny_run):
    told = ended(studio, begun(studio, photo))
    assert (told["state"], told["share"]) == ("done", 1.0)
    result = told["result"]
    assert 0.0 <= result.pop("overlap") <= 1.0
    assert all(math.isfinite(float(result[name])) for name in ("azimuth", "elevation"))
    view = studio.ask("/api/view?" + "&".join(f"{name}={value}" for name, value in result.items()))
    assert view.status == 200
    assert re.fullmatch("@[0-9a-f]{24}", result["shape"])
    (kept,) = (tiny_run / "studio").iterdir()
    away = "&shape-to=7&shape-mix=0.5"
    assert studio.ask(f"/api/view?shape={result['shape']}{away}").status == 200
    assert studio.ask(f"/api/painted?shape={result['shape']}").body[:4] == b"glTF"
    assert studio.ask(f"/api/view?texture={result['shape']}").status == 400
    kept.write_bytes(b"half")
    gone = studio.ask(f"/api/view?shape={result['shape']}")
    assert gone.status == 404
    assert "reconstruct the photo again" in gone.json["error"]


def test_where_nothing_can_be_kept_the_code_is_linked(studio, settings, photo, tiny_run):
    (tiny_run / "studio").write_text("in the way")
    told = ended(studio, begun(studio, photo))
    assert told["state"] == "done"
    assert told["result"]["shape"].startswith("~")


def test_views_are_answered_meanwhile_and_it_can_be_cancelled(studio, settings, photo):
    settings[0] = ENDLESS
    task = begun(studio, photo)
    wait_until(lambda: studio.ask(task).json["state"] != "waiting")
    for azimuth in range(3):
        assert studio.ask(f"/api/view?azimuth={azimuth}").status == 200
        working = studio.ask(task).json
        assert working["state"] == "working"
        assert 0.0 <= working["share"] < 1.0
    studio.ask(task, method="DELETE")
    assert ended(studio, task)["state"] == "cancelled"
    assert studio.ask("/api/view").status == 200


def test_failures_are_reported(studio, settings, photo, monkeypatch):
    answer = studio.ask("/api/reconstructions?photo=unknown", method="POST", body=b"")
    assert "drop it again" in ended(studio, f"/api/tasks/{answer.json['id']}")["error"]
    assert studio.ask("/api/tasks/unknown").status == 404
    assert "no such task" in studio.ask("/api/tasks/unknown", method="DELETE").json["error"]
    assert studio.ask("/api/reconstructions", method="POST", body=b"").status == 400
    monkeypatch.setattr(Reconstructor, "reconstruct", lambda *_: 1 // 0)
    told = ended(studio, begun(studio, photo))
    assert told["state"] == "failed"
    assert "which is a bug" in told["error"]


def test_leaving_stops_what_is_being_reconstructed(open_studio, tiny_run, tiny_data, settings, photo):
    from vonmodel.studio.server import StudioSettings

    settings[0] = ENDLESS
    with open_studio(StudioSettings(run=tiny_run, data=tiny_data, port=0)) as studio:
        task = begun(studio, photo)
        wait_until(lambda: studio.ask(task).json["state"] != "waiting")
