"""`make` on a machine without system libraries: it installs them if permitted, else prints the command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "system_libraries.sh"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux's packages need more of apt")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A bare Debian machine, whose tools are stubs that record their calls."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "grep", "uname", "echo"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    (tools / "python3").symlink_to(sys.executable)
    stand_in(tools / "ldconfig", f'[ -e "{tmp_path}/installed" ] && cat_libraries; exit 0')
    stand_in(
        tools / "apt-get",
        f'echo "$@" >> "{tmp_path}/calls"; case "$1" in install) : > "{tmp_path}/installed";; esac',
    )
    return tmp_path


def stand_in(path: Path, script: str) -> None:
    libraries = subprocess.run(["bash", SCRIPT, "sonames"], capture_output=True, text=True, check=True).stdout.split()
    printed = "\n".join(f'echo "\t{each} (libc6) => /lib/{each}"' for each in libraries)
    path.write_text(f"#!/bin/bash\ncat_libraries() {{\n{printed}\n}}\n{script}\n")
    path.chmod(0o755)


def become(machine: Path, user: str, sudo: str | None = None) -> None:
    stand_in(machine / "bin" / "id", f"echo {user}")
    if sudo is not None:
        stand_in(machine / "bin" / "sudo", sudo)


def run(machine: Path, command: str = "install") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(machine / "bin"), "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(["bash", SCRIPT, command], env=environment, capture_output=True, text=True, check=False)


def calls(machine: Path) -> str:
    return (machine / "calls").read_text() if (machine / "calls").exists() else ""


@pytest.mark.parametrize(("user", "sudo"), [("0", None), ("1000", 'shift; exec "$@"')])
def test_root_and_sudo_without_a_password_install_what_is_missing(machine: Path, user: str, sudo: str | None) -> None:
    stand_in(machine / "bin" / "true", "exit 0")
    become(machine, user, sudo)
    done = run(machine)
    assert done.returncode == 0, done.stderr
    assert "Installing with apt-get: libusb-1.0-0 libgl1" in done.stderr
    assert "update" in calls(machine)
    assert "libgomp1" in calls(machine)
    (machine / "calls").unlink()
    assert run(machine).returncode == 0
    assert calls(machine) == ""


@pytest.mark.parametrize("sudo", [None, "exit 1"])
def test_other_systems_print_the_command(machine: Path, sudo: str | None) -> None:
    become(machine, "1000", sudo)
    done = run(machine)
    assert done.returncode == 1
    assert "sudo apt-get install -y libusb-1.0-0 libgl1" in done.stderr
    assert calls(machine) == ""


def test_a_check_installs_nothing(machine: Path) -> None:
    become(machine, "0")
    assert run(machine, "check").returncode == 1
    assert calls(machine) == ""


def test_an_image_gets_the_same_packages(machine: Path) -> None:
    become(machine, "0")
    listed = run(machine, "list").stdout.split()
    run(machine)
    assert set(listed) <= set(calls(machine).split())
