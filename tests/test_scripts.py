"""Scripts and benchmarks can be imported, and the pages that they write are current."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_says_how_it_is_called(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_imports(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


def call(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_the_mask_network_trains_without_changing_the_packaged_one(tmp_path: Path) -> None:
    assert "holds no layers" in call("train_mask_network.py", "train", str(tmp_path)).stderr
    done = call("train_mask_network.py", "layers", str(tmp_path), "--objects", "1")
    assert done.returncode == 0, done.stderr
    weights = tmp_path / "weights.safetensors"
    done = call("train_mask_network.py", "train", str(tmp_path), "--minutes", "0.01", "--output", str(weights))
    assert done.returncode == 0, done.stderr
    shipped = ROOT / "vondata" / "images" / "mask_network.safetensors"
    assert weights.stat().st_size == shipped.stat().st_size


def test_the_paths_through_the_files_are_as_short_as_the_page_says() -> None:
    done = call("files_on_path.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    lengths = {title: int(count) for title, count in re.findall(r"(.+): (\d+) files", done.stdout)}
    assert lengths.keys() == {"a prepared shape", "a training step", "`--fid`", "a view in the studio"}
    assert all(lengths.values())
