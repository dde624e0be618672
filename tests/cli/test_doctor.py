"""`von doctor`: a line with advice for every check; exit code 1 if a check fails."""

import sys
from collections import namedtuple
from pathlib import Path

import pytest
from voncli import doctor
from voncli.doctor import Finding

from tests.harness import von, von_json


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_this_machine_passes_all_checks() -> None:
    found = {each["what"]: each for each in von_json("doctor")}
    for what in ("Python", "numpy", "torch", "kernels on cpu", "kernels of shapes", "cache", "disk"):
        assert found[what]["status"] == "ok", found[what]
    assert "equal to the reference" in found["kernels on cpu"]["found"]
    assert found["Inception weights"]["status"] == "note"


@pytest.mark.parametrize(
    ("compare", "said"),
    [(lambda: 0.5, "differ from the reference by 0.5"), (lambda: float("nan"), "differ"), (lambda: 1 / 0, "ZeroDiv")],
)
def test_kernels_that_compute_something_else_fail(
    compare: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "compare_distance", compare)
    monkeypatch.setattr(doctor, "compare_projection", lambda device: 0.0)
    result = von("doctor")
    assert result.exit_code == 1
    line = next(line for line in result.stdout.splitlines() if "kernels of shapes" in line)
    assert line.startswith("FAIL")
    assert said in line


def test_what_is_missing_is_named_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(10, 9, 1))
    monkeypatch.setattr(doctor, "check_kernels", lambda: iter([Finding("kernels", "ok", "")]))
    result = von("doctor")
    assert result.exit_code == 1
    missing = next(line for line in result.stdout.splitlines() if "open3d" in line)
    assert missing.startswith("FAIL")
    assert "pip install visual-object-networks" in missing
    disk = next(line for line in result.stdout.splitlines() if "disk" in line)
    assert disk.startswith("note")
