"""Object classes: what their files say, and what is drawn from them."""

import numpy as np
import pytest

from vondata.classes import UnknownClassError, ViewpointBand, known_classes, load_class


def test_every_class_file_is_complete_and_of_its_own() -> None:
    classes = known_classes()
    assert {"chair", "car"} <= {each.name for each in classes}
    for field in ("name", "synset", "pix3d_category"):
        values = [getattr(each, field) for each in classes]
        assert len(set(values)) == len(values), field
    for each in classes:
        assert len(each.synset) == 8
        assert each.synset.isdigit()
        assert each.viewpoints
        for band in each.viewpoints:
            assert band.weight > 0
            assert -180 <= band.azimuth_deg[0] <= band.azimuth_deg[1] <= 180
            assert -90 <= band.elevation_deg[0] <= band.elevation_deg[1] <= 90


def test_a_class_is_found_by_name_or_the_nearest_one_is_named() -> None:
    assert load_class("chair").synset == "03001627"
    with pytest.raises(UnknownClassError, match="did you mean 'chair'"):
        load_class("chiar")
    with pytest.raises(UnknownClassError, match=r"known classes: .*car, chair"):
        load_class("zzz")


def test_viewpoints_fall_into_the_bands_in_proportion_to_their_weights() -> None:
    for each in known_classes():
        drawn = each.sample_viewpoints(20_000, np.random.default_rng(3))
        assert drawn.shape == (20_000, 2)
        total = sum(band.weight for band in each.viewpoints)
        inside = np.zeros(len(drawn), dtype=bool)
        for band in each.viewpoints:
            inside |= _inside(drawn, band)
            alone = not any(other is not band and _overlap(band, other) for other in each.viewpoints)
            if alone:
                assert _inside(drawn, band).mean() == pytest.approx(band.weight / total, abs=0.02)
        assert inside.all()


def _inside(drawn: np.ndarray, band: ViewpointBand) -> np.ndarray:
    low, high = np.array([band.azimuth_deg, band.elevation_deg]).T
    return np.asarray(((drawn >= low) & (drawn <= high)).all(axis=1))


def _overlap(a: ViewpointBand, b: ViewpointBand) -> bool:
    return all(
        low_a < high_b and low_b < high_a
        for (low_a, high_a), (low_b, high_b) in (
            (a.azimuth_deg, b.azimuth_deg),
            (a.elevation_deg, b.elevation_deg),
        )
    )


def test_the_published_viewpoints_of_chairs_and_cars() -> None:
    rng = np.random.default_rng(0)
    chair = load_class("chair").sample_viewpoints(50_000, rng)
    assert chair[:, 0].min() >= -130
    assert chair[:, 0].max() <= 120
    assert chair[:, 1].min() >= 0
    assert chair[:, 1].max() <= 38
    assert chair[:, 1].mean() == pytest.approx(28, abs=1.5)
    car = load_class("car").sample_viewpoints(50_000, rng)
    assert np.abs(car[:, 0]).max() <= 90
    assert car[:, 1].max() <= 36
    assert (car[:, 1] < 5).mean() == pytest.approx(0.75, abs=0.05)
