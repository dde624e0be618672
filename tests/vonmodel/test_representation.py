"""Representations of volumes: opacity, surfaces and finer grids against closed forms."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from vonmodel.config import ModelConfig
from vonmodel.representation import (
    SURFACE_DISTANCE,
    opacity,
    opaque_above,
    refined,
    signed_volume,
    surface_field,
    surface_level,
    thickened,
    volume_of_distance,
)

SIGNED = ModelConfig(resolution=32, representation="signed", band=0.08, opacity_width=0.01)


def ball(grid: int, radius: float) -> Tensor:
    """(1, 1, grid, grid, grid) signed distance to a ball in cube edges."""
    axis = torch.linspace(-0.5, 0.5, grid, dtype=torch.float64)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    return ((x**2 + y**2 + z**2).sqrt() - radius)[None, None]


def test_a_signed_volume_is_a_half_on_the_surface_and_more_inside() -> None:
    distance = torch.tensor([-1.0, -0.08, -0.04, 0.0, 0.02, 0.08, 1.0])
    expected = torch.tensor([1.0, 1.0, 0.75, 0.5, 0.375, 0.0, 0.0])
    torch.testing.assert_close(signed_volume(distance, 0.08), expected)
    assert surface_level(SIGNED) == 0.5


def test_thickened_volumes_have_their_surface_farther_out() -> None:
    distance = ball(32, 0.3)
    band = SIGNED.band
    for by in (0.0, 0.01):
        volume = thickened(SIGNED, signed_volume(distance, band), by)
        expected = signed_volume(distance - by, band)
        near = distance < band
        torch.testing.assert_close(volume[near], expected[near])
    assert volume.max() == 1.0
    occupancy = torch.rand(3)
    assert thickened(ModelConfig(), occupancy, 0.01) is occupancy


def test_the_opacity_of_a_signed_volume() -> None:
    distance = ball(32, 0.3)
    seen = opacity(SIGNED, signed_volume(distance, 0.08))
    torch.testing.assert_close(seen, torch.sigmoid(-distance.clamp(-0.08, 0.08) / 0.01))


def test_opacity_passes_gradients_through_the_finer_grid() -> None:
    config = dataclasses.replace(SIGNED, resolution=8, finer_grid=12)
    volume = (0.4 + 0.2 * torch.rand(1, 1, 8, 8, 8, dtype=torch.float64)).requires_grad_()
    assert opacity(config, volume).shape == (1, 1, 12, 12, 12)
    weights = torch.rand(1, 1, 12, 12, 12, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: (weights * opacity(config, v)).sum(), (volume,), fast_mode=True)


def test_half_precision_volumes_have_single_precision_opacity() -> None:
    config = dataclasses.replace(SIGNED, finer_grid=48)
    volume = signed_volume(ball(32, 0.3), 0.08).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = opacity(config, volume)
    assert seen.dtype == torch.float32
    assert torch.equal(seen, opacity(config, volume))
    assert opacity(config, volume.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("grid", [33, 48, 64])
def test_cubic_interpolation_is_exact_for_quadratics_and_keeps_the_ends(grid: int) -> None:
    def field(size: int) -> Tensor:
        axis = torch.linspace(0.0, 1.0, size, dtype=torch.float64)
        x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
        return (0.2 + 0.3 * x * y + 0.2 * z**2 + 0.1 * (1 - x) ** 2)[None, None]

    fine, expected = refined(field(24), grid), field(grid)
    inner = slice(math.ceil(grid / 23) + 1, -math.ceil(grid / 23) - 1)
    torch.testing.assert_close(fine[..., inner, inner, inner], expected[..., inner, inner, inner])
    corner = (0, 0, -1, 0, -1)
    torch.testing.assert_close(fine[corner], expected[corner])


def test_a_refined_ball_is_smoother_than_a_linear_one() -> None:
    coarse, fine = ball(16, 0.3), ball(61, 0.3)
    near = fine.abs() < 0.05
    linear = torch.nn.functional.interpolate(coarse, size=(61,) * 3, mode="trilinear", align_corners=True)
    cubic = 0.6 * (0.5 - refined(0.5 - coarse / 0.6, 61))
    assert (cubic - fine)[near].abs().max() < 0.3 * (linear - fine)[near].abs().max()


def test_its_own_grid_is_handed_through() -> None:
    volume = torch.rand(1, 16, 16, 16)
    assert surface_field(dataclasses.replace(SIGNED, finer_grid=16), volume).shape == (1, 16, 16, 16)
    assert torch.equal(surface_field(SIGNED, volume), volume)
    assert surface_field(dataclasses.replace(SIGNED, finer_grid=24), volume).shape == (1, 24, 24, 24)


def test_weights_made_in_inference_mode_serve_training() -> None:
    with torch.inference_mode():
        refined(torch.rand(1, 1, 5, 5, 5), 11)
    volume = torch.rand(1, 1, 5, 5, 5, requires_grad=True)
    refined(volume, 11).sum().backward()
    assert volume.grad is not None


@pytest.mark.parametrize(("resolution", "thinnest"), [(128, 0.0132), (256, 0.0132), (64, 0.0137), (32, 0.0279)])
def test_the_shell_of_a_distance_function_has_no_holes(resolution: int, thinnest: float) -> None:
    # Half the diagonal of a voxel, or the published 0.9 where that is thicker.
    assert -math.log(opaque_above(resolution)) / 8 == pytest.approx(thinnest, abs=1e-4)
    assert -math.log(opaque_above(resolution)) / 8 >= 0.5 * math.sqrt(3) / (resolution - 1) - 1e-9


def test_the_surface_level_is_the_published_one_where_the_grid_allows() -> None:
    assert surface_level(ModelConfig(resolution=64)) == 0.5
    fine, coarse = (surface_level(ModelConfig(resolution=each, representation="distance")) for each in (128, 32))
    assert fine == pytest.approx(math.exp(-8 * SURFACE_DISTANCE))
    assert -math.log(coarse) / 8 == pytest.approx(math.sqrt(3) / 2 / 31)


@pytest.mark.parametrize("representation", ["occupancy", "distance", "signed"])
def test_a_volume_of_distances_is_opaque_only_inside(representation: str) -> None:
    config = dataclasses.replace(SIGNED, representation=representation)
    distance = ball(32, 0.3)[0]
    volume = volume_of_distance(config, distance * 31, 0.3)
    assert 0.0 <= volume.min() <= volume.max() <= 1.0
    seen = opacity(config, volume[None])[0]
    assert (seen[distance > 0.05] < 0.01).all()
    assert (seen[(distance < -0.02) & (distance > -0.03)] > 0.8).all()
