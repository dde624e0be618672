import re

import numpy as np
import pytest
import torch

from vonmodel.evaluation.features import fill_uniform, resize_tensorflow
from vonmodel.evaluation.inception import FEATURES, INPUT_SIZE, Inception, Mixed

# Output channels of every convolution, in the order of the published architecture.
STEM = {"Conv2d_1a_3x3": 32, "Conv2d_2a_3x3": 32, "Conv2d_2b_3x3": 64, "Conv2d_3b_1x1": 80, "Conv2d_4a_3x3": 192}
GRID_35 = {
    "branch1x1": 64,
    "branch5x5_1": 48,
    "branch5x5_2": 64,
    "branch3x3dbl_1": 64,
    "branch3x3dbl_2": 96,
    "branch3x3dbl_3": 96,
}
TO_17 = {"branch3x3": 384, "branch3x3dbl_1": 64, "branch3x3dbl_2": 96, "branch3x3dbl_3": 96}
TO_8 = {
    "branch3x3_1": 192,
    "branch3x3_2": 320,
    "branch7x7x3_1": 192,
    "branch7x7x3_2": 192,
    "branch7x7x3_3": 192,
    "branch7x7x3_4": 192,
}
GRID_8 = {
    "branch1x1": 320,
    "branch3x3_1": 384,
    "branch3x3_2a": 384,
    "branch3x3_2b": 384,
    "branch3x3dbl_1": 448,
    "branch3x3dbl_2": 384,
    "branch3x3dbl_3a": 384,
    "branch3x3dbl_3b": 384,
    "branch_pool": 192,
}


def grid_17(inner):
    names = ["branch7x7_1", "branch7x7_2", *(f"branch7x7dbl_{index}" for index in range(1, 5))]
    wide = ["branch1x1", "branch7x7_3", "branch7x7dbl_5", "branch_pool"]
    return dict.fromkeys(names, inner) | dict.fromkeys(wide, 192)


BLOCKS = {
    "Mixed_5b": GRID_35 | {"branch_pool": 32},
    "Mixed_5c": GRID_35 | {"branch_pool": 64},
    "Mixed_5d": GRID_35 | {"branch_pool": 64},
    "Mixed_6a": TO_17,
    "Mixed_6b": grid_17(128),
    "Mixed_6c": grid_17(160),
    "Mixed_6d": grid_17(160),
    "Mixed_6e": grid_17(192),
    "Mixed_7a": TO_8,
    "Mixed_7b": GRID_8,
    "Mixed_7c": GRID_8,
}
CONVOLUTIONS = STEM | {f"{block}.{name}": width for block, names in BLOCKS.items() for name, width in names.items()}

# Every 128th feature of two pictures, computed with torch-fidelity 0.4's network on the same weights and pixels.
# fmt: off
REFERENCE = [
    8282.3018, 0.0, 166055.0, 732.86591, 1428.7817, 0.0, 5210.0293, 50075.719,
    0.0, 16242.643, 14383.467, 19668.402, 30160.381, 106772.42, 510.40665, 12093.095,
    8352.4365, 0.0, 164763.58, 947.57953, 1507.7458, 0.0, 4760.4292, 50240.82,
    0.0, 15902.971, 12568.812, 19679.023, 30496.457, 106689.17, 449.50952, 11004.338,
]
# fmt: on


@pytest.fixture(scope="module")
def network():
    network = Inception().eval().requires_grad_(False)
    fill_uniform(network, seed=7)
    return network


def test_every_parameter_has_the_published_name_and_width(network):
    state = network.state_dict()
    parts = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked")
    expected = {f"{name}.{part}" for name in CONVOLUTIONS for part in parts} | {"fc.weight", "fc.bias"}
    assert set(state) == expected
    assert len(CONVOLUTIONS) == 94
    for name, width in CONVOLUTIONS.items():
        assert state[f"{name}.conv.weight"].shape[0] == width, name
        assert state[f"{name}.bn.running_var"].shape == (width,), name
    assert state["fc.weight"].shape == (1008, FEATURES)


def test_kernels_are_those_their_names_say(network):
    shapes = {name: tuple(module.kernel_size) for name, module in network.named_modules() if name.endswith(".conv")}
    for name, kernel in shapes.items():
        if match := re.search(r"(\d)x(\d)\.conv$", name):
            assert kernel == (int(match[1]), int(match[2])), name
    assert shapes["Mixed_6b.branch7x7_2.conv"] == (1, 7)
    assert shapes["Mixed_6b.branch7x7dbl_2.conv"] == (7, 1)
    assert shapes["Mixed_7b.branch3x3_2a.conv"] == (1, 3)


def test_parameter_count_is_the_published_one(network):
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_850_960


def test_features_equal_the_reference_implementation(network):
    bits = np.random.PCG64(11).random_raw(2 * 3 * 40 * 40) >> np.uint64(56)
    pixels = torch.from_numpy(bits.astype(np.uint8)).view(2, 3, 40, 40).float()
    features = network((resize_tensorflow(pixels, INPUT_SIZE) - 128) / 128)
    assert features.shape == (2, FEATURES)
    np.testing.assert_allclose(features[:, ::128], np.reshape(REFERENCE, (2, 16)), rtol=1e-4)


def test_average_pool_does_not_count_the_padding():
    block = Mixed(2, (), "average")
    assert torch.equal(block(torch.ones(1, 2, 4, 4)), torch.ones(1, 2, 4, 4))


def test_last_block_takes_the_maximum(network):
    image = torch.zeros(1, 1, 3, 3)
    image[..., 0, 0] = 1.0
    assert network.Mixed_7c.pool == "maximum"
    assert Mixed(1, (), "maximum")(image)[0, 0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
