"""Training and rendering under faults, with real processes: kills, signals, full disks, damaged files, two at once.

After each fault the same command runs once more, after the remedy named in its message. Then the weights, or the
rendered files, must equal those of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.faults.scene import Count, Forks, Tally, enlarge, kill, small_disk, start, von, write_collections
from tests.faults.test_prepare_faults import DAMAGES, check, remove
from tests.harness import SMALL_MODEL

pytestmark = pytest.mark.slow
STAGES = ("shape", "texture", "joint")
STEPS = 4  # of a stage, a checkpoint after every second one
# What kills at a system call go for: where a checkpoint, a statistic or a sheet is half there.
CALLS = ("rename", "fsync", "write", "unlink", "mkdir")
SETTINGS = [
    *SMALL_MODEL,
    *("--set=output.log_every=1", "--set=output.sample_every=2", "--set=output.save_every=2"),
    *(
        f"--set={stage}.{setting}"
        for stage in STAGES
        for setting in ("batch_size=2", 'unit="steps"', f"steady={STEPS}", "decaying=0", "average=0.9")
    ),
]
Tensors = dict[str, dict[str, torch.Tensor]]


def command(data: Path, run: Path) -> list[str]:
    return ["train", "--class=chair", f"--data={data}", f"--output={run}", *SETTINGS]


def weights(run: Path) -> Tensors:
    """All tensors of the last checkpoint of each stage, including those that only training needs."""
    found = {}
    for stage in STAGES:
        for part in ("networks", "average", "training"):
            file = run / "checkpoints" / f"{stage}-{STEPS:08d}" / f"{part}.safetensors"
            if file.is_file():
                found[f"{stage} {part}"] = load_file(file)
    return found


def compare(count: Count, expected: Tensors, run: Path, note: str) -> None:
    found = weights(run)
    lost = sorted(expected.keys() - found.keys())
    wrong = [name for name in found if not same(expected[name], found[name])]
    count.lost += len(lost)
    count.wrong += len(wrong)
    if lost or wrong:
        count.notes.append(f"{note}: lost {lost[:3]}, wrong {wrong[:3]}")
    rest = [path.name for path in run.rglob(".*") if "partial" in path.name or "removed" in path.name]
    if rest:
        count.unclear += 1
        count.notes.append(f"{note}: left {rest[:3]}")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def go_on(forks: Forks, data: Path, run: Path, expected: Tensors, count: Count, note: str) -> None:
    code, said = forks.run(command(data, run))
    if code or "Traceback" in said:
        count.unclear += 1
        count.notes.append(f"{note}: the run after it ended with {code}: {said[-300:]}")
        return
    compare(count, expected, run, note)


@pytest.fixture(scope="module")
def whole(forks: Forks, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """An undisturbed run, and its duration in seconds."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    started = time.monotonic()
    code, said = forks.run(command(tiny_data, run))
    assert code == 0, said
    return run, time.monotonic() - started


def wait_for(forks: Forks, run: Path, stage: str) -> None:
    """Waits until the statistics of a run name a stage, or it has ended."""
    stats = run / "stats.jsonl"
    while not forks.has_ended():
        if stats.is_file() and f'"stage": "{stage}"' in stats.read_text("utf-8", "replace"):
            return
        time.sleep(0.01)


def end(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process, number)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_in_each_stage(
    stage: str, forks: Forks, tiny_data: Path, whole: tuple[Path, float], tally: Tally, tries: int, tmp_path: Path
) -> None:
    count, rng, expected = tally[f"kill -9, train {stage}"], random.Random(stage), weights(whole[0])
    for attempt in range(tries):
        run = tmp_path / f"run{attempt}"
        if stage != "shape":  # begin where the stage before has ended
            shutil.copytree(whole[0], run)
            (run / "stats.jsonl").unlink()
            for later in STAGES[STAGES.index(stage) :]:
                for folder in (run / "checkpoints").glob(f"{later}-*"):
                    shutil.rmtree(folder)
        process = forks.start(command(tiny_data, run))
        wait_for(forks, run, stage)
        time.sleep(rng.uniform(0.0, 0.2) * whole[1])
        end(process, signal.SIGKILL)
        forks.wait()
        count.tries += 1
        go_on(forks, tiny_data, run, expected, count, f"try {attempt}")
        shutil.rmtree(run)
    check(count)


