import dataclasses

import numpy as np
import pytest
import torch

from vonmodel.config import TrainConfig
from vonmodel.evaluation.samples import RealShapes, VonGenerator
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.evaluation.shape_classifier import ClassifierError, load_classifier
from vonmodel.evaluation.shape_metrics import check_fits, shape_fid
from vonmodel.model import build_model


class Noisy:
    """A generator that draws the training shapes, one of which lost a share of its voxels."""

    def __init__(self, data, config, lost):
        self.data, self.config, self.lost = data, config, lost

    def shapes(self, count, seed):
        real = RealShapes(self.data, "chair", self.config.model, split="train").part(0, count)
        kept = torch.rand(real.shape, generator=torch.Generator().manual_seed(0)) >= self.lost

        class Drawn:
            def __len__(self):
                return len(real)

            def part(self, start, stop):
                return (real * kept)[start:stop]

        return Drawn()

    def images(self, count, seed):
        return None

    def untrained(self):
        return Noisy(self.data, self.config, 1.0)

    def on(self, device):
        return self


@pytest.fixture
def features(classifier):
    return load_classifier(classifier[0])


def test_copies_are_at_no_distance_and_damage_costs(two_classes, tiny_config, features):
    values = [
        shape_fid(Noisy(two_classes, tiny_config, lost), features, ScoreSettings(batch_size=4))["value"]
        for lost in (0.0, 0.2, 0.6)
    ]
    assert values[0] == pytest.approx(0.0, abs=1e-4)
    assert values[0] < values[1] < values[2]


def test_the_score_says_what_it_was_measured_with(two_classes, tiny_config, features):
    generator = VonGenerator(build_model(tiny_config.model, 0).eval(), tiny_config, two_classes)
    line, other = (
        shape_fid(generator, features, ScoreSettings(batch_size=size, shape_samples=7, seed=2)) for size in (8, 3)
    )
    assert (line["metric"], line["generated"], line["real"], line["split"], line["seed"]) == (
        "shape_fid",
        7,
        6,
        "train",
        2,
    )
    assert (line["features_sha256"], len(line["dataset_sha256"])) == (features.sha256, 64)
    assert line["classifier"]["accuracy"] == features.info.accuracy
    assert line["classifier"]["held_out"] == {"car": 2, "chair": 2}
    assert other["value"] == pytest.approx(line["value"], rel=1e-3)
    assert line["untrained"] > 0
    assert len(list((two_classes / "chair" / "statistics").iterdir())) >= 1


def test_a_classifier_of_other_shapes_is_refused(features):
    config = TrainConfig()
    with pytest.raises(ClassifierError, match="the model draws occupancy on 128"):
        check_fits(features, config)
    with pytest.raises(ClassifierError, match="knows car, chair, not sofa"):
        check_fits(features, dataclasses.replace(config, class_name="sofa"))


def test_real_shapes_are_hashed_by_content_and_sampled_by_id(two_classes, tiny_config):
    every = RealShapes(two_classes, "chair", tiny_config.model, split="train")
    some = RealShapes(two_classes, "chair", tiny_config.model, split="train", maximum=3)
    assert some.ids == every.ids[:3]
    assert some.sha256 != every.sha256
    np.testing.assert_array_equal(some.part(1, 3).numpy(), every.part(1, 3).numpy())
