"""Set-up of the fault tests: small collections, their undisturbed results, and counts of what faults did."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vondata.dataset.manifest import dataset_classes, manifest_path, read_manifest
from vondata.dataset.schema import known_columns
from vondata.types import Kind

ITEMS = 12
TIMEOUT_S = 900.0
VARYING = ("seconds",)  # columns that differ from run to run, beside those in seconds
BOX = "f 1 2 3 4\nf 8 7 6 5\nf 1 5 6 2\nf 2 6 7 3\nf 3 7 8 4\nf 5 1 4 8\n"
CORNERS = ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))


@dataclass
class Count:
    """Counts of the effects of one kind of fault.

    Attributes:
        tries: faults.
        lost: items or files that the run after the fault lacked.
        wrong: items or files that differed from an undisturbed run's.
        unclear: tracebacks, hangs, and messages that do not name what is wrong.
        notes: descriptions of what was found.
    """

    tries: int = 0
    lost: int = 0
    wrong: int = 0
    unclear: int = 0
    notes: list[str] = field(default_factory=list)


class Tally:
    """Counts by kind of fault, printed as a table at the end of the tests."""

    def __init__(self) -> None:
        self.counts: dict[str, Count] = {}

    def __getitem__(self, kind: str) -> Count:
        return self.counts.setdefault(kind, Count())

    def table(self) -> str:
        """The table, one kind a line."""
        width = max(map(len, self.counts), default=4)
        lines = [f"{'kind':{width}}  tries  lost  wrong  unclear"]
        for kind, count in self.counts.items():
            lines.append(f"{kind:{width}}  {count.tries:5}  {count.lost:4}  {count.wrong:5}  {count.unclear:7}")
            lines += [f"    {note}" for note in count.notes[:5]]
        return "\n".join(lines)


@dataclass(frozen=True)
class Verb:
    """A verb of preparation on the scene's collection."""

    name: str
    kind: Kind
    arguments: tuple[str, ...]

    def command(self, data: Path) -> list[str]:
        """Its arguments with a data folder."""
        return [*self.arguments, "--class", "chair", "--data", str(data)]


