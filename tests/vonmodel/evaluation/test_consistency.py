"""View consistency against scenes whose colours are known in closed form."""

import dataclasses
import math
from functools import partial
from pathlib import Path

import pytest
import torch

from vonmodel.config import ModelConfig, TrainConfig
from vonmodel.evaluation.consistency import SOLID, FramedView, consistency_scores, paint_view, view_difference
from vonmodel.evaluation.samples import VonGenerator
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.geometry import viewpoint_rotation
from vonmodel.model import VonModel, build_model

RADIUS = 0.6
CONFIG = ModelConfig(
    resolution=32,
    image_size=64,
    shape_base_channels=2,
    texture_base_channels=2,
    resampled=False,
    depth_range="item",
    rays_per_pixel=2,
)


def ball() -> torch.Tensor:
    axis = torch.linspace(-1, 1, 32)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.sigmoid(60 * (RADIUS - (x**2 + y**2 + z**2).sqrt()))[None, None]


class Painted(VonModel):
    """A model whose colours are a function of the sketch alone."""

    def paint(self, framed, texture_codes):
        return self.colour(framed).expand(-1, 3, -1, -1)


def views(colour, degrees: float, *, exact: bool = False) -> tuple[Painted, FramedView, FramedView]:
    """Two views of a ball, painted by a function of the sketch and the viewpoint's rotation."""
    model = Painted(dataclasses.replace(CONFIG, exact_framing=exact)).eval()
    angles = torch.tensor([[0.4, 0.3]])
    painted = []
    for turn in (0.0, math.radians(degrees)):
        rotation = viewpoint_rotation(angles[:, 0] + turn, angles[:, 1])
        model.colour = partial(colour, rotation=rotation)
        painted.append(paint_view(model, ball(), torch.zeros(1, 8), angles + torch.tensor([turn, 0.0])))
    return model, painted[0], painted[1]


def on_the_object(sketch, rotation):
    return sketch.position


def by_the_camera(sketch, rotation):
    """How far left of the camera's axis a point lies: the texture does not turn with the object."""
    return (rotation.mT[:, :, :, None, None] * sketch.position[:, None]).sum(2)[:, 1:2]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 15.0, 30.0])
def test_what_is_painted_on_the_object_itself_does_not_differ(degrees: float, exact: bool) -> None:
    model, first, second = views(on_the_object, degrees, exact=exact)
    found = view_difference(first, second, model.camera, 0.13)
    assert found.difference.item() < (1e-5 if degrees == 0.0 else 0.006)
    assert found.seen.item() > (0.99 if degrees == 0.0 else 0.55)


@pytest.mark.parametrize("degrees", [15.0, 30.0])
def test_a_texture_that_stands_still_differs_by_what_the_points_move(degrees: float) -> None:
    """On a ball, whose points are hidden where they look away from the camera, this is known in closed form."""
    model, first, second = views(by_the_camera, degrees)
    points = first.sketch.position[0].flatten(1).double()
    solid = first.sketch.silhouette.flatten() >= SOLID
    rotation = viewpoint_rotation(torch.tensor([0.4 + math.radians(degrees)]), torch.tensor([0.3]))[0].double()
    eye = rotation @ torch.tensor([-model.camera.distance, 0.0, 0.0]).double()
    faces = ((eye[:, None] - points) * points).sum(0) > 0.0
    before, after = (first.rotations[0].double().mT @ points)[1], (rotation.mT @ points)[1]
    expected = ((before - after).abs() / 2.0)[solid & faces].mean()
    found = view_difference(first, second, model.camera, 0.13)
    assert found.difference.item() == pytest.approx(expected.item(), rel=0.02)
    assert found.seen.item() == pytest.approx((solid & faces).sum().item() / solid.sum().item(), abs=0.02)


def test_an_object_that_is_nowhere_has_no_difference() -> None:
    model, first, second = views(on_the_object, 15.0)
    nothing = first._replace(sketch=first.sketch._replace(silhouette=torch.zeros_like(first.sketch.silhouette)))
    found = view_difference(nothing, second, model.camera, 0.13)
    assert math.isnan(found.difference.item())
    assert found.seen.item() == 0.0


def test_hidden_points_do_not_count() -> None:
    """Nothing of the front is visible from behind."""
    model, first, second = views(on_the_object, 180.0)
    assert view_difference(first, second, model.camera, 0.13).seen.item() < 0.1


def test_scores_of_a_model(tiny_config: TrainConfig, tiny_data: Path) -> None:
    generator = VonGenerator(build_model(tiny_config.model, 0).eval(), tiny_config, tiny_data)
    (line,), (again,) = (
        list(consistency_scores(generator, ScoreSettings(samples=5, batch_size=size, seed=3))) for size in (5, 2)
    )
    assert (line["metric"], line["generated"], line["seed"]) == ("consistency", 5, 3)
    for name in ("difference_15", "difference_30", "seen_15", "seen_30"):
        assert line[name] == again[name] or line[name] == pytest.approx(again[name], rel=1e-4)
