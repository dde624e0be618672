import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vondata.classes import known_classes, load_class
from vondata.dataset.schema import load_reason
from vondata.images import sources as pix3d_source
from vondata.images.settings import ImageSettings
from vondata.images.sources import AnnotationFileError, pix3d_items
from vondata.io.listing import CollectionMissingError, open_tree
from vondata.types import file_safe


def _entry(name="0001", **changes):
    """A camera at (0, 0, -2) of the model's frame: it looks at the front."""
    return {
        "img": f"img/chair/{name}.png",
        "category": "chair",
        "img_size": [40, 30],
        "mask": f"mask/chair/{name}.png",
        "rot_mat": np.eye(3).tolist(),
        "trans_mat": [0.0, 0.0, 2.0],
        "cam_position": [0.0, 0.0, -2.0],
        "focal_length": 35.0,
        "inplane_rotation": 0.0,
        "truncated": False,
        "occluded": False,
        "slightly_occluded": False,
        "bbox": [10, 5, 30, 25],
        **changes,
    }


def _without(field):
    entry = _entry()
    del entry[field]
    return entry


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "pix3d"
    for kind in ("img", "mask"):
        (root / kind / "chair").mkdir(parents=True)
        Image.new("L", (40, 30)).save(root / kind / "chair" / "0001.png")
        Image.new("L", (40, 30)).save(tmp_path / f"{kind}.png")
    (root / "img" / "chair" / "linked.png").symlink_to(tmp_path / "img.png")
    (root / "mask" / "chair" / "linked.png").symlink_to(tmp_path / "mask.png")
    return root


def _items(root, *entries, classes=None, options=None):
    (root / "pix3d.json").write_text(json.dumps(entries))
    return list(pix3d_items(open_tree(root), classes or [load_class("chair")], options or ImageSettings()))


def test_a_good_entry_carries_its_files_and_viewpoint(root):
    (item,) = _items(root, _entry())
    assert item.rejected is None
    assert (item.id, item.class_name) == ("pix3d-0001", "chair")
    assert item.inputs == (str(root / "img/chair/0001.png"), str(root / "mask/chair/0001.png"))
    assert (item.fields["azimuth_deg"], item.fields["elevation_deg"], item.fields["roll_deg"]) == (0.0, 0.0, 0.0)
    json.dumps(dict(item.fields))


@pytest.mark.parametrize("value", [True, "true", "True", " TRUE "])
@pytest.mark.parametrize("flag", ["truncated", "occluded", "slightly_occluded"])
def test_flags_reject_in_both_encodings_unless_kept(root, flag, value):
    (item,) = _items(root, _entry(**{flag: value}))
    assert item.rejected[0] == flag
    (kept,) = _items(root, _entry(**{flag: value}), options=ImageSettings(**{f"keep_{flag}": True}))
    assert kept.rejected is None
    assert kept.fields["truncated"] == (flag == "truncated")


@pytest.mark.parametrize("value", [False, "false", "FALSE"])
def test_flags_that_are_not_set_reject_nothing(root, value):
    (item,) = _items(root, _entry(truncated=value, occluded=value, slightly_occluded=value))
    assert item.rejected is None


def _rolled(degrees):
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return _entry(rot_mat=rotation.tolist())


def test_cameras_rolled_too_far_are_rejected(root):
    assert [item.rejected and item.rejected[0] for item in _items(root, _rolled(9.9), _rolled(-10.1))] == [
        None,
        "in_plane_rotation",
    ]
    (item,) = _items(root, _rolled(-30), options=ImageSettings(max_roll_deg=31))
    assert item.fields["roll_deg"] == pytest.approx(-30)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        *(
            (_without(field), "annotation_invalid")
            for field in ("img", "mask", "rot_mat", "trans_mat", "cam_position")
        ),
        *((_without(field), "annotation_invalid") for field in ("bbox", "img_size", "truncated", "occluded")),
        (_entry(img=7), "annotation_invalid"),
        (_entry(img=""), "annotation_invalid"),
        (_entry(mask=None), "annotation_invalid"),
        (_entry(truncated="maybe"), "annotation_invalid"),
        (_entry(truncated=1), "annotation_invalid"),
        (_entry(slightly_occluded=None), "annotation_invalid"),
        (_entry(rot_mat=[[1, 0, 0], [0, 1, 0]]), "annotation_invalid"),
        (_entry(rot_mat=[[1, 0, 0], [0, 1, 0], [0, 0, "1"]]), "annotation_invalid"),
        (_entry(rot_mat=[[1, 0, 0], [0, 1, 0], [0, 0, math.nan]]), "annotation_invalid"),
        (_entry(rot_mat=np.diag([1, 1, -1]).tolist()), "annotation_invalid"),
        (_entry(trans_mat=[0, 0, math.inf]), "annotation_invalid"),
        (_entry(trans_mat=[0, 0, 10**400]), "annotation_invalid"),
        (_entry(trans_mat=[0, 0, True]), "annotation_invalid"),
        (_entry(trans_mat=[0, 0, -2]), "annotation_invalid"),
        (_entry(cam_position=[0, 0, 2]), "annotation_invalid"),
        (_entry(bbox=[30, 5, 10, 25]), "annotation_invalid"),
        (_entry(bbox=[10, 5, 41, 25]), "annotation_invalid"),
        (_entry(bbox=[10, 5, 30]), "annotation_invalid"),
        (_entry(img_size="40x30"), "annotation_invalid"),
        (_entry("0002"), "source_missing"),
        (_entry(mask="mask/chair/0002.png"), "mask_missing"),
        (_entry(img="/etc/hostname"), "outside_root"),
        (_entry(img="../img.png"), "outside_root"),
        (_entry(img="img/../../img.png"), "outside_root"),
        (_entry(img="img/chair/linked.png"), "outside_root"),
        (_entry(mask="../mask.png"), "outside_root"),
        (_entry(mask="mask/chair/linked.png"), "outside_root"),
        (_entry(img="img/chair"), "source_unreadable"),
        (_entry(img="img/chair/\0.png"), "source_unreadable"),
        (_entry(img="img/chair/\ud800.png"), "source_unreadable"),
        (_entry(img="x" * 10_000), "source_unreadable"),
    ],
)
def test_entries_that_are_wrong_become_rows_with_a_reason(root, entry, reason):
    (item,) = _items(root, entry)
    assert item.rejected[0] == reason
    assert item.rejected[1]
    item.source.encode("utf-8")