def write_collections(root: Path) -> list[Verb]:
    """Writes meshes and photos, good and bad ones; returns the verbs that prepare them."""
    rng = np.random.default_rng(0)
    (root / "meshes").mkdir(parents=True)
    (root / "photos").mkdir()
    for number in range(ITEMS):
        size = rng.uniform(0.3, 1.0, 3)
        lines = [f"v {x * size[0]:.4f} {y * size[1]:.4f} {z * size[2]:.4f}\n" for x, y, z in CORNERS]
        (root / "meshes" / f"box{number:02}.obj").write_text("".join(lines) + BOX, "utf-8")
        pixels = np.zeros((96, 96, 4), dtype=np.uint8)
        top, left = rng.integers(8, 30, 2)
        pixels[top : 96 - top, left : 96 - left] = rng.integers(0, 255, (96 - 2 * top, 96 - 2 * left, 4))
        pixels[top : 96 - top, left : 96 - left, 3] = 255
        Image.fromarray(pixels).save(root / "photos" / f"photo{number:02}.png")
    (root / "meshes" / "empty.obj").write_text("v 0 0 0\n", "utf-8")
    (root / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    common = ("--workers", "0")
    shapes = ("prepare", "meshes", "--root", str(root / "meshes"), "--resolution", "32", *common)
    images = ("prepare", "images", "--photos", str(root / "photos"), "--size", "32", *common)
    return [Verb("prepare meshes", "shapes", shapes), Verb("prepare images", "images", images)]


def von(arguments: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own."""
    command = [sys.executable, "-m", "voncli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **settings)


def start(arguments: list[str], **settings: Any) -> subprocess.Popen[bytes]:
    """Starts the command as a process group of its own."""
    command = [sys.executable, "-m", "voncli", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **settings
    )


def kill(running: subprocess.Popen[bytes]) -> None:
    """Ends a process group at once."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.communicate()


def outcome(data: Path) -> dict[str, str]:
    """The reproducible content of a dataset: hashes of each row and each prepared file, by name."""
    found: dict[str, str] = {}
    for class_name in dataset_classes(data):
        for kind in ("shapes", "images"):
            if not manifest_path(data, class_name, kind).is_file():
                continue
            units = {column.name: column.unit for column in known_columns(kind)}
            frame = read_manifest(data, class_name, kind)
            frame = frame[[name for name in frame.columns if units.get(name) != "s" and name not in VARYING]]
            for row in frame.to_dict("records"):
                text = json.dumps(row, sort_keys=True, default=str)
                found[f"row {kind} {row['id']}"] = hashlib.sha256(text.encode()).hexdigest()
            with open(manifest_path(data, class_name, kind).with_suffix(".csv"), "rb") as file:
                found[f"lines of {kind}.csv"] = str(sum(1 for _ in file))
            for path in (data / class_name / kind).iterdir():
                if not path.name.startswith("."):
                    found[f"file {kind} {path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def compare(count: Count, expected: dict[str, str], data: Path, note: str) -> None:
    """Adds what a dataset lacks, or has otherwise than expected, to a count."""
    found = outcome(data)
    lost = sorted(expected.keys() - found.keys())
    wrong = sorted(name for name in found if expected.get(name) != found[name])
    count.lost += len(lost)
    count.wrong += len(wrong)
    if lost or wrong:
        count.notes.append(f"{note}: lost {lost[:3]}, wrong {wrong[:3]}")


def leftovers(data: Path) -> list[str]:
    """Temporary files in a dataset."""
    return [str(path.relative_to(data)) for path in data.rglob(".*") if path.is_file() and ".lock" not in path.name]


def _unbuffered(command: list[str], **settings: Any) -> subprocess.Popen[bytes]:
    """A process with unbuffered output, so that `select` sees the second of two answers that come at once."""
    return subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **settings)


class Driver:
    """A process that runs commands one after the other; one that hangs is ended and replaced."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, arguments: list[str], timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """The result of a command: code, output and trace; code None when it hung."""
        if self._process is None:
            command = [sys.executable, str(Path(__file__).with_name("driver.py"))]
            self._process = _unbuffered(command)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        if ready and (line := self._process.stdout.readline()):
            result: dict[str, Any] = json.loads(line)
            return result
        self.close()
        return {"code": None, "output": "", "trace": "it hung" if not ready else "its process died"}

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class Forks:
    """Commands in processes that are forks of one that has imported everything: seconds instead of tens of them."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("driver.py")), "--fork"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = _unbuffered(command, env=environment)
        self._answer(TIMEOUT_S)

    def start(
        self, arguments: list[str], end_before: tuple[str, int, Path] | None = None, temporary: Path | None = None
    ) -> int:
        """Starts a command, which leads a process group; returns its process id. `wait` before the next."""
        assert self._process.stdin is not None
        call = None if end_before is None else [*end_before[:2], str(end_before[2])]
        place = None if temporary is None else str(temporary)
        request = {"arguments": arguments, "end_before": call, "temporary": place}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._answer(TIMEOUT_S)["pid"])

    def has_ended(self) -> bool:
        """Whether the command that was started has ended."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0.0)[0])

    def wait(self) -> tuple[int, str]:
        """Exit code and output of the command that was started."""
        result = self._answer(TIMEOUT_S)
        return int(result["code"]), str(result["output"])

    def run(
        self, arguments: list[str], end_before: tuple[str, int, Path] | None = None, temporary: Path | None = None
    ) -> tuple[int, str]:
        """Runs a command to its end; returns its exit code and all that it said."""
        self.start(arguments, end_before, temporary)
        return self.wait()

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        assert ready, "the command hangs"
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def small_disk(folder: Path, size_kb: int) -> Iterator[None]:
    """Mounts a file system of this size at a folder within the block.

    Raises:
        PermissionError: this user may mount none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "none", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise PermissionError(mounted.stderr.strip())
    try:
        yield
    finally:
        for _ in range(20):
            if subprocess.run(["umount", folder], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.2)


def enlarge(folder: Path) -> None:
    """Gives a small disk 64 MB."""
    subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
