import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.harness import on_white
from vonmodel.inference.interpolate import InterpolateSettings, PathError, codes_along, interpolate
from vonmodel.mesh import to_pixels
from vonmodel.reports.provenance import read_provenance
from vonmodel.reports.video import FilmSettings
from vonmodel.studio.view_request import decode_code

QUIET = InterpolateSettings("linear", 3, 30.0, 20.0, FilmSettings(None))


@pytest.mark.parametrize("curve", ["linear", "spherical"])
def test_a_path_goes_through_its_stops_at_even_shares(curve):
    stops = torch.randn(4, 200, generator=torch.Generator().manual_seed(0))
    reached = codes_along(stops, torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]), curve)
    torch.testing.assert_close(reached, stops, atol=1e-4, rtol=1e-4)


def test_spherical_codes_stay_as_long_as_drawn_ones():
    stops = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    lengths = {
        curve: codes_along(stops, torch.linspace(0, 1, 21), curve).norm(dim=-1) for curve in ("linear", "spherical")
    }
    assert lengths["spherical"].min() > 0.95 * stops.norm(dim=-1).min()
    assert lengths["linear"].min() < 0.8 * stops.norm(dim=-1).min()


def test_a_single_stop_stays():
    stop = torch.randn(1, 8)
    assert torch.equal(codes_along(stop, torch.linspace(0, 1, 3)), stop.expand(3, -1))


def test_each_path_varies_what_it_says(tmp_path, session):
    shapes, textures = session.shapes([1, 2]), [session.texture(3), session.texture(4)]
    said = interpolate(session, shapes, textures, QUIET, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == said
    assert [each["varied"] for each in said["objects"]] == ["both", "shape", "texture"]
    here = np.radians([30.0, 20.0])
    for path in said["objects"]:
        for share, file in zip((0.0, 0.5, 1.0), path["pictures"], strict=True):
            code = torch.lerp(shapes[0].code, shapes[1].code, share if path["varied"] != "texture" else 0.0)
            texture = torch.lerp(*textures, share if path["varied"] != "shape" else 0.0)
            drawn = to_pixels(session.image(session.shape(code), *here, texture)).astype(int)
            stored = on_white(tmp_path / "out" / file).transpose(2, 0, 1)
            assert np.abs(stored - drawn).max() <= 2, (path["varied"], share)


def test_the_film_goes_there_and_back(tmp_path, session):
    settings = InterpolateSettings(pictures=2, film=FilmSettings("gif", 4, 32))
    said = interpolate(session, session.shapes([1, 2]), [session.texture(3)], settings, tmp_path / "out")
    with Image.open(tmp_path / "out" / said["objects"][0]["films"][0]) as film:
        assert film.n_frames == 4
        frames = []
        for index in range(4):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    assert np.abs(frames[1] - frames[3]).mean() < 2
    for file in ("shape/strip.png", said["objects"][0]["films"][0]):
        origin = read_provenance(tmp_path / "out" / file)
        codes = [decode_code(each) for each in origin["shape_codes"]]
        assert codes[0] == tuple(session.shape(1).code.tolist())
        assert codes[-1] == pytest.approx(tuple(session.shape(2).code.tolist()), abs=1e-6)
        assert decode_code(origin["texture_code"]) == tuple(session.texture(3).tolist())
        assert origin["checkpoint"]["sha256"] == session.source.checkpoint.sha256
        assert {"azimuth_deg", "elevation_deg", "run", "class"} <= origin.keys()
    assert np.abs(frames[0] - frames[2]).mean() > 2


def test_there_must_be_something_to_go_between(tmp_path, session):
    with pytest.raises(PathError, match="two or more shapes, textures, or both"):
        interpolate(session, [session.shape(1)], [session.texture(3)], QUIET, tmp_path / "out")
    shapes = [session.shape(1), session.prepared_shape("shape1")]
    with pytest.raises(PathError, match="chair shape1 is a prepared shape"):
        interpolate(session, shapes, [session.texture(3)], QUIET, tmp_path / "out")
    assert not (tmp_path / "out").exists()
