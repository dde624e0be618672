import numpy as np
import pytest
import torch
from torch import nn

from vonmodel.evaluation.features import FeatureNetwork, random_features, weights_sha256


class Corners(nn.Module):
    """The corner pixels, to see what reaches a network."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return self.gain * images[:, :, 0, :: images.shape[-1] - 1].flatten(1)


def images(count, size=48):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def test_pixels_reach_the_network_between_minus_one_and_one():
    network = FeatureNetwork("corners", Corners(), 6, 2, "tensorflow", "", False)
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert network(pixels).tolist() == [[-1.0, -1.0, 0.0, 0.0, 127 / 128, 127 / 128]]


def test_pixels_are_scaled_as_a_network_wants_them():
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    unit = FeatureNetwork("corners", Corners(), 6, 2, "clean", "", False, "unit")(pixels)[0, ::2]
    imagenet = FeatureNetwork("corners", Corners(), 6, 2, "clean", "", False, "imagenet")(pixels)[0, ::2]
    np.testing.assert_allclose(unit, [0, 128 / 255, 1], atol=1e-6)
    np.testing.assert_allclose(imagenet, (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], atol=1e-5)


def test_features_do_not_depend_on_the_batch():
    network = random_features()
    pixels = images(7)
    whole = network(pixels)
    assert whole.shape == (7, network.size)
    single = np.concatenate([network(each) for each in pixels.split(1)])
    np.testing.assert_allclose(single, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [32, 64, 100])
def test_random_features_take_images_of_any_size(size):
    assert np.isfinite(random_features()(images(2, size))).all()


def test_random_features_are_named_by_their_weights_and_not_comparable():
    network = random_features()
    assert network.name == f"random-{network.sha256[:8]}"
    assert not network.comparable
    assert network.identity["resize"] == "antialiased"


def test_weights_sha256_sees_every_number_and_name():
    layer = nn.Linear(2, 2)
    before = weights_sha256(layer)
    assert weights_sha256(layer) == before
    with torch.no_grad():
        layer.bias[1] += 1
    assert weights_sha256(layer) != before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_features_on_a_gpu_equal_those_on_the_cpu():
    from vonmodel.evaluation.inception import FEATURES, INPUT_SIZE, Inception

    module = Inception().eval().requires_grad_(False)
    networks = [random_features(), FeatureNetwork("inception", module, FEATURES, INPUT_SIZE, "tensorflow", "", False)]
    for network in networks:
        expected = network(images(4))
        network.module.to("cuda")
        np.testing.assert_allclose(network(images(4)), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
