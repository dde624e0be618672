import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.config import ModelConfig
from vonmodel.data.datasets import ShapeDataset
from vonmodel.evaluation.shape_metrics import (
    intersection_over_union,
    largest_piece_shares,
    overlap_of,
    pack_solids,
    shape_overlap,
)


def brute_force(a, b):
    union = np.logical_or(a, b).sum()
    return np.logical_and(a, b).sum() / union if union else 1.0


@given(st.integers(1, 5), st.integers(1, 5), st.integers(2, 9), st.floats(0, 1), st.integers(0, 99))
def test_overlap_equals_counting_voxels(first, second, edge, fill, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.random((count, 1, edge, edge, edge)) < fill for count in (first, second))
    packed = [pack_solids([torch.from_numpy(each).float()], 0.5) for each in (a, b)]
    expected = [[brute_force(x, y) for y in b] for x in a]
    np.testing.assert_allclose(intersection_over_union(*packed), expected, atol=1e-12)


def test_packing_does_not_depend_on_the_batch():
    volumes = torch.rand(5, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    whole = pack_solids([volumes], 0.3)
    assert np.array_equal(pack_solids(volumes.split(2), 0.3), whole)
    assert np.bitwise_count(whole).sum() == (volumes > 0.3).sum()


def boxes(*corners):
    volumes = torch.zeros(len(corners), 1, 8, 8, 8)
    for volume, (low, high) in zip(volumes, corners, strict=True):
        volume[0, low:high, low:high, low:high] = 1.0
    return pack_solids([volumes], 0.5)


def test_the_nearest_training_shape_is_named_and_measured():
    training = {"middle": (2, 7), "corner": (0, 4), "end": (5, 8)}
    overlap = overlap_of(boxes((0, 4), (2, 8)), ((id, boxes(corners)) for id, corners in training.items()))
    assert overlap.nearest == ("corner", "middle")
    assert overlap.nearest_iou == pytest.approx((1.0, 125 / 216))
    assert overlap.pairwise_iou_max == pytest.approx(8 / (64 + 216 - 8))
    assert overlap.over_half == 2
    assert overlap.training == 3


def test_a_single_shape_has_no_pair():
    assert overlap_of(boxes((0, 4)), [("a", boxes((0, 2)))]).pairwise_iou_max == 0.0


class Copies:
    """Shapes that were seen before."""

    def __init__(self, dataset, *chosen):
        self.volumes = torch.stack([dataset[index] for index in chosen])

    def __len__(self):
        return len(self.volumes)

    def part(self, start, stop):
        return self.volumes[start:stop]


def test_a_model_that_copies_is_found_out(tiny_data):
    dataset = ShapeDataset(tiny_data, "chair", resolution=32, representation="occupancy")
    told = []
    overlap = shape_overlap(Copies(dataset, 2, 5, 5), dataset, 0.5, lambda *each: told.append(each))
    assert told == [(done, 8) for done in range(1, 9)]
    assert overlap.nearest_iou == (1.0, 1.0, 1.0)
    assert overlap.nearest == (dataset.ids[2], dataset.ids[5], dataset.ids[5])
    assert overlap.pairwise_iou_max == 1.0


def test_distance_shapes_are_compared_as_shells(tiny_data):
    dataset = ShapeDataset(tiny_data, "chair", resolution=32, representation="distance")
    level = 0.75
    packed = pack_solids((dataset[index][None] for index in range(len(dataset))), level)
    shells = np.bitwise_count(packed).sum(axis=1)
    assert (shells > 0).all()
    assert np.allclose(np.diagonal(intersection_over_union(packed, packed)), 1.0)


class Given:
    """Volumes that are there already."""

    def __init__(self, volumes):
        self.volumes = volumes

    def __len__(self):
        return len(self.volumes)

    def part(self, start, stop):
        return self.volumes[start:stop]


def test_the_share_of_the_largest_piece_is_that_of_the_surface():
    volumes = torch.zeros(3, 1, 16, 16, 16)
    volumes[:2, 0, 1:9, 1:9, 1:9] = 1.0
    volumes[1, 0, 12:14, 12:14, 12:14] = 1.0
    config = ModelConfig(resolution=16)
    assert largest_piece_shares(Given(volumes), config) == pytest.approx((1.0, 512 / 520, 0.0))
    finer = ModelConfig(resolution=16, representation="signed", finer_grid=32)
    whole, loose, none = largest_piece_shares(Given(volumes), finer)
    assert (whole, none) == (1.0, 0.0)
    assert 0.97 < loose < 1.0
