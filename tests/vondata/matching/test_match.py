"""Photos taken from known viewpoints get them back; rows are filled where nothing better is known."""

import numpy as np
import pandas as pd
import pytest

from vondata.manifest import output_path
from vondata.matching import CueWeights, MatchSettings, PhotoUnreadableError, match_rows, match_viewpoints
from vondata.matching.viewgrid import circular_offset_deg

from .conftest import DESIGNS, chair_boxes, photograph, union_distance, write_photo

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


def test_photos_of_a_shape_nobody_has_drawn_are_found_too(tmp_path, bank):
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


def test_the_answer_depends_on_the_photo_alone(photos, bank):
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
