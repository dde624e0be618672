"""Preparation under faults, with real processes: kills, signals, full disks, damaged files, two runs at once.

After each fault the same command runs once more, as a user would do, after the remedy named in its message. Then
every row and every file must equal those of an undisturbed run.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import (
    Count,
    Driver,
    Forks,
    Tally,
    Verb,
    compare,
    enlarge,
    kill,
    leftovers,
    small_disk,
    start,
    von,
)
from vondata.pipeline.verify import verify_dataset

pytestmark = pytest.mark.slow
VERBS = (0, 1)
Expected = dict[str, tuple[dict[str, str], Path]]


def run_again(forks: Forks, verb: Verb, data: Path, expected: Expected, count: Count, note: str) -> None:
    code, said = forks.run(verb.command(data))
    if code != 0 or "Traceback" in said:
        count.unclear += 1
        count.notes.append(f"{note}: the run after it ended with {code}: {said[-300:]}")
        return
    compare(count, expected[verb.name][0], data, note)
    damages = list(verify_dataset(data))
    rest = leftovers(data)
    count.wrong += len(damages)
    count.unclear += bool(rest)
    if damages or rest:
        count.notes.append(f"{note}: {[each.file for each in damages]}, left {rest[:3]}")


def check(count: Count) -> None:
    assert (count.lost, count.wrong, count.unclear) == (0, 0, 0), "\n".join(count.notes)


@pytest.mark.parametrize("number", VERBS)
def test_killed_at_any_moment(
    number: int, verbs: list[Verb], expected: Expected, tally: Tally, tries: int, forks: Forks, tmp_path: Path
) -> None:
    verb, rng = verbs[number], random.Random(number)
    count = tally[f"kill -9, {verb.name}"]
    started = time.monotonic()
    von(verb.command(tmp_path / "timed"))
    duration_s = time.monotonic() - started
    for attempt in range(tries):
        data = tmp_path / f"data{attempt}"
        # Existing datasets are tested as well: their manifest, record and page are replaced.
        if attempt % 2:
            shutil.copytree(expected[verb.name][1], data)
        arguments = verb.command(data) + (["--force"] if attempt % 2 else [])
        running = start(arguments)
        time.sleep(rng.uniform(0.2, 1.0) * duration_s)
        kill(running)
        count.tries += 1
        run_again(forks, verb, data, expected, count, f"try {attempt}")
        shutil.rmtree(data)
    check(count)


@pytest.mark.parametrize("number", VERBS)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_asked_to_stop(
    number: int,
    name: str,
    verbs: list[Verb],
    expected: Expected,
    tally: Tally,
    tries: int,
    forks: Forks,
    tmp_path: Path,
) -> None:
    verb, rng = verbs[number], random.Random(name)
    count = tally[f"{name}, {verb.name}"]
    for attempt in range(max(1, tries // 10)):
        data = tmp_path / f"data{attempt}"
        running = start(verb.command(data))
        while running.poll() is None and not (data / "journal").exists():
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.3))
        os.killpg(running.pid, getattr(signal, name))
        said, _ = running.communicate(timeout=900)
        count.tries += 1
        if b"Traceback" in said:
            count.unclear += 1
            count.notes.append(f"try {attempt}: {said[-300:].decode()}")
        run_again(forks, verb, data, expected, count, f"try {attempt}")
    check(count)


@pytest.mark.parametrize("number", VERBS)
@pytest.mark.parametrize("place", ["data", "tmp"])
def test_a_full_disk(
    number: int,
    place: str,
    verbs: list[Verb],
    expected: Expected,
    tally: Tally,
    tries: int,
    forks: Forks,
    tmp_path: Path,
) -> None:
    verb, rng = verbs[number], random.Random(number)
    count = tally[f"full disk of {place}, {verb.name}"]
    for attempt in range(max(2, tries // 5)):
        disk = tmp_path / f"disk{attempt}"
        size_kb = rng.choice([4, 16, 32, 48, 64, 80, 96, 120, 160]) if place == "data" else 4
        try:
            with small_disk(disk, size_kb):
                data = disk / "data" if place == "data" else tmp_path / f"data{attempt}"
                if place == "tmp":
                    (disk / "full").write_bytes(bytes(3500))  # enough room to seem usable
                code, said = forks.run(verb.command(data), temporary=disk if place == "tmp" else None)
                count.tries += 1
                if "Traceback" in said or (code != 0 and str(disk) not in said):
                    count.unclear += 1
                    count.notes.append(f"{size_kb} kB: {code} {said[-400:]}")
                enlarge(disk)
                run_again(forks, verb, data, expected, count, f"{size_kb} kB")
        except PermissionError as error:
            pytest.skip(f"no small disk can be mounted: {error}")
    check(count)


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(20):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def replace(path: Path, make: Callable[[], None]) -> None:
    path.unlink()
    make()


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "emptied": lambda path, _: path.write_bytes(b"") and None,
    "cut": lambda path, rng: os.truncate(path, rng.randrange(path.stat().st_size)),
    "one bit": lambda path, rng: os.truncate(path, path.stat().st_size) or _flip_one(path, rng),
    "20 bits": flip,
    "missing": lambda path, _: path.unlink(),
    "a folder": lambda path, _: replace(path, path.mkdir),
    "a loop": lambda path, _: replace(path, lambda: path.symlink_to(path)),
    "a pipe": lambda path, _: replace(path, lambda: os.mkfifo(path)),
    "random": lambda path, rng: path.write_bytes(rng.randbytes(1000)) and None,
    "deep JSON": lambda path, _: path.write_bytes(b"[" * 100_000) and None,
}


def _flip_one(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def ending(result: dict[str, Any]) -> str:
    return f"{result['code']} {(result['trace'] or result['output'])[-300:]}"


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("number", VERBS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damaged_file(
    number: int, damage: str, verbs: list[Verb], expected: Expected, tally: Tally, driver: Driver, tmp_path: Path
) -> None:
    verb, rng = verbs[number], random.Random(damage)
    count = tally[f"{damage}, {verb.name}"]
    whole = expected[verb.name][1]
    outputs = sorted((whole / "chair" / verb.kind).iterdir())
    files = [
        whole / "von-dataset.json",
        whole / "journal" / f"chair-{verb.kind}.jsonl",
        whole / "chair" / f"{verb.kind}.parquet",
        whole / "chair" / f"{verb.kind}.csv",
        *rng.sample(outputs, 2),
    ]
    for file in files:
        data = tmp_path / "data"
        shutil.copytree(whole, data)
        path = data / file.relative_to(whole)
        DAMAGES[damage](path, rng)
        count.tries += 1
        note = f"{damage} {path.name}"
        for arguments in (
            ["inspect", str(data), "--verify"],
            ["inspect", str(data), "--no-page"],
            verb.command(data),
        ):
            result = driver.run(arguments)
            if result["trace"] or (result["code"] and path.name not in result["output"]):
                count.unclear += 1
                count.notes.append(
                    f"{note}, {arguments[0]}: {result['code']} {(result['trace'] or result['output'])[-300:]}"
                )
        named = {Path(each.file) for each in verify_dataset(data)}
        for each in [*named, *([path] if not path.is_file() else [])]:
            remove(each)  # the remedy that is named
        result = driver.run(verb.command(data))
        if result["code"] != 0:
            count.unclear += 1
            count.notes.append(
                f"{note}, after the remedy: {result['code']} {(result['trace'] or result['output'])[-300:]}"
            )
        else:
            compare(count, expected[verb.name][0], data, note)
        shutil.rmtree(data)
    check(count)


@pytest.mark.parametrize("number", VERBS)
def test_two_at_once(
    number: int, verbs: list[Verb], expected: Expected, tally: Tally, tries: int, forks: Forks, tmp_path: Path
) -> None:
    verb = verbs[number]
    count = tally[f"two at once, {verb.name}"]
    for attempt in range(max(1, tries // 10)):
        data = tmp_path / f"data{attempt}"
        both = [start(verb.command(data)) for _ in range(2)]
        said = [running.communicate(timeout=900)[0].decode() for running in both]
        count.tries += 1
        codes = sorted(running.returncode for running in both)
        refused = [text for running, text in zip(both, said, strict=True) if running.returncode]
        if codes not in ([0, 0], [0, 1]) or not all("another process is writing" in text for text in refused):
            count.unclear += 1
            count.notes.append(f"try {attempt}: {codes} {[text[-200:] for text in said]}")
        run_again(forks, verb, data, expected, count, f"try {attempt}")
    check(count)
