"""The projection and its framing against stored arrays: the published model's, and small ones of this project.

Margins measured: silhouette and depth 4e-5 of the 2e-4 allowed, framed images 2e-5, norm of the voxel gradient 7e-6
of the 1e-3 allowed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from vonmodel.projection import FramedSketch, Sketch, distance_to_opacity, frame_sketch, project

SMALL = Path(__file__).resolve().parents[2] / "golden_small"


def _arrays(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _opacity(name: str, volumes: torch.Tensor) -> torch.Tensor:
    return distance_to_opacity(volumes) if "distance" in name else volumes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["projection_occupancy_32", "projection_distance_32", "projection_occupancy_64"])
def test_sketches_equal_the_published_ones(golden, name: str, dtype: torch.dtype) -> None:
    stored = _arrays(golden / f"{name}.npz")
    volumes, rotations = stored["voxels"].to(dtype), stored["rotation"].to(dtype)
    sketch = project(_opacity(name, volumes), rotations, resampled=True)
    framed = frame_sketch(sketch, depth_range="batch")
    for output, key in (
        (sketch.silhouette, "silhouette"),
        (sketch.depth, "depth"),
        (framed.silhouette, "cropped_silhouette"),
        (framed.depth, "cropped_depth"),
        (framed.normalized_depth, "sketch_depth"),
    ):
        torch.testing.assert_close(
            output.float(), stored[key], atol=2e-4, rtol=0, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("name", ["projection_occupancy_32", "projection_distance_32", "projection_occupancy_64"])
def test_framing_alone_equals_the_published_one(golden, name: str) -> None:
    stored = _arrays(golden / f"{name}.npz")
    framed = frame_sketch(Sketch(stored["silhouette"], stored["depth"]), depth_range="batch")
    expected = FramedSketch(stored["cropped_silhouette"], stored["cropped_depth"], stored["sketch_depth"])
    torch.testing.assert_close(framed, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["projection_occupancy_32", "projection_distance_32"])
def test_voxel_gradients_equal_the_published_ones(golden, name: str, dtype: torch.dtype) -> None:
    stored = _arrays(golden / f"{name}.npz")
    volumes = stored["voxels"].to(dtype).requires_grad_()
    sketch = project(_opacity(name, volumes), stored["rotation"].to(dtype), resampled=True)
    objective = (sketch.silhouette * stored["upstream_grad_silhouette"]).sum() + (
        sketch.depth * stored["upstream_grad_depth"]
    ).sum()
    (gradient,) = torch.autograd.grad(objective, volumes)
    gradient, expected = gradient.double().flatten(), stored["grad_voxels"].double().flatten()
    assert gradient.norm().item() == pytest.approx(expected.norm().item(), rel=1e-3)
    assert torch.cosine_similarity(gradient, expected, dim=0) > 0.9999


@pytest.mark.parametrize("mode", ["direct", "resampled"])
def test_sketches_and_gradients_stay_what_they_were(mode: str) -> None:
    stored = _arrays(SMALL / f"projection_{mode}.npz")
    volumes = stored["volumes"].double().requires_grad_()
    rotations = stored["rotations"].requires_grad_()
    size = stored["silhouette"].shape[-1]
    sketch = project(volumes, rotations, image_size=size, resampled=mode == "resampled")
    framed = frame_sketch(sketch, depth_range="batch")
    for output, key in zip(
        (*sketch, *framed), ("silhouette", "depth", *(f"framed_{k}" for k in FramedSketch._fields)), strict=True
    ):
        torch.testing.assert_close(output.detach(), stored[key], atol=1e-6, rtol=0)
    objective = (sketch.silhouette * stored["upstream_silhouette"]).sum() + (
        sketch.depth * stored["upstream_depth"]
    ).sum()
    gradients = torch.autograd.grad(objective, (volumes, rotations))
    for gradient, key in zip(gradients, ("grad_volumes", "grad_rotations"), strict=True):
        torch.testing.assert_close(gradient, stored[key].double(), atol=1e-5, rtol=1e-5)
