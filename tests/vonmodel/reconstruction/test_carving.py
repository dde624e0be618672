import dataclasses

import numpy as np
import pytest
import torch

from vonmodel.geometry import Camera
from vonmodel.inference.rendering import render_framed, resample_volume, silhouette_iou
from vonmodel.reconstruction.carving import carve, carving_grid, signed_distance, solid_of, thin_coverage
from vonmodel.reconstruction.fitting import Target, depth_trust
from vonmodel.representation import volume_of_distance

ANGLES = torch.tensor([0.5, 0.4])


def quiet(done, total):
    """Ignores progress."""


def outline_of(session, shape, size=1):
    """The silhouette of a shape, enlarged."""
    silhouette = session.sketch(shape, *ANGLES.tolist()).silhouette[0]
    return torch.nn.functional.interpolate(silhouette[None], scale_factor=size, mode="bilinear")[0]


def test_the_silhouette_fits_better_and_the_rest_stays(session):
    start, told = session.shape(3).volume, []
    outline = outline_of(session, session.shape(11))
    carved = carve(
        session.source.model,
        start,
        ANGLES,
        outline,
        steps=25,
        mirrored=False,
        step=lambda *each: told.append(each),
    )
    assert carved.overlap > carved.overlap_before + 0.02
    seen = render_framed(session.source.model, carved.volume[None], carved.angles[None]).silhouette
    assert silhouette_iou(seen, outline).item() == pytest.approx(carved.overlap, abs=1e-4)
    assert told[-1] == (25, 25)
    assert 0.0 <= carved.volume.min() <= carved.volume.max() <= 1.0
    changed = (carved.volume > 0.5) != (start > 0.5)
    assert 0.0 < changed.float().mean() < 0.1
    # No fog: what the outline asks for is solid or empty.
    fog = (carved.volume > 0.05) & (carved.volume < 0.95)
    assert fog.float().mean() < ((start > 0.05) & (start < 0.95)).float().mean() + 0.03


def test_signed_shapes_are_carved_on_the_grid_they_are_seen_on(session, monkeypatch):
    model = session.source.model
    signed = dataclasses.replace(model.config, representation="signed", finer_grid=40)
    monkeypatch.setattr(model, "config", signed)
    start, outline = session.shape(3).volume, outline_of(session, session.shape(11))
    carved = carve(model, start, ANGLES, outline, steps=10, mirrored=False, step=quiet)
    assert carved.volume.shape == (1, 40, 40, 40)
    assert carved.overlap > carved.overlap_before
    assert 0.0 <= carved.volume.min() <= carved.volume.max() <= 1.0
    # What was carved is a signed distance again: its middle values are as wide as the band.
    between = (carved.volume > 0.1) & (carved.volume < 0.9)
    assert between.float().mean() > 0.05


def test_what_the_photo_shows_finely_is_carved_finely(session):
    outline = outline_of(session, session.shape(11), size=2)
    options = {"steps": 6, "mirrored": True, "step": quiet, "camera": Camera.at(3.5)}
    carved = carve(session.source.model, session.shape(3).volume, ANGLES, outline, **options)
    assert carved.volume.shape == (1, 64, 64, 64)
    assert carved.silhouette.shape == outline.shape
    assert carved.overlap >= carved.overlap_before
    assert [carving_grid(*sizes) for sizes in ((32, 32), (32, 128), (128, 128), (32, 8))] == [32, 64, 128, 32]


def test_overlaps_are_those_of_the_frame_that_the_painter_sees(session, monkeypatch):
    model = session.source.model
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, exact_framing=True))
    shape = session.shape(3)
    outline = session.sketch(shape, *ANGLES.tolist()).silhouette[0]
    carved = carve(model, shape.volume, ANGLES, outline, steps=0, mirrored=True, step=quiet)
    assert carved.overlap == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(carved.silhouette, outline, atol=1e-5, rtol=0)


