import numpy as np
import pytest
import torch

from vonmodel.inference import sampling as draw
from vonmodel.inference.sampling import render, sample_codes, sample_viewpoints
from vonmodel.model import build_model


def uniform(count, rng):
    return rng.uniform([-1.0, 0.0], [1.0, 0.5], (count, 2))


def test_draws_are_functions_of_seed_purpose_and_place():
    ten = sample_codes(10, 6, seed=1, purpose="shape")
    assert torch.equal(sample_codes(4, 6, seed=1, purpose="shape"), ten[:4])
    assert not torch.equal(sample_codes(10, 6, seed=2, purpose="shape"), ten)
    assert not torch.equal(sample_codes(10, 6, seed=1, purpose="texture"), ten)
    torch.manual_seed(5)
    assert torch.equal(sample_codes(10, 6, seed=1, purpose="shape"), ten)
    np.testing.assert_array_equal(sample_viewpoints(3, uniform, seed=1), sample_viewpoints(9, uniform, seed=1)[:3])


def test_codes_are_normal():
    codes = sample_codes(2000, 8, seed=0, purpose="shape")
    assert codes.dtype == torch.float32
    assert codes.mean().item() == pytest.approx(0, abs=0.03)
    assert codes.std().item() == pytest.approx(1, abs=0.02)


def test_sketches_do_not_depend_on_how_many_are_projected_at_once(tiny_config, monkeypatch):
    model = build_model(tiny_config.model, 0).eval()
    volumes = torch.rand(5, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0)).round()
    viewpoints = sample_viewpoints(5, uniform, seed=0)
    whole = draw.render_sketches(model, volumes, viewpoints)
    monkeypatch.setattr(draw, "MAX_BATCH_VOXELS", 2 * 32**3)
    for part, expected in zip(draw.render_sketches(model, volumes, viewpoints), whole, strict=True):
        torch.testing.assert_close(part, expected)


def test_a_rendering_does_not_depend_on_its_neighbours(tiny_config):
    model = build_model(tiny_config.model, 0).eval()
    assert model.config.depth_range == "batch"
    codes = sample_codes(3, 8, seed=0, purpose="texture")
    volumes = torch.zeros(3, 1, 32, 32, 32)
    for index, volume in enumerate(volumes):
        volume[0, 8 : 16 + 4 * index, 8:20, 4 : 28 - 6 * index] = 1.0
    viewpoints = np.array([[0.3, 0.2], [-1.0, 0.5], [2.0, 0.0]])
    with torch.inference_mode():
        together = render(model, volumes, viewpoints, codes)
        alone = render(model, volumes[1:2], viewpoints[1:2], codes[1:2])
    torch.testing.assert_close(alone.sketch.normalized_depth[0], together.sketch.normalized_depth[1])
    torch.testing.assert_close(alone.images[0], together.images[1], rtol=1e-4, atol=1e-4)
