import dataclasses
import logging

import numpy as np
import pytest
import torch

from vonmodel.evaluation.image_features import Replica, measure, measure_real
from vonmodel.evaluation.image_metrics import frechet_distance
from vonmodel.evaluation.samples import RealImages


class Pictures:
    """Images from memory."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def part(self, start, stop):
        return self.pixels[start:stop]


@pytest.fixture
def real(tiny_data):
    return RealImages(tiny_data, "chair", size=32)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_statistics_do_not_depend_on_the_batch(network, batch_size):
    images = Pictures(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)))
    whole, pieces = (measure([Replica(images, network)], batch_size=size).statistics for size in (40, batch_size))
    np.testing.assert_allclose(pieces.mean, whole.mean, atol=1e-6)
    np.testing.assert_allclose(pieces.dense_covariance(), whole.dense_covariance(), atol=1e-6)


@pytest.mark.parametrize("devices", [2, 3])
def test_several_devices_share_the_images_and_change_nothing(network, devices):
    class Counted(Pictures):
        parts = 0

        def part(self, start, stop):
            self.parts += 1
            return super().part(start, stop)

    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8))
    replicas = [Replica(Counted(pixels), network.on("cpu")) for _ in range(devices)]
    alone = measure([Replica(Pictures(pixels), network)], batch_size=3, keep=True)
    shared = measure(replicas, batch_size=3, keep=True)
    np.testing.assert_array_equal(shared.features, alone.features)
    np.testing.assert_array_equal(shared.statistics.mean, alone.statistics.mean)
    assert sum(replica.images.parts for replica in replicas) == 14
    assert min(replica.images.parts for replica in replicas) >= 14 // devices


def test_what_fails_on_one_device_is_heard_of(network):
    class Broken(Pictures):
        def part(self, start, stop):
            raise OSError("gone")

    pixels = torch.zeros(9, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(OSError, match="gone"):
        measure([Replica(Pictures(pixels), network), Replica(Broken(pixels), network)], batch_size=2)


def test_features_are_kept_where_asked_for_and_are_those_of_the_statistics(network):
    images = Pictures(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), dtype=np.uint8)))
    kept = measure([Replica(images, network)], batch_size=8, keep=True)
    assert kept.features.shape == (20, 12)
    np.testing.assert_allclose(kept.features.mean(axis=0, dtype=float), kept.statistics.mean)
    assert measure([Replica(images, network)], batch_size=8).features is None


def test_photos_are_measured_once(tmp_path, network, real, monkeypatch):
    first = measure_real(real, [network], tmp_path, batch_size=8).statistics
    monkeypatch.setattr(RealImages, "part", lambda *_: pytest.fail("measured again"))
    again = measure_real(real, [network], tmp_path, batch_size=8).statistics
    np.testing.assert_array_equal(again.mean, first.mean)
    assert frechet_distance(first, again) == pytest.approx(0, abs=1e-5)


def test_cached_photos_are_keyed_by_content_and_network(tmp_path, network, real, tiny_data):
    measure_real(real, [network], tmp_path, batch_size=8)
    measure_real(RealImages(tiny_data, "chair", size=16), [network], tmp_path, batch_size=8)
    measure_real(RealImages(tiny_data, "chair", size=32, maximum=20), [network], tmp_path, batch_size=8)
    other = dataclasses.replace(network, resize="tensorflow")
    measure_real(real, [other], tmp_path, batch_size=8)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_damaged_cache_is_measured_again_and_said_so(tmp_path, network, real, caplog):
    first = measure_real(real, [network], tmp_path, batch_size=8).statistics
    (file,) = tmp_path.iterdir()
    for content in (b"", b"PK\x03\x04 half a file", file.read_bytes()[:-100]):
        file.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            again = measure_real(real, [network], tmp_path, batch_size=8).statistics
        np.testing.assert_array_equal(again.mean, first.mean)
        assert f"{file} cannot be read" in caplog.text
        caplog.clear()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, network, real, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with caplog.at_level(logging.WARNING):
        statistics = measure_real(real, [network], blocked, batch_size=8).statistics
    assert statistics.count == 24
    assert "cannot be kept" in caplog.text


def test_features_of_photos_are_cached_beside_the_statistics(tmp_path, network, real, monkeypatch):
    measure_real(real, [network], tmp_path, batch_size=8)
    first = measure_real(real, [network], tmp_path, batch_size=8, keep=True)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(RealImages, "part", lambda *_: pytest.fail("measured again"))
    again = measure_real(real, [network], tmp_path, batch_size=8, keep=True)
    np.testing.assert_array_equal(again.features, first.features)


def test_progress_is_reported(tmp_path, network, real):
    told = []
    measure_real(real, [network], tmp_path, batch_size=10, progress=lambda *each: told.append(each))
    assert told == [(10, 24), (20, 24), (24, 24)]
