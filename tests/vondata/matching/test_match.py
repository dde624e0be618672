"""Viewpoints of photos with known cameras are recovered; only rows without a better viewpoint are filled."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.classes import ObjectClass, ViewpointBand, load_class
from vondata.dataset.manifest import output_path
from vondata.matching import CueWeights, MatchSettings, PhotoUnreadableError, match_rows, match_viewpoints
from vondata.matching.bank import circular_offset_deg, log_prior, view_grid
from vondata.matching.run import WINDOW_DEG, estimate_viewpoint

from .conftest import DESIGNS, chair_boxes, evenly_spaced, photograph, union_distance, write_photo

GRID = view_grid(load_class("chair"), 7.5, 6.0)
EVEN = log_prior(GRID, load_class("chair"), 0.0)
TEMPERATURE = 0.04


def hill(azimuth_deg, elevation_deg, height=1.0, width_deg=20.0):
    """(views,) scores that fall off around a viewpoint."""
    azimuth, elevation = GRID.views_deg.T
    away = circular_offset_deg(azimuth, azimuth_deg) ** 2 + (elevation - elevation_deg) ** 2
    return (height * np.exp(-away / (2 * width_deg**2))).astype(np.float32)


def read(*scores, prior=EVEN):
    names = [str(index) for index in range(len(scores))]
    return estimate_viewpoint(np.stack(scores), names, GRID, prior, TEMPERATURE)


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
    assert 1 <= int(reading.shape_id) <= 7


def test_what_is_left_out_does_not_count():
    best = hill(100, 18)
    left_out = np.full_like(best, -np.inf)
    reading = read(hill(-40, 18, 0.9), left_out)
    assert reading.azimuth_deg == pytest.approx(-40, abs=1.0)
    assert reading.shape_id == "0"


def test_order_of_shapes_and_level_of_scores_do_not_matter():
    rng = np.random.default_rng(1)
    scores = rng.random((5, len(EVEN))).astype(np.float32)
    order = rng.permutation(5)
    first, second = read(*scores), read(*(scores[order] + np.float32(0.5)))
    assert order[int(second.shape_id)] == int(first.shape_id)
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


VIEWPOINTS_DEG = np.array([[3.0, 12.0], [38.0, 25.0], [-64.0, 8.0], [101.0, 33.0], [-122.0, 20.0], [176.0, 15.0]])
NO_PRIOR = MatchSettings(prior_weight=0.0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    plain = union_distance(DESIGNS["plain"])
    return [
        write_photo(folder / f"{index}.png", photograph(plain, *view)) for index, view in enumerate(VIEWPOINTS_DEG)
    ]


def errors(matches, truth_deg):
    azimuth = circular_offset_deg([match.azimuth_deg for match in matches], truth_deg[:, 0])
    return np.abs(azimuth), np.abs([match.elevation_deg for match in matches] - truth_deg[:, 1])


def test_photos_of_a_known_shape_are_found(photos, bank):
    matches = match_viewpoints(photos, bank, NO_PRIOR)
    azimuth, elevation = errors(matches, VIEWPOINTS_DEG)
    assert azimuth.max() < 4.0
    assert elevation.max() < 6.0
    assert [match.shape_id for match in matches].count("plain") > 3
    assert min(match.confidence for match in matches) > 0.6


def test_photos_of_a_shape_outside_the_bank_are_matched_too(tmp_path, bank):
    stranger = union_distance(chair_boxes(width=0.7, depth=0.75, back=0.62))
    photos = [
        write_photo(tmp_path / f"{index}.png", photograph(stranger, *view, camera_distance=4.5))
        for index, view in enumerate(VIEWPOINTS_DEG)
    ]
    azimuth, elevation = errors(match_viewpoints(photos, bank, NO_PRIOR), VIEWPOINTS_DEG)
    assert azimuth.max() < 8.0
    assert np.median(elevation) < 5.0


def test_a_mirrored_photo_has_the_negated_azimuth(tmp_path, bank):
    photo = photograph(union_distance(DESIGNS["plain"]), 38.0, 25.0)
    pair = [write_photo(tmp_path / "photo.png", photo), write_photo(tmp_path / "mirrored.png", photo[:, ::-1].copy())]
    seen, mirrored = match_viewpoints(pair, bank, NO_PRIOR)
    assert mirrored.azimuth_deg == pytest.approx(-seen.azimuth_deg, abs=1.5)
    assert mirrored.elevation_deg == pytest.approx(seen.elevation_deg, abs=1.5)


def test_a_bare_silhouette_cannot_tell_back_from_front_and_says_so(tmp_path, bank):
    photo = photograph(union_distance(DESIGNS["plain"]), 30.0, 0.0, camera_distance=12.0)
    photo[..., :3] = 128
    match = match_viewpoints([write_photo(tmp_path / "black.png", photo)], bank, NO_PRIOR)[0]
    found = sorted([match.azimuth_deg, match.alternative_azimuth_deg])
    assert found == pytest.approx([30.0, 150.0], abs=12.0)  # az and 180 - az
    assert match.confidence < 0.9
    assert match.alternative_confidence > 0.1


def test_the_prior_decides_only_where_the_photo_does_not(photos, bank):
    trusting = MatchSettings(prior_weight=0.9)
    azimuth, _ = errors(match_viewpoints(photos, bank, trusting), VIEWPOINTS_DEG)
    assert azimuth.max() < 8.0  # one of them lies outside of the class's bands


def test_the_match_depends_only_on_the_photo(photos, bank):
    told = []
    many = match_viewpoints(photos * 12, bank, on_match=lambda *done: told.append(done))
    assert told == [(64, 72), (72, 72)]
    for index in (0, 3, 70):
        alone = match_viewpoints([photos[index % 6]], bank)[0]
        assert alone.shape_id == many[index].shape_id
        assert alone.azimuth_deg == pytest.approx(many[index].azimuth_deg, abs=0.01)
        assert alone.confidence == pytest.approx(many[index].confidence, abs=1e-3)
    assert match_viewpoints([], bank) == []


def test_weights_choose_the_cues(photos, bank):
    blind = MatchSettings(CueWeights(silhouette=0.0, edges=0.0, shading=0.0), prior_weight=0.0)
    assert all(match.confidence < 0.2 for match in match_viewpoints(photos, bank, blind))


def test_a_missing_photo_is_named(bank, tmp_path):
    with pytest.raises(PhotoUnreadableError, match=r"gone\.png"):
        match_viewpoints([tmp_path / "gone.png"], bank)


def test_rows_are_filled_where_no_annotation_is(photos, bank, tmp_path):
    for id, photo in zip("abc", photos, strict=False):
        path = output_path(tmp_path, "chair", "images", id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.read_bytes())
    rows = [
        {"id": "a", "status": "prepared", "viewpoint_origin": "none", "azimuth_deg": None, "elevation_deg": None},
        {"id": "b", "status": "prepared", "viewpoint_origin": "annotated", "azimuth_deg": 1.0, "elevation_deg": 2.0},
        {"id": "c", "status": "prepared", "viewpoint_origin": "matched", "azimuth_deg": 9.0, "elevation_deg": 9.0},
        {"id": "d", "status": "rejected", "viewpoint_origin": None, "azimuth_deg": None, "elevation_deg": None},
    ]
    before = [dict(row) for row in rows]
    filled = match_rows(rows, tmp_path, bank, NO_PRIOR)
    assert rows == before
    assert filled[1] == rows[1]
    assert filled[3] == rows[3]
    for row, truth in ((filled[0], VIEWPOINTS_DEG[0]), (filled[2], VIEWPOINTS_DEG[2])):
        assert row["viewpoint_origin"] == "matched"
        assert row["azimuth_deg"] == pytest.approx(truth[0], abs=4.0)
        assert row["elevation_deg"] == pytest.approx(truth[1], abs=6.0)
        assert 0.0 < row["viewpoint_confidence"] <= 1.0
        assert row["alternative_confidence"] <= 1.0 - row["viewpoint_confidence"] + 1e-9
        assert row["viewpoint_shape"] in DESIGNS
    assert not pd.DataFrame(filled)["alternative_azimuth_deg"].iloc[[0, 2]].isna().any()
