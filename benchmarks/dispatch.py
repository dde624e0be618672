"""Benchmark of the worker pool: items per second that one client can dispatch and record, which limits the workers.

`python -m benchmarks.dispatch`. The work function does nothing, so the client's processor time is the overhead per
item.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import prepare

from .ledger import NoSettings, items, touch, write_inputs
from .measure import Table


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, help="also save the table as JSON")
    arguments = parser.parse_args()
    table = Table(f"{arguments.items:,} items to {arguments.workers} workers", "python -m benchmarks.dispatch")
    with tempfile.TemporaryDirectory() as folder:
        root, data = Path(folder) / "inputs", Path(folder) / "data"
        write_inputs(root, arguments.items)
        (data / "chair" / "shapes").mkdir(parents=True)
        few = _run(root, data, arguments, arguments.items // 10)
        many = _run(root, data, arguments, arguments.items)
    count = arguments.items - 2 * (arguments.items // 10)  # the second run finds the first one's items done
    wall, processor = ((late - early) / count for early, late in zip(few, many, strict=True))
    table.add(
        **{"ms an item": 1000 * wall, "client's processor ms": 1000 * processor, "items/s at most": 1 / processor}
    )
    table.notes.append("The start of the processes does not count: the first tenth is taken off.")
    table.finish(arguments.output)


def _run(root: Path, data: Path, arguments: argparse.Namespace, count: int) -> tuple[float, float]:
    """Wall and processor seconds of a run."""
    started, processor = time.perf_counter(), time.process_time()
    prepare("shapes", items(root, count), touch, NoSettings(), data, PrepareOptions(workers=arguments.workers))
    return time.perf_counter() - started, time.process_time() - processor


if __name__ == "__main__":
    main()