def test_left_and_right_change_alike_where_the_class_is_symmetric(session):
    symmetric, other = ((volume + volume.flip(1)) / 2.0 for volume in (session.shape(n).volume for n in (3, 11)))
    outline = outline_of(session, session.shape_of_volume("another", other))
    options = {"steps": 25, "step": quiet}
    carved = carve(session.source.model, symmetric, ANGLES, outline, mirrored=True, **options).volume
    assert not torch.allclose(carved, symmetric, atol=0.1)
    torch.testing.assert_close(carved, carved.flip(1), atol=1e-4, rtol=0)
    free = carve(session.source.model, symmetric, ANGLES, outline, mirrored=False, **options).volume
    assert not torch.allclose(free, free.flip(1), atol=0.1)


@pytest.mark.parametrize("value", [None, 0.0, 1.0])
def test_a_shape_that_fits_or_has_no_surface_stays(session, value):
    volume = session.shape(3).volume if value is None else torch.full((1, 32, 32, 32), value)
    outline = render_framed(session.source.model, volume[None], ANGLES[None]).silhouette[0]
    carved = carve(session.source.model, volume, ANGLES, outline, steps=5, mirrored=True, step=quiet)
    assert carved.overlap >= carved.overlap_before - 1e-6
    if value is not None:
        assert torch.equal(carved.volume, volume)


def test_signed_distances_are_those_of_a_ball(session):
    axis = torch.arange(32.0) - 15.5
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0).sqrt()[None]
    distance = signed_distance((radius[0] < 9.0).numpy(), radius)
    assert (distance - (radius - 9.0)).abs().max() < 1.0
    model = session.source.model
    assert np.array_equal(solid_of(model, volume_of_distance(model.config, distance, 0.3)), (radius[0] < 9.0).numpy())


def test_distance_functions_become_solid_where_they_are_opaque(session, monkeypatch):
    model = session.source.model
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, representation="distance"))
    axis = torch.arange(32.0) - 15.5
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0).sqrt()[None]
    shell = torch.exp(-8.0 * (radius - 9.0).abs() / 31.0)
    solid = solid_of(model, shell)
    assert solid[16, 16, 16]
    distance = signed_distance(solid, shell)
    volume = volume_of_distance(model.config, distance, 0.3)
    assert 0.0 <= volume.min() <= volume.max() <= 1.0
    assert np.array_equal((model.opacity(volume[None])[0, 0] > 0.0).numpy(), solid)


def test_a_distant_camera_sees_flatter_things_as_large(session):
    volume = resample_volume(session.shape(3).volume, 48)
    assert volume.shape == (1, 48, 48, 48)
    near, far = (
        render_framed(session.source.model, volume[None], ANGLES[None], camera)
        for camera in (Camera(), Camera.at(4.0))
    )
    assert near.silhouette.shape == far.silhouette.shape == (1, 1, 32, 32)
    assert 0.7 < silhouette_iou(near.silhouette, far.silhouette).item() < 0.99


def test_thin_parts_are_those_that_no_disk_fits_into():
    outline = torch.zeros(1, 128, 128)
    outline[:, 10:60, 20:100] = 1.0
    assert thin_coverage(outline, outline) == pytest.approx(1.0)
    seat = outline.clone()
    outline[:, 60:120, 25:29] = 1.0
    outline[:, 60:120, 90:94] = 1.0
    one_leg = outline.clone()
    one_leg[:, 60:, 50:] = 0.0
    assert thin_coverage(outline, one_leg) == pytest.approx(0.5, abs=0.05)
    assert thin_coverage(outline, seat) == pytest.approx(0.0, abs=0.1)
    assert thin_coverage(torch.zeros(1, 16, 16), torch.zeros(1, 16, 16)) == 1.0


def test_flat_depths_are_not_trusted():
    mask = torch.ones(1, 8, 8)
    ramp = torch.linspace(-1, 1, 64).view(1, 8, 8)
    assert depth_trust(mask, ramp) == 1.0
    assert depth_trust(mask, 0.05 * ramp) == pytest.approx(0.15, abs=0.02)
    assert depth_trust(mask, torch.ones(1, 8, 8)) == 0.0
    assert depth_trust(torch.zeros(1, 8, 8), ramp) == 0.0
    assert Target(mask, ramp).trust == 1.0
