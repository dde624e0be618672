"""Cached machine code: with damaged or missing files, the kernel still runs correctly."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import logging
import numpy as np
from vondata.kernels import kernel
logging.basicConfig(level="WARNING", format="%(message)s")

@kernel
def total(values):
    sum = 0.0
    for value in values:
        sum += value
    return sum

print(total(np.arange(5.0)), "compiled" if total.stats.cache_misses else "loaded")
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "summing.py"
    path.write_text(MODULE, "utf-8")
    return path


def run(module: Path, **variables: str) -> tuple[str, str]:
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, module], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


def run_as_module(module: Path, source: str) -> tuple[str, str]:
    """The same, imported as a module, so that its types can be resolved by name."""
    module.write_text(source, "utf-8")
    command = [sys.executable, "-c", f"import {module.stem}"]
    done = subprocess.run(command, cwd=module.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


def cache_files(module: Path) -> list[Path]:
    return sorted(path for path in (module.parent / "__pycache__").iterdir() if path.suffix in (".nbi", ".nbc"))


def test_code_is_compiled_once(module: Path) -> None:
    assert run(module)[0] == "10.0 compiled"
    assert run(module) == ("10.0 loaded", "")
    assert len(cache_files(module)) == 2


def test_damaged_files_are_compiled_again(module: Path) -> None:
    run(module)
    rng = random.Random(0)
    for path in cache_files(module):
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        for damaged in (b"", whole[:-100], bytes(flipped), b"\x80\x04X" + bytes(100)):
            path.write_bytes(damaged)
            printed, said = run(module)
            assert printed == "10.0 compiled"
            assert f"{path.name} is damaged; its function is compiled again" in said
            assert run(module) == ("10.0 loaded", "")


def test_what_another_version_compiled_for_types_that_are_gone_is_compiled_again(module: Path) -> None:
    # Index files are named by the function's line, which stays.
    earlier = MODULE.replace("in values:", "in values.numbers:").replace(
        "print(total(np.arange(5.0))",
        "from typing import NamedTuple\nclass Pair(NamedTuple):\n    numbers: object\n"
        "print(total(Pair(np.arange(5.0)))",
    )
    run_as_module(module, earlier)
    assert run_as_module(module, MODULE) == ("10.0 compiled", "")
    assert run_as_module(module, MODULE) == ("10.0 loaded", "")


def test_a_folder_in_place_of_a_file_and_a_cache_that_cannot_be_written(module: Path) -> None:
    run(module)
    index, data = sorted(cache_files(module), key=lambda path: path.suffix == ".nbc")
    data.unlink()
    data.mkdir()
    assert run(module)[0] == "10.0 compiled"
    shutil.rmtree(data)
    index.unlink()
    index.mkdir()
    assert run(module)[0] == "10.0 compiled"


def test_it_runs_without_a_home(module: Path) -> None:
    shutil.rmtree(module.parent / "__pycache__", ignore_errors=True)
    (module.parent / "__pycache__").write_text("no folder", "utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    for home in ({}, {"HOME": "/proc/nowhere"}, {"HOME": "/dev/null"}):
        done = subprocess.run(
            [sys.executable, module], env=environment | home, capture_output=True, text=True, check=False
        )
        assert done.stdout.startswith("10.0 "), done.stderr
