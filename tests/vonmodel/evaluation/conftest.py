"""A feature network of a few numbers, a dataset of two classes of shapes, and a classifier trained on them."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn


class Blocks(nn.Module):
    """The mean colour of the four quarters."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, images):
        return self.gain * nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


@pytest.fixture
def network():
    from vonmodel.evaluation.features import FeatureNetwork

    return FeatureNetwork("blocks", Blocks(), 12, 8, "antialiased", "0" * 64, False)


@pytest.fixture(scope="session")
def two_classes(tiny_data, tmp_path_factory):
    """The tiny chairs (boxes, two of eight held out) and as many cars: the same boxes, half as high."""
    from vondata.dataset.manifest import manifest_path, output_path
    from vondata.dataset.shape_file import load_shape, save_shape

    data = tmp_path_factory.mktemp("two") / "data"
    shutil.copytree(tiny_data, data)
    frame = pd.read_parquet(manifest_path(data, "chair", "shapes"))
    frame["split"] = ["train"] * 6 + ["val", "test"]
    frame.to_parquet(manifest_path(data, "chair", "shapes"))
    for id in frame["id"]:
        chair = load_shape(output_path(data, "chair", "shapes", id))
        middle = int(np.flatnonzero(chair.occupancy.any(axis=(0, 1))).mean())
        chair.occupancy[:, :, middle:] = False
        chair.surface[:, :, middle:] = False
        save_shape(output_path(data, "car", "shapes", id), chair)
    frame.assign(**{"class": "car"}).to_parquet(manifest_path(data, "car", "shapes"))
    return data


@pytest.fixture(scope="session")
def classifier(two_classes, tmp_path_factory):
    """(the file, its description, its hash)"""
    from vonmodel.evaluation.shape_classifier import ClassifierSettings, train_classifier

    file = tmp_path_factory.mktemp("classifier") / "shape-classifier.safetensors"
    settings = ClassifierSettings(base_channels=2, steps=25, batch_size=8, learning_rate=5e-3)
    return file, *train_classifier(two_classes, settings, file)
