"""GPU measurements: utilisation, peak memory, and the measured bandwidth and FLOP/s limits."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.measure import time_paired

# Categories of GPU work in a trace: a kernel, a copy, a fill.
WORK = {"kernel", "gpu_memcpy", "gpu_memset"}


@dataclass(frozen=True)
class Ceilings:
    """The measured limits of a device: bytes read and written, and float32 operations, per second."""

    bytes_per_s: float
    operations_per_s: float

    def floor_s(self, *, moved: float, operations: float) -> float:
        """The lower bound on the time for this many bytes and operations, whichever takes longer."""
        return max(moved / self.bytes_per_s, operations / self.operations_per_s)


def measure_ceilings(device: torch.device) -> Ceilings:
    """Measures a copy far larger than the caches, and a float32 matrix product without TF32."""
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    matrix = torch.randn(8192, 8192, device=device)
    product = torch.empty_like(matrix)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        copy, multiply = time_paired(
            {"copy": lambda: target.copy_(source), "multiply": lambda: torch.mm(matrix, matrix, out=product)},
            rounds=5,
            settle=waiting_for(device),
        )
    finally:
        torch.set_float32_matmul_precision(before)
    return Ceilings(2 * source.numel() / copy.median, 2 * 8192**3 / multiply.median)


def waiting_for(device: torch.device) -> Callable[[], object]:
    """A function that synchronises with a device; a no-op for a CPU."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def peak_gb(work: Callable[[], object], device: torch.device) -> float:
    """Peak GPU memory of a call beyond the memory in use before, in GB."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**30


def busy_s(work: Callable[[], object], device: torch.device, *, calls: int = 3) -> float:
    """Seconds of a call during which the GPU worked, from a trace of a few calls."""
    torch.cuda.synchronize(device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(calls):
            work()
        torch.cuda.synchronize(device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        return merged_length(working_intervals(json.loads(path.read_text()))) / 1e6 / calls


def working_intervals(trace: dict[str, Any]) -> list[tuple[float, float]]:
    """Begin and end, in microseconds, of all GPU work in a trace in Chrome's format."""
    events = (event for event in trace["traceEvents"] if event.get("cat") in WORK and event.get("ph") == "X")
    return [(float(event["ts"]), float(event["ts"]) + float(event["dur"])) for event in events]


def merged_length(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals: overlapping work counts once."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


@contextmanager
def sampled_utilisation(device: torch.device, *, every_s: float = 0.05) -> Iterator[Callable[[], float | None]]:
    """Samples, while the block runs, the driver's utilisation: the fraction of time in which any kernel ran.

    Yields:
        the mean so far, in [0, 1]; None on a CPU or if the driver's library (`pynvml`) is not installed.
    """
    samples: list[float] = []
    if device.type != "cuda" or find_spec("pynvml") is None:
        yield lambda: None
        return
    done = threading.Event()

    def sample() -> None:
        while not done.wait(every_s):
            samples.append(torch.cuda.utilization(device) / 100)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield lambda: fmean(samples) if samples else None
    finally:
        done.set()
        thread.join()
