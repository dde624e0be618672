import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.evaluation.image_features import FeatureStatistics, StatisticsAccumulator
from vonmodel.evaluation.image_metrics import frechet_distance, trace_of_root


def statistics_of(rows):
    accumulator = StatisticsAccumulator(rows.shape[1])
    accumulator.update(rows)
    return accumulator.result()


def gaussian(mean, covariance):
    return FeatureStatistics(1000, np.asarray(mean, dtype=float), np.asarray(covariance, dtype=float), None)


def samples(count, size, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)


def by_square_root(a, b):
    """The textbook formula, with scipy's matrix square root of the product of the covariances."""
    (m_a, c_a), (m_b, c_b) = ((rows.mean(axis=0), np.cov(rows, rowvar=False)) for rows in (a, b))
    root = scipy.linalg.sqrtm(c_a @ c_b)
    return np.sum((m_a - m_b) ** 2) + np.trace(c_a + c_b - 2 * root.real)


def test_distance_of_commuting_gaussians_in_closed_form():
    a = gaussian([0, 0, 0], np.diag([1.0, 4.0, 9.0]))
    b = gaussian([3, 4, 0], np.diag([4.0, 4.0, 0.25]))
    assert frechet_distance(a, b) == pytest.approx(25 + (1 - 2) ** 2 + 0 + (3 - 0.5) ** 2)


def test_distance_of_turned_gaussians_in_the_plane():
    # tr (A B)^(1/2) = sqrt(tr AB + 2 sqrt(det A det B)) for 2 x 2 matrices.
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -2.0], [-2.0, 1.0]])
    expected = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    assert trace_of_root(gaussian([0, 0], a), gaussian([0, 0], b)) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(200, 150), (5, 8), (5, 150), (150, 5), (24, 25)])
def test_distance_equals_scipys_square_root(first, second):
    a, b = samples(first, 24, 1), samples(second, 24, 2)
    # scipy's root of a singular product is good to the root of the rounding error only.
    assert frechet_distance(statistics_of(a), statistics_of(b)) == pytest.approx(by_square_root(a, b), rel=1e-5)


@pytest.mark.parametrize(("first", "second"), [(60, 70), (7, 9), (7, 60)])
def test_every_form_of_the_covariance_gives_the_same_distance(first, second):
    a, b = statistics_of(samples(first, 16, 3)), statistics_of(samples(second, 16, 4))
    dense = [gaussian(each.mean, each.dense_covariance()) for each in (a, b)]
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(*dense), rel=1e-4)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 99))
def test_distance_is_symmetric_and_not_negative(first, second, seed):
    a, b = statistics_of(samples(first, 12, seed)), statistics_of(samples(second, 12, seed + 100))
    scale = a.total_variance + b.total_variance
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-6 * scale)
    assert frechet_distance(a, b) > -1e-6 * scale
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5 * scale)


def test_features_that_never_change_do_no_harm():
    rows = samples(50, 8, 0)
    rows[:, 3] = 7.0
    a = statistics_of(rows)
    other = rows + np.eye(8)[3] * 2
    assert frechet_distance(a, statistics_of(other)) == pytest.approx(4.0, abs=1e-4)


def test_a_covariance_whose_rounding_went_below_zero_still_has_a_root():
    singular = np.diag([1.0, -1e-9, 2.0])
    assert frechet_distance(gaussian([0, 0, 0], singular), gaussian([0, 0, 0], np.eye(3))) == pytest.approx(
        1 + (np.sqrt(2) - 1) ** 2, abs=1e-4
    )


def test_features_of_different_length_are_refused():
    with pytest.raises(ValueError, match="length 2 and 3"):
        frechet_distance(gaussian([0, 0], np.eye(2)), gaussian([0, 0, 0], np.eye(3)))


def test_distance_equals_torchmetrics_with_the_same_features():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Moments(torch.nn.Module):
        """Twelve numbers of an 8-bit image."""

        num_features = 12

        def forward(self, images):
            pixels = images.double() / 255
            return torch.cat(
                [pixels.mean(dim=(2, 3)), pixels.std(dim=(2, 3)), pixels[:, :, 1, 2:4].flatten(1)], dim=1
            )

    rng = np.random.default_rng(0)
    real = torch.from_numpy(rng.integers(0, 256, (64, 3, 8, 8), dtype=np.uint8))
    fake = torch.from_numpy(rng.integers(0, 200, (80, 3, 8, 8), dtype=np.uint8))
    network = Moments()
    peer = FrechetInceptionDistance(feature=network, normalize=False, input_img_size=(3, 8, 8))
    peer.set_dtype(torch.float64)
    peer.update(real, real=True)
    peer.update(fake, real=False)
    ours = frechet_distance(statistics_of(network(real).numpy()), statistics_of(network(fake).numpy()))
    assert ours == pytest.approx(float(peer.compute()), rel=1e-6)
