"""What holds for each of the seven networks."""

import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from tests.harness import TIMEOUT_S
from vonmodel.networks import (
    PatchCritic,
    ShapeCritic,
    ShapeGenerator,
    SketchEncoder,
    TextureEncoder,
    TextureGenerator,
)
from vonmodel.networks.blocks import UnsupportedSizeError


def outputs(network: torch.nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    result = network(*inputs)
    return list(result) if isinstance(result, tuple | list) else [result]


def smallest(name: str) -> int:
    return 16 if name.endswith("3D") else 32


EXPECTED = {
    "net_G_3D": lambda size: [(2, 1, size, size, size)],
    "net_D_3D": lambda size: [(2,)],
    "net_G_AB": lambda size: [(2, 3, size, size)],
    "net_G_BA": lambda size: [(2, 1, size, size)],
    "net_E": lambda size: [(2, 3), (2, 3)],
    # As many strided convolutions as take the image to 32 pixels (one at least), then two that lose a pixel each.
    "net_D_A": lambda size: [(2, 1, *[side] * 2) for side in (min(size // 2, 32) - 2, min(size // 4, 16) - 2)],
    "net_D_B": lambda size: [(2, 1, *[side] * 2) for side in (min(size // 2, 32) - 2, min(size // 4, 16) - 2)],
}


@pytest.mark.parametrize("doublings", [0, 1, 2, 3])
def test_outputs_have_the_shapes_of_their_size(name, build, examples, doublings) -> None:
    size = smallest(name) * 2**doublings
    network = build(size).to("meta")
    inputs = tuple(each.to("meta") for each in examples(size))
    assert [tuple(each.shape) for each in outputs(network, inputs)] == EXPECTED[name](size)


def test_every_weight_gets_a_gradient(name, network, examples) -> None:
    sum((each.square().sum() for each in outputs(network.train(), examples(smallest(name), 3))), start=0).backward()
    for key, weight in network.named_parameters():
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key
        # A bias before a normalisation that takes out the mean has no effect; every matrix has.
        assert weight.dim() == 1 or weight.grad.abs().sum() > 0, key


def test_gradients_are_those_of_finite_differences(name, network, examples) -> None:
    inputs = tuple(each.double().requires_grad_() for each in examples(smallest(name), 1))
    network.double()
    rng = torch.Generator().manual_seed(3)
    weights = [torch.randn(each.shape, generator=rng, dtype=torch.float64) for each in outputs(network, inputs)]

    def scalar(*given: Tensor) -> Tensor:
        return torch.stack([(w * each).sum() for w, each in zip(weights, outputs(network, given), strict=True)]).sum()

    for index, gradient in enumerate(torch.autograd.grad(scalar(*inputs), inputs)):
        towards = torch.randn(inputs[index].shape, generator=rng, dtype=torch.float64)
        step = 1e-8 * towards  # small enough to cross no kink of an activation
        ahead = [each + step if i == index else each for i, each in enumerate(inputs)]
        behind = [each - step if i == index else each for i, each in enumerate(inputs)]
        slope = (scalar(*ahead) - scalar(*behind)) / 2e-8
        torch.testing.assert_close((gradient * towards).sum(), slope, rtol=1e-4, atol=1e-5)


def test_samples_of_a_batch_do_not_see_each_other(name, network, examples) -> None:
    inputs = examples(smallest(name), 3)
    together = outputs(network, inputs)
    for i in range(3):
        alone = outputs(network, tuple(each[[i]] for each in inputs))
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[i], rtol=1e-4, atol=1e-5)


def test_channels_last_computes_the_same(name, network, examples) -> None:
    inputs = examples(smallest(name))
    expected = outputs(network, inputs)
    last = torch.channels_last_3d if name.endswith("3D") else torch.channels_last
    network.to(memory_format=last)
    arranged = tuple(each.to(memory_format=last) if each.dim() > 2 else each for each in inputs)
    for given, wanted in zip(outputs(network, arranged), expected, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)


def test_autocast_stays_close_to_single_precision(name, network, examples) -> None:
    inputs = examples(smallest(name))
    expected = outputs(network, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = outputs(network, inputs)
    for half, single in zip(given, expected, strict=True):
        assert (half.float() - single).abs().mean() < 0.05 * (single.abs().mean() + 0.1)


def test_no_random_number_is_drawn_in_a_forward_pass(name, network, examples) -> None:
    before = torch.get_rng_state()
    outputs(network.train(), examples(smallest(name)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [8, 33, 48, 1024, 0, -32])
def test_other_sizes_are_refused_by_name(name, build, size) -> None:
    option = "resolution" if name.endswith("3D") else "image_size"
    with pytest.raises(UnsupportedSizeError, match=rf"{option} is {size}; the networks exist for"):
        build(size)


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (ShapeGenerator(16, 5, 1), (torch.zeros(2, 5, 1, 1, 1),)),
        (ShapeCritic(16, 1), (torch.zeros(2, 1, 16, 16, 8),)),
        (TextureGenerator(32, 3, 1), (torch.zeros(2, 1, 32, 32), torch.zeros(3, 3))),
        (SketchEncoder(32, 1), (torch.zeros(2, 1, 32, 32, dtype=torch.int64),)),
        (TextureEncoder(32, 3, 1), (torch.zeros(3, 32, 32),)),
        (PatchCritic(3, 32, 2), (torch.zeros(2, 3, 32, 16),)),
    ],
)
def test_annotations_refuse_what_they_do_not_describe(network, inputs) -> None:
    # Raised by the suite's own type checker (conftest.py): proof that the annotations are checked.
    with pytest.raises(TypeCheckError):
        network(*inputs)


COMPILED = """
import torch
from vonmodel import networks
torch.set_num_threads(1)
image, depth = torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32)
for network, inputs in [
    (networks.ShapeGenerator(16, 5, 2), (torch.randn(2, 5),)),
    (networks.ShapeCritic(16, 2), (torch.rand(2, 1, 16, 16, 16),)),
    (networks.TextureGenerator(32, 3, 2), (depth, torch.randn(2, 3))),
    (networks.SketchEncoder(32, 2), (image,)),
    (networks.TextureEncoder(32, 3, 2), (image,)),
    (networks.PatchCritic(3, 32, 2), (image,)),
]:
    network.eval()
    whole = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(whole(*inputs), network(*inputs))
"""


@pytest.mark.slow
def test_compiles_to_one_graph() -> None:
    # In a process of its own: the type checker of this one is no part of any graph.
    subprocess.run([sys.executable, "-W", "error", "-c", COMPILED], check=True, timeout=TIMEOUT_S)
