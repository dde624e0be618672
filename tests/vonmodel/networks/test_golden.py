"""The networks against stored arrays: the published model's, and the float64 reference's."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from vonmodel.published import load_published

SMALL = Path(__file__).resolve().parents[2] / "golden_small"
FILES = {
    "net_G_3D": "shape_generator_32",
    "net_D_3D": "shape_discriminator_32",
    "net_G_AB": "texture_generator_64",
    "net_G_BA": "sketch_encoder_64",
    "net_E": "texture_encoder_64",
    "net_D_A": "image_discriminator_64",
    "net_D_B": "sketch_discriminator_64",
}


def read(path: Path) -> tuple[dict[str, np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Weights by published name, inputs, outputs."""
    with np.load(path) as stored:
        arrays = dict(stored)
    weights = {key.removeprefix("weight:"): value for key, value in arrays.items() if key.startswith("weight:")}
    numbered = [[arrays[f"{kind}{i}"] for i in range(3) if f"{kind}{i}" in arrays] for kind in ("input", "output")]
    return weights, *numbered


def forward(
    name: str, weights: dict[str, np.ndarray], inputs: list[np.ndarray], dtype: torch.dtype = torch.float32
) -> list[np.ndarray]:
    network = load_published(name, {key: torch.from_numpy(value) for key, value in weights.items()}).to(dtype)
    given = [torch.from_numpy(value).to(dtype) for value in inputs]
    if name == "net_G_3D":
        given = [given[0].flatten(1)]  # published codes have three spatial axes of one
    with torch.no_grad():
        result = network(*given)
    return [each.numpy() for each in (result if isinstance(result, tuple | list) else [result])]


def test_equals_the_published_network(name, golden) -> None:
    # Largest difference found: 1.4e-7 (sketch encoder); the four critics and shape networks agree to the bit.
    weights, inputs, expected = read(golden / f"{FILES[name]}.npz")
    for ours, theirs in zip(forward(name, weights, inputs), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    # Closer than that in double precision: in single, a processor's order of adding up alone makes 3.9e-6.
    exact = forward(name, weights, inputs, torch.float64)
    for ours, theirs in zip(exact, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


def test_equals_the_stored_reference(name) -> None:
    # Largest difference found: 1.1e-6 in scores up to 3 (patch critics, instance norm over few pixels).
    weights, inputs, expected = read(SMALL / f"networks_{name}.npz")
    for ours, theirs in zip(forward(name, weights, inputs), expected, strict=True):
        assert np.ptp(theirs) > 0.01
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def reference():
    """The float64 reference, which is a script's companion and no package."""
    spec = importlib.util.spec_from_file_location("published_reference", SMALL / "published_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_equals_the_published_network(name, golden, reference) -> None:
    weights, inputs, expected = read(golden / f"{FILES[name]}.npz")
    for exact, theirs in zip(reference.forward(name, weights, *inputs), expected, strict=True):
        np.testing.assert_allclose(exact, theirs, rtol=1e-5, atol=2e-6)


def test_the_stored_arrays_are_the_reference_s(name, reference) -> None:
    weights, inputs, expected = read(SMALL / f"networks_{name}.npz")
    for exact, stored in zip(reference.forward(name, weights, *inputs), expected, strict=True):
        np.testing.assert_allclose(exact, stored, rtol=1e-6, atol=1e-7)
