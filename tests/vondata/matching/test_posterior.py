"""From scores to a viewpoint: peaks between the grid's viewpoints, across the seam, shared, and left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.classes import ObjectClass, ViewpointBand, load_class
from vondata.matching.posterior import WINDOW_DEG, read_scores
from vondata.matching.viewgrid import circular_offset_deg, log_prior, view_grid

from .conftest import evenly_spaced

GRID = view_grid(load_class("chair"), 7.5, 6.0)
EVEN = log_prior(GRID, load_class("chair"), 0.0)
TEMPERATURE = 0.04


def hill(azimuth_deg, elevation_deg, height=1.0, width_deg=20.0):
    """(views,) scores that fall off around a viewpoint."""
    azimuth, elevation = GRID.views_deg.T
    away = circular_offset_deg(azimuth, azimuth_deg) ** 2 + (elevation - elevation_deg) ** 2
    return (height * np.exp(-away / (2 * width_deg**2))).astype(np.float32)


def read(*scores, prior=EVEN):
    return read_scores(np.stack(scores), GRID, prior, TEMPERATURE)


@given(azimuth=st.floats(-180, 180), elevation=st.floats(6, 34))
def test_a_lone_peak_is_found_between_the_grids_viewpoints(azimuth, elevation):
    reading = read(hill(azimuth, elevation))
    assert abs(circular_offset_deg(reading.azimuth_deg, azimuth)) < 1.0
    assert reading.elevation_deg == pytest.approx(elevation, abs=1.0)
    assert reading.confidence > 0.99
    assert -180.0 <= reading.azimuth_deg < 180.0


@given(first=st.floats(-180, 180), apart=st.floats(60, 180), lead=st.floats(0.0, 0.2))
def test_two_peaks_share_the_probability(first, apart, lead):
    reading = read(hill(first, 12), hill(first + apart, 24, 1.0 - lead))
    assert reading.confidence + reading.alternative_confidence == pytest.approx(1.0, abs=0.03)
    assert reading.confidence >= reading.alternative_confidence - 0.1
    answers = [(reading.azimuth_deg, 12), (reading.alternative_azimuth_deg, 24)]
    if abs(circular_offset_deg(reading.azimuth_deg, first)) > apart / 2:  # with the same height either may lead
        assert lead < 0.02
        answers = [(reading.alternative_azimuth_deg, 12), (reading.azimuth_deg, 24)]
    assert abs(circular_offset_deg(answers[0][0], first)) < 2.0
    assert abs(circular_offset_deg(answers[1][0], first + apart)) < 2.0


def test_many_shapes_that_agree_outweigh_a_single_better_one():
    agreeing = [hill(30 + offset, 18, 0.95) for offset in (-3, -2, -1, 0, 1, 2, 3)]
    reading = read(hill(-150, 18, 1.0), *agreeing)
    assert reading.azimuth_deg == pytest.approx(30, abs=1.5)
    assert reading.alternative_azimuth_deg == pytest.approx(-150, abs=1.5)
    assert 1 <= reading.shape <= 7


def test_what_is_left_out_does_not_count():
    best = hill(100, 18)
    left_out = np.full_like(best, -np.inf)
    reading = read(hill(-40, 18, 0.9), left_out)
    assert reading.azimuth_deg == pytest.approx(-40, abs=1.0)
    assert reading.shape == 0


def test_order_of_shapes_and_level_of_scores_do_not_matter():
    rng = np.random.default_rng(1)
    scores = rng.random((5, len(EVEN))).astype(np.float32)
    order = rng.permutation(5)
    first, second = read(*scores), read(*(scores[order] + np.float32(0.5)))
    assert order[second.shape] == first.shape
    assert first.azimuth_deg == pytest.approx(second.azimuth_deg, abs=1e-3)
    assert first.confidence == pytest.approx(second.confidence, abs=1e-5)


def test_scores_that_say_nothing_give_the_prior():
    reading = read(np.zeros(len(EVEN), np.float32))
    cells = 2 * round(WINDOW_DEG / 7.5) + 1
    assert reading.confidence == pytest.approx(cells / 48)
    assert reading.elevation_deg == pytest.approx(GRID.elevation_deg.mean())


def test_the_alternative_is_a_peak_and_not_the_foot_of_the_best_one():
    reading = read(hill(0, 18) + hill(150, 12, 0.1))
    assert reading.azimuth_deg == pytest.approx(0.0, abs=0.1)
    assert reading.alternative_azimuth_deg == pytest.approx(150.0, abs=3.0)
    assert 0.0 < reading.alternative_confidence < 1e-4


def test_the_grid_goes_all_around_and_a_step_beyond_the_prior():
    azimuth, elevation = GRID.azimuth_deg, GRID.elevation_deg
    assert azimuth[0] == -180.0
    assert evenly_spaced([*azimuth, azimuth[0] + 360.0])
    assert evenly_spaced(elevation)
    assert elevation[0] <= 0.0
    assert elevation[-1] >= 38.0
    assert GRID.views_deg.shape == (len(azimuth) * len(elevation), 2)
    assert GRID.views_deg.reshape(*GRID.shape, 2)[3, 2].tolist() == [azimuth[3], elevation[2]]


def test_the_prior_is_a_distribution_that_rules_nothing_out():
    prior = np.exp(log_prior(GRID, load_class("chair"), 0.6)).reshape(GRID.shape)
    assert prior.sum() == pytest.approx(1.0)
    assert prior.min() == pytest.approx(0.4 / prior.size)
    behind, before = prior[GRID.azimuth_deg == -180.0], prior[GRID.azimuth_deg == 0.0]
    assert before.sum() > 2.0 * behind.sum()


def test_a_band_across_the_seam_counts_on_both_sides():
    band = ViewpointBand(weight=1.0, azimuth_deg=(150.0, 210.0), elevation_deg=(0.0, 30.0))
    behind = ObjectClass("back", "0", "back", True, (band,))
    prior = np.exp(log_prior(GRID, behind, 0.9)).reshape(GRID.shape).sum(axis=1)
    near = np.abs(circular_offset_deg(GRID.azimuth_deg, 180.0))
    np.testing.assert_allclose(prior[near == 15.0], prior[near == 0.0][0])
    assert prior[near < 30.0].sum() == pytest.approx(0.1 * 7 / 48 + 0.9 * 7 / 8, rel=0.02)
