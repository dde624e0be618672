"""All benchmarks in one go: `python -m benchmarks [--smoke] [--output FOLDER] [--only NAME ...]`.

Each runs in a process of its own and writes its table and a JSON file; `summary.md` in the folder has all tables.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

NAMES = ("projection", "framing", "loading", "training", "viewpoints", "evaluation", "ledger", "studio")
# What `--smoke` runs: small and once, to see that they work.
SMOKE_NAMES = ("projection", "framing", "loading", "training")


def main() -> None:
    """Runs the benchmarks one after the other; a failed one fails the whole, at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small and once: are they correct, not how fast")
    parser.add_argument("--only", choices=NAMES, action="append", help="this one; repeat for more")
    parser.add_argument("--output", type=Path, help="where results go  [benchmarks/results/DATE-MACHINE]")
    arguments = parser.parse_args()
    output = arguments.output or _default_output()
    tables, failed = [], []
    for name in arguments.only or (SMOKE_NAMES if arguments.smoke else NAMES):
        print(f"# {name}", file=sys.stderr, flush=True)
        options = ["--smoke"] if arguments.smoke else ["--output", str(output / f"{name}.json")]
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *options], stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout, flush=True)
        tables.append(done.stdout)
        if done.returncode:
            failed.append(name)
    if not arguments.smoke:
        (output / "summary.md").write_text("\n".join(tables), encoding="utf-8")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _default_output() -> Path:
    import torch

    from benchmarks.measure import describe_machine

    machine = describe_machine()
    kind = (
        torch.cuda.get_device_name().replace(" ", "-")
        if torch.cuda.is_available()
        else f"{machine['cores']}-core-CPU"
    )
    return Path(__file__).parent / "results" / f"{datetime.now(UTC).date().isoformat()}-{kind}"


if __name__ == "__main__":
    main()
