"""Writes projection_direct.npz and projection_resampled.npz: sketches and gradients of the float64 reference.

The scene is a chair of boxes, clear and in fog.

Run it only when the arithmetic is meant to change; the reference must equal the published model's arrays before.

    .venv/bin/python tests/golden_small/write_projection.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vonmodel.geometry import viewpoint_rotation
from vonmodel.projection import frame_sketch, project

RESOLUTION, IMAGE_SIZE = 13, 17
FOLDER = Path(__file__).resolve().parent


def chair_of_boxes() -> torch.Tensor:
    """A solid chair and the same chair in fog: (2, 1, N, N, N)."""
    chair = torch.zeros([RESOLUTION] * 3)
    chair[2:11, 2:11, 5:7] = 1.0
    chair[2:11, 2:4, 7:12] = 1.0
    for x in (2, 9):
        for y in (2, 9):
            chair[x : x + 2, y : y + 2, 1:5] = 1.0
    fog = torch.rand(chair.shape, generator=torch.Generator().manual_seed(0))
    # A sixteenth is exact in float32 and float16, so the stored volume is the projected one.
    foggy = ((0.85 * chair + 0.1 * fog) * 16.0).round() / 16.0
    return torch.stack([chair, foggy]).unsqueeze(1)


def main() -> None:
    """Projects in both modes and stores inputs and outputs."""
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(2, 2, 1, IMAGE_SIZE, IMAGE_SIZE, generator=generator, dtype=torch.float64)
    angles = torch.deg2rad(torch.tensor([[35.0, -70.0], [20.0, 5.0]], dtype=torch.float64))
    for mode in ("direct", "resampled"):
        volumes = chair_of_boxes().double().requires_grad_()
        rotations = viewpoint_rotation(*angles).requires_grad_()
        sketch = project(volumes, rotations, image_size=IMAGE_SIZE, resampled=mode == "resampled")
        framed = frame_sketch(sketch, depth_range="batch")
        objective = (sketch.silhouette * upstream[0]).sum() + (sketch.depth * upstream[1]).sum()
        grad_volumes, grad_rotations = torch.autograd.grad(objective, (volumes, rotations))
        arrays = {
            "rotations": rotations,
            **sketch._asdict(),
            **{f"framed_{name}": value for name, value in framed._asdict().items()},
            "upstream_silhouette": upstream[0],
            "upstream_depth": upstream[1],
            "grad_rotations": grad_rotations,
        }
        np.savez_compressed(
            FOLDER / f"projection_{mode}.npz",
            volumes=volumes.detach().half().numpy(),
            grad_volumes=grad_volumes.float().numpy(),
            **{name: value.detach().numpy() for name, value in arrays.items()},
        )


if __name__ == "__main__":
    main()
