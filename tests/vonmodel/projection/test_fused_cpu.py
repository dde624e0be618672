"""The fused CPU projection against the definition: forward, backward, threads, torch.compile and awkward input."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.projection import Sketch, project
from vonmodel.projection.scene_cpu import (
    BRICK_BITS,
    MAX_JUMP,
    bricks_along,
    mark_occupied,
    measure_clearance,
    occupied_bounds,
)

PUBLISHED_CAMERA = Camera()


@pytest.fixture(autouse=True)
def _restore_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _scene(n: int, resolution: int, seed: int, fill: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """Volumes of soft boxes in empty space, and viewpoints from everywhere."""
    generator = torch.Generator().manual_seed(seed)
    volumes = torch.zeros(n, 1, resolution, resolution, resolution)
    for item in range(n):
        for _ in range(3):
            low = torch.randint(0, resolution, (3,), generator=generator)
            high = low + torch.randint(1, max(2, int(resolution * fill**0.33)) + 1, (3,), generator=generator)
            block = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
            values = torch.rand(volumes[item, 0][block].shape, generator=generator)
            volumes[item, 0][block] = values if seed % 2 else values.round()
    angles = torch.rand(2, n, generator=generator) * torch.tensor([[6.3], [3.1]]) - torch.tensor([[3.15], [1.55]])
    return volumes, viewpoint_rotation(*angles)


def _differentiate(sketch: Sketch, *leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, *sketch.depth.shape, generator=generator).to(sketch.depth.dtype)
    return torch.autograd.grad((sketch.silhouette * weights[0]).sum() + (sketch.depth * weights[1]).sum(), leaves)


def _compare(
    volumes: torch.Tensor,
    rotations: torch.Tensor,
    image_size: int,
    *,
    camera: Camera = PUBLISHED_CAMERA,
    on_planes: bool = False,
) -> None:
    """Holds the fused projection to the float64 reference; gradients relative to the largest one.

    Samples on planes of voxels have no gradient of their position: rounding puts them on one side or the other.
    """
    exact = [leaf.double().requires_grad_() for leaf in (volumes, rotations)]
    fused = [leaf.clone().requires_grad_() for leaf in (volumes, rotations)]
    expected = project(*exact, camera=camera, image_size=image_size, implementation="reference")
    sketch = project(*fused, camera=camera, image_size=image_size, implementation="fused")
    for output, answer in zip(sketch, expected, strict=True):
        torch.testing.assert_close(output.double(), answer, atol=2e-5, rtol=0)
    answers = _differentiate(expected, *exact)[: 1 if on_planes else 2]
    for gradient, answer in zip(_differentiate(sketch, *fused), answers, strict=False):
        scale = max(1.0, answer.abs().max().item())
        torch.testing.assert_close(gradient.double() / scale, answer / scale, atol=2e-5, rtol=0)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(2, 40), st.integers(2, 30), st.integers(1, 3))
def test_equals_the_reference_forward_and_backward(seed, n, resolution, image_size, threads) -> None:
    torch.set_num_threads(threads)
    volumes, rotations = _scene(n, resolution, seed)
    # With both odd, rays of the middle row pass the origin's plane of voxels in the middle of their samples.
    _compare(volumes, rotations, image_size, on_planes=bool(resolution % 2 and image_size % 2))


@pytest.mark.parametrize("low", [-0.2, 0.0, 1e-3, 0.3])
def test_equals_the_reference_in_volumes_without_empty_space(low: float) -> None:
    generator = torch.Generator().manual_seed(1)
    volumes = low + (1.2 - low) * torch.rand(2, 1, 21, 21, 21, generator=generator)
    _compare(volumes, _scene(2, 2, 1)[1], 18)
    _compare(0.02 * volumes, _scene(2, 2, 1)[1], 18)


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 180.0, -90.0])
@pytest.mark.parametrize("elevation", [0.0, 90.0])
def test_rays_along_the_axes(azimuth: float, elevation: float) -> None:
    # An odd image has a ray straight through the middle: its steps on two axes are zero or as good as.
    volumes, _ = _scene(1, 16, 3, fill=0.5)
    _compare(volumes, viewpoint_rotation(*torch.deg2rad(torch.tensor([[azimuth], [elevation]]))), 9, on_planes=True)
    exactly = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    _compare(volumes, exactly, 9, on_planes=True)


@pytest.mark.parametrize("camera", [Camera(distance=3.0), Camera(focal_length=0.2), Camera(samples_per_voxel=1.3)])
def test_other_cameras(camera: Camera) -> None:
    _compare(*_scene(2, 12, 5, fill=0.4), 14, camera=camera)


def test_equals_the_reference_at_full_size() -> None:
    generator = torch.Generator().manual_seed(2)
    axis = torch.linspace(-1.0, 1.0, 128)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    shell = ((0.02 - ((x**2 + y**2 + z**2).sqrt() - 0.7).abs()) * 64.0 + 0.5).clamp(0.0, 1.0)
    volumes = torch.where(y > 0.2, 0.0, shell).expand(1, 1, -1, -1, -1)
    rotations = viewpoint_rotation(*torch.rand(2, 1, generator=generator))
    exact = project(volumes, rotations, implementation="reference")
    for output, answer in zip(project(volumes, rotations, implementation="fused"), exact, strict=True):
        torch.testing.assert_close(output, answer, atol=2e-4, rtol=0)


def test_results_do_not_depend_on_the_threads() -> None:
    volumes, rotations = (leaf.requires_grad_() for leaf in _scene(3, 20, 7, fill=0.3))
    results = []
    for threads in (1, 2, 5, 16):
        torch.set_num_threads(threads)
        sketch = project(volumes, rotations, implementation="fused")
        results.append([*sketch, *_differentiate(sketch, volumes, rotations)])
    for other in results[1:]:
        torch.testing.assert_close(other[:2], results[0][:2], atol=0, rtol=0)
        torch.testing.assert_close(other[2:], results[0][2:], atol=1e-5, rtol=1e-5)


def test_repeats_give_the_same_bits() -> None:
    torch.set_num_threads(3)
    volumes, rotations = (leaf.requires_grad_() for leaf in _scene(2, 24, 9, fill=0.3))
    runs = [_differentiate(project(volumes, rotations, implementation="fused"), volumes, rotations) for _ in range(3)]
    for run in runs[1:]:
        torch.testing.assert_close(run, runs[0], atol=0, rtol=0)


def test_items_do_not_see_each_other() -> None:
    volumes, rotations = _scene(3, 17, 11)
    together = project(volumes, rotations, implementation="fused")
    alone = [project(volumes[i : i + 1], rotations[i : i + 1], implementation="fused") for i in range(3)]
    for output, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(output, torch.cat(parts), atol=0, rtol=0)


@pytest.mark.parametrize("needed", [(True, False), (False, True)])
def test_only_the_gradients_that_are_needed(needed: tuple[bool, bool]) -> None:
    leaves = [leaf.requires_grad_(need) for leaf, need in zip(_scene(1, 9, 13), needed, strict=True)]
    project(*leaves, implementation="fused").depth.sum().backward()
    assert [leaf.grad is not None for leaf in leaves] == list(needed)


def test_no_items_and_empty_items() -> None:
    nothing = torch.zeros(0, 1, 8, 8, 8, requires_grad=True)
    sketch = project(nothing, torch.zeros(0, 3, 3), implementation="fused")
    sketch.depth.sum().backward()
    assert sketch.depth.shape == (0, 1, 8, 8)
    _compare(torch.zeros(1, 1, 8, 8, 8), _scene(1, 2, 0)[1], 8)


def test_strided_volumes_and_gradients() -> None:
    volumes, rotations = _scene(2, 12, 15, fill=0.4)
    turned = volumes.permute(0, 1, 4, 2, 3)
    _compare(turned, rotations, 8)
    leaf = volumes.clone().requires_grad_()
    project(leaf, rotations, implementation="fused").depth.mT[..., ::2].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0


def test_bad_numbers_are_not_swallowed() -> None:
    volumes, rotations = _scene(1, 8, 17)
    volumes[0, 0, 4, 4, 4] = float("nan")
    assert project(volumes, rotations, implementation="fused").depth.isnan().any()


def test_rotations_that_are_not_finite_do_no_harm() -> None:
    volumes, rotations = _scene(3, 8, 17, fill=0.5)
    whole = project(volumes, rotations, implementation="fused")
    rotations[0, 1, 1], rotations[1, 2, 0] = float("nan"), float("inf")
    leaves = [leaf.requires_grad_() for leaf in (volumes, rotations)]
    sketch = project(*leaves, implementation="fused")
    sketch.depth[2].sum().backward()
    for output, answer in zip(sketch, whole, strict=True):
        assert output[:2].isnan().all()
        torch.testing.assert_close(output[2], answer[2], atol=0, rtol=0)


@pytest.mark.parametrize("stretch", [0.5, 1.7, 40.0, 1e6])
def test_rotations_that_stretch(stretch: float) -> None:
    volumes, rotations = _scene(2, 24, 23, fill=0.5)
    exact = project(volumes.double(), stretch * rotations.double(), image_size=24, implementation="reference")
    sketch = project(volumes, stretch * rotations, image_size=24, implementation="fused")
    for output, answer in zip(sketch, exact, strict=True):
        torch.testing.assert_close(output.double(), answer, atol=2e-5 * max(1.0, stretch), rtol=0)


@pytest.mark.parametrize(("resolution", "image_size"), [(40, 3), (40, 9), (9, 70)])
def test_tiles_of_any_size(resolution: int, image_size: int) -> None:
    volumes, rotations = _scene(2, resolution, 25, fill=0.5)
    _compare(volumes + 0.01, rotations, image_size, on_planes=True)


def test_half_precision_and_autocast() -> None:
    volumes, rotations = _scene(1, 10, 19, fill=0.4)
    half = volumes.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        sketch = project(half, rotations)
    torch.testing.assert_close(sketch, project(half.detach().float(), rotations), atol=0, rtol=0)
    sketch.silhouette.sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


def test_operators_are_well_formed() -> None:
    volumes, rotations = (leaf.requires_grad_() for leaf in _scene(2, 9, 21))
    torch.library.opcheck(torch.ops.von.march_rays.default, (volumes, rotations, 2.0, 0.612, 22, 7))
    upstream = torch.randn(2, 2, 7, 7)
    clearance = torch.ops.von.march_rays(volumes.detach(), rotations.detach(), 2.0, 0.612, 22, 7)[1]
    for needs in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(
            torch.ops.von.march_rays_backward.default,
            (upstream, volumes.detach(), clearance, rotations.detach(), 2.0, 0.612, 22, *needs),
        )


COMPILED = """
import torch
from vonmodel.geometry import viewpoint_rotation
from vonmodel.projection import frame_sketch, project

