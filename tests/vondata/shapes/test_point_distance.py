"""Distances of point clouds against every pair and every bijection."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from vondata.shapes import point_distance
from vondata.shapes.point_distance import EMD_TOLERANCE, EXACT_POINTS, chamfer_matrix, emd_matrix


def by_every_pair(a, b):
    squared = np.square(a[:, None] - b[None]).sum(axis=-1)
    return squared.min(axis=1).mean() + squared.min(axis=0).mean()


def surface(count, seed):
    """Points of an ellipsoid: surfaces that lie through each other, as those of one class do."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True) * rng.uniform(0.5, 1.0, 3)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 70), min_size=2, max_size=4), st.integers(0, 99), st.sampled_from([0.0, 1e3]))
def test_chamfer_distance_of_any_number_of_points(sizes, seed, far):
    """Leaves hold 16 points: numbers around its multiples, and clouds far from the origin."""
    shapes = [surface(count, seed + place) + far for place, count in enumerate(sizes)]
    expected = [[by_every_pair(a, b) for b in shapes] for a in shapes]
    np.testing.assert_allclose(chamfer_matrix(shapes), expected, rtol=2e-6, atol=1e-9)


def test_points_that_coincide_and_threads_change_nothing():
    once = surface(40, 0)
    shapes = [once, np.repeat(once, 5, axis=0), np.zeros((30, 3)), np.empty((0, 3)), np.empty((0, 3))]
    found = chamfer_matrix(shapes)
    assert found[0, 1] == 0.0
    assert found[0, 2] == pytest.approx(by_every_pair(once, shapes[2]))
    assert np.isinf(found[:3, 3:]).all()
    assert (found[3:, 3:] == 0.0).all()
    np.testing.assert_array_equal(chamfer_matrix(shapes, threads=3), found)


def test_progress_is_reported_after_every_shape():
    told = []
    chamfer_matrix([surface(20, seed) for seed in range(3)], lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 99))
def test_earth_movers_distance_equals_trying_every_bijection(count, seed):
    a, b = np.random.default_rng(seed).normal(size=(2, count, 3))
    best = min(
        np.mean([np.linalg.norm(a[at] - b[to]) for at, to in enumerate(order)])
        for order in itertools.permutations(range(count))
    )
    found = emd_matrix([a, b])
    assert found.matrix[0, 1] == pytest.approx(best, rel=1e-12)
    assert (found.matrix[1, 0], found.error) == (found.matrix[0, 1], 0.0)


@pytest.mark.parametrize("count", [EXACT_POINTS + 1, 400])
def test_the_auction_keeps_what_it_proves(count):
    """Its distance is over the exact one, by no more than the share that it says, which is within the tolerance."""
    shapes = [surface(count, seed) for seed in range(3)]
    found = emd_matrix(shapes, threads=2)
    for row, column in ((0, 1), (0, 2), (1, 2)):
        costs = cdist(shapes[row], shapes[column])
        exact = costs[linear_sum_assignment(costs)].mean()
        assert exact * (1.0 - 1e-5) <= found.matrix[row, column] <= exact * (1.0 + found.error + 1e-5)
    assert 0.0 < found.error <= EMD_TOLERANCE


@pytest.mark.parametrize("count", [3, 16, 17, 50])
def test_the_auction_of_few_points(count, monkeypatch):
    monkeypatch.setattr(point_distance, "EXACT_POINTS", 0)
    a, b = surface(count, 1), surface(count, 2)
    costs = cdist(a, b)
    exact = costs[linear_sum_assignment(costs)].mean()
    assert emd_matrix([a, b]).matrix[0, 1] == pytest.approx(exact, rel=EMD_TOLERANCE)
    assert emd_matrix([a, a[::-1]]).matrix[0, 1] == pytest.approx(0.0, abs=1e-6)


def test_bijections_take_equally_many_points():
    with pytest.raises(ValueError, match="equally many"):
        emd_matrix([surface(8, 0), surface(9, 0)])
    assert np.isinf(emd_matrix([surface(8, 0), np.empty((0, 3))]).matrix[0, 1])
