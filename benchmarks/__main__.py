"""Runs all benchmarks: `python -m benchmarks [--device cuda] [--smoke] [--output FOLDER] [--only NAME ...]`.

Each runs in its own process and writes its table and a JSON file; `summary.md` in the folder has all tables.
With `--device cuda` (the default if there is a GPU) the GPU benchmarks run, at full size, within about eight minutes.
One that fails, hangs or does not fit into the time becomes a row with its reason; the others run, and the exit status
is 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Table, describe_machine, load_table


@dataclass(frozen=True)
class Part:
    """A benchmark with its options; its results have its name.

    Attributes:
        limit_s: time limit in seconds.
    """

    name: str
    module: str
    options: tuple[str, ...] = ()
    limit_s: float | None = None


STAGES = ("shape", "texture", "joint")
ON_CPU = (
    Part("projection", "projection"),
    Part("framing", "framing"),
    Part("loading", "loading"),
    # One item at full size takes a CPU up to half a minute.
    *(
        Part(f"training-{stage}", "training", ("--stage", stage, "--preset", "published", "--rounds", "1"))
        for stage in STAGES
    ),
    Part("viewpoints", "viewpoints"),
    Part("evaluation", "evaluation"),
    Part("point-distance", "point_distance"),
    Part("ledger", "ledger"),
    Part("studio", "studio"),
    Part("assets", "assets"),
)
ON_GPU = (
    Part("projection", "projection", ("--device", "cuda"), 150),
    Part("framing", "framing", ("--device", "cuda"), 60),
    *(
        Part(f"training-{stage}", "training", ("--device", "cuda", "--stage", stage, "--rounds", "5"), limit_s)
        # Ten networks are compiled for the texture stage, twelve for the joint one.
        for stage, limit_s in zip(STAGES, (150, 270, 300), strict=True)
    ),
    Part("loading", "loading", ("--device", "cuda"), 90),
    Part("studio", "studio", ("--device", "cuda", "--size", "128"), 90),
)
# The benchmarks of `--smoke`: small and once, to check that they work.
SMOKE = tuple(Part(name, name) for name in ("projection", "framing", "loading", "training"))


def main() -> None:
    """Runs the benchmarks in sequence; exits with 1 at the end if one failed."""
    names = sorted({part.name for part in (*ON_CPU, *ON_GPU, *SMOKE)})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="[auto: a GPU if there is one]"
    )
    parser.add_argument("--smoke", action="store_true", help="small and once, to check that they work")
    parser.add_argument("--only", choices=names, action="append", help="this one; repeat for more")
    parser.add_argument("--minutes", type=float, help="start nothing later than this  [8 on a GPU, else no limit]")
    parser.add_argument("--shapes", type=Path, help="prepared shapes to project instead of the reference data's")
    parser.add_argument("--output", type=Path, help="where results go  [benchmarks/results/DATE-MACHINE]")
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda" or (arguments.device == "auto" and _gpu_name() is not None)
    parts = SMOKE if arguments.smoke else ON_GPU if on_gpu else ON_CPU
    if arguments.only:
        parts = tuple(part for part in parts if part.name in arguments.only)
    if not parts:
        parser.error(f"--only {' '.join(arguments.only)}: none of these runs on this device or in this mode")
    output = None if arguments.smoke else arguments.output or _default_output(on_gpu)
    minutes = arguments.minutes or (8.0 if on_gpu else float("inf"))
    failed = run_parts(parts, output, ends=time.monotonic() + 60 * minutes, shapes=arguments.shapes)
    if failed:
        raise SystemExit("failed: " + "; ".join(f"{name} ({reason})" for name, reason in failed.items()))


def run_parts(
    parts: Sequence[Part], output: Path | None, *, ends: float, shapes: Path | None = None
) -> dict[str, str]:
    """Runs parts in sequence and saves their results; returns the reasons of those that failed.

    Args:
        parts: the benchmarks.
        output: the folder for results; without one nothing is written, and the parts run small.
        ends: the time of the monotonic clock after which no part starts.
        shapes: prepared shapes for the projection.
    """
    failed: dict[str, str] = {}
    tables: list[str] = []
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    for part in parts:
        print(f"# {part.name}", file=sys.stderr, flush=True)
        saved = None if output is None else output / f"{part.name}.json"
        if saved is not None:
            saved.unlink(missing_ok=True)
        options = ["--smoke"] if saved is None else [*part.options, "--output", str(saved)]
        if shapes is not None and part.module == "projection":
            options += ["--shapes", str(shapes)]
        text, reason = ("", "no time was left") if time.monotonic() >= ends else _run(part, options)
        if reason is not None:
            failed[part.name] = reason
            text = _told_failure(part, reason, saved)
        print(text, flush=True)
        tables.append(text)
        if output is not None:
            (output / "summary.md").write_text("\n".join(tables), encoding="utf-8")
    return failed


def _run(part: Part, options: list[str]) -> tuple[str, str | None]:
    """The output of a part, and the last line of its errors if it failed."""
    command = [sys.executable, "-m", f"benchmarks.{part.module}", *options]
    # A session of its own, so that its child processes end with it.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said, errors = process.communicate(timeout=part.limit_s)
        except subprocess.TimeoutExpired:
            return "", f"took longer than {part.limit_s:g} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    print(errors, file=sys.stderr, flush=True)
    if process.returncode == 0:
        return said, None
    lines = [line for line in errors.splitlines() if line.strip()]
    return said, lines[-1].strip()[:300] if lines else f"exit status {process.returncode}"


def _told_failure(part: Part, reason: str, saved: Path | None) -> str:
    """The rows of a failed part, and one with the reason; saved in its file."""
    table = load_table(saved) if saved is not None and saved.exists() else None
    table = table or Table(part.name, " ".join(["python -m", f"benchmarks.{part.module}", *part.options]))
    table.add(failed=reason)
    if saved is not None:
        table.save(saved)
    return table.markdown()


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _default_output(on_gpu: bool) -> Path:
    """`benchmarks/results/DATE-MACHINE`."""
    kind = (_gpu_name() or "no-GPU").replace(" ", "-") if on_gpu else f"{describe_machine()['cores']}-core-CPU"
    return Path(__file__).parent / "results" / f"{datetime.now(UTC).date().isoformat()}-{kind}"


if __name__ == "__main__":
    main()
