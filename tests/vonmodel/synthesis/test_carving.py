import pytest
import torch

from vonmodel.synthesis.carving import carve
from vonmodel.synthesis.fitting import Target, depth_trust, sketch_errors

ANGLES = torch.tensor([0.5, 0.4])


def target_of(sketch):
    return Target(sketch.silhouette[0], sketch.normalized_depth[0])


def overlap_of(session, volume, target):
    sketch = session.sketch(session.shape_of_volume("carved", volume), *ANGLES.tolist())
    return sketch_errors(sketch.silhouette, sketch.normalized_depth, target)[0].item()


def test_the_silhouette_fits_better_and_the_rest_stays(session):
    start = session.shape(3).volume
    target = target_of(session.sketch(session.shape(11), *ANGLES.tolist()))
    told = []
    carved = carve(
        session.source.model,
        start,
        ANGLES,
        target,
        steps=25,
        mirrored=False,
        step=lambda *each: told.append(each),
    )
    assert overlap_of(session, carved, target) > overlap_of(session, start, target) + 0.02
    assert told[-1] == (25, 25)
    assert 0.0 <= carved.min() <= carved.max() <= 1.0
    # Behind what is solid nothing was asked for.
    assert ((carved - start).abs() < 0.01).float().mean() > 0.5


def test_left_and_right_change_alike_where_the_class_is_symmetric(session):
    volume = session.shape(3).volume
    symmetric = (volume + volume.flip(1)) / 2.0
    target = target_of(session.sketch(session.shape(11), *ANGLES.tolist()))
    options = {"steps": 8, "step": lambda done, total: None}
    carved = carve(session.source.model, symmetric, ANGLES, target, mirrored=True, **options)
    assert not torch.allclose(carved, symmetric, atol=0.01)
    torch.testing.assert_close(carved, carved.flip(1), atol=1e-4, rtol=0)
    free = carve(session.source.model, symmetric, ANGLES, target, mirrored=False, **options)
    assert not torch.allclose(free, free.flip(1), atol=0.01)


def test_a_shape_that_fits_is_not_made_worse(session):
    shape = session.shape(3)
    target = target_of(session.sketch(shape, *ANGLES.tolist()))
    options = {"steps": 5, "mirrored": True, "step": lambda done, total: None}
    carved = carve(session.source.model, shape.volume, ANGLES, target, **options)
    assert overlap_of(session, carved, target) >= overlap_of(session, shape.volume, target) - 1e-6


def test_flat_depths_are_not_trusted():
    mask = torch.ones(1, 8, 8)
    ramp = torch.linspace(-1, 1, 64).view(1, 8, 8)
    assert depth_trust(mask, ramp) == 1.0
    assert depth_trust(mask, 0.05 * ramp) == pytest.approx(0.15, abs=0.02)
    assert depth_trust(mask, torch.ones(1, 8, 8)) == 0.0
    assert depth_trust(torch.zeros(1, 8, 8), ramp) == 0.0
