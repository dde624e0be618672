import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.evaluation import image_metrics as manifold
from vonmodel.evaluation.image_features import StatisticsError
from vonmodel.evaluation.image_metrics import manifold_scores, neighbour_distance


def samples(count, seed, spread=1.0):
    return np.random.default_rng(seed).normal(scale=spread, size=(count, 3))


def by_balls(generated, real):
    """The four scores, one pair of points at a time."""

    def radius(rows, point, k):
        return sorted(np.linalg.norm(rows - point, axis=1))[k]

    precise = [any(np.linalg.norm(g - r) <= radius(real, r, 3) for r in real) for g in generated]
    recalled = [any(np.linalg.norm(g - r) <= radius(generated, g, 3) for g in generated) for r in real]
    balls = [sum(np.linalg.norm(g - r) <= radius(real, r, 5) for r in real) / 5 for g in generated]
    covered = [any(np.linalg.norm(g - r) <= radius(real, r, 5) for g in generated) for r in real]
    return [np.mean(each) for each in (precise, recalled, balls, covered)]


def values(scores):
    return [scores.precision, scores.recall, scores.density, scores.coverage]


@given(st.integers(6, 14), st.integers(6, 14), st.floats(0.3, 3), st.integers(0, 99))
def test_scores_equal_counting_balls(first, second, spread, seed):
    generated, real = samples(first, seed, spread), samples(second, seed + 100)
    assert values(manifold_scores(generated, real)) == pytest.approx(by_balls(generated, real))


def test_scores_do_not_depend_on_the_block(monkeypatch):
    generated, real = samples(50, 0, 1.2), samples(40, 1)
    whole = manifold_scores(generated, real)
    monkeypatch.setattr(manifold, "BLOCK_ROWS", 7)
    assert manifold_scores(generated, real) == whole


def test_what_each_score_tells():
    real = samples(300, 0)
    same = manifold_scores(samples(300, 1), real)
    assert min(same.precision, same.recall, same.coverage) > 0.85
    assert same.density == pytest.approx(1, abs=0.15)
    narrow = manifold_scores(samples(300, 1, 0.2), real)
    assert narrow.precision > 0.95
    assert narrow.recall < 0.2
    assert narrow.coverage < same.coverage
    far = manifold_scores(samples(300, 1) + 50, real)
    assert values(far) == [0, 0, 0, 0]


def test_the_sample_itself_is_no_neighbour():
    line = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert neighbour_distance(line, 1).tolist() == [1, 1, 4, 16]


def test_too_few_samples_are_refused():
    with pytest.raises(StatisticsError, match="6 images or more on each side, not 5"):
        manifold_scores(samples(5, 0), samples(20, 1))
