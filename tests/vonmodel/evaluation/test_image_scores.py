import numpy as np
import pytest

from vonmodel.evaluation.image_metrics import image_scores, manifold_scores, squared_discrepancy
from vonmodel.evaluation.samples import GeneratedImages, RealImages, VonGenerator
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.model import build_model


@pytest.fixture(scope="module")
def generator(tiny_data, tiny_config):
    return VonGenerator(build_model(tiny_config.model, 0).eval(), tiny_config, tiny_data)


def scores(generator, network, **changes):
    values = {"samples": 15, "seed": 1, "untrained": False} | changes
    return {result["metric"]: result for result in image_scores(generator, [network], ScoreSettings(**values))}


def features(generator, network, seed=1):
    drawn = GeneratedImages(generator.model, generator.sampler(), 15, seed)
    photos = RealImages(generator.data, "chair", size=32)
    return [network(images.part(0, len(images))) for images in (drawn, photos)]


def test_every_score_is_that_of_the_features(generator, network):
    drawn, photos = features(generator, network)
    found = scores(generator, network)
    means = [each.mean(axis=0, dtype=float) for each in (drawn, photos)]
    covariances = [np.cov(each, rowvar=False) for each in (drawn, photos)]
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0)).sum()
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    assert found["fid"]["value"] == pytest.approx(expected, rel=1e-4)
    assert found["kid"]["subset_size"] == 7
    assert found["kid"]["value"] == pytest.approx(squared_discrepancy(drawn, photos), abs=3 * found["kid"]["spread"])
    assert found["precision_recall"]["coverage"] == manifold_scores(drawn, photos).coverage
    for result in found.values():
        assert (result["generated"], result["real"], result["seed"]) == (15, 24, 1)


def test_no_score_depends_on_the_batch(generator, network):
    whole = scores(generator, network)
    for batch_size in (1, 4):
        pieces = scores(generator, network, batch_size=batch_size)
        assert pieces["fid"]["value"] == pytest.approx(whole["fid"]["value"], rel=1e-3)
        assert pieces["kid"]["value"] == pytest.approx(whole["kid"]["value"], rel=1e-3)
        assert pieces["precision_recall"] == whole["precision_recall"]


def test_no_score_depends_on_the_devices(generator, network):
    (alone, shared) = (
        {
            line["metric"]: line
            for line in image_scores(
                generator,
                [network] * devices,
                ScoreSettings(samples=15, batch_size=4, devices=("cpu",) * devices, untrained=False),
            )
        }
        for devices in (1, 2)
    )
    assert shared == alone


def test_no_score_depends_on_the_order(generator, network, monkeypatch):
    straight = scores(generator, network)
    part = GeneratedImages.part
    monkeypatch.setattr(
        GeneratedImages, "part", lambda self, start, stop: part(self, 0, len(self)).flip(0)[start:stop]
    )
    turned = scores(generator, network)
    assert turned["fid"]["value"] == pytest.approx(straight["fid"]["value"], rel=1e-4)
    assert turned["precision_recall"] == straight["precision_recall"]
    assert turned["kid"]["value"] == pytest.approx(straight["kid"]["value"], abs=3 * straight["kid"]["spread"])


def test_only_what_is_asked_for_is_measured(generator, network):
    assert list(scores(generator, network, fid=False, kid=False)) == ["precision_recall"]
    assert list(scores(generator, network, fid=False, precision_recall=False)) == ["kid"]
    assert list(scores(generator, network, kid=False, precision_recall=False)) == ["fid"]


def test_the_untrained_model_is_scored_beside_the_trained_one(generator, network, tiny_config, tiny_data):
    found = scores(generator, network, untrained=True, kid=False, precision_recall=False)["fid"]
    initial = VonGenerator(build_model(tiny_config.model, tiny_config.seed).eval(), tiny_config, tiny_data)
    alone = scores(initial, network, kid=False, precision_recall=False)["fid"]
    assert found["untrained"] == pytest.approx(alone["value"])
    assert found["untrained"] != pytest.approx(found["value"])
    assert alone["untrained"] is None


def test_progress_is_reported(generator, network):
    told = []
    settings = ScoreSettings(samples=15, batch_size=10, kid=False, precision_recall=False, untrained=True)
    list(image_scores(generator, [network], settings, lambda *each: told.append(each)))
    assert [each for each in told if each[0] != "photos"] == [
        ("generated images", 10, 15),
        ("generated images", 15, 15),
        ("images of the untrained model", 10, 15),
        ("images of the untrained model", 15, 15),
    ]
