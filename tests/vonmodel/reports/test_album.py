import json

import pytest

from vonmodel.reports import album
from vonmodel.reports.album import OutputError, replaced_folder


def fill(folder, text="new"):
    (folder / "generated.json").write_text(json.dumps({"format": 1, "texture_codes": [], "text": text}))


def test_a_folder_appears_whole(tmp_path):
    with replaced_folder(tmp_path / "deep" / "out") as folder:
        fill(folder)
        assert not (tmp_path / "deep" / "out").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_an_older_generation_is_replaced_as_a_whole(tmp_path):
    for text in ("old", "new"):
        with replaced_folder(tmp_path / "out") as folder:
            fill(folder, text)
            (folder / text).touch()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"new", "generated.json"}


def test_an_error_leaves_the_older_generation(tmp_path):
    with replaced_folder(tmp_path / "out") as folder:
        fill(folder, "old")
    with pytest.raises(KeyboardInterrupt), replaced_folder(tmp_path / "out"):
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "out" / "generated.json").read_text())["text"] == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_flushed_is_removed(tmp_path, monkeypatch):
    def full(path):
        raise OSError(f"no space left for {path}")

    monkeypatch.setattr(album, "sync", full)
    with pytest.raises(OSError, match="no space left"), replaced_folder(tmp_path / "out") as folder:
        fill(folder)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk", target_is_directory=True)
    for text in ("first", "second", "third"):
        with replaced_folder(tmp_path / "out") as folder:
            fill(folder, text)
    assert (tmp_path / "out").is_symlink()
    assert json.loads((tmp_path / "disk" / "generated.json").read_text())["text"] == "third"
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "out"}


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "half").touch()
    with replaced_folder(tmp_path / "out") as folder:
        assert list(folder.iterdir()) == []
        fill(folder)


@pytest.mark.parametrize("content", [None, "not json", "[1]", '{"format": 1}'])
def test_a_foreign_folder_is_not_replaced(tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("ten years of work")
    if content is not None:
        (out / "generated.json").write_text(content)
    with pytest.raises(OutputError, match=r"out holds something other than .*; name another folder"):
        replaced_folder(out).__enter__()
    assert (out / "thesis.tex").read_text() == "ten years of work"


def test_an_existing_file_is_not_replaced(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError):
        replaced_folder(tmp_path / "out").__enter__()


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with replaced_folder(tmp_path / "out") as folder:
        fill(folder)
    assert (tmp_path / "out" / "generated.json").is_file()


def test_what_fails_leaves_no_empty_folders_behind(tmp_path):
    (tmp_path / "there").mkdir()
    for place in ("made/for/it", "there/it"):
        with pytest.raises(ValueError, match="stop"), replaced_folder(tmp_path / place):
            raise ValueError("stop")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
