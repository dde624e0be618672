"""The reference projection against closed forms, brute force and its symmetries."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.projection import Sketch, distance_to_opacity, project
from vonmodel.projection.dispatch import check_input

FRONT = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]], dtype=torch.float64)


def _viewpoint(azimuth_deg: float, elevation_deg: float) -> torch.Tensor:
    angles = torch.deg2rad(torch.tensor([[azimuth_deg], [elevation_deg]], dtype=torch.float64))
    return viewpoint_rotation(*angles)


def _random_volumes(n: int, resolution: int, seed: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, 1, resolution, resolution, resolution)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _grid(resolution: int) -> torch.Tensor:
    """(N, N, N, 3) positions of the voxels in the object frame."""
    axis = torch.linspace(-1.0, 1.0, resolution, dtype=torch.float64)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def _rays(rotation: torch.Tensor, image_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Camera position (3,) and ray directions (R, R, 3) in the object frame, depth 1 long."""
    directions = Camera().ray_directions(image_size, rotation) @ rotation[0].T
    return rotation[0] @ torch.tensor([-2.0, 0.0, 0.0], dtype=torch.float64), directions


# ---------------------------------------------------------------- closed forms


def test_nothing_stops_the_light_of_an_empty_volume_but_the_clamp() -> None:
    resolution = 9
    samples = int(2.5 * resolution)
    sketch = project(torch.zeros(1, 1, *[resolution] * 3, dtype=torch.float64), FRONT)
    passed = (1.0 - 1e-4) ** samples
    stopped = 1e-4 * (1.0 - 1e-4) ** np.arange(samples)
    torch.testing.assert_close(sketch.silhouette, torch.full_like(sketch.silhouette, 1.0 - passed))
    depth = (stopped * np.linspace(1.0, 3.0, samples)).sum() + 3.0 * passed
    torch.testing.assert_close(sketch.depth, torch.full_like(sketch.depth, depth))


@pytest.mark.parametrize("opacity", [0.01, 0.2, 0.7])
def test_a_fog_that_fills_the_cube_dims_by_its_opacity_at_every_sample(opacity: float) -> None:
    resolution, size = 9, 31
    samples = int(2.5 * resolution)
    sketch = project(torch.full((1, 1, *[resolution] * 3), opacity, dtype=torch.float64), FRONT, image_size=size)
    inside = slice(12, 19)  # slopes under 1/3: these rays leave through the back
    passed = (1.0 - opacity) ** samples
    stopped = opacity * (1.0 - opacity) ** np.arange(samples)
    depth = (stopped * np.linspace(1.0, 3.0, samples)).sum() + 3.0 * np.clip(passed, 1e-4, 1 - 1e-4)
    np.testing.assert_allclose(sketch.silhouette[0, 0, inside, inside], 1.0 - passed, rtol=1e-12)
    np.testing.assert_allclose(sketch.depth[0, 0, inside, inside], depth, rtol=1e-12)


@pytest.mark.parametrize("thickness", [1, 3])
def test_a_slab_across_the_view_has_one_depth(thickness: int) -> None:
    # Opacity depends on the depth alone: 1 on `thickness` layers, falling to 0 over one layer on both sides.
    resolution, size, front = 17, 31, 11
    samples = int(2.5 * resolution)
    volume = torch.zeros(1, 1, *[resolution] * 3, dtype=torch.float64)
    volume[..., front - thickness + 1 : front + 1, :] = 1.0
    layer = (2.0 - (1.0 + 2.0 * np.arange(samples) / samples) + 1.0) / 2.0 * (resolution - 1)
    ramp = np.minimum(front + 1 - layer, layer - (front - thickness))
    light, depth = 1.0, 0.0
    for opacity, weight in zip(np.clip(ramp, 1e-4, 1 - 1e-4), np.linspace(1.0, 3.0, samples), strict=True):
        depth += weight * light * opacity
        light *= 1.0 - opacity
    sketch = project(volume, FRONT, image_size=size)
    inside = slice(12, 19)
    np.testing.assert_allclose(sketch.silhouette[0, 0, inside, inside], 1.0 - light, rtol=1e-10)
    np.testing.assert_allclose(sketch.depth[0, 0, inside, inside], depth + 3.0 * max(light, 1e-4), rtol=1e-10)


