"""Every use of a model works with a texture generator that sees the surface as with the published one."""

import numpy as np
import pytest
import torch

from tests.vonmodel.conftest import boxes
from vonmodel.checkpoint import CheckpointInfo, CheckpointState, checkpoint_name, save_checkpoint
from vonmodel.config import update
from vonmodel.geometry import viewpoint_rotation
from vonmodel.inference.edit import TransferSettings, transfer
from vonmodel.inference.photo import photo_of_pixels
from vonmodel.inference.session import ModelSession, open_model
from vonmodel.inference.texture_baking import painted_mesh
from vonmodel.mesh import to_pixels
from vonmodel.model import build_model
from vonmodel.reconstruction.reconstruct import Reconstructor, ReconstructSettings
from vonmodel.reports.video import FilmSettings
from vonmodel.run_folder import RunFolder


@pytest.fixture(params=["geometry", "field"])
def painted(request, tmp_path, tiny_config, tiny_data):
    """A session with untrained weights: occupancies, two rays a pixel, framed as photos, seen from afar."""
    changes = {
        "painter": request.param,
        "critics": "residual",
        "rays_per_pixel": 2,
        "exact_framing": True,
        "camera_distance": 3.5,
        "resampled": False,
        "depth_range": "item",
    }
    config = update(tiny_config, {"model": changes, "texture": {"objective": "relativistic"}}, "test")
    run = RunFolder(tmp_path / "painted")
    run.start(config)
    info = CheckpointInfo(checkpoint_name("texture", 1), "texture", 1, 1, 1, "")
    save_checkpoint(run.path, info, CheckpointState(build_model(config.model, 4).state_dict(), {}, {}))
    session = ModelSession(open_model(run.path, data=tiny_data))
    session.source.model.generate_shapes = boxes
    return session


def test_an_image_is_the_model_s_own(painted):
    model, shape, texture = painted.source.model, painted.shape(3), painted.texture(1)
    angles = torch.tensor([[0.4, 0.2]])
    sketch = model.sketch(shape.volume[None], viewpoint_rotation(angles[:, 0], angles[:, 1]))
    expected = model.paint(sketch, texture[None])[0]
    torch.testing.assert_close(painted.image(shape, 0.4, 0.2, texture), expected, atol=1e-5, rtol=0)
    other = painted.image(shape, 0.4, 0.2, painted.texture(2))
    assert (other - expected).abs().max() > 1e-3


def test_front_and_back_are_distinguished(painted):
    """Where a shape is seen from both sides, the painter sees its near side in front of it: +y or -y."""
    shape, texture = painted.shape(3), painted.texture(1)
    nearest = {}
    for azimuth in (0.0, np.pi):
        sketch = painted.sketch(shape, azimuth, 0.0)
        near = sketch.normalized_depth[0, 0] > 0.95
        nearest[azimuth] = sketch.position[0, 1][near].mean().item()
    assert nearest[0.0] > 0.3
    assert nearest[np.pi] < -0.3
    assert (painted.image(shape, 0.0, 0.0, texture) - painted.image(shape, np.pi, 0.0, texture)).abs().max() > 1e-3


def test_meshes_wear_what_is_painted(painted, monkeypatch):
    colour = torch.tensor([0.5, -0.25, 0.75]).view(1, 3, 1, 1)
    generator = painted.source.model.texture_generator
    monkeypatch.setattr(generator, "forward", lambda maps, code: colour.expand(len(maps), 3, 32, 32))
    shape = painted.shape(7)
    mesh = painted_mesh(painted, shape, painted.texture(0), painted.mesh(shape))
    assert (mesh.colours == to_pixels(colour).reshape(3)).all()


def test_left_and_right_are_where_they_are_painted(painted, monkeypatch):
    """Painted by the sign of the object's x, vertices have the colour of their own side."""

    def by_side(maps, code):
        image = torch.full((len(maps), 3, 32, 32), -1.0)
        image[:, 0] = torch.where(maps[:, 5] > 0, 1.0, -1.0)
        image[:, 2] = -image[:, 0]
        return image

    monkeypatch.setattr(painted.source.model.texture_generator, "forward", by_side)
    shape = painted.shape(7)
    mesh = painted_mesh(painted, shape, painted.texture(0), painted.mesh(shape))
    middle = (mesh.vertices[:, 0].max() + mesh.vertices[:, 0].min()) / 2.0
    clear = np.abs(mesh.vertices[:, 0]) > 0.15
    assert abs(middle) < 0.5
    red = mesh.colours[:, 0].astype(int) > mesh.colours[:, 2].astype(int)
    assert (red == (mesh.vertices[:, 0] > 0))[clear].mean() > 0.9


def test_photos_give_textures_and_shapes(painted, tmp_path):
    rng = np.random.default_rng(0)
    photo = photo_of_pixels("red", rng.integers(0, 255, (32, 32, 4), dtype=np.uint8))
    told = transfer(
        painted,
        [photo],
        [painted.shape(7)],
        TransferSettings(40.0, 20.0, 1, FilmSettings("webp", 2, 32)),
        tmp_path / "out",
    )
    assert len(told["objects"]) == 1
    quick = ReconstructSettings(
        2, 2, ((2, 2), (1, 1)), carve_steps=1, carve_below=1.1, texture_steps=2, start="search"
    )
    pixels = to_pixels(painted.image(painted.shape(3), 0.5, 0.4, painted.texture(0))).transpose(1, 2, 0)
    alpha = to_pixels(2.0 * painted.sketch(painted.shape(3), 0.5, 0.4).silhouette[0, 0] - 1.0)
    found = Reconstructor(painted, quick).reconstruct(photo_of_pixels("chair", np.dstack([pixels, alpha])))
    assert np.isfinite(found.overlap)
    assert found.texture.shape == (8,)
