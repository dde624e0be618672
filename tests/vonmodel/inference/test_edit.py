import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tests.harness import on_white
from vonmodel.inference.edit import EditSettings, edit
from vonmodel.inference.sampling import Seed
from vonmodel.inference.views import degrees_text
from vonmodel.mesh import to_pixels
from vonmodel.reports.album import OutputError
from vonmodel.reports.provenance import read_provenance
from vonmodel.reports.video import FilmSettings
from vonmodel.studio.view_request import decode_code

SETTINGS = EditSettings(40.0, 20.0, Seed(3), alternatives=2, film=FilmSettings("webp", 4, 32))


def pixels(file):
    return on_white(file).transpose(2, 0, 1)


def test_each_row_changes_one_thing_and_keeps_the_others(tmp_path, session):
    said = edit(session, [session.shape(7)], SETTINGS, tmp_path / "out")["objects"][0]
    here, up, texture = np.radians(40.0), np.radians(20.0), session.texture(3)
    expected = {
        "shape": [(session.shape(seed), here, up, texture) for seed in (7, 8, 9)],
        "azimuth": [(session.shape(7), np.radians(40.0 + turn), up, texture) for turn in (0, 120, 240)],
        "elevation": [(session.shape(7), here, np.radians(lifted), texture) for lifted in (20, 0, 60)],
        "texture": [(session.shape(7), here, up, session.texture(seed)) for seed in (3, 4, 5)],
    }
    assert set(said["pictures"]) == set(expected)
    for row, views in expected.items():
        for file, view in zip(said["pictures"][row], views, strict=True):
            drawn = to_pixels(session.image(*view)).astype(int)
            assert np.abs(pixels(tmp_path / "out" / file) - drawn).max() <= 1, file


def test_result_holds_all_that_is_needed_to_draw_again(tmp_path, session):
    written = edit(session, [session.shape(7), session.prepared_shape("shape2")], SETTINGS, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == written
    first, second = written["objects"]
    assert torch.equal(torch.tensor(first["shape_code"]), session.shape(7).code)
    assert (second["shape"], second["shape_code"]) == ("chair shape2", None)
    image = session.image(
        session.shape(first["shape_code"]), *np.radians([40, 20]), torch.tensor(first["texture_code"])
    )
    assert np.abs(pixels(tmp_path / "out" / "object-01" / "image.png") - to_pixels(image)).max() <= 1


def test_grid_and_turntable_say_all_that_they_show(tmp_path, session):
    said = edit(session, [session.shape(7)], SETTINGS, tmp_path / "out")["objects"][0]
    grid, turntable = (
        read_provenance(tmp_path / "out" / "object-01" / name) for name in ("grid.png", "turntable.webp")
    )
    for origin in (grid, turntable):
        assert origin["checkpoint"]["sha256"] == session.source.checkpoint.sha256
        assert origin["run"] == session.source.provenance.run
        assert origin["shape"] == "seed 7"
        assert decode_code(origin["shape_code"]) == tuple(said["shape_code"])
        assert origin["elevation_deg"] == 20.0
    assert grid["azimuths_deg"] == [40.0, 160.0, 280.0]
    assert [decode_code(each) for each in grid["texture_codes"]] == [
        tuple(session.texture(seed).tolist()) for seed in (3, 4, 5)
    ]
    assert turntable["azimuths_deg"] == [40.0, 130.0, 220.0, 310.0]
    assert decode_code(turntable["texture_code"]) == tuple(said["texture_code"])


def test_the_turntable_goes_once_around(tmp_path, session):
    edit(session, [session.shape(7)], SETTINGS, tmp_path / "out")
    with Image.open(tmp_path / "out" / "object-01" / "turntable.webp") as film:
        assert (film.n_frames, film.size) == (4, (32, 32))
        film.seek(2)
        shown = np.asarray(film.convert("RGB")).astype(int)
    drawn = to_pixels(session.image(session.shape(7), *np.radians([220, 20]), session.texture(3)))
    assert np.abs(shown - drawn.transpose(1, 2, 0)).mean() < 12


def test_every_file_that_the_page_names_is_there_and_no_other(tmp_path, session):
    told = []
    shapes = session.shapes([0, 1])
    edit(session, shapes, SETTINGS, tmp_path / "out", lambda *each: told.append(each))
    html = (tmp_path / "out" / "index.html").read_text("utf-8")
    named = set(re.findall(r'(?:src|href)="(?!data:)([^"]+)"', html))
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == named | {"index.html"}
    assert told == [(1, 2), (2, 2)]
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)


def test_without_a_viewpoint_it_is_drawn_as_the_class_is_seen(tmp_path, session):
    said = edit(session, [session.shape(7)], EditSettings(film=FilmSettings(None)), tmp_path / "out")["objects"][0]
    assert [said["azimuth_deg"], said["elevation_deg"]] == pytest.approx(np.degrees(session.viewpoints(1, 7)[0]))
    assert said["films"] == ["object-01/grid.png"]


def test_another_verbs_result_is_not_replaced(tmp_path, session):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text('{"verb": "export"}')
    with pytest.raises(OutputError, match=r"holds something other than an older result \(edit\)"):
        edit(session, [session.shape(0)], SETTINGS, tmp_path / "out")
    assert (tmp_path / "out" / "result.json").read_text() == '{"verb": "export"}'


def test_angles_are_shown_between_minus_180_and_180():
    assert [degrees_text(np.radians(angle)) for angle in (0, 190, -190, 400)] == ["0°", "-170°", "170°", "40°"]
