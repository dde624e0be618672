"""Prepared shapes, photos and viewpoints as training sees them."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vondata.dataset.manifest import ManifestMissingError, manifest_path, output_path
from vondata.dataset.shape_file import load_distance, load_occupancy
from vondata.shapes.implicit import at_least_as_thick, signed_distance
from vonmodel.data.datasets import (
    DamagedItemError,
    EmptyDatasetError,
    ImageDataset,
    ItemCache,
    ShapeDataset,
    viewpoint_sampler,
)
from vonmodel.data.resampling import ResolutionError


def test_shapes_as_occupancy(tiny_data: Path) -> None:
    dataset = ShapeDataset(tiny_data, "chair", resolution=32, representation="occupancy")
    assert list(dataset.ids) == sorted(dataset.ids)
    expected = load_occupancy(output_path(tiny_data, "chair", "shapes", dataset.ids[3]))
    assert torch.equal(dataset[3], torch.from_numpy(expected.astype(np.float32))[None])


def test_shapes_as_distance_function(tiny_data: Path) -> None:
    dataset = ShapeDataset(tiny_data, "chair", resolution=32, representation="distance")
    distance = load_distance(output_path(tiny_data, "chair", "shapes", dataset.ids[3]))
    np.testing.assert_allclose(dataset[3][0].numpy(), np.exp(-8 * distance), atol=5e-4)
    assert dataset[3].dtype == torch.float32


def test_shapes_as_signed_distance(tiny_data: Path) -> None:
    dataset = ShapeDataset(tiny_data, "chair", resolution=32, representation="signed", band=0.1)
    path = output_path(tiny_data, "chair", "shapes", dataset.ids[3])
    occupancy = load_occupancy(path)
    expected = at_least_as_thick(signed_distance(occupancy, load_distance(path)), occupancy, 0.5 / 31)
    np.testing.assert_allclose(dataset[3][0].numpy(), np.clip(0.5 - expected / 0.2, 0.0, 1.0), atol=5e-4)
    assert dataset.compact(3).dtype == torch.float16


@pytest.mark.parametrize("representation", ["occupancy", "distance", "signed"])
def test_the_cache_changes_nothing(tiny_data: Path, representation: str) -> None:
    with_cache, without = (
        ShapeDataset(tiny_data, "chair", resolution=16, representation=representation, cache_mb=cache)
        for cache in (100, 0)
    )
    for _ in range(2):
        for index in range(len(without)):
            assert torch.equal(with_cache[index], without[index])
    assert with_cache[0].shape == (1, 16, 16, 16)


def test_the_cache_keeps_what_fits() -> None:
    cache, decoded = ItemCache(1), []

    def decode(id: str) -> np.ndarray:
        decoded.append(id)
        return np.zeros(2**19, dtype=np.uint8)

    for _ in range(2):
        for id in "abc":
            cache.get(id, lambda id=id: decode(id))
    assert decoded == ["a", "b", "c", "c"]


def test_a_cached_array_is_not_handed_out_to_be_changed(tiny_data: Path) -> None:
    dataset = ImageDataset(tiny_data, "chair", size=32, cache_mb=10)
    dataset[0].image.zero_()
    dataset[0].mask.zero_()
    assert dataset[0].image.any()
    assert dataset[0].mask.any()


def test_photos_and_their_viewpoints(tiny_data: Path) -> None:
    dataset = ImageDataset(tiny_data, "chair", size=32)
    manifest = pd.read_parquet(manifest_path(tiny_data, "chair", "images")).set_index("id")
    known = 0
    for index, id in enumerate(dataset.ids):
        photo, row = dataset[index], manifest.loc[id]
        assert photo.image.shape == (3, 32, 32)
        assert photo.mask.shape == (1, 32, 32)
        assert (photo.image[:, photo.mask[0] == 0] == 1).all()  # white
        if np.isnan(row["azimuth_deg"]):
            assert photo.viewpoint is None
        else:
            known += 1
            assert photo.viewpoint == pytest.approx(np.radians([row["azimuth_deg"], row["elevation_deg"]]))
    assert known == dataset.annotated == 12


def test_viewpoints_are_drawn_as_those_of_the_photos_are_spread(tiny_data: Path) -> None:
    manifest = pd.read_parquet(manifest_path(tiny_data, "chair", "images"))
    known = manifest[["azimuth_deg", "elevation_deg"]].dropna().to_numpy()
    drawn = np.degrees(viewpoint_sampler(tiny_data, "chair")(600, np.random.default_rng(0)))
    gaps = np.abs(drawn[:, None] - known[None])
    near = (gaps[..., 0] <= 5.0) & (gaps[..., 1] <= 2.5)
    assert near.any(axis=1).all()
    assert near.any(axis=0).all()  # every one is drawn
    assert len(np.unique(drawn, axis=0)) == 600  # not the photos' own viewpoints again and again


def test_a_matched_viewpoint_counts_when_it_is_confident(tiny_data: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    path = manifest_path(tmp_path / "data", "chair", "images")
    manifest = pd.read_parquet(path).assign(viewpoint_origin="matched", azimuth_deg=170.0, elevation_deg=-5.0)
    manifest["viewpoint_confidence"] = np.where(np.arange(24) < 5, 0.95, 0.4)
    manifest.loc[10, ["viewpoint_origin", "azimuth_deg", "viewpoint_confidence"]] = ["annotated", 30.0, np.nan]
    manifest.to_parquet(path)
    dataset = ImageDataset(tmp_path / "data", "chair", size=32)
    seen = [dataset[index].viewpoint for index in range(len(dataset))]
    assert dataset.annotated == len([each for each in seen if each is not None]) == 6
    drawn = np.degrees(viewpoint_sampler(tmp_path / "data", "chair")(600, np.random.default_rng(0)))
    assert (np.abs(drawn[:, 0] - 170.0) <= 5.0).mean() == pytest.approx(5 / 6, abs=0.06)
    assert (np.abs(drawn[:, 0] - 30.0) <= 5.0).mean() == pytest.approx(1 / 6, abs=0.06)


@pytest.mark.parametrize("source", ["class", "dataset"])
def test_without_annotation_viewpoints_come_from_the_class_file(source: str, tmp_path: Path) -> None:
    drawn = np.degrees(viewpoint_sampler(tmp_path, "chair", source=source)(500, np.random.default_rng(0)))
    assert -130 <= drawn[:, 0].min() < -110
    assert 100 < drawn[:, 0].max() <= 120
    assert drawn[:, 1].min() >= 0
    assert 30 < drawn[:, 1].max() <= 38


def test_the_class_file_can_be_asked_for(tiny_data: Path) -> None:
    drawn = np.degrees(viewpoint_sampler(tiny_data, "chair", source="class")(500, np.random.default_rng(0)))
    assert drawn[:, 0].min() < -95  # the photos of the dataset stop at -90


def test_missing_data_is_reported(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestMissingError, match="prepare them first"):
        ShapeDataset(tmp_path, "chair", resolution=32, representation="occupancy")
    with pytest.raises(
        EmptyDatasetError, match=r"the val part of .* has no shapes of class chair; there are 8 in train"
    ):
        ShapeDataset(tiny_data, "chair", resolution=32, representation="occupancy", split="val")
    with pytest.raises(ResolutionError, match=r"model\.resolution is 64"):
        ShapeDataset(tiny_data, "chair", resolution=64, representation="occupancy")[0]
    with pytest.raises(ResolutionError, match=r"model\.image_size is 64"):
        ImageDataset(tiny_data, "chair", size=64)[0]


@pytest.fixture
def hashed_data(tiny_data: Path, tmp_path: Path) -> Path:
    """The dataset with the hashes that preparation records."""
    data = tmp_path / "hashed"
    shutil.copytree(tiny_data, data)
    for kind in ("shapes", "images"):
        rows = pd.read_parquet(manifest_path(data, "chair", kind))
        files = [output_path(data, "chair", kind, id) for id in rows["id"]]
        rows["output_sha256"] = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        rows.to_parquet(manifest_path(data, "chair", kind))
    return data


def open_both(data: Path) -> list[tuple[str, ShapeDataset | ImageDataset]]:
    shapes = ShapeDataset(data, "chair", resolution=32, representation="occupancy")
    return [("shapes", shapes), ("images", ImageDataset(data, "chair", size=32))]


def test_a_file_that_is_not_the_prepared_one_is_named(hashed_data: Path) -> None:
    """Also where it decodes, as another item's file does."""
    for kind, dataset in open_both(hashed_data):
        dataset[0]
        first, second = (output_path(hashed_data, "chair", kind, id) for id in dataset.ids[:2])
        shutil.copy(first, second)
        with pytest.raises(DamagedItemError, match=f"{second} is damaged") as caught:
            dataset[1]
        assert "prepare the dataset again" in str(caught.value.hint)


def test_pipes_in_place_of_files_are_named(hashed_data: Path) -> None:
    for kind, dataset in open_both(hashed_data):
        path = output_path(hashed_data, "chair", kind, dataset.ids[0])
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(OSError, match="not a regular file"):
            dataset[0]