def _outline(radius: float, image_size: int) -> float:
    """Radius in pixels of a sphere's silhouette."""
    return math.tan(math.asin(radius / 2.0)) * 0.05 / 0.0612 * (image_size - 1)


@pytest.mark.parametrize("resampled", [False, True])
@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (40.0, 25.0), (-130.0, 10.0)])
def test_a_sphere_is_seen_where_its_rays_meet_it(resampled: bool, azimuth: float, elevation: float) -> None:
    resolution, radius = 48, 0.6
    voxel = 2.0 / (resolution - 1)
    rotation = _viewpoint(azimuth, elevation)
    solid = ((radius - _grid(resolution).norm(dim=-1)) / voxel + 0.5).clamp(0.0, 1.0)
    sketch = project(solid.expand(1, 1, -1, -1, -1), rotation, resampled=resampled)
    eye, directions = _rays(rotation, resolution)
    # |eye + d * direction|^2 = radius^2
    a, b = directions.square().sum(-1), directions @ eye
    discriminant = b.square() - a * (eye.square().sum() - radius**2)
    depth = (-b - discriminant.clamp(min=0.0).sqrt()) / a
    well_inside = discriminant > 0.15
    assert well_inside.sum() > 200
    error = (sketch.depth[0, 0] - depth)[well_inside]
    assert error.abs().max() < (1.5 if resampled else 1.0) * voxel
    # Its outline is the circle where a tangent cone cuts the sensor; what fades out over a voxel widens it.
    seen = sketch.silhouette[0, 0] >= 0.5
    tight, wide = (_outline(radius + fade, resolution) for fade in (0.0, voxel))
    assert tight < math.sqrt(seen.sum().item() / math.pi) < wide + 0.5
    assert not seen[discriminant < -0.2].any()


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (30.0, 20.0), (-75.0, 35.0)])
def test_a_half_space_is_seen_at_its_plane(azimuth: float, elevation: float) -> None:
    resolution = 40
    voxel = 2.0 / (resolution - 1)
    rotation = _viewpoint(azimuth, elevation)
    eye, directions = _rays(rotation, resolution)
    normal = eye / eye.norm() + torch.tensor([0.1, 0.2, -0.15], dtype=torch.float64)
    normal = normal / normal.norm()
    solid = ((0.1 - _grid(resolution) @ normal) / voxel + 0.5).clamp(0.0, 1.0)
    sketch = project(solid.expand(1, 1, -1, -1, -1), rotation)
    depth = (0.1 - eye @ normal) / (directions @ normal)
    meets_inside = ((eye + depth.unsqueeze(-1) * directions).abs() < 0.9).all(-1)
    assert meets_inside.sum() > 200
    assert (sketch.depth[0, 0] - depth)[meets_inside].abs().max() < voxel
    assert (sketch.silhouette[0, 0][meets_inside] > 0.999).all()


# ---------------------------------------------------------------- brute force


@pytest.mark.parametrize("resampled", [False, True])
@pytest.mark.parametrize(
    ("resolution", "image_size", "azimuth", "elevation"),
    [(5, 6, 0.0, 0.0), (6, 5, 37.0, 21.0), (7, 7, -110.0, -33.0), (4, 8, 180.0, 90.0)],
)
def test_equals_brute_force(march_rays, rotation_of, resampled, resolution, image_size, azimuth, elevation) -> None:
    volumes = _random_volumes(1, resolution, seed=resolution, low=-0.2, high=1.2)
    rotation = rotation_of(azimuth, elevation)
    sketch = project(volumes, torch.from_numpy(rotation).unsqueeze(0), image_size=image_size, resampled=resampled)
    silhouette, depth = march_rays(volumes[0, 0].numpy(), rotation, image_size, resampled=resampled)
    np.testing.assert_allclose(sketch.silhouette[0, 0], silhouette, atol=1e-12)
    np.testing.assert_allclose(sketch.depth[0, 0], depth, atol=1e-12)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("resampled", [False, True])
