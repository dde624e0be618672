"""A session with distinguishable shapes: untrained weights would generate fog."""

import pytest
import torch

from vonmodel.inference.sampling import SamplingOptions
from vonmodel.inference.session import ModelSession, open_model


def boxes(codes):
    """An L of two soft-edged boxes for each code, its sizes a smooth function of the code."""
    axis = torch.linspace(-1, 1, 32)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    size = (0.35 + 0.3 * torch.sigmoid(codes[:, :4]))[..., None, None, None]

    def box(x_low, x_high, y_low, y_high, z_low, z_high):
        inside = [x - x_low, x_high - x, y - y_low, y_high - y, z - z_low, z_high - z]
        return torch.stack([torch.sigmoid(40 * each) for each in inside]).prod(0)

    seat = box(-size[:, 0], size[:, 0], -size[:, 1], size[:, 1], -size[:, 2], 0 * size[:, 2])
    back = box(-size[:, 0], 0.5 * size[:, 0], -size[:, 1], 0.2 - size[:, 1], -size[:, 2], size[:, 3])
    return torch.maximum(seat, back)[:, None]


@pytest.fixture
def session(tiny_run, tiny_data):
    session = ModelSession(open_model(tiny_run, data=tiny_data, sampling=SamplingOptions(truncation=1.0)))
    session.source.model.generate_shapes = boxes
    return session
