"""Object classes: their files, viewpoints drawn from them, and measurements of new ones."""

import dataclasses
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.classes import (
    ClassFileError,
    ObjectClass,
    UnknownClassError,
    ViewpointBand,
    clashes,
    class_text,
    fit_bands,
    known_classes,
    load_class,
    mirrored_share,
    parse_class,
)

# ShapeNetCore version 2 by its own taxonomy: synset and the first word of its entry.
SHAPENETCORE = {
    "02691156": "airplane", "02747177": "ashcan", "02773838": "bag", "02801938": "basket", "02808440": "bathtub",
    "02818832": "bed", "02828884": "bench", "02843684": "birdhouse", "02871439": "bookshelf", "02876657": "bottle",
    "02880940": "bowl", "02924116": "bus", "02933112": "cabinet", "02942699": "camera", "02946921": "can",
    "02954340": "cap", "02958343": "car", "02992529": "cellular-telephone", "03001627": "chair", "03046257": "clock",
    "03085013": "computer-keyboard", "03207941": "dishwasher", "03211117": "display", "03261776": "earphone",
    "03325088": "faucet", "03337140": "file", "03467517": "guitar", "03513137": "helmet", "03593526": "jar",
    "03624134": "knife", "03636649": "lamp", "03642806": "laptop", "03691459": "loudspeaker", "03710193": "mailbox",
    "03759954": "microphone", "03761084": "microwave", "03790512": "motorcycle", "03797390": "mug",
    "03928116": "piano", "03938244": "pillow", "03948459": "pistol", "03991062": "pot", "04004475": "printer",
    "04074963": "remote-control", "04090263": "rifle", "04099429": "rocket", "04225987": "skateboard",
    "04256520": "sofa", "04330267": "stove", "04379243": "table", "04401088": "telephone", "04460130": "tower",
    "04468005": "train", "04530566": "vessel", "04554684": "washer",
}  # fmt: skip
PIX3D = ("bed", "bookcase", "chair", "desk", "misc", "sofa", "table", "tool", "wardrobe")


def test_shapenetcore_and_pix3d_are_whole() -> None:
    assert len(SHAPENETCORE) == 55
    assert {each.synset: each.name for each in known_classes() if each.synset}.keys() == SHAPENETCORE.keys()
    for synset, word in SHAPENETCORE.items():
        assert load_class(word).synset == synset
    assert {load_class(name).pix3d_category for name in PIX3D} == set(PIX3D)
    assert len(known_classes()) == 55 + 3


def test_every_class_file_is_complete_and_of_its_own() -> None:
    classes = known_classes()
    for field in ("name", "synset", "pix3d_category"):
        values = [getattr(each, field) for each in classes if getattr(each, field)]
        assert len(set(values)) == len(values), field
    names = [name for each in classes for name in (each.name, *each.aliases)]
    assert len(set(names)) == len(names)
    assert [clashes(each) for each in classes] == [[]] * len(classes)
    for each in classes:
        assert each.viewpoints
        for band in each.viewpoints:
            assert band.weight > 0
            assert -180 <= band.azimuth_deg[0] <= band.azimuth_deg[1] <= 180
            assert -90 <= band.elevation_deg[0] <= band.elevation_deg[1] <= 90


def test_a_class_is_found_by_name_or_the_nearest_one_is_named() -> None:
    assert load_class("chair").synset == "03001627"
    assert load_class("plane") == load_class("airplane")
    with pytest.raises(UnknownClassError, match="did you mean 'airplane'"):
        load_class("aeroplan")
    with pytest.raises(UnknownClassError, match="did you mean 'chair'"):
        load_class("chiar")
    with pytest.raises(UnknownClassError, match=r"known classes: .*car, cellphone, chair"):
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