def test_gradients_to_volumes_and_rotations(resampled: bool) -> None:
    # Values well inside (0, 1) keep finite differences off the clamp.
    volumes = _random_volumes(2, 4, seed=3, low=0.1, high=0.6).requires_grad_()
    rotations = torch.cat([_viewpoint(31.0, 12.0), _viewpoint(-80.0, 40.0)]).requires_grad_()

    def sketch(volumes: torch.Tensor, rotations: torch.Tensor) -> Sketch:
        return project(volumes, rotations, image_size=5, resampled=resampled)

    assert torch.autograd.gradcheck(sketch, (volumes, rotations), eps=1e-7, atol=1e-5)


def test_gradients_reach_azimuth_and_elevation() -> None:
    volumes = _random_volumes(1, 6, seed=4, low=0.1, high=0.6)
    angles = torch.deg2rad(torch.tensor([[25.0], [15.0]], dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda both: project(volumes, viewpoint_rotation(*both)).depth, (angles,), eps=1e-7, atol=1e-5
    )


# ---------------------------------------------------------------- symmetries and invariants

QUARTER_TURNS = [
    torch.tensor(matrix, dtype=torch.float64)
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
    if np.linalg.det(matrix := np.diag(signs)[:, permutation]) > 0
]


@pytest.mark.parametrize("resampled", [False, True])
def test_turning_the_object_equals_turning_the_camera(resampled: bool) -> None:
    assert len(QUARTER_TURNS) == 24
    volume = _random_volumes(1, 6, seed=5)
    rotation = _viewpoint(33.0, 17.0)
    expected = project(volume, rotation, resampled=resampled)
    voxels = torch.arange(6, dtype=torch.float64) - 2.5
    positions = torch.stack(torch.meshgrid(voxels, voxels, voxels, indexing="ij"), dim=-1)
    for turn in QUARTER_TURNS:
        # The turned volume holds at p what the volume holds at turn^-1 p.
        x, y, z = (positions @ turn + 2.5).round().long().unbind(-1)
        turned = project(volume[:, :, x, y, z], turn @ rotation, resampled=resampled)
        torch.testing.assert_close(turned.silhouette, expected.silhouette, atol=1e-9, rtol=0)
        torch.testing.assert_close(turned.depth, expected.depth, atol=1e-9, rtol=0)


def test_a_quarter_of_azimuth_is_a_quarter_turn_of_the_grid() -> None:
    volume = _random_volumes(1, 7, seed=6)
    turned = torch.rot90(volume, 1, dims=(2, 3))
    for azimuth in (0.0, 20.0, -65.0):
        torch.testing.assert_close(
            project(turned, _viewpoint(azimuth + 90.0, 30.0)), project(volume, _viewpoint(azimuth, 30.0))
        )


@pytest.mark.parametrize("resampled", [False, True])
def test_items_do_not_see_each_other(resampled: bool) -> None:
    volumes = _random_volumes(3, 6, seed=7)
    rotations = torch.cat([_viewpoint(a, e) for a, e in ((0.0, 0.0), (50.0, 20.0), (-120.0, 35.0))])
    together = project(volumes, rotations, resampled=resampled)
    for i in range(3):
        alone = project(volumes[i : i + 1], rotations[i : i + 1], resampled=resampled)
        torch.testing.assert_close(alone.silhouette, together.silhouette[i : i + 1], atol=0, rtol=0)
        torch.testing.assert_close(alone.depth, together.depth[i : i + 1], atol=0, rtol=0)


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(2, 9),
    st.integers(2, 9),
    st.floats(-180.0, 180.0),
    st.floats(-90.0, 90.0),
    st.booleans(),
)
def test_ranges_and_monotony(
    seed: int, resolution: int, image_size: int, azimuth: float, elevation: float, resampled: bool
) -> None:
    volume = _random_volumes(1, resolution, seed)
    rotation = _viewpoint(azimuth, elevation)
    sketch = project(volume, rotation, image_size=image_size, resampled=resampled)
    assert sketch.silhouette.shape == sketch.depth.shape == (1, 1, image_size, image_size)
    assert ((sketch.silhouette >= 0.0) & (sketch.silhouette <= 1.0)).all()
    # The clamp of the background adds at most 3e-4 to the depth.
    assert ((sketch.depth >= 1.0) & (sketch.depth <= 3.0 + 3e-4)).all()
    denser = torch.maximum(volume, _random_volumes(1, resolution, seed + 1))
    silhouette = project(denser, rotation, image_size=image_size, resampled=resampled).silhouette
    assert (silhouette >= sketch.silhouette - 1e-12).all()


