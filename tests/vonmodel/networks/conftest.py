"""The seven networks by their published names, at sizes that take milliseconds."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from vonmodel.model import initialise_kaiming
from vonmodel.networks import (
    PatchCritic,
    ShapeCritic,
    ShapeGenerator,
    SketchEncoder,
    TextureEncoder,
    TextureGenerator,
)

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "net_G_3D": partial(ShapeGenerator, code_size=5),
    "net_D_3D": ShapeCritic,
    "net_G_AB": partial(TextureGenerator, code_size=3),
    "net_G_BA": SketchEncoder,
    "net_E": partial(TextureEncoder, code_size=3),
    "net_D_A": partial(PatchCritic, 3),
    "net_D_B": partial(PatchCritic, 1),
}


@pytest.fixture(params=BUILDERS)
def name(request: pytest.FixtureRequest) -> str:
    """Each of the seven names in turn."""
    return request.param


@pytest.fixture
def build(name: str) -> Callable[..., nn.Module]:
    """Builds the network of this name with seeded weights: build(size, base_channels=2)."""

    def seeded(size: int, base_channels: int = 2) -> nn.Module:
        network = BUILDERS[name](size, base_channels=base_channels)
        initialise_kaiming(network, torch.Generator().manual_seed(0))
        return network

    return seeded


@pytest.fixture
def network(name: str, build: Callable[..., nn.Module]) -> nn.Module:
    """The smallest network of this name, in evaluation mode."""
    return build(16 if name.endswith("3D") else 32).eval()


@pytest.fixture
def examples(name: str) -> Callable[..., tuple[Tensor, ...]]:
    """Draws inputs for the network of this name: examples(size, count)."""

    def draw(size: int, count: int = 2) -> tuple[Tensor, ...]:
        rng = torch.Generator().manual_seed(1)
        match name:
            case "net_G_3D":
                return (torch.randn(count, 5, generator=rng),)
            case "net_D_3D":
                return (torch.rand(count, 1, size, size, size, generator=rng),)
            case "net_G_AB":
                depth = 2.0 * torch.rand(count, 1, size, size, generator=rng) - 1.0
                return depth, torch.randn(count, 3, generator=rng)
            case "net_D_B":
                return (2.0 * torch.rand(count, 1, size, size, generator=rng) - 1.0,)
        return (2.0 * torch.rand(count, 3, size, size, generator=rng) - 1.0,)

    return draw
