"""Measuring and reporting of all benchmarks: paired rounds, median and spread, ratio to a peer, peak memory."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

REALDATA = Path(__file__).resolve().parents[2] / "shared" / "realdata"


@dataclass(frozen=True)
class Timing:
    """Wall times of one contender, in seconds; rounds of all contenders are interleaved so that noise is shared."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles; 0 with fewer than two rounds."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2


@dataclass
class Table:
    """Rows of a benchmark with a description of the machine; printed as Markdown, saved as JSON."""

    title: str
    command: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    keep_in: Path | None = None

    def add(self, **row: Any) -> None:
        """Adds a row, at once to the file in `keep_in` as well; numbers are rounded only when printed."""
        self.rows.append(row)
        if self.keep_in is not None:
            self.save(self.keep_in)

    def markdown(self) -> str:
        """The table with its command, machine and notes."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [f"## {self.title}", "", f"`{self.command}` on {describe_machine()['summary']}", ""]
        lines.append("| " + " | ".join(columns) + " |")
        lines.append("|" + "---|" * len(columns))
        lines += ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in self.rows]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def finish(self, output: Path | None) -> None:
        """Prints the table and saves it as JSON if a path is given."""
        print(self.markdown())
        if output is not None:
            self.save(output)

    def save(self, output: Path) -> None:
        """Writes the table as JSON."""
        output.parent.mkdir(parents=True, exist_ok=True)
        content = {key: value for key, value in asdict(self).items() if key != "keep_in"}
        output.write_text(json.dumps(content | {"machine": describe_machine()}, indent=2, default=str) + "\n")


def load_table(path: Path) -> Table:
    """The table that was saved as JSON."""
    content = json.loads(path.read_text())
    return Table(content["title"], content["command"], content["rows"], content["notes"])


def time_paired(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    settle: Callable[[], object] = lambda: None,
    at_least_s: float = 0.0,
) -> list[Timing]:
    """Times the contenders in turn, round after round, after `warmup` untimed calls of each.

    Args:
        contenders: the functions to call, by name.
        rounds: how often each is timed.
        warmup: untimed calls of each before the first round.
        settle: waits for asynchronous work of a call, such as on a GPU.
        at_least_s: a round repeats a contender to last about this long, and records the mean.

    Returns:
        one timing per contender, in the order given.
    """
    calls: dict[str, int] = {}
    for name, call in contenders.items():
        for _ in range(warmup):
            call()
        settle()
        start = time.perf_counter()
        if at_least_s:
            call()
            settle()
        calls[name] = max(1, min(1000, round(at_least_s / max(time.perf_counter() - start, 1e-6))))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            settle()
            start = time.perf_counter()
            for _ in range(calls[name]):
                call()
            settle()
            seconds[name].append((time.perf_counter() - start) / calls[name])
    return [Timing(name, tuple(times)) for name, times in seconds.items()]


def peak_memory_mb(arguments: Sequence[str]) -> float:
    """Peak resident memory in MB of a Python command run as a separate process.

    Args:
        arguments: what follows `python`, for example `["-m", "benchmarks.projection", "--memory-of", "fused"]`.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    script = (
        "import resource, subprocess, sys; done = subprocess.run([sys.executable, *sys.argv[1:]], stdout=sys.stderr);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024); sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout)


def describe_machine(
    packages: Iterable[str] = ("torch", "triton", "numpy", "numba", "open3d", "trimesh"),
) -> dict[str, Any]:
    """Processor, cores, memory, GPU, Python and package versions, and the date; with a one-line `summary`."""
    versions = {name: found for name in packages if (found := _version(name))}
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "versions": versions,
        "arguments": sys.argv[1:],
    }
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
    facts["summary"] = f"{facts['cores']} cores of {facts['processor']}, {facts['memory_gb']} GB, {listed}"
    if (gpu := _gpu()) is not None:
        facts |= {"gpu": gpu, "summary": f"{gpu}; {facts['summary']}"}
    return facts


def _gpu() -> str | None:
    """The first GPU; None if torch is not imported or there is none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    return f"{torch.cuda.get_device_name(0)} with {gigabytes:.0f} GB, CUDA {torch.version.cuda}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value is None else str(value)