# ---------------------------------------------------------------- the front door


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("resampled", [False, True])
def test_batches_of_none_and_one(n: int, resampled: bool) -> None:
    volumes = _random_volumes(n, 4, seed=8).requires_grad_()
    sketch = project(volumes, FRONT.expand(n, 3, 3), resampled=resampled)
    assert sketch.depth.shape == (n, 1, 4, 4)
    (sketch.silhouette.sum() + sketch.depth.sum()).backward()
    assert volumes.grad is not None
    assert volumes.grad.shape == volumes.shape


def test_half_precision_is_projected_in_float32_even_under_autocast() -> None:
    volumes = _random_volumes(1, 6, seed=9).bfloat16().requires_grad_()
    expected = project(volumes.detach().float(), FRONT.float(), implementation="reference")
    with torch.autocast("cpu", torch.bfloat16):
        sketch = project(volumes, FRONT.float(), implementation="reference")
    assert sketch.depth.dtype == torch.float32
    torch.testing.assert_close(sketch, expected, atol=0, rtol=0)
    sketch.depth.sum().backward()
    assert volumes.grad is not None
    assert volumes.grad.dtype == torch.bfloat16


def test_distance_functions_keep_only_the_shell() -> None:
    values = torch.tensor([0.0, 0.5, 0.8, 0.89, 0.9, 0.95, 0.99, 1.0]).view(1, 1, 2, 2, 2).requires_grad_()
    opacity = distance_to_opacity(values)
    assert opacity.flatten().tolist() == pytest.approx([0.0, 0.0, 0.0, 0.0, 0.9, 0.95, 0.99, 1.0])
    opacity.sum().backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("volume_shape", "rotation_shape", "image_size", "message"),
    [
        ((1, 8, 8, 8), (1, 3, 3), None, r"\(n, 1, N, N, N\)"),
        ((1, 1, 8, 8, 4), (1, 3, 3), None, r"\(n, 1, N, N, N\)"),
        ((1, 2, 8, 8, 8), (1, 3, 3), None, r"\(n, 1, N, N, N\)"),
        ((1, 1, 1, 1, 1), (1, 3, 3), None, "at least 2"),
        ((2, 1, 8, 8, 8), (1, 3, 3), None, r"2 volumes need \(2, 3, 3\)"),
        ((1, 1, 8, 8, 8), (1, 3, 3), 1, "image_size 1"),
    ],
)
def test_misfits_are_refused_with_their_shapes(volume_shape, rotation_shape, image_size, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_input(torch.zeros(volume_shape), torch.zeros(rotation_shape), Camera(), image_size)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples_per_voxel"):
        project(torch.zeros(1, 1, 8, 8, 8), torch.eye(3).unsqueeze(0), camera=Camera(samples_per_voxel=0.2))
