import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from vondata.dataset.manifest import manifest_path
from vonmodel.data.datasets import ShapeDataset
from vonmodel.evaluation.inception import file_sha256
from vonmodel.evaluation.shape_classifier import (
    ClassifierError,
    ClassifierSettings,
    as_seen,
    load_classifier,
    train_classifier,
)

QUICK = ClassifierSettings(base_channels=2, steps=2, batch_size=4)


def test_a_classifier_learns_what_it_says_it_knows(two_classes, classifier):
    file, info, sha256 = classifier
    assert info.classes == ("car", "chair")
    assert info.held_out == {"car": 2, "chair": 2}
    assert info.trained == {"car": 6, "chair": 6}
    assert sha256 == file_sha256(file)
    features = load_classifier(file)
    assert features.info == info
    assert features.name == f"shape-classifier-{sha256[:8]}"
    right = {}
    for index, name in enumerate(info.classes):
        for split in ("val", "test", "train"):
            dataset = ShapeDataset(two_classes, name, resolution=32, representation="occupancy", split=split)
            volumes = torch.stack([dataset[at] for at in range(len(dataset))])
            found = features.module(as_seen(volumes, "occupancy")).argmax(dim=1)
            right[name, split] = int((found == index).sum())
    assert {name: right[name, "val"] + right[name, "test"] for name in info.classes} == info.correct
    assert info.accuracy == sum(info.correct.values()) / 4
    assert right["car", "train"] + right["chair", "train"] >= 10


def test_training_is_a_function_of_data_and_seed(two_classes, tmp_path):
    hashes = [
        train_classifier(two_classes, dataclasses.replace(QUICK, seed=seed), tmp_path / f"{index}.safetensors")[1]
        for index, seed in enumerate((1, 1, 2))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_features_do_not_depend_on_the_batch_and_see_solids(classifier):
    features = load_classifier(classifier[0])
    volumes = torch.rand(5, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = features(volumes)
    assert whole.shape == (5, features.size)
    single = np.concatenate([features(each) for each in volumes.split(1)])
    np.testing.assert_allclose(single, whole, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(features((volumes > 0.5).float()), whole)


def test_unusable_training_data_is_reported(two_classes, tiny_data, tmp_path):
    with pytest.raises(ClassifierError, match="two classes or more"):
        train_classifier(tiny_data, QUICK, tmp_path / "a.safetensors")
    import shutil

    data = tmp_path / "data"
    shutil.copytree(two_classes, data)
    for name in ("car", "chair"):
        frame = pd.read_parquet(manifest_path(data, name, "shapes"))
        frame.assign(split="train").to_parquet(manifest_path(data, name, "shapes"))
    with pytest.raises(ClassifierError, match="holds out no shape"):
        train_classifier(data, QUICK, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_files_of_another_kind_are_refused(classifier, tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(ClassifierError, match=r"there is no shape classifier .*; train one first"):
        load_classifier(tmp_path / "nowhere.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "half.safetensors").write_bytes(classifier[0].read_bytes()[:-100])
    for name, message in (("other", "holds no shape classifier"), ("half", "or damaged")):
        with pytest.raises(ClassifierError, match=message):
            load_classifier(tmp_path / f"{name}.safetensors")
