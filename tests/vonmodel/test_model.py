"""The complete model: sizes, backgrounds, weights by seed, visibility of thin parts."""

import dataclasses

import pytest
import torch

from vonmodel.config import ModelConfig
from vonmodel.geometry import viewpoint_rotation
from vonmodel.model import VonModel, build_model, on_background
from vonmodel.presets import PRESETS

SMALL = ModelConfig(resolution=32, image_size=64, shape_code_size=6, shape_base_channels=2, texture_base_channels=4)


def front(count: int) -> torch.Tensor:
    return viewpoint_rotation(torch.zeros(count), torch.zeros(count))


def test_from_codes_to_images() -> None:
    model = build_model(SMALL, 0).eval()
    volumes = model.generate_shapes(torch.randn(2, 6))
    assert volumes.shape == (2, 1, 32, 32, 32)
    ball = torch.linspace(-1, 1, 32).square()
    solid = (ball[:, None, None] + ball[:, None] + ball < 0.3).float().expand(2, 1, 32, 32, 32)
    sketch = model.sketch(solid, front(2))
    images = model.paint(sketch, torch.randn(2, 8))
    assert sketch.silhouette.shape == (2, 1, 64, 64)  # the image's size, not the volume's
    assert images.shape == (2, 3, 64, 64)
    outside = (sketch.silhouette == 0).expand_as(images)
    assert outside.any()
    assert (images[outside] == 1).all()  # white
    assert images.min() >= -1
    assert images.max() <= 1


def test_an_empty_volume_is_white_paper() -> None:
    model = build_model(SMALL, 0).eval()
    sketch = model.sketch(torch.zeros(1, 1, 32, 32, 32), front(1))
    assert (model.paint(sketch, torch.zeros(1, 8)) == 1).all()


def test_parameters_of_the_published_model() -> None:
    with torch.device("meta"):
        model = VonModel(PRESETS["published"].model)
    counted = {name: sum(each.numel() for each in part.parameters()) / 1e6 for name, part in model.named_children()}
    assert counted["shape_generator"] == pytest.approx(17.8, abs=0.1)
    assert counted["shape_critic"] == pytest.approx(11.3, abs=0.1)
    assert counted["texture_generator"] == pytest.approx(8.9, abs=0.1)
    assert counted["sketch_encoder"] == pytest.approx(8.8, abs=0.1)
    assert counted["texture_encoder"] == pytest.approx(1.7, abs=0.1)


def test_weights_are_a_function_of_the_seed() -> None:
    first, second, other = (build_model(SMALL, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["shape_generator.to_volume.weight"], other["shape_generator.to_volume.weight"])


def test_occupancy_is_opacity() -> None:
    volumes = torch.rand(1, 1, 32, 32, 32)
    assert build_model(SMALL, 0).opacity(volumes) is volumes


def test_a_thin_rod_between_grid_points_is_seen() -> None:
    config = dataclasses.replace(SMALL, representation="distance")
    model = build_model(config, 0)
    axis = torch.linspace(0, 1, 32)
    off = 16.5 / 31  # in the middle between grid points in both directions
    distance = ((axis[:, None] - off).square() + (axis[None] - off).square()).sqrt()
    rod = torch.exp(-8 * distance)[:, :, None].expand(32, 32, 32)[None, None]
    assert model.sketch(rod, front(1)).silhouette.max() > 0.9
    assert not (rod >= 0.9).any()  # the published threshold would lose it


def test_symmetric_shapes_are_their_own_mirror_images() -> None:
    config = dataclasses.replace(SMALL, symmetric=True)
    codes = torch.randn(2, 6)
    symmetric, free = (build_model(each, 0).eval().generate_shapes(codes) for each in (config, SMALL))
    assert torch.equal(symmetric, symmetric.flip(2))
    assert torch.equal(symmetric[:, :, 16:], free[:, :, 16:])


def test_background() -> None:
    image, mask = torch.full((1, 3, 2, 2), 0.25), torch.tensor([[0.0, 1.0], [0.5, 0.0]]).expand(1, 1, 2, 2)
    assert on_background(image, mask, -1.0)[0, 0].tolist() == [[-1.0, 0.25], [-0.375, -1.0]]
