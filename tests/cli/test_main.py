"""The command itself: quick to answer, light to import, honest about where options come from."""

import subprocess
import sys
from pathlib import Path

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
