import hashlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from vonmodel.evaluation.features import FEATURES, RandomNetwork, fill_uniform, random_features
from vonmodel.evaluation.image_features import StatisticsAccumulator
from vonmodel.evaluation.image_metrics import frechet_distance


def test_weights_are_the_same_everywhere():
    weights = RandomNetwork().convolutions[0].weight
    digest = hashlib.sha256(weights.detach().numpy().astype("<f4").tobytes()).hexdigest()
    assert digest[:16] == "21f4aaceed91f879"


def test_weights_ignore_the_global_seed():
    torch.manual_seed(1)
    first = RandomNetwork().state_dict()
    torch.manual_seed(2)
    assert all(torch.equal(first[name], tensor) for name, tensor in RandomNetwork().state_dict().items())


def test_fill_uniform_has_the_stated_variance():
    layer = nn.Linear(50, 400, bias=False)
    fill_uniform(layer, seed=3)
    assert layer.weight.var().item() == pytest.approx(2 / 50, rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=0.005)


def pictures(count, seed):
    """Coloured boxes on white: a stand-in for photos of objects."""
    rng = np.random.default_rng(seed)
    images = np.full((count, 3, 64, 64), 255, dtype=np.uint8)
    for image in images:
        for _ in range(3):
            top, left = rng.integers(4, 30, 2)
            height, width = rng.integers(8, 30, 2)
            image[:, top : top + height, left : left + width] = rng.integers(0, 200, (3, 1, 1))
    return torch.from_numpy(images)


def distance(first, second):
    network = random_features()
    gathered = []
    for images in (first, second):
        accumulator = StatisticsAccumulator(FEATURES)
        accumulator.update(network(images))
        gathered.append(accumulator.result())
    return frechet_distance(*gathered)


def blurred(images, size):
    padded = functional.pad(images.float(), (size // 2,) * 4, mode="replicate")
    return functional.avg_pool2d(padded, size, stride=1).round().to(torch.uint8)


def test_features_order_degradations():
    real, other = pictures(100, 0), pictures(100, 1)
    same = distance(real, other)
    assert same < distance(real, blurred(other, 3)) < distance(real, blurred(other, 9))
    assert 3 * same < distance(real, other[:4].repeat(25, 1, 1, 1))
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, other.shape, dtype=np.uint8))
    assert 30 * same < distance(real, noise)
