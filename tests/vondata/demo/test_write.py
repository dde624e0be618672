import json
from pathlib import Path

import pytest

from vondata.demo import write
from vondata.demo.write import DemoFolderError, DemoSettings, OtherDemoError, write_demo

SMALL = DemoSettings(chairs=2, cars=1, photos_per_object=2, seed=9)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "demo"
    return folder, write_demo(folder, SMALL)


def test_the_summary_matches_the_files(small):
    folder, summary = small
    files = contents(folder)
    assert summary.written
    assert summary.models == {"chair": 2, "car": 1}
    assert summary.room_photos == {"chair": 2, "car": 1}
    assert summary.white_photos == {"chair": 2, "car": 1}
    assert sum(name.endswith(".obj") for name in files) == 3
    assert sum(name.startswith("pix3d/img/chair/") for name in files) == 2
    assert sum(name.startswith("pix3d/mask/car/") for name in files) == 1
    assert sum(name.startswith("photos/") for name in files) == 3
    assert {"von.toml", "von-demo.json", "pix3d/pix3d.json"} <= set(files)
    assert not [path for path in folder.parent.iterdir() if path != folder]


def test_the_same_seed_gives_the_same_bytes(small, tmp_path):
    folder, _ = small
    write_demo(tmp_path / "again", SMALL)
    assert contents(tmp_path / "again") == contents(folder)


def test_objects_do_not_depend_on_how_many_there_are(small, tmp_path):
    folder, _ = small
    write_demo(tmp_path / "more", DemoSettings(chairs=3, cars=0, photos_per_object=0, seed=9))
    more = contents(tmp_path / "more")
    shapes = {name: data for name, data in contents(folder).items() if name.startswith("ShapeNetCore.v2/03001627")}
    assert shapes.items() <= more.items()


def test_a_finished_demo_is_left_as_it_is(small, monkeypatch):
    folder, summary = small
    monkeypatch.setattr(write, "make_object", lambda *_: pytest.fail("nothing is to be drawn"))
    (folder / "data").mkdir(exist_ok=True)  # what the next commands leave there does not matter
    again = write_demo(folder, SMALL)
    assert not again.written
    assert (again.models, again.room_photos) == (summary.models, summary.room_photos)


def test_other_settings_are_refused_by_name(small):
    with pytest.raises(OtherDemoError, match="holds a demo with other contents") as refused:
        write_demo(small[0], DemoSettings(chairs=5, cars=1, photos_per_object=2, seed=8))
    assert refused.value.settings == SMALL
    assert refused.value.hint == "name another folder, or remove it"


def test_foreign_folders_and_files_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(DemoFolderError, match="not empty and holds no demo"):
        write_demo(tmp_path, SMALL)
    with pytest.raises(DemoFolderError, match="not a folder"):
        write_demo(tmp_path / "thesis.tex", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": {"chears": 1}}', '{"settings": {}}'])
def test_a_broken_marker_is_named(tmp_path, text):
    (tmp_path / "von-demo.json").write_text(text)
    with pytest.raises(DemoFolderError, match=r"von-demo\.json is damaged, or of another version; name a new"):
        write_demo(tmp_path, SMALL)


def test_an_empty_folder_is_filled(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    inode = folder.stat().st_ino
    assert write_demo(folder, DemoSettings(chairs=1, cars=0, photos_per_object=0)).written
    assert folder.stat().st_ino == inode  # somebody may be standing in it
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(write, "write_white_photo", fail)
    with pytest.raises(OSError, match="disk full"):
        write_demo(tmp_path / "demo", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_reported_object_by_object(tmp_path):
    told = []
    write_demo(tmp_path / "demo", DemoSettings(chairs=2, cars=1, photos_per_object=0), lambda: told.append(1))
    assert len(told) == 3
    assert json.loads((tmp_path / "demo" / "pix3d" / "pix3d.json").read_text()) == []
