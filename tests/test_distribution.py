"""The distribution: every package and data file, importable without Linux and without the repository."""

import ast
import fnmatch
import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import vondata
import vonmodel

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
INSTALLED_AS = {folder: name for name, folder in SETUPTOOLS["package-dir"].items()}
# Modules and names that Windows, or every system but Linux, lacks.
POSIX_MODULES = {"fcntl", "grp", "pwd", "resource", "termios", "posix"}
POSIX_SIGNALS = {"SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "SIGQUIT"}


def sources() -> Iterator[Path]:
    for folder in INSTALLED_AS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_every_package_is_listed() -> None:
    found = {
        ".".join([INSTALLED_AS[path.parts[0]], *path.parts[1:]])
        for file in sources()
        if file.name == "__init__.py"
        for path in [file.parent.relative_to(ROOT)]
    }
    assert set(SETUPTOOLS["packages"]) == found


def test_every_data_file_is_listed() -> None:
    command = ["git", "ls-files", *INSTALLED_AS]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("this is no git checkout")
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, each in SETUPTOOLS["package-data"].items()
        for pattern in each
    ]
    for line in tracked.stdout.splitlines():
        top, _, rest = line.partition("/")
        if not line.endswith(".py"):
            assert any(fnmatch.fnmatch(f"{INSTALLED_AS[top]}/{rest}", pattern) for pattern in patterns), line


def test_both_libraries_are_typed_and_know_their_version() -> None:
    for library in (vondata, vonmodel):
        assert Path(library.__file__).with_name("py.typed").is_file()
        assert library.__version__ == vondata.__version__


def test_nothing_needs_linux_to_be_imported() -> None:
    """Signals and modules that other systems lack are used only in functions, where they are guarded."""
    found = []
    for file in sources():
        for node in top_level(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Import(names=names) if any(each.name in POSIX_MODULES for each in names):
                    found.append(f"{file}:{node.lineno}")
                case ast.ImportFrom(module=module) if module in POSIX_MODULES:
                    found.append(f"{file}:{node.lineno}")
                case ast.Attribute(value=ast.Name(id="signal"), attr=name) if name in POSIX_SIGNALS:
                    found.append(f"{file}:{node.lineno}")
                case ast.Constant(value=str(text)) if "/dev/shm" in text:
                    found.append(f"{file}:{node.lineno}")
    assert found == []


def top_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything that runs at import: what is in no function."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from top_level(node)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The von command of a wheel, in an environment that has the dependencies of this one but not the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("visual_object_networks-*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = [path for path in sys.path if path.endswith("site-packages")]
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    # The repository's own entry, an editable install, is a finder that only .pth files of a real site folder set up.
    Path(own, "dependencies.pth").write_text("".join(f"{path}\n" for path in packages), "utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python.with_name("von")


def von(installed: Path, folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    command = [installed, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_works_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    assert von(installed, tmp_path, "--version").strip() == f"von, version {vondata.__version__}"
    code = "import vondata, vonmodel, vonmanifests; print(vondata.__file__, vonmodel.__file__, vonmanifests.__file__)"
    python = installed.with_name("python")
    found = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(Path(path).is_relative_to(installed.parents[1]) for path in found.split())
    von(installed, tmp_path, "demo", "--chair-count", "4", "--car-count", "0", "--photo-count", "2")
    demo = tmp_path / "demo"
    done = von(installed, demo, "prepare", "shapenet", "--resolution", "32", "--workers", "0", "--json")
    assert json.loads(done)["classes"]["chair"]["found"] == 4
    small = (
        "model.resolution=32",
        "model.image_size=32",
        "model.texture_base_channels=2",
        "model.shape_base_channels=2",
        "shape.steady=1",
        "shape.decaying=0",
    )
    steps = ('shape.unit="steps"', "shape.batch_size=2", "model.resampled=false")
    settings = [f"--set={each}" for each in (*small, *steps)]
    trained = von(installed, demo, "train", "--class", "chair", "--stage", "shape", "--json", *settings)
    assert json.loads(trained)["finished"]
    few = ("--count", "1", "--view-count", "1", "--texture-count", "1")
    assert json.loads(von(installed, demo, "generate", *few, "--json"))["checkpoint"]["stage"] == "shape"


@pytest.mark.slow
def test_a_wheel_holds_every_tracked_file(installed: Path) -> None:
    (wheel,) = installed.parents[2].glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tracked = subprocess.run(["git", "ls-files", *INSTALLED_AS], cwd=ROOT, capture_output=True, text=True, check=True)
    for line in tracked.stdout.splitlines():
        top, _, rest = line.partition("/")
        assert f"{INSTALLED_AS[top]}/{rest}" in names