generator = torch.Generator().manual_seed(0)
rotations = viewpoint_rotation(*torch.rand(2, 2, generator=generator))
values = torch.rand(2, 1, 16, 16, 16, generator=generator)

def normalized(volumes):
    return frame_sketch(project(volumes, rotations), depth_range="item").normalized_depth

leaves = [values.clone().requires_grad_() for _ in range(2)]
outputs = [normalized(leaves[0]), torch.compile(normalized, fullgraph=True)(leaves[1])]
torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=0)
for output in outputs:
    output.square().sum().backward()
torch.testing.assert_close(leaves[1].grad, leaves[0].grad, atol=1e-4, rtol=1e-4)
"""


@pytest.mark.slow
def test_compiles_into_one_graph_with_its_framing() -> None:
    # In a process of its own, as the checks of tensor shapes in tests are not for the compiler.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("volumes", "resampled", "message"),
    [
        (torch.zeros(1, 1, 4, 4, 4, dtype=torch.float64), False, "float64"),
        (torch.zeros(1, 1, 4, 4, 4), True, "resampled"),
    ],
)
def test_what_it_cannot_do_is_refused_or_left_to_the_reference(volumes, resampled, message) -> None:
    rotations = torch.eye(3).expand(1, 3, 3)
    with pytest.raises(ValueError, match=message):
        project(volumes, rotations, resampled=resampled, implementation="fused")
    torch.testing.assert_close(
        project(volumes, rotations, resampled=resampled),
        project(volumes, rotations, resampled=resampled, implementation="reference"),
    )


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 40))
def test_bricks_know_what_is_empty_around_them(seed: int, resolution: int) -> None:
    volume = _scene(1, resolution, seed)[0][:, 0].numpy()
    bricks = bricks_along(resolution)
    occupied = np.zeros((1, *[bricks + 2] * 3), np.uint8)
    clearance = np.empty([bricks] * 3, np.uint8)
    for layer in range(2):
        mark_occupied(volume, occupied, layer, 2)
    measure_clearance(occupied[0], clearance)
    bounds = occupied_bounds(clearance)
    # Cell c touches voxels c - 1 and c; brick b holds cells 4 b to 4 b + 3.
    cells = np.zeros((resolution + 1,) * 3, bool)
    solid = volume[0] > 1e-4
    for dx in (0, 1):
        for dy in (0, 1):
            for dz in (0, 1):
                cells[dx : dx + resolution, dy : dy + resolution, dz : dz + resolution] |= solid
    full = np.zeros([bricks] * 3, bool)
    for cell in np.argwhere(cells):
        full[tuple(cell >> BRICK_BITS)] = True
    places = np.argwhere(full)
    for brick in np.argwhere(np.ones_like(full)):
        nearest = np.abs(places - brick).max(1).min() if len(places) else MAX_JUMP
        assert clearance[tuple(brick)] == min(nearest, MAX_JUMP)
    if len(places):
        np.testing.assert_array_equal(bounds[:, 0], places.min(0) << BRICK_BITS)
        np.testing.assert_array_equal(bounds[:, 1], (places.max(0) + 1) << BRICK_BITS)
    else:
        assert (bounds[:, 0] > bounds[:, 1]).all()