def test_files_are_read_as_they_are_written() -> None:
    for entry in (files("vonmanifests") / "classes").iterdir():
        if entry.name.endswith(".toml"):
            each = parse_class(entry.read_text("utf-8"), entry.name)
            assert entry.name == f"{each.name}.toml"
            assert parse_class(class_text(each, ["a note"]), "again") == each


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "Big Chair"}, "beginning with a letter, such as big-chair"),
        ({"synset": "123"}, "synset '123' is not eight digits"),
        ({"pix3d_category": ""}, "pix3d_category is empty"),
        ({"viewpoints": ()}, "viewpoints"),
        ({"viewpoints": (ViewpointBand(0.0, (0.0, 1.0), (0.0, 1.0)),)}, "weight must be a number above 0"),
        ({"viewpoints": (ViewpointBand(1.0, (20.0, 10.0), (0.0, 1.0)),)}, "azimuth_deg must rise"),
        ({"viewpoints": (ViewpointBand(1.0, (0.0, 1.0), (0.0, 91.0)),)}, "elevation_deg must rise"),
        ({"viewpoints": (ViewpointBand(float("nan"), (0.0, 1.0), (0.0, 1.0)),)}, "weight must be a number"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(change: dict[str, object], problem: str) -> None:
    with pytest.raises(ClassFileError, match=r"own\.toml is not a class file") as error:
        parse_class(class_text(dataclasses.replace(load_class("chair"), **change)), "own.toml")
    assert any(problem in each for each in error.value.problems)


def test_all_problems_of_a_file_are_named_at_once() -> None:
    with pytest.raises(ClassFileError) as error:
        parse_class('nmae = "x"\nsynset = 3\nviewpoints = [{weight = 1}]\naliases = "y"', "own.toml")
    text = str(error.value)
    for part in (
        "name is missing",
        "unknown field 'nmae', did you mean 'name'",
        "synset is 3, not of type str",
        "band 1 must have",
        "aliases",
        "mirror_symmetry is missing",
    ):
        assert part in text
    with pytest.raises(ClassFileError, match="it is not TOML"):
        parse_class("name = ", "own.toml")


def test_own_classes_are_found_beside_and_replace_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes").mkdir()
    scooter = dataclasses.replace(
        load_class("motorcycle"), name="scooter", synset="", pix3d_category="scooter", aliases=()
    )
    (tmp_path / "classes" / "scooter.toml").write_text(class_text(scooter))
    assert load_class("scooter") == scooter
    own_chair = dataclasses.replace(load_class("chair"), mirror_symmetry=False)
    (tmp_path / "classes" / "chair.toml").write_text(class_text(own_chair))
    assert not load_class("chair").mirror_symmetry
    monkeypatch.setenv("VON_CLASSES", str(tmp_path / "elsewhere"))
    assert load_class("chair").mirror_symmetry
    with pytest.raises(UnknownClassError):
        load_class("scooter")


def test_own_class_files_as_editors_save_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VON_CLASSES", str(tmp_path))
    text = class_text(dataclasses.replace(load_class("chair"), name="stool"))
    (tmp_path / ".#stool.toml").write_text("a lock of an editor")
    (tmp_path / "stool.toml").write_text(text.replace("\n", "\r\n"), "utf-8-sig")
    assert load_class("stool").name == "stool"
    (tmp_path / "stool copy.toml").write_text(text)
    with pytest.raises(ClassFileError, match="class stool is also that of"):
        load_class("stool")
    (tmp_path / "stool copy.toml").write_text(text, "utf-16")
    with pytest.raises(ClassFileError, match="byte 0 is 0xff, which is not UTF-8: save it as UTF-8"):
        load_class("stool")


def test_clashes_with_known_classes_are_named() -> None:
    candidate = dataclasses.replace(load_class("chair"), name="throne", aliases=("couch",))
    assert clashes(candidate) == [
        "synset 03001627 is that of class chair",
        "pix3d_category 'chair' is that of class chair",
        "'couch' means class sofa",
    ]


def test_bands_of_a_prior_are_found_again() -> None:
    bands = (
        ViewpointBand(0.7, (-60.0, 90.0), (0.0, 10.0)),
        ViewpointBand(0.3, (100.0, 150.0), (40.0, 60.0)),
    )
    prior = ObjectClass("x", "", "x", True, bands)
    found = fit_bands(prior.sample_viewpoints(2_000, np.random.default_rng(0)))
    assert len(found) == 2
    for ours, theirs in zip(found, bands, strict=True):
        assert ours.weight == pytest.approx(theirs.weight, abs=0.03)
        assert ours.azimuth_deg == pytest.approx(theirs.azimuth_deg, abs=1.5)
        assert ours.elevation_deg == pytest.approx(theirs.elevation_deg, abs=1.0)


def test_evenly_spread_viewpoints_are_one_band() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        spread = rng.uniform([-120.0, 0.0], [120.0, 40.0], (int(rng.integers(5, 800)), 2))
        assert len(fit_bands(spread)) == 1


@given(
    st.lists(st.tuples(st.floats(-360, 360), st.floats(-90, 90)), min_size=1, max_size=60),
    st.integers(1, 5),
)
def test_every_viewpoint_lies_in_a_band_and_the_file_takes_them(points: list[tuple[float, float]], most: int) -> None:
    found = fit_bands(np.array([*points, (np.nan, 3.0)]), max_bands=most)
    assert 1 <= len(found) <= most
    assert sum(band.weight for band in found) == pytest.approx(1.0, abs=0.01)
    for azimuth, elevation in points:
        turned = (azimuth + 180.0) % 360.0 - 180.0
        assert any(_inside(np.array([[turned, elevation]]), band).all() for band in found)
    made = dataclasses.replace(load_class("chair"), viewpoints=found)
    assert parse_class(class_text(made), "made") == made


def test_a_few_viewpoints_are_one_band_however_they_lie() -> None:
    few = np.array([[-90.0, 0.0], [-89.0, 1.0], [80.0, 1.0], [45.0, 7.0], [60.0, 8.0], [20.0, 30.0], [50.0, 34.0]])
    assert len(fit_bands(few)) == 1
    assert len(fit_bands(np.repeat(few[[0, -1]], 10, axis=0))) == 2


def test_no_viewpoint_makes_no_band() -> None:
    with pytest.raises(ValueError, match="no viewpoint is known"):
        fit_bands(np.full((3, 2), np.nan))


def test_mirrored_share_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        solid = rng.random((6, 5, 4)) < 0.2
        covered = 0
        places = np.argwhere(solid)
        for x, y, z in places:
            mirrored = [(5 - other[0], other[1], other[2]) for other in places]
            covered += any(max(abs(x - a), abs(y - b), abs(z - c)) <= 1 for a, b, c in mirrored)
        assert mirrored_share(solid) == pytest.approx(covered / len(places))
    assert np.isnan(mirrored_share(np.zeros((4, 4, 4), dtype=bool)))


def test_a_handle_on_one_side_is_no_mirror_symmetry() -> None:
    cup = np.zeros((32, 32, 32), dtype=bool)
    cup[10:22, 10:22, 4:28] = True
    assert mirrored_share(cup) == 1.0
    cup[22:31, 14:18, 8:24] = True
    assert mirrored_share(cup) < 0.9
