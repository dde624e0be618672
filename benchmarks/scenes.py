"""Volumes for the projection benchmark: real chairs, blurred chairs, and fog."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measure import REALDATA
from vondata.io.listing import open_tree

ITEMS = 4


def build_scenes(resolution: int, shapes: Path | None) -> dict[str, Tensor]:
    """Volumes (4, 1, N, N, N) by name: chairs, chairs blurred as by an untrained generator, thin fog.

    Args:
        resolution: N.
        shapes: a folder with prepared shapes of this resolution; if None, real chairs are prepared from the reference
            data next to the repository, or else made of boxes.
    """
    if shapes is not None:
        name, chairs = "real chairs", _prepared(sorted(shapes.rglob("*.npz"))[:ITEMS])
    elif REALDATA.is_dir():
        name, chairs = "real chairs", _real_chairs(resolution)
    else:
        name, chairs = "box chairs", box_chairs(resolution)
    blurred = functional.avg_pool3d(chairs, 9, stride=1, padding=4)
    return {
        name: chairs,
        "blurred": torch.sigmoid(12.0 * blurred - 7.0),
        "thin fog": torch.full_like(chairs, 0.003),
    }


def box_chairs(resolution: int) -> Tensor:
    """Seat, back and four legs, (4, 1, N, N, N)."""
    axis = torch.linspace(-1.0, 1.0, resolution)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    chairs = []
    for width in torch.linspace(0.35, 0.55, ITEMS):
        seat = (x.abs() < width) & (y.abs() < 0.45) & (z.abs() < 0.05)
        back = (x.abs() < width) & ((y + 0.42).abs() < 0.04) & (z > 0.0) & (z < 0.7)
        legs = ((x.abs() - width + 0.05).abs() < 0.04) & ((y.abs() - 0.4).abs() < 0.04) & (z < 0.0) & (z > -0.6)
        chairs.append((seat | back | legs).float())
    return torch.stack(chairs).unsqueeze(1)


def _real_chairs(resolution: int) -> Tensor:
    # Imported here: preparation needs libraries that projection and training do not.
    from vondata.classes import load_class
    from vondata.shapes.prepare import ShapeSettings, prepare_shape, shapenet_items

    paths: list[Path] = []
    with tempfile.TemporaryDirectory() as folder:
        for item in shapenet_items(open_tree(REALDATA / "ShapeNetCore.v2"), [load_class("chair")]):
            if item.rejected is None and len(paths) < ITEMS:
                paths.append(Path(folder) / f"{item.id}.npz")
                prepare_shape(item, ShapeSettings(resolution=resolution), paths[-1])
        return _prepared(paths)


def _prepared(paths: list[Path]) -> Tensor:
    from vondata.dataset.shape_file import load_occupancy

    return torch.stack([torch.from_numpy(load_occupancy(path)).float() for path in paths]).unsqueeze(1)
