"""Fuzzes every reader for a given time: python -m tests.fuzz --seconds 600 --corpus build/fuzz

With atheris (`pip install atheris`) the mutations follow the coverage of the readers' Python code, kernels included,
which then run without being compiled; readers whose work is done in libraries are called as they are. Without it,
inputs of the corpus are mutated at random. Each reader runs in a process of its own, under limits of time and memory
per input. The corpus is kept, so that a later run continues from it; a finding is written to a file, which
belongs in `tests/fuzz/regressions/READER/`.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.util
import os
import random
import re
import resource
import subprocess
import sys
import time
import traceback
from pathlib import Path

INPUT_TIMEOUT_S = 60
MEMORY_MB = 3072
MAX_INPUT_BYTES = 16_384
# These spend their time in compiled code, whose coverage is not seen, and their kernels are too slow without it.
COMPILED = ("photo", "mask", "shape", "manifest", "upload", "weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="in all, shared by the readers")
    parser.add_argument("--reader", action="append", help="this one alone; may be given several times")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"), help="folder of inputs and findings")
    parser.add_argument("--random", action="store_true", help="random mutations though atheris is installed")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        fuzz_here(arguments.inside, arguments.corpus, arguments.seconds, is_random=arguments.random)
        return
    is_guided = not arguments.random and importlib.util.find_spec("atheris") is not None
    names = arguments.reader or reader_names()
    print(f"{'reader':12} {'executions':>12} {'a second':>9} {'corpus':>7} {'findings':>9}", flush=True)
    total = found = 0
    for name in names:
        executions, seconds, findings = fuzz(name, arguments.corpus, arguments.seconds / len(names), is_guided)
        kept = len(list((arguments.corpus / name).glob("*")))
        print(f"{name:12} {executions:12,} {executions / seconds:9.0f} {kept:7,} {len(findings):9}", flush=True)
        for finding in findings:
            print(f"    {finding}", flush=True)
        total, found = total + executions, found + len(findings)
    print(f"{'all':12} {total:12,} {'':9} {'':7} {found:9}")
    sys.exit(1 if found else 0)


def reader_names() -> list[str]:
    command = [sys.executable, "-c", "from tests.fuzz.readers import READERS; print(*READERS)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def fuzz(name: str, corpus: Path, seconds: float, is_guided: bool) -> tuple[int, float, list[str]]:
    """Fuzzes a reader in processes of its own; returns executions, seconds, and a line for each finding."""
    started, executions, findings = time.monotonic(), 0, list[str]()
    while (left := seconds - (time.monotonic() - started)) > 1 and len(findings) < 5:
        command = [
            sys.executable,
            "-m",
            "tests.fuzz",
            "--inside",
            name,
            "--corpus",
            str(corpus),
            "--seconds",
            f"{left}",
        ]
        command += [] if is_guided else ["--random"]
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        if is_guided and name not in COMPILED:
            environment["NUMBA_DISABLE_JIT"] = "1"
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, errors="replace")
        said = done.stdout + done.stderr
        counts = re.findall(r"(?:stat::number_of_executed_units:|^executions|^#)\s*(\d+)", said, re.MULTILINE)
        executions += max(map(int, counts), default=0)
        if done.returncode == 0:
            break
        kept = re.findall(r"Test unit written to (\S+)", said)
        reason = re.findall(r"^\w*(?:Error|Exception|Warning)\b.*$", said, re.MULTILINE)
        reason = reason or re.findall(
            r"^(?:==\d+== ?ERROR.*|.*timeout after.*|.*out-of-memory.*)$", said, re.MULTILINE
        )
        findings.append(f"{kept[-1] if kept else 'no file'}: {(reason or [said[-300:]])[-1][:200]}")
    return executions, max(time.monotonic() - started, 1e-3), findings


def fuzz_here(name: str, corpus: Path, seconds: float, *, is_random: bool) -> None:
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    if is_random:
        from tests.fuzz.readers import READERS

        mutate_at_random(name, READERS[name], folder, seconds)
        return
    import atheris

    with atheris.instrument_imports(include=["vondata", "vonmodel", "voncli"]):
        from tests.fuzz.readers import READERS

        reader = READERS[name]
        for seed in reader.seeds():  # imports what is imported late, too
            reader(seed)
    fill(name, reader, folder)
    words = corpus / f"{name}.words"
    words.write_text("".join(f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in word)}"\n' for word in reader.words))
    options = [
        f"-max_total_time={int(seconds)}",
        f"-timeout={INPUT_TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-artifact_prefix={corpus}/{name}-",
        f"-dict={words}",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder)], reader)
    atheris.Fuzz()


def fill(name: str, reader: object, folder: Path) -> None:
    """Puts the seeds and the regressions into an empty corpus."""
    from tests.fuzz.readers import REGRESSIONS, Reader

    assert isinstance(reader, Reader)
    if not any(folder.iterdir()):
        known = [path.read_bytes() for path in sorted((REGRESSIONS / name).glob("*"))]
        for number, content in enumerate([*reader.seeds(), *known]):
            (folder / f"seed{number:03}").write_bytes(content)


def mutate_at_random(name: str, reader: object, folder: Path, seconds: float) -> None:
    """Runs mutated inputs until the time is over; the first finding is written down and ends the process."""
    from tests.fuzz.readers import Reader

    assert isinstance(reader, Reader)
    fill(name, reader, folder)
    faulthandler.dump_traceback_later(seconds + INPUT_TIMEOUT_S, exit=True)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MB << 20, resource.RLIM_INFINITY))
    corpus = [path.read_bytes() for path in sorted(folder.iterdir())]
    seed = time.time_ns()
    rng, end, executions = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        content = mutated(rng, corpus, reader.words)
        executions += 1
        try:
            reader(content)
        except Exception:
            path = folder.parent / f"{name}-crash-{seed}-{executions}"
            path.write_bytes(content)
            print(f"executions {executions}\nTest unit written to {path}")
            traceback.print_exc()
            sys.exit(1)
    print(f"executions {executions}")


def mutated(rng: random.Random, corpus: list[bytes], words: tuple[bytes, ...]) -> bytes:
    """An input of the corpus with up to eight changes."""
    content = bytearray(rng.choice(corpus))
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(7):
            case 0 if content:
                content[at % len(content)] ^= 1 << rng.randrange(8)
            case 1 if content:
                content[at % len(content)] = rng.choice((0, 1, 127, 128, 255))
            case 2:
                del content[at : at + rng.randint(1, 16)]
            case 3:
                content[at:at] = rng.randbytes(rng.randint(1, 8))
            case 4 if words:
                content[at:at] = rng.choice(words)
            case 5:
                other = rng.choice(corpus)
                start = rng.randrange(len(other) + 1)
                content[at : at + 32] = other[start : start + rng.randint(1, 64)]
            case _:
                digits = [found.span() for found in re.finditer(rb"\d+", content[:4096])]
                if digits:
                    start, stop = rng.choice(digits)
                    number = rng.choice(
                        (b"-1", b"0", b"255", b"65536", b"4294967295", b"99999999999999999999", b"1e400")
                    )
                    content[start:stop] = number
    return bytes(content[:MAX_INPUT_BYTES])


if __name__ == "__main__":
    main()
