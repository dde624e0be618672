"""Writes networks_*.npz: small networks with random weights, inputs, and the outputs of the float64 reference.

    python tests/golden_small/write_networks.py

Weights carry the published names and are stored in half precision, which float32 holds exactly.
"""

from pathlib import Path

import numpy as np
import published_reference
import torch

from vonmodel.networks import (
    PatchCritic,
    ShapeCritic,
    ShapeGenerator,
    SketchEncoder,
    TextureEncoder,
    TextureGenerator,
)
from vonmodel.published import PublishedName, published_state_dict


def main() -> None:
    """Writes all files beside this script."""
    rng = np.random.default_rng(2018)
    image, depth = rng.uniform(-1, 1, (2, 3, 32, 32)), rng.uniform(-1, 1, (2, 1, 32, 32))
    volume, shape_code, texture_code = (
        rng.uniform(size=(2, 1, 16, 16, 16)),
        rng.normal(size=(2, 5)),
        rng.normal(size=(2, 3)),
    )
    cases: dict[PublishedName, tuple[torch.nn.Module, tuple[np.ndarray, ...]]] = {
        "net_G_3D": (ShapeGenerator(16, code_size=5, base_channels=1), (shape_code,)),
        "net_D_3D": (ShapeCritic(16, base_channels=1), (volume,)),
        "net_G_AB": (TextureGenerator(32, code_size=3, base_channels=2), (depth, texture_code)),
        "net_G_BA": (SketchEncoder(32, base_channels=2), (image,)),
        "net_E": (TextureEncoder(32, code_size=3, base_channels=2), (image,)),
        "net_D_A": (PatchCritic(3, 128, base_channels=2), (rng.uniform(-1, 1, (2, 3, 32, 32)),)),
        "net_D_B": (PatchCritic(1, 32, base_channels=2), (depth,)),
    }
    for name, (network, inputs) in cases.items():
        layout = {key: value.shape for key, value in published_state_dict(network).items()}
        weights = {key: weight(key, shape, rng) for key, shape in layout.items()}
        stored = [each.astype(np.float16) for each in inputs]
        outputs = published_reference.forward(name, weights, *stored)
        np.savez_compressed(
            Path(__file__).with_name(f"networks_{name}.npz"),
            **{f"weight:{key}": value for key, value in weights.items()},
            **{f"input{i}": value for i, value in enumerate(stored)},
            **{f"output{i}": value.astype(np.float32) for i, value in enumerate(outputs)},
        )


def weight(key: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random values at which every part of a network matters: no gain of one, no offset of zero."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float16)
    scale = 0.3 if len(shape) < 2 else np.sqrt(2.0 / np.prod(shape[1:]))
    return rng.normal(0.0, scale, shape).astype(np.float16)


if __name__ == "__main__":
    main()
