"""`python -m benchmarks`: a part that fails or hangs becomes a row, and the others run."""

import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks.__main__ import ON_CPU, ON_GPU, Part, run_parts
from benchmarks.measure import Table, load_table, time_paired
from tests.harness import TIMEOUT_S

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 20  # in which a process starts and writes a row, whatever else the machine does

GOOD = """
import argparse, pathlib
from benchmarks.measure import Table
parser = argparse.ArgumentParser()
parser.add_argument("--output", type=pathlib.Path)
table = Table("good", "python -m benchmarks.good")
table.add(ms=1.5)
table.finish(parser.parse_args().output)
"""
HANGS = """
import argparse, pathlib, time
from benchmarks.measure import Table
parser = argparse.ArgumentParser()
parser.add_argument("--output", type=pathlib.Path)
table = Table("half", "python -m benchmarks.half", keep_in=parser.parse_args().output)
table.add(ms=2.5)
time.sleep(600)
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stub benchmarks that started processes import instead of the real ones."""
    folder = tmp_path / "code" / "benchmarks"
    folder.mkdir(parents=True)
    for name in ("__init__", "measure"):
        source = REPOSITORY / "benchmarks" / f"{name}.py"
        (folder / f"{name}.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "good.py").write_text(GOOD)
    (folder / "bad.py").write_text("raise ValueError('the fan has stopped')")
    (folder / "hangs.py").write_text(HANGS)
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    return tmp_path / "results"


def test_what_fails_becomes_a_row(parts: Path) -> None:
    given = [
        Part("bad", "bad"),
        Part("missing", "nowhere"),
        Part("hangs", "hangs", limit_s=LIMIT_S),
        Part("good", "good"),
    ]
    failed = run_parts(given, parts, ends=time.monotonic() + TIMEOUT_S)
    assert list(failed) == ["bad", "missing", "hangs"]
    assert failed["bad"] == "ValueError: the fan has stopped"
    assert "nowhere" in failed["missing"]
    assert failed["hangs"] == f"took longer than {LIMIT_S} s"
    rows = {path.stem: json.loads(path.read_text())["rows"] for path in parts.glob("*.json")}
    assert rows["good"] == [{"ms": 1.5}]
    assert rows["bad"] == [{"failed": failed["bad"]}]
    assert rows["hangs"] == [{"ms": 2.5}, {"failed": failed["hangs"]}]
    summary = (parts / "summary.md").read_text()
    assert all(text in summary for text in ("the fan has stopped", failed["hangs"], "| 1.5 |", "| 2.5 |"))


def test_nothing_begins_when_the_time_is_up(parts: Path) -> None:
    assert run_parts([Part("good", "good")], parts, ends=time.monotonic() - 1) == {"good": "no time was left"}
    assert load_table(parts / "good.json").rows == [{"failed": "no time was left"}]


@pytest.mark.parametrize("listed", [ON_CPU, ON_GPU])
def test_every_part_is_there(listed: tuple[Part, ...]) -> None:
    assert len({part.name for part in listed}) == len(listed)
    for part in listed:
        assert (REPOSITORY / "benchmarks" / f"{part.module}.py").is_file()


def test_parts_on_a_gpu_end() -> None:
    assert all(part.limit_s is not None for part in ON_GPU)


def test_timings_wait_for_the_device_and_last_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    now, under_way = [0.0], [0]
    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: now[0])

    def call() -> None:
        under_way[0] += 1

    def settle() -> None:
        now[0] += 0.002 * under_way[0]
        under_way[0] = 0

    (timing,) = time_paired({"short": call}, rounds=2, settle=settle, at_least_s=0.02)
    assert timing.seconds == pytest.approx((0.002, 0.002))
    # One to warm up, one to see how long it takes, two rounds of ten.
    assert now[0] == pytest.approx(0.002 * 22)


def test_a_table_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    table = Table("title", sys.executable, notes=["note"], keep_in=tmp_path / "kept.json")
    table.add(ms=1.0, name="a")
    again = load_table(tmp_path / "kept.json")
    assert (again.title, again.rows, again.notes) == (table.title, table.rows, table.notes)
