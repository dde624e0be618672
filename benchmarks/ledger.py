"""Benchmark of the ledger's cost per item: planning, journal, manifest and resume, with a trivial work function.

`python -m benchmarks.ledger --items 100000`. Every phase runs in its own process, once with all items and once with a
quarter of them, so that the time and memory of start-up are excluded. `--resume-only` measures only the resume of a
finished run, whose journal and outputs it writes itself: a million items take minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vondata.dataset.manifest import output_path, split_of
from vondata.dataset.schema import plain_row
from vondata.pipeline.journal import Journal, journal_path
from vondata.pipeline.plan import PrepareOptions, SettingsKey
from vondata.pipeline.run import prepare
from vondata.pipeline.task import hash_content, stamp_inputs
from vondata.types import Item

from .measure import Table

FILES_PER_FOLDER = 1000


@dataclass(frozen=True)
class NoSettings:
    """The empty settings of the trivial work function."""


def touch(item: Item, settings: NoSettings, output: Path) -> Mapping[str, Any]:
    """A trivial work function: one system call."""
    output.touch()
    return {"faces": len(item.id)}


def write_inputs(root: Path, count: int) -> None:
    """Small files, each with its own content."""
    for number in range(count):
        path = _input(root, number)
        if number % FILES_PER_FOLDER == 0:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(str(number))


def items(root: Path, count: int) -> Iterator[Item]:
    """One item per input file, with the fields that a mesh has."""
    for number in range(count):
        path = _input(root, number)
        yield Item(f"{number:032x}", "chair", path, (path,), {"up": "y", "front": "-z"}, collection=f"meshes {root}")


def run_phase(root: Path, data: Path, count: int) -> dict[str, float]:
    """One preparation in this process: wall and processor seconds, peak memory in bytes, items processed."""
    (data / "chair" / "shapes").mkdir(parents=True, exist_ok=True)
    started, processor = time.perf_counter(), time.process_time()
    result = prepare("shapes", items(root, count), touch, NoSettings(), data, PrepareOptions(workers=0))
    return {
        "wall": time.perf_counter() - started,
        "processor": time.process_time() - processor,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0,
        "worked": result.classes["chair"].worked,
    }


def measure(root: Path, data: Path, count: int) -> dict[str, float]:
    """`run_phase` in a separate process."""
    command = [sys.executable, "-m", "benchmarks.ledger", "--phase", str(root), str(data), "--items", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def lay_down(root: Path, data: Path, count: int) -> None:
    """Writes the journal and outputs of a finished run of these items, without running it."""
    options = PrepareOptions(workers=0)
    key = SettingsKey.of("shapes", NoSettings(), options)
    (data / "chair" / "shapes").mkdir(parents=True)
    row = plain_row("shapes", {"class": "chair", "status": "prepared", "faces": 32, "seconds": 0.001})
    with Journal(data, "chair", "shapes") as journal:
        for item in items(root, count):
            output_path(data, "chair", "shapes", item.id).touch()
            digest, content = hash_content(item)
            known = {"id": item.id, "source": item.source, "sha256": digest, "split": split_of(item.id)}
            journal.record(
                item.id,
                stamp=stamp_inputs(item),
                content=content,
                settings=key.output,
                input=item.inputs[0],
                row=row | known | {"collection": item.collection, "settings": key.output},
            )
    run_phase(root, data, count)  # writes the tables


def compare(table: Table, folder: Path, count: int) -> None:
    """Adds a row per phase: the cost per item beyond the first quarter of them."""
    root, part = folder / "inputs", count // 4
    write_inputs(root, count)
    for phase in ("first run", "resume", "files touched"):
        if phase == "files touched":
            for number in range(count):
                os.utime(_input(root, number))
        few, all = measure(root, folder / "part", part), measure(root, folder / "all", count)
        an_item = {key: (all[key] - few[key]) / (count - part) for key in ("wall", "processor", "memory")}
        journal = journal_path(folder / "all", "chair", "shapes").stat().st_size
        table.add(
            **{
                "phase": phase,
                "worked on": int(all["worked"]),
                "wall s": all["wall"],
                "ms an item": 1000 * an_item["wall"],
                "processor ms an item": 1000 * an_item["processor"],
                "memory B an item": an_item["memory"],
                "journal B an item": journal / count,
            }
        )


def resume(table: Table, folder: Path, count: int) -> None:
    """Adds a row: the resume of a finished run."""
    write_inputs(folder / "inputs", count)
    lay_down(folder / "inputs", folder / "data", count)
    found = measure(folder / "inputs", folder / "data", count)
    table.add(
        **{
            "phase": "resume",
            "worked on": int(found["worked"]),
            "wall s": found["wall"],
            "processor s": found["processor"],
            "peak memory MB": found["memory"] / 2**20,
            "journal B an item": journal_path(folder / "data", "chair", "shapes").stat().st_size / count,
        }
    )


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--output", type=Path, help="also save the table as JSON")
    parser.add_argument("--resume-only", action="store_true", help="measure the resume of a finished run")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--phase", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase:
        root, data = arguments.phase
        print(json.dumps(run_phase(root, data, arguments.items)))
        return
    command = f"python -m benchmarks.ledger --items {arguments.items}"
    table = Table(f"The ledger with {arguments.items:,} items", command + " --resume-only" * arguments.resume_only)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.resume_only:
            resume(table, Path(folder), arguments.items)
        else:
            compare(table, Path(folder), arguments.items)
            table.notes.append(
                "The first run includes hashing the inputs and making the outputs (empty files). A resume finds "
                "everything done. After touching, every file is read again and found unchanged, and gets a second "
                "journal line."
            )
    table.finish(arguments.output)


def _input(root: Path, number: int) -> str:
    return f"{root}/{number // FILES_PER_FOLDER}/{number}.obj"  # a Path would cost more than the whole planning


if __name__ == "__main__":
    main()