def test_nothing_outside_is_among_the_inputs(root):
    for item in _items(
        root, _entry(img="../img.png"), _entry(mask="../mask.png"), _entry(img="img/chair/linked.png")
    ):
        assert item.inputs == ()


def test_entries_of_no_class_are_reported_when_all_classes_are_asked_for(root):
    strays = [_entry(category="spoon"), _entry(category=["chair"]), "chair", None, [], _without("category")]
    assert _items(root, *strays) == []
    items = _items(root, _entry(), *strays, classes=known_classes())
    assert [item.class_name for item in items] == ["chair", *["unknown"] * 6]
    assert [item.rejected[0] for item in items[1:]] == ["category_unknown"] + ["annotation_invalid"] * 5


def test_ids_tell_entries_apart(root):
    entries = [
        _entry(),
        _entry(mask="mask/chair/other.png"),
        _entry(img="img/0001.png"),
        _entry(img="img/chair/sub/0001.png"),
        _entry(img=None),
        _entry(img=None, bbox=[1, 2, 3, 4]),
    ]
    ids = [item.id for item in _items(root, *entries)]
    assert len(set(ids)) == len(ids)
    assert all(file_safe(id) == id for id in ids)
    assert ids == [item.id for item in _items(root, *entries)]


def test_entries_of_one_photo_that_differ_are_all_reported(root):
    first, again, other = _items(root, _entry(), _entry(), _entry(bbox=[1, 1, 3, 3]))
    assert (first.id, again.id, first.rejected) == ("pix3d-0001", "pix3d-0001", None)
    assert (other.id != first.id, other.rejected[0]) == (True, "duplicate")
    wrong, right = _items(root, _without("bbox"), _entry())
    assert (wrong.rejected[0], right.rejected, right.id != wrong.id) == ("annotation_invalid", None, True)
    _, right, again, other = _items(root, _without("bbox"), _entry(), _entry(), _entry(bbox=[1, 1, 3, 3]))
    assert (right, right.rejected, other.rejected[0]) == (again, None, "duplicate")


def test_other_classes_are_not_changed(root):
    assert _items(root, _entry(category="sofa")) == []


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": 1}', "3", "[1, 2", "\xff", "nul"])
def test_a_file_that_is_no_list_is_a_clear_error(root, text):
    (root / "pix3d.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(AnnotationFileError, match=r"pix3d\.json"):
        list(pix3d_items(open_tree(root), known_classes(), ImageSettings()))


def test_a_huge_file_is_not_read(root, monkeypatch):
    monkeypatch.setattr(pix3d_source, "MAX_ANNOTATION_BYTES", 10)
    with pytest.raises(AnnotationFileError, match="split the collection"):
        _items(root, _entry())


def test_a_folder_without_annotation_is_reported(tmp_path):
    with pytest.raises(CollectionMissingError, match=r"pix3d\.json"):
        list(pix3d_items(open_tree(tmp_path), known_classes(), ImageSettings()))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just("../x")
    | st.just("chair"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(_entry())), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    fields=st.dictionaries(st.sampled_from(list(_entry())), json_values, max_size=5),
    dropped=st.sets(st.sampled_from(list(_entry())), max_size=3),
)
@example(fields={"rot_mat": [[1e200] * 3] * 3}, dropped=set())
@example(fields={"img": "img/chair/0001.png/"}, dropped=set())
def test_no_entry_stops_the_planning(root, fields, dropped):
    entry = {name: value for name, value in (_entry() | fields).items() if name not in dropped}
    for item in _items(root, entry, classes=known_classes()):
        assert file_safe(item.id) == item.id
        assert item.rejected is None or load_reason(item.rejected[0])
        assert all(Path(path).resolve().is_relative_to(root) for path in item.inputs)
        json.dumps(dict(item.fields))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(entries=st.lists(json_values, max_size=5))
def test_no_list_stops_the_planning(root, entries):
    assert len(_items(root, *entries, classes=known_classes())) == len(entries)


def test_the_reference_collection(realdata):
    items = list(pix3d_items(open_tree(realdata / "pix3d"), known_classes(), ImageSettings()))
    entries = json.loads((realdata / "pix3d" / "pix3d.json").read_bytes())
    assert len(items) == len(entries) == len({item.id for item in items})
    for item, entry in zip(items, entries, strict=True):
        flagged = entry["truncated"] or entry["occluded"] or entry["slightly_occluded"]
        assert (item.rejected is not None) == flagged
        if not flagged:
            x, y, z = entry["cam_position"]
            assert item.fields["azimuth_deg"] == pytest.approx(math.degrees(math.atan2(-x, -z)))
            assert item.fields["elevation_deg"] == pytest.approx(math.degrees(math.asin(y / math.hypot(x, y, z))))
            assert abs(item.fields["roll_deg"]) < 2
