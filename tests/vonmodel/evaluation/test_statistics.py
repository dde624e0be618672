import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.evaluation.image_features import FeatureStatistics, StatisticsAccumulator, StatisticsError


def features(count, size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + 100 * rng.normal(size=size)


def gather(batches, size):
    accumulator = StatisticsAccumulator(size)
    for batch in batches:
        accumulator.update(batch)
    return accumulator.result()


@pytest.mark.parametrize("count", [2, 5, 6, 7, 50])
def test_statistics_equal_numpys(count):
    rows = features(count, 6)
    result = gather([rows], 6)
    assert result.count == count
    np.testing.assert_allclose(result.mean, rows.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(result.dense_covariance(), np.cov(rows, rowvar=False), rtol=1e-10, atol=1e-10)
    assert result.total_variance == pytest.approx(np.trace(np.cov(rows, rowvar=False)))


@given(st.integers(2, 40), st.lists(st.integers(0, 40), max_size=5), st.integers(0, 99))
def test_statistics_depend_on_neither_batches_nor_order(count, cuts, seed):
    rows = features(count, 8, seed)
    whole = gather([rows], 8)
    shuffled = np.random.default_rng(seed).permutation(rows)
    pieces = gather(np.split(shuffled, sorted(cut for cut in cuts if cut <= count)), 8)
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-11, atol=1e-11)
    scale = whole.total_variance
    np.testing.assert_allclose(pieces.dense_covariance(), whole.dense_covariance(), atol=1e-11 * scale)


def test_few_samples_are_kept_as_a_root_and_many_as_a_matrix():
    few, many = gather([features(6, 6)], 6), gather([features(7, 6)], 6)
    assert few.root.shape == (6, 6)
    assert few.covariance is None
    assert many.covariance.shape == (6, 6)
    assert many.root is None


@pytest.mark.parametrize("count", [4, 20])
def test_statistics_survive_the_file(tmp_path, count):
    result = gather([features(count, 6)], 6)
    result.save(tmp_path / "real.npz")
    loaded = FeatureStatistics.load(tmp_path / "real.npz")
    assert loaded.count == count
    np.testing.assert_array_equal(loaded.mean, result.mean)
    np.testing.assert_array_equal(loaded.dense_covariance(), result.dense_covariance())
    assert (loaded.root is None) == (count > 6)


def test_unusable_features_are_refused():
    accumulator = StatisticsAccumulator(3)
    with pytest.raises(ValueError, match="length 3"):
        accumulator.update(np.zeros((2, 4)))
    with pytest.raises(StatisticsError, match="not a number"):
        accumulator.update(np.array([[1.0, np.nan, 0.0]]))
    accumulator.update(np.ones((1, 3)))
    with pytest.raises(StatisticsError, match="2 images"):
        accumulator.result()
