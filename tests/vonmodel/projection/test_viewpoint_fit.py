"""Viewpoint gradients: from 20 degrees off, gradient descent over blurred sketches recovers the viewpoint."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vondata.classes import load_class
from vondata.dataset.shape_file import load_occupancy
from vondata.io.listing import open_tree
from vondata.shapes.prepare import ShapeSettings, prepare_shape, shapenet_items
from vonmodel.geometry import viewpoint_rotation
from vonmodel.projection import project

BLURS_PX = (6.0, 3.0, 1.5, 0.75)
STEPS = 12


def _blurred(images: Tensor, sigma: float) -> Tensor:
    reach = math.ceil(2.0 * sigma)
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.softmax(-offsets.square() / (2.0 * sigma**2), dim=0)
    images = functional.pad(images, (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(images, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def _fit(volumes: Tensor, targets: tuple[Tensor, ...], start: Tensor) -> Tensor:
    """Azimuth and elevation (n, 2) in radians whose sketches equal the targets, from coarse to fine."""
    angles = start.clone().requires_grad_()
    for blur in BLURS_PX:
        blurred = [_blurred(target, blur) for target in targets]
        optimiser = torch.optim.Adam([angles], lr=0.06 * (blur / BLURS_PX[0] + 0.1))
        for _ in range(STEPS):
            optimiser.zero_grad()
            sketch = project(volumes, viewpoint_rotation(*angles.T))
            difference = [_blurred(image, blur) - target for image, target in zip(sketch, blurred, strict=True)]
            torch.cat(difference).square().sum().backward()
            optimiser.step()
    return angles.detach()


def _apart_deg(one: Tensor, other: Tensor) -> Tensor:
    """Angle of the rotation between viewpoints (n, 2)."""
    between = viewpoint_rotation(*one.T).mT @ viewpoint_rotation(*other.T)
    return torch.rad2deg(torch.arccos(((between.diagonal(dim1=1, dim2=2).sum(1) - 1.0) / 2.0).clamp(-1.0, 1.0)))


def _errors_deg(volumes: Tensor) -> Tensor:
    """The remaining error from 20 degrees off, in all directions around random viewpoints."""
    n = len(volumes)
    generator = torch.Generator().manual_seed(0)
    truth = torch.deg2rad(torch.rand(n, 2, generator=generator) * torch.tensor([360.0, 38.0]))
    direction = 2.0 * math.pi * torch.rand(n, generator=generator)
    start = truth + math.radians(20.0) * torch.stack([direction.cos(), direction.sin()], dim=1)
    assert _apart_deg(start, truth).min() > 15.0
    targets = tuple(image.detach() for image in project(volumes, viewpoint_rotation(*truth.T)))
    return _apart_deg(_fit(volumes, targets, start), truth)


def test_ten_real_shapes_are_found_again(realdata, tmp_path: Path) -> None:
    classes = {"chair": 7, "car": 3}
    volumes = []
    for name, count in classes.items():
        items = [
            item
            for item in shapenet_items(open_tree(realdata / "ShapeNetCore.v2"), [load_class(name)])
            if not item.rejected
        ]
        for item in items[:count]:
            prepare_shape(item, ShapeSettings(resolution=48), tmp_path / f"{item.id}.npz")
            volumes.append(torch.from_numpy(load_occupancy(tmp_path / f"{item.id}.npz")).float())
    errors = _errors_deg(torch.stack(volumes).unsqueeze(1))
    assert (errors < 2.0).sum() >= 9, errors.tolist()


@pytest.mark.parametrize("resolution", [32])
def test_ten_chairs_of_boxes_are_found_again(resolution: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y, z = torch.meshgrid(*[torch.linspace(-1.0, 1.0, resolution)] * 3, indexing="ij")
    chairs = []
    for width, depth, height in 0.3 + 0.3 * torch.rand(10, 3, generator=generator):
        seat = (x.abs() < width) & (y.abs() < depth) & (z.abs() < 0.07)
        back = (x.abs() < width) & ((y + depth).abs() < 0.07) & (z > 0.0) & (z < height)
        legs = ((x.abs() - width).abs() < 0.07) & ((y.abs() - depth).abs() < 0.07) & (z < 0.0) & (z > -height)
        chairs.append((seat | back | legs).float())
    errors = _errors_deg(torch.stack(chairs).unsqueeze(1))
    assert (errors < 2.0).sum() >= 9, errors.tolist()
