import json
import re

import numpy as np
import torch

from tests.harness import on_white
from vonmodel.inference.edit import TransferSettings, transfer
from vonmodel.inference.photo import photo_of_pixels
from vonmodel.mesh import to_pixels
from vonmodel.reports.video import FilmSettings


def test_every_shape_wears_the_texture_that_the_encoder_reads(tmp_path, session):
    rng = np.random.default_rng(0)
    photos = [photo_of_pixels(name, rng.integers(0, 255, (32, 32, 4), dtype=np.uint8)) for name in ("red", "oak")]
    shapes = [session.shape(7), session.prepared_shape("shape2")]
    settings = TransferSettings(40.0, 20.0, 1, FilmSettings("webp", 2, 32))
    said = transfer(session, photos, shapes, settings, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == said
    for shape, told in zip(shapes, said["objects"], strict=True):
        for photo, texture in zip(photos, told["textures"], strict=True):
            read = session.source.model.texture_encoder(photo.image[None])[0][0]
            assert torch.allclose(torch.tensor(texture["texture_code"]), read)
            source, first, second = texture["pictures"]
            whole = to_pixels(photo.image).transpose(1, 2, 0).astype(int)
            assert np.abs(on_white(tmp_path / "out" / source) - whole).max() <= 1
            for file, azimuth in ((first, 40.0), (second, 220.0)):
                drawn = to_pixels(session.image(shape, *np.radians([azimuth, 20.0]), read)).transpose(1, 2, 0)
                assert np.abs(on_white(tmp_path / "out" / file) - drawn).max() <= 1
    html = (tmp_path / "out" / "index.html").read_text("utf-8")
    for name in re.findall(r'(?:src|href)="(?!data:)([^"]+)"', html):
        assert (tmp_path / "out" / name).is_file(), name
