import logging

import numpy as np
import pytest
import torch
from torch import nn

from vonmodel.datasets import viewpoint_sampler
from vonmodel.evaluation.features import FeatureNetwork
from vonmodel.evaluation.fid import frechet_inception_distance, measure, real_statistics
from vonmodel.evaluation.frechet import frechet_distance
from vonmodel.evaluation.images import GeneratedImages, RealImages
from vonmodel.model import build_model


class Blocks(nn.Module):
    """The mean colour of the four quarters."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, images):
        return self.gain * nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


class Pictures:
    """Images from memory."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def batches(self, size):
        return iter(self.pixels.split(size))


@pytest.fixture
def network():
    return FeatureNetwork("blocks", Blocks(), 12, 8, "antialiased", "0" * 64, False)


@pytest.fixture
def real(tiny_data):
    return RealImages(tiny_data, "chair", size=32)


@pytest.fixture(scope="module")
def generated(tiny_data, tiny_config):
    model = build_model(tiny_config.model, 0).eval()
    return GeneratedImages(model, viewpoint_sampler(tiny_data, "chair"), 15, seed=1)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_statistics_do_not_depend_on_the_batch(network, batch_size):
    images = Pictures(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)))
    whole, pieces = measure(images, network, 40), measure(images, network, batch_size)
    np.testing.assert_allclose(pieces.mean, whole.mean, atol=1e-6)
    np.testing.assert_allclose(pieces.dense_covariance(), whole.dense_covariance(), atol=1e-6)


def test_distance_is_that_of_the_features(tmp_path, network, real, generated):
    result = frechet_inception_distance(generated, None, real, network, cache=tmp_path, batch_size=4)
    features = [np.concatenate(list(network.over(images.batches(50)))) for images in (generated, real)]
    means = [each.mean(axis=0, dtype=float) for each in features]
    covariances = [np.cov(each, rowvar=False) for each in features]
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1])
    root = np.sqrt(eigenvalues.real.clip(min=0)).sum()
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    assert result.value == pytest.approx(expected, rel=1e-4)
    assert (result.generated, result.real, result.untrained) == (15, 24, None)
    assert result.dataset_sha256 == real.sha256


def test_distance_does_not_depend_on_the_batch(tmp_path, network, real, generated):
    values = [
        frechet_inception_distance(generated, None, real, network, cache=tmp_path / str(size), batch_size=size).value
        for size in (1, 4, 32)
    ]
    assert values == pytest.approx([values[0]] * 3, rel=1e-3)


def test_the_untrained_model_is_scored_beside_the_trained_one(tmp_path, network, real, generated, tiny_config):
    initial = GeneratedImages(build_model(tiny_config.model, 9).eval(), generated.sampler, 15, seed=1)
    result = frechet_inception_distance(generated, initial, real, network, cache=tmp_path)
    alone = frechet_inception_distance(initial, None, real, network, cache=tmp_path)
    assert result.untrained == pytest.approx(alone.value)
    assert result.untrained != pytest.approx(result.value)


def test_photos_are_measured_once(tmp_path, network, real, monkeypatch):
    first = real_statistics(real, network, tmp_path, 8)
    monkeypatch.setattr(RealImages, "batches", lambda *_: pytest.fail("measured again"))
    again = real_statistics(real, network, tmp_path, 8)
    np.testing.assert_array_equal(again.mean, first.mean)
    assert frechet_distance(first, again) == pytest.approx(0, abs=1e-5)


def test_cached_photos_are_keyed_by_content_and_network(tmp_path, network, real, tiny_data):
    real_statistics(real, network, tmp_path, 8)
    real_statistics(RealImages(tiny_data, "chair", size=16), network, tmp_path, 8)
    real_statistics(RealImages(tiny_data, "chair", size=32, maximum=20), network, tmp_path, 8)
    other = FeatureNetwork("blocks", Blocks(), 12, 8, "tensorflow", "0" * 64, False)
    real_statistics(real, other, tmp_path, 8)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_damaged_cache_is_measured_again_and_said_so(tmp_path, network, real, caplog):
    first = real_statistics(real, network, tmp_path, 8)
    (file,) = tmp_path.iterdir()
    for content in (b"", b"PK\x03\x04 half a file", file.read_bytes()[:-100]):
        file.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            again = real_statistics(real, network, tmp_path, 8)
        np.testing.assert_array_equal(again.mean, first.mean)
        assert f"{file} cannot be read" in caplog.text
        caplog.clear()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, network, real, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with caplog.at_level(logging.WARNING):
        statistics = real_statistics(real, network, blocked, 8)
    assert statistics.count == 24
    assert "cannot be kept" in caplog.text


def test_progress_is_told(tmp_path, network, real, generated):
    told = []
    frechet_inception_distance(
        generated, None, real, network, cache=tmp_path, batch_size=10, progress=lambda *each: told.append(each)
    )
    assert told == [
        ("photos", 10, 24),
        ("photos", 20, 24),
        ("photos", 24, 24),
        ("generated images", 10, 15),
        ("generated images", 15, 15),
    ]
