"""Comparison of mesh files read by VON and by trimesh."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from benchmarks import mesh_files
from benchmarks.mesh_files import BETTER, DIFFERENT, REJECTED, SAME, WORSE, by_trimesh, by_von, compare, list_models


def test_found_meshes_are_compared() -> None:
    one = (2, 1.0, np.array([[0.0, 0, 0], [1, 1, 0]]))
    assert compare(one, (2, 1.0005, one[2] + 0.0005)) == SAME
    for other in ((3, 1.0, one[2]), (2, 1.1, one[2]), (2, 1.0, one[2] + 0.1)):
        assert compare(one, other) == DIFFERENT
    assert [compare(one, "no"), compare("no", one), compare("no", "no")] == [BETTER, WORSE, REJECTED]


def test_models_are_listed_with_the_difference_of_their_files(tmp_path: Path) -> None:
    for name, form, height in (("a", "stl", 3), ("a", "obj", 3.03), ("b", "off", 1)):
        (tmp_path / name / form).mkdir(parents=True)
        trimesh.creation.box((1, 2, height)).export(tmp_path / name / form / f"{name}.{form}")
    (tmp_path / "b" / "broken.obj").write_text("v 1 2\n")
    first, second = list_models(tmp_path, "").rows
    assert (first["model"], first["files"], first["read"], first["triangles"]) == ("a", 2, 2, "12")
    assert float(first["difference"]) == pytest.approx((4 + 6 * 3.03) / 22 - 1, rel=0.1)
    assert (second["files"], second["read"], second["difference"]) == (2, 1, "")
    assert second["rejected"].startswith("file_corrupt")


def test_both_read_a_box_and_name_what_they_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box = tmp_path / "box.stl"
    box.write_bytes(trimesh.creation.box((1, 2, 3)).export(file_type="stl"))
    (tmp_path / "broken.obj").write_text("v 1 2\n")
    assert compare(by_von(box), by_trimesh(box)) == SAME
    monkeypatch.setattr("sys.argv", ["mesh_files", str(tmp_path)])
    mesh_files.main()
    told = capsys.readouterr().out
    assert "broken.obj: file_corrupt" in told
    assert "| .stl | 1 | 1 |" in told
