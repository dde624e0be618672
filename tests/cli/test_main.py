"""The `von` command: start-up imports, entry points, unknown verbs, output that cannot be encoded or written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vondata.dataset.manifest import write_manifest

HEAVY = ("torch", "open3d", "numpy", "pandas", "cv2", "dask", "distributed", "numba", "rich", "trimesh", "PIL")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from voncli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_installed_executable_and_module_agree() -> None:
    executable = Path(sys.executable).with_name("von")
    answers = [
        subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        for command in ([str(executable)], [sys.executable, "-m", "voncli"])
    ]
    assert answers[0] == answers[1]
    assert answers[0].startswith("von, version ")


def test_unknown_verb_is_wrong_usage() -> None:
    done = subprocess.run([sys.executable, "-m", "voncli", "prepair"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "prepair" in done.stderr


def prepared(folder: Path) -> dict[str, str]:
    """An environment in whose current folder lies a dataset with a name that few consoles can print."""
    data = folder / "dütä€"
    write_manifest(data, "chair", "shapes", [])
    return {name: value for name, value in os.environ.items() if name != "PYTHONUTF8"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("arguments", [["dütä€"], ["dütä€", "--json"], ["nö€"]])
def test_a_console_that_cannot_print_a_letter_shows_its_number(
    tmp_path: Path, encoding: str, arguments: list[str]
) -> None:
    environment = prepared(tmp_path) | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "voncli", "inspect", "--no-page", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == (2 if "nö€" in arguments else 0), done.stderr
    assert b"Traceback" not in done.stderr
    if arguments == ["dütä€"]:
        assert "dütä€".encode(encoding, "backslashreplace") in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "dütä€", "--no-page"], ["prepare", "--explain"]])
def test_a_full_output_is_reported_in_a_line(tmp_path: Path, arguments: list[str]) -> None:
    environment = prepared(tmp_path)
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "voncli", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, check=False
        )
        assert done.returncode == 1
        assert done.stderr == b"Error: the output cannot be written (No space left on device).\n"
        both = subprocess.run(command, cwd=tmp_path, env=environment, stdout=full, stderr=full, check=False)
        assert both.returncode == 1
