"""The Triton kernels against the definition: compiled where there is a GPU, else run by Triton's interpreter."""

import os

import numpy as np
import pytest
import torch

from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.projection import fused_gpu, project, scene_cpu
from vonmodel.projection.reference import project_reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    # Triton reads it when it is imported, which some parts of PyTorch do when a test runs.
    os.environ["TRITON_INTERPRET"] = "1"

# Triton's interpreter before 3.7 uses what numpy has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")

# The interpreter takes milliseconds an operation: few samples.
COARSE = Camera(samples_per_voxel=1.5)


@pytest.fixture(autouse=True)
def _triton() -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux only")


def _scene(n: int, resolution: int, seed: int, fill: float = 0.06) -> tuple[torch.Tensor, torch.Tensor]:
    """Volumes of scattered voxels beside empty space, and viewpoints from everywhere."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, 1, resolution, resolution, resolution)
    volumes = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < fill)
    volumes[..., resolution // 2 :] *= fill == 1.0
    angles = torch.rand(2, n, generator=generator) * torch.tensor([[6.3], [3.1]]) - torch.tensor([[3.15], [1.55]])
    return volumes.to(DEVICE), viewpoint_rotation(*angles).to(DEVICE)


def _view(camera: Camera, resolution: int) -> tuple[float, float, int]:
    return camera.distance, camera.half_width, camera.samples(resolution)


def _compare(volumes: torch.Tensor, rotations: torch.Tensor, image_size: int, camera: Camera = COARSE) -> None:
    """Holds both kernels to the float64 reference; gradients relative to the largest one."""
    view = _view(camera, volumes.shape[-1])
    exact = [leaf.double().requires_grad_() for leaf in (volumes, rotations)]
    expected = torch.cat(project_reference(*exact, camera, image_size, False), dim=1)
    sketch, clearance = fused_gpu.march_rays(volumes, rotations, *view, image_size)
    assert sketch.dtype == torch.float32
    torch.testing.assert_close(sketch.double(), expected, atol=2e-5, rtol=0)
    upstream = torch.randn(sketch.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    answers = torch.autograd.grad((expected * upstream).sum(), exact)
    gradients = fused_gpu.march_rays_backward(upstream, volumes, clearance, rotations, *view, True, True)
    # A gradient in half precision is rounded once, at the end.
    tolerances = (2e-5 if volumes.dtype == torch.float32 else torch.finfo(volumes.dtype).eps, 2e-5)
    for gradient, leaf, answer, tolerance in zip(gradients, (volumes, rotations), answers, tolerances, strict=True):
        assert gradient.dtype == leaf.dtype
        scale = max(1.0, answer.abs().max().item())
        torch.testing.assert_close(gradient.double() / scale, answer / scale, atol=tolerance, rtol=0)


def test_equals_the_reference_forward_and_backward() -> None:
    _compare(*_scene(1, 9, 1), image_size=7)


def test_half_precision_volumes_and_images_of_several_tiles() -> None:
    volumes, rotations = _scene(1, 8, 2)
    _compare(volumes.bfloat16(), rotations, image_size=9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "resolution", "image_size", "fill", "dtype"),
    [
        (1, 2, 2, 1.0, torch.float32),
        (2, 16, 16, 0.02, torch.float32),
        (1, 13, 20, 0.1, torch.float32),
        (1, 12, 9, 1.0, torch.float16),
        (3, 15, 5, 0.02, torch.bfloat16),
    ],
)
def test_equals_the_reference_at_many_sizes(n, resolution, image_size, fill, dtype) -> None:
    volumes, rotations = _scene(n, resolution, resolution, fill)
    _compare(volumes.to(dtype), rotations, image_size, Camera())


@pytest.mark.slow
@pytest.mark.parametrize("azimuth", [0.0, 90.0, 180.0, -90.0])
def test_rays_along_the_axes(azimuth: float) -> None:
    volumes, _ = _scene(1, 8, 3, fill=0.5)
    rotations = viewpoint_rotation(*torch.deg2rad(torch.tensor([[azimuth], [0.0]]))).to(DEVICE)
    view = _view(COARSE, 8)
    expected = project_reference(volumes, rotations, COARSE, 5, False)
    sketch, _ = fused_gpu.march_rays(volumes, rotations, *view, 5)
    torch.testing.assert_close(sketch, torch.cat(expected, dim=1), atol=2e-5, rtol=0)


def test_deterministic_sums_repeat_and_are_the_same_numbers() -> None:
    volumes, rotations = _scene(1, 5, 4, fill=0.3)
    upstream = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    arguments = (upstream, volumes, fused_gpu.survey(volumes), rotations, *_view(COARSE, 5), True, False)
    plain, no_turns = fused_gpu.march_rays_backward(*arguments)
    torch.use_deterministic_algorithms(True)
    try:
        exact, again = (fused_gpu.march_rays_backward(*arguments)[0] for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert no_turns.shape == (0, 3, 3)
    assert torch.equal(exact, again)
    torch.testing.assert_close(exact, plain, atol=1e-6, rtol=1e-5)


def test_no_items() -> None:
    volumes, rotations = torch.zeros(0, 1, 8, 8, 8, device=DEVICE), torch.zeros(0, 3, 3, device=DEVICE)
    sketch, clearance = fused_gpu.march_rays(volumes, rotations, 2.0, 0.6, 12, 6)
    assert sketch.shape == (0, 2, 6, 6)
    assert clearance.shape == (0, 3, 3, 3)
    upstream = torch.zeros(0, 2, 6, 6, device=DEVICE)
    gradients = fused_gpu.march_rays_backward(upstream, volumes, clearance, rotations, 2.0, 0.6, 12, True, True)
    assert [tuple(each.shape) for each in gradients] == [(0, 1, 8, 8, 8), (0, 3, 3)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the interpreter's arithmetic
@pytest.mark.parametrize("number", [torch.inf, -torch.inf, torch.nan, 1e30])
def test_viewpoints_that_are_not_finite_see_nothing(number: float) -> None:
    volumes, rotations = _scene(1, 4, 7, fill=1.0)
    rotations[0, 1, 0] = number
    view = _view(COARSE, 4)
    sketch, clearance = fused_gpu.march_rays(volumes, rotations, *view, 3)
    empty, _ = fused_gpu.march_rays(torch.zeros_like(volumes), _scene(1, 4, 7)[1], *view, 3)
    torch.testing.assert_close(sketch, empty, atol=1e-6, rtol=0)
    gradients = fused_gpu.march_rays_backward(
        torch.ones_like(sketch), volumes, clearance, rotations, *view, True, False
    )
    assert not gradients[0].any()


@pytest.mark.parametrize(
    "resolution", [2, 3, pytest.param(15, marks=pytest.mark.slow), pytest.param(40, marks=pytest.mark.slow)]
)
def test_bricks_are_those_of_the_cpu(resolution: int) -> None:
    volumes, _ = _scene(2, resolution, 5, fill=0.001)
    volumes[1, 0, 0, -1, 0] = torch.nan
    bricks = scene_cpu.bricks_along(resolution)
    occupied = np.zeros((2, *[bricks + 2] * 3), np.uint8)
    scene_cpu.mark_occupied(volumes[:, 0].cpu().numpy(), occupied, 0, 1)
    surveyed = fused_gpu.survey(volumes)
    for item in range(2):
        clearance = np.empty([bricks] * 3, np.uint8)
        scene_cpu.measure_clearance(occupied[item], clearance)
        np.testing.assert_array_equal(surveyed[item].cpu().numpy(), clearance)


def test_is_what_runs_for_volumes_on_a_gpu() -> None:
    for name in ("von::march_rays", "von::march_rays_backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_reference_on_a_gpu(dtype: torch.dtype) -> None:
    if DEVICE == "cpu":
        pytest.skip("no CUDA device")
    volumes, rotations = _scene(4, 64, 6, fill=0.02)
    volumes = volumes.to(dtype)
    leaves = [leaf.requires_grad_() for leaf in (volumes, rotations)]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    sketch, expected = project(*leaves, implementation="fused"), project(*exact, implementation="reference")
    for output, answer in zip(sketch, expected, strict=True):
        torch.testing.assert_close(output.double(), answer, atol=2e-4, rtol=0)
    gradients = torch.autograd.grad(sketch.depth.sum(), leaves)
    for gradient, answer in zip(gradients, torch.autograd.grad(expected.depth.sum(), exact), strict=True):
        scale = max(1.0, answer.abs().max().item())
        torch.testing.assert_close(gradient.double() / scale, answer / scale, atol=8e-3, rtol=0)
