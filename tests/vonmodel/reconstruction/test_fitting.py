import dataclasses
import math

import numpy as np
import pytest
import torch

from vonmodel.geometry import Camera
from vonmodel.inference.rendering import frame_seen
from vonmodel.reconstruction.fitting import (
    FitParameters,
    FitResult,
    FitWeights,
    Target,
    camera_sketch,
    fit,
    framed_channels,
    framed_errors,
    frames_of,
    initial_frames,
    pose_losses,
    sketch_errors,
)

ELEVATIONS = (0.0, 0.8)


@pytest.fixture(params=[False, True], ids=["whole pixels", "exact"])
def model(session, request, monkeypatch):
    """The model with either framing."""
    model = session.source.model
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, exact_framing=request.param))
    return model


@pytest.fixture
def truth(session, model):
    """A pose and what it looks like."""
    code, angles = session.shape(7).code[None], torch.tensor([[0.6, 0.4]])
    sketch = session.sketch(session.shape(7), 0.6, 0.4)
    frames = initial_frames(model, code, angles)
    return FitParameters(code, angles, frames), Target(sketch.silhouette[0], sketch.normalized_depth[0])


def test_in_the_frame_that_framing_chooses_both_show_the_same(model, truth):
    pose, _ = truth
    seen = camera_sketch(model, pose)
    silhouette, depth = framed_channels(seen, frames_of(model.config, seen))
    framed = frame_seen(model, seen, pose.angles, Camera())
    # Framing drops what is not solid, hence a few pixels at the edges differ; all others are equal.
    for ours, theirs in ((silhouette, framed.silhouette), (depth, framed.normalized_depth)):
        off = (ours - theirs).abs()[framed.silhouette > 0.99]
        assert off.median() < 0.01
        assert (off > 0.05).float().mean() < 0.1


def test_the_truth_is_framed_as_the_painter_sees_it(model, truth):
    pose, target = truth
    overlap, depth_error = framed_errors(model, camera_sketch(model, pose), pose.angles, target, Camera())
    assert overlap.item() == pytest.approx(1.0, abs=1e-5)
    assert depth_error.item() == pytest.approx(0.0, abs=1e-5)


def test_the_truth_fits_better_than_anything_near_it(model, truth):
    pose, target = truth
    weights = FitWeights(code=0.0)
    right = pose_losses(camera_sketch(model, pose), target, pose, ELEVATIONS, weights)
    for azimuth, stretch in ((0.3, 0.0), (-0.3, 0.0), (0.0, 1.5), (0.0, -1.5), (math.pi, 0.0)):
        codes = pose.codes + stretch
        angles = pose.angles + torch.tensor([[azimuth, 0.0]])
        other = FitParameters(codes, angles, initial_frames(model, codes, angles))
        wrong = pose_losses(camera_sketch(model, other), target, other, ELEVATIONS, weights)
        # Boxes with edges as soft as these are wider where framing does not drop the rim: a larger one comes near.
        assert wrong.item() > right.item() + 0.001, (azimuth, stretch)


@pytest.mark.parametrize("part", ["codes", "angles", "frames"])
def test_gradients_reduce_the_loss_for_every_part(model, truth, part):
    pose, target = truth
    away = {"codes": torch.full_like(pose.codes, 1.0), "angles": torch.tensor([[0.25, 0.1]])}
    start = pose._replace(**{part: getattr(pose, part) + away.get(part, torch.tensor([[1.0, -1.0, 3.0]]))})
    value = getattr(start, part).clone().requires_grad_()
    moved = start._replace(**{part: value})
    weights = FitWeights(code=0.0)
    loss = pose_losses(camera_sketch(model, moved), target, moved, ELEVATIONS, weights)
    (slope,) = torch.autograd.grad(loss.sum(), value)
    step = start._replace(**{part: value.detach() - 0.02 * slope / slope.norm() * (16 if part == "frames" else 1)})
    below = pose_losses(camera_sketch(model, step), target, step, ELEVATIONS, weights)
    assert below.item() < loss.item()


def test_descent_finds_the_pose_again(model, truth):
    pose, target = truth
    codes, angles = torch.zeros_like(pose.codes), pose.angles + torch.tensor([[0.35, -0.15]])
    start = FitParameters(codes, angles, initial_frames(model, codes, angles))
    best = None
    for reached in fit(model, target, start, steps=40, elevations=ELEVATIONS, weights=FitWeights()):
        best = reached if best is None else best.better_of(reached)
    assert best.overlap.item() > 0.95
    assert best.pose.angles[0].tolist() == pytest.approx(pose.angles[0].tolist(), abs=math.radians(4))


def test_starts_do_not_disturb_each_other(model, truth):
    _, target = truth
    codes = torch.stack([torch.zeros(8), torch.ones(8)])
    angles = torch.tensor([[0.3, 0.3], [1.2, 0.5]])
    start = FitParameters(codes, angles, initial_frames(model, codes, angles))
    alone = FitParameters(*(part[:1] for part in start))
    settings = {"steps": 4, "elevations": ELEVATIONS, "weights": FitWeights()}
    together, single = (list(fit(model, target, each, **settings))[-1] for each in (start, alone))
    torch.testing.assert_close(together.pose.angles[0], single.pose.angles[0], atol=1e-4, rtol=1e-3)


def test_elevations_beyond_the_class_cost(model, truth):
    pose, target = truth
    seen = camera_sketch(model, pose)
    here, low = (pose_losses(seen, target, pose, limits, FitWeights()) for limits in (ELEVATIONS, (0.5, 0.8)))
    assert (low - here).item() == pytest.approx(0.1, abs=1e-5)


def test_errors_of_sketches_by_hand():
    target = Target(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
    target.mask[0, :2] = 1.0
    silhouette = torch.zeros(3, 1, 4, 4)
    silhouette[0, 0, :2] = 1.0
    silhouette[1, 0, 1:3] = 1.0
    overlap, error = sketch_errors(silhouette, torch.full((3, 1, 4, 4), 0.5), target)
    assert overlap.tolist() == pytest.approx([1.0, 4 / 12, 0.0])
    assert error.tolist() == pytest.approx([0.5, 0.5, 2.0])


def test_the_better_of_two_is_chosen_row_by_row():
    def fitted(overlaps):
        rows = torch.tensor(overlaps)
        pose = FitParameters(rows[:, None], rows[:, None].expand(-1, 2), rows[:, None].expand(-1, 3))
        return FitResult(pose, -rows, rows, 0 * rows, 0 * rows)

    best = fitted([0.1, 0.9, 0.5]).better_of(fitted([0.3, 0.2, 0.4]))
    np.testing.assert_allclose(best.overlap, [0.3, 0.9, 0.5])
    np.testing.assert_allclose(best.pose.codes[:, 0], [0.3, 0.9, 0.5])
    np.testing.assert_allclose(best.best(2).overlap, [0.9, 0.5])
