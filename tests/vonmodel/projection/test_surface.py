"""Positions and normals of what a sketch shows, on surfaces known in closed form."""

import math

import pytest
import torch

from vonmodel.config import ModelConfig
from vonmodel.geometry import viewpoint_rotation
from vonmodel.model import VonModel
from vonmodel.projection import SurfaceSketch, geometry_maps
from vonmodel.projection.sketch import surface_normals

RADIUS = 0.6


def _ball(resolution: int) -> torch.Tensor:
    axis = torch.linspace(-1.0, 1.0, resolution)
    squares = axis.square()
    radius = (squares[:, None, None] + squares[:, None] + squares).sqrt()
    return torch.sigmoid((RADIUS - radius) * 200.0)[None, None]


def _sketch_of_ball(angles: torch.Tensor, **config: float | bool) -> SurfaceSketch:
    with torch.device("meta"):
        model = VonModel(ModelConfig(resolution=64, image_size=32, resampled=False, depth_range="item", **config))
    rotations = viewpoint_rotation(angles[:, 0], angles[:, 1])
    return model.sketch(_ball(64).expand(len(angles), -1, -1, -1, -1), rotations)


@pytest.mark.parametrize(
    "config",
    [{}, {"rays_per_pixel": 2, "exact_framing": True}, {"rays_per_pixel": 2, "camera_distance": 3.5}],
    ids=["published", "two-rays-exact", "distant"],
)
def test_the_points_of_a_ball_lie_on_it_and_face_the_camera(config: dict[str, float | bool]) -> None:
    angles = torch.tensor([[0.0, 0.0], [0.7, 0.4], [-2.0, 0.9], [math.pi, -0.3]])
    sketch = _sketch_of_ball(angles, **config)
    solid = sketch.silhouette.squeeze(1) > 0.98
    radius = torch.linalg.vector_norm(sketch.position, dim=1)
    assert (radius[solid] - RADIUS).abs().mean().item() < 0.02
    # The camera's direction in the object frame, from the conventions.
    azimuth, elevation = angles.unbind(-1)
    towards = torch.stack(
        [-azimuth.sin() * elevation.cos(), azimuth.cos() * elevation.cos(), elevation.sin()], dim=-1
    )
    middle = sketch.position[:, :, 15:17, 15:17].mean((-1, -2))
    torch.testing.assert_close(middle, RADIUS * towards, atol=0.05, rtol=0)
    assert not sketch.position.permute(0, 2, 3, 1)[sketch.silhouette.squeeze(1) < 0.1].any()


def test_normals_of_a_ball_point_outwards() -> None:
    sketch = _sketch_of_ball(torch.tensor([[0.4, 0.5]]), rays_per_pixel=4)
    maps = geometry_maps(sketch)
    assert maps.shape == (1, 8, 32, 32)
    normals, outwards = maps[0, 2:5], sketch.position[0] / RADIUS
    inner = sketch.silhouette[0, 0, 6:26, 6:26] > 0.98
    cosine = (normals * outwards).sum(0)[6:26, 6:26][inner]
    assert cosine.min().item() > 0.8
    assert cosine.mean().item() > 0.97
    torch.testing.assert_close(
        torch.linalg.vector_norm(normals[:, 6:26, 6:26], dim=0)[inner], torch.ones(int(inner.sum()))
    )


def test_a_normal_at_the_edge_of_a_part_is_that_of_the_part() -> None:
    """Two parallel planes, one behind the other: every normal is theirs, also in the columns where they meet."""
    across = torch.arange(8.0)
    position = torch.stack(
        [
            torch.where(across < 4, 0.0, 5.0).expand(8, 8),
            -across.expand(8, 8),
            -across[:, None].expand(8, 8),
        ]
    )[None]
    visible = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    normals = surface_normals(position, visible)
    expected = torch.tensor([-1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 8, 8)
    torch.testing.assert_close(normals, expected)
    lonely = torch.zeros_like(visible)
    lonely[..., 3, 3] = True
    assert not surface_normals(position, lonely).any()


def test_the_position_has_a_gradient_with_respect_to_the_volume() -> None:
    """Moved along the view, the surface moves its points: the gradient is finite and not zero."""
    with torch.device("meta"):
        model = VonModel(ModelConfig(resolution=32, image_size=32, resampled=False, depth_range="item"))
    volume = _ball(32).requires_grad_()
    sketch = model.sketch(volume, torch.eye(3)[None])
    geometry_maps(sketch).square().sum().backward()
    assert volume.grad is not None
    assert volume.grad.isfinite().all()
    assert volume.grad.any()
