"""Local files: atomic writes, and no temporary files left by killed writers."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from vondata.io import files as scratch
from vondata.io.files import (
    FileTooLargeError,
    ScratchError,
    atomic_path,
    cache_folder,
    file_sha256,
    remove_leftovers,
    scratch_file,
    scratch_folder,
)

KILLED_WRITER = """
import os, sys
from pathlib import Path
from vondata.io.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""
KILLED_SCRATCH = """
import os
from vondata.io.files import scratch_folder
with scratch_folder("test") as folder:
    (folder / "large.bin").write_bytes(bytes(1000))
    print(folder, flush=True)
    os._exit(9)
"""


def test_leftovers_of_a_file_are_distinguished_from_those_of_its_neighbours(tmp_path: Path) -> None:
    for name in ("shapes.parquet", "images.parquet", "von.data.json"):
        subprocess.run([sys.executable, "-c", KILLED_WRITER, tmp_path / name], check=False)
    (tmp_path / ("." + "0" * 32 + ".csv")).touch()  # as version 0.1 named them
    (tmp_path / ".hidden").touch()
    assert len(list(tmp_path.iterdir())) == 5
    remove_leftovers(tmp_path, "shapes")
    assert not [path for path in tmp_path.iterdir() if "shapes" in path.name]
    remove_leftovers(tmp_path, "von.data")
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]


def test_a_name_as_long_as_can_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 250 + ".npz")
    with atomic_path(path) as temporary:
        temporary.write_text("whole", "utf-8")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    scratch.remove_abandoned.cache_clear()
    return folder


def test_scratch_of_killed_processes_goes_and_that_of_living_ones_stays(temporary: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_SCRATCH], capture_output=True, text=True, check=False)
    abandoned = Path(done.stdout.strip())
    assert (abandoned / "large.bin").is_file()
    foreign = temporary / "von-test-abcdefgh"
    foreign.mkdir()  # made by a process that has not yet locked it
    living = temporary / "von-test-12345678"
    living.mkdir()
    with FileLock(living / scratch.LOCK_NAME), scratch_folder("test") as folder:
        assert not abandoned.exists()
        assert folder.is_dir()
        assert living.is_dir()
    assert not folder.exists()
    assert foreign.is_dir()


def test_a_temporary_folder_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    for make in (scratch_file, lambda: scratch_folder("test").__enter__()):
        with pytest.raises(ScratchError, match=r"temporary folder /nowhere .*set the environment variable TMPDIR"):
            make()


def test_a_file_is_hashed_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_sha256(path, 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(FileTooLargeError):
        file_sha256(path, 2)
    with pytest.raises(FileTooLargeError):
        file_sha256(Path("/dev/zero"), 5 << 20)


def test_without_a_home_the_cache_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "von"
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() == Path(tempfile.gettempdir()) / f"von-{os.getuid()}"
