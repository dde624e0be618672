import numpy as np
import pytest
import torch
from torch import nn

from vonmodel.evaluation.image_features import StatisticsError
from vonmodel.evaluation.image_metrics import kernel_distance, squared_discrepancy


def samples(count, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 5)) + shift


def by_pairs(x, y):
    """The estimate, one pair at a time."""

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    def within(rows):
        return np.mean([kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j])

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


@pytest.mark.parametrize(("first", "second"), [(7, 7), (4, 9), (2, 2)])
def test_estimate_equals_counting_pairs(first, second):
    x, y = samples(first), samples(second, shift=0.5, seed=1)
    assert squared_discrepancy(x, y) == pytest.approx(by_pairs(x, y))


def test_estimate_has_no_bias():
    values = [squared_discrepancy(samples(20, seed=2 * seed), samples(20, seed=2 * seed + 1)) for seed in range(300)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert min(values) < 0 < max(values)


def test_distance_grows_with_the_shift():
    values = [kernel_distance(samples(200), samples(150, shift, 1), seed=0).value for shift in (0.0, 0.5, 1.0)]
    assert values == sorted(values)


def test_subsets_are_drawn_from_the_seed():
    x, y = samples(40), samples(60, 1.0, 1)
    first = kernel_distance(x, y, seed=3, subsets=10, subset_size=20)
    assert first == kernel_distance(x, y, seed=3, subsets=10, subset_size=20)
    other = kernel_distance(x, y, seed=4, subsets=10, subset_size=20)
    assert other.value != first.value
    assert abs(other.value - first.value) < 2 * first.spread
    assert (first.subsets, first.subset_size) == (10, 20)


def test_few_samples_are_halved_so_that_subsets_differ():
    x, y = samples(30), samples(41, 1.0, 1)
    found = kernel_distance(x, y, seed=0)
    assert (found.subsets, found.subset_size) == (100, 15)
    assert found.value == pytest.approx(squared_discrepancy(x, y), abs=found.spread)
    assert found.spread > 0
    with pytest.raises(StatisticsError, match="4 images or more on each side, not 3"):
        kernel_distance(x[:3], y, seed=0)


def test_distance_equals_torchmetrics_with_the_same_features():
    from torchmetrics.image.kid import KernelInceptionDistance

    class Colours(nn.Module):
        """Six numbers of an 8-bit image."""

        num_features = 6

        def forward(self, images):
            pixels = images.double() / 255
            return torch.cat([pixels.mean(dim=(2, 3)), pixels.std(dim=(2, 3))], dim=1)

    rng = np.random.default_rng(0)
    real = torch.from_numpy(rng.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8))
    fake = torch.from_numpy(rng.integers(0, 200, (30, 3, 8, 8), dtype=np.uint8))
    network = Colours()
    with pytest.warns(UserWarning, match="save all extracted features"):
        peer = KernelInceptionDistance(feature=network, subsets=1, subset_size=30)
    peer.update(real, real=True)
    peer.update(fake, real=False)
    ours = squared_discrepancy(network(fake).numpy(), network(real).numpy())
    assert ours == pytest.approx(float(peer.compute()[0]), rel=1e-5)