@pytest.mark.parametrize("call", CALLS)
def test_killed_at_a_system_call(
    call: str, forks: Forks, tiny_data: Path, whole: tuple[Path, float], tally: Tally, tries: int, tmp_path: Path
) -> None:
    count, rng, expected = tally[f"kill at {call}, train"], random.Random(call), weights(whole[0])
    for attempt in range(max(1, tries // 5)):
        run = tmp_path / f"run{attempt}"
        number = rng.randrange(1, 40 if call in ("write", "fsync") else 12)
        code, said = forks.run(command(tiny_data, run), (call, number, run))
        count.tries += 1
        if code not in (0, -signal.SIGKILL):
            count.unclear += 1
            count.notes.append(f"{call} {number}: {code} {said[-300:]}")
        go_on(forks, tiny_data, run, expected, count, f"{call} {number}")
        shutil.rmtree(run)
    check(count)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_asked_to_stop(
    name: str, forks: Forks, tiny_data: Path, whole: tuple[Path, float], tally: Tally, tries: int, tmp_path: Path
) -> None:
    count, rng, expected = tally[f"{name}, train"], random.Random(name), weights(whole[0])
    for attempt in range(max(1, tries // 10)):
        run = tmp_path / f"run{attempt}"
        process = forks.start(command(tiny_data, run))
        wait_for(forks, run, rng.choice(STAGES))
        end(process, getattr(signal, name))
        _, said = forks.wait()
        count.tries += 1
        if "Traceback" in said:
            count.unclear += 1
            count.notes.append(f"try {attempt}: {said[-300:]}")
        go_on(forks, tiny_data, run, expected, count, f"try {attempt}")
    check(count)


def test_a_full_disk(
    forks: Forks, tiny_data: Path, whole: tuple[Path, float], tally: Tally, tries: int, tmp_path: Path
) -> None:
    count, rng, expected = tally["full disk of the run, train"], random.Random(1), weights(whole[0])
    size_kb = sum(path.stat().st_size for path in whole[0].rglob("*") if path.is_file()) >> 10
    for attempt in range(max(2, tries // 5)):
        disk = tmp_path / f"disk{attempt}"
        room_kb = rng.randrange(4, max(8, size_kb))
        try:
            with small_disk(disk, room_kb):
                run = disk / "run"
                code, said = forks.run(command(tiny_data, run))
                count.tries += 1
                if "Traceback" in said or (code != 0 and str(disk) not in said):
                    count.unclear += 1
                    count.notes.append(f"{room_kb} kB: {code} {said[-400:]}")
                enlarge(disk)
                go_on(forks, tiny_data, run, expected, count, f"{room_kb} kB")
        except PermissionError as error:
            pytest.skip(f"no small disk can be mounted: {error}")
    check(count)


@pytest.fixture
def cut_short(whole: tuple[Path, float], tmp_path: Path) -> Path:
    """A copy of the whole run that has the last stage still to do."""
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    shutil.rmtree(run / "checkpoints" / f"joint-{STEPS:08d}")
    return run


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damaged_file(
    damage: str, forks: Forks, tiny_data: Path, whole: tuple[Path, float], cut_short: Path, tally: Tally
) -> None:
    """A run resumes, from the previous checkpoint if necessary, or its error names the file."""
    count, rng, expected = tally[f"{damage}, train"], random.Random(damage), weights(whole[0])
    spare = cut_short.with_name("spare")
    shutil.copytree(cut_short, spare)
    joint = f"checkpoints/joint-{STEPS - 2:08d}"
    names = ["config.json", "stats.jsonl", "environment.json", f"{joint}/checkpoint.json"]
    names += [f"{joint}/training.safetensors", f"{joint}/networks.safetensors"]
    names += [f"checkpoints/texture-{STEPS:08d}/networks.safetensors"]
    for name in names:
        path = cut_short / name
        DAMAGES[damage](path, rng)
        count.tries += 1
        code, said = forks.run(command(tiny_data, cut_short))
        note = f"{damage} {name}"
        if "Traceback" in said or (code and path.name not in said):
            count.unclear += 1
            count.notes.append(f"{note}: {code} {said[-300:]}")
        if code:  # the remedy: the file as it was
            remove(path)
            path.parent.mkdir(exist_ok=True)
            shutil.copy(spare / name, path)
            go_on(forks, tiny_data, cut_short, expected, count, f"{note}, after the remedy")
        else:
            if name.startswith("checkpoints/texture"):  # which nothing reads once the joint stage has begun
                remove(path)
                shutil.copy(spare / name, path)
            compare(count, expected, cut_short, note)
        shutil.rmtree(cut_short)
        shutil.copytree(spare, cut_short)
    check(count)


def test_the_clock_set_back(
    forks: Forks, tiny_data: Path, whole: tuple[Path, float], cut_short: Path, tally: Tally
) -> None:
    """With files dated tomorrow, the newest checkpoint is still the one recorded in the run."""
    count = tally["clock set back, train"]
    for path in cut_short.rglob("*"):
        os.utime(path, (time.time() + 86_400,) * 2)
    count.tries += 1
    go_on(forks, tiny_data, cut_short, weights(whole[0]), count, "clock")
    check(count)


def test_two_at_once(
    forks: Forks, tiny_data: Path, whole: tuple[Path, float], tally: Tally, tries: int, tmp_path: Path
) -> None:
    count = tally["two at once, train"]
    for attempt in range(max(1, tries // 10)):
        run = tmp_path / f"run{attempt}"
        both = [start(command(tiny_data, run), env={**os.environ, "OMP_NUM_THREADS": "1"}) for _ in range(2)]
        said = [running.communicate(timeout=900)[0].decode() for running in both]
        count.tries += 1
        refused = [text for running, text in zip(both, said, strict=True) if running.returncode]
        if len(refused) > 1 or not all("is being trained by another process" in text for text in refused):
            count.unclear += 1
            count.notes.append(f"try {attempt}: {[text[-200:] for text in said]}")
        go_on(forks, tiny_data, run, weights(whole[0]), count, f"try {attempt}")
    check(count)


def rendered(output: Path) -> dict[str, str]:
    """Hashes of all rendered files by name."""
    files = (path for path in sorted(output.rglob("*")) if path.is_file() and "journal" not in path.parts)
    kept = (path for path in files if path.suffix in (".png", ".npz", ".exr") or path.name == "transforms.json")
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


@contextmanager
def meshes(folder: Path) -> Iterator[list[str]]:
    write_collections(folder)
    for path in sorted((folder / "meshes").iterdir())[4:]:
        path.unlink()
    yield [
        "render",
        str(folder / "meshes"),
        "--layout=meshes",
        "--class=chair",
        "--view-count=3",
        "--size=32",
        "--workers=0",
    ]


def test_rendering_killed_and_on_a_full_disk(tally: Tally, tries: int, tmp_path: Path) -> None:
    killed, full, rng = tally["kill -9, render"], tally["full disk, render"], random.Random(3)
    with meshes(tmp_path / "collection") as arguments:
        started = time.monotonic()
        done = von([*arguments, "--output", str(tmp_path / "whole")])
        assert done.returncode == 0, done.stderr
        duration_s, expected = time.monotonic() - started, rendered(tmp_path / "whole")
        assert expected
        for attempt in range(max(1, tries)):
            output = tmp_path / f"out{attempt}"
            running = start([*arguments, "--output", str(output)])
            time.sleep(rng.uniform(0.3, 1.0) * duration_s)
            kill(running)
            killed.tries += 1
            again(killed, arguments, output, expected, f"try {attempt}")
        for attempt in range(max(1, tries // 10)):
            try:
                with small_disk(tmp_path / f"disk{attempt}", rng.choice([8, 24, 48, 80])):
                    output = tmp_path / f"disk{attempt}" / "out"
                    done = von([*arguments, "--output", str(output)])
                    full.tries += 1
                    if "Traceback" in done.stderr or (done.returncode and str(output.parent) not in done.stderr):
                        full.unclear += 1
                        full.notes.append(done.stderr[-300:])
                    enlarge(output.parent)
                    again(full, arguments, output, expected, f"disk {attempt}")
            except PermissionError as error:
                pytest.skip(f"no small disk can be mounted: {error}")
    check(killed)
    check(full)


def again(count: Count, arguments: list[str], output: Path, expected: dict[str, str], note: str) -> None:
    done = von([*arguments, "--output", str(output)])
    found = rendered(output)
    count.unclear += bool(done.returncode)
    count.lost += len(expected.keys() - found.keys())
    count.wrong += sum(expected.get(name) != hash for name, hash in found.items())
    if done.returncode or found != expected:
        count.notes.append(
            f"{note}: {done.returncode} {done.stderr[-200:]} {sorted(expected.items() ^ found.items())[:3]}"
        )
