"""Several training processes on one machine: started together, stopped together; who ended first is named.

torch's elastic launcher does it less well here (2.13, two processes): where one ends with a sentence and code 130, it
prints 49 lines, a traceback of its own among them, and ends with 1 whatever the process ended with.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import click
from voncli.output import end_signals

# How long the others have to end by themselves once one has.
GRACE_S = 15.0


def train_on_devices(count: int, arguments: Sequence[str]) -> None:
    """Runs `von train` in one process for each device and ends with their exit code.

    Args:
        count: how many.
        arguments: those of this command.

    Raises:
        click.ClickException: one was killed; those that fail say why themselves.
        SystemExit: with the exit code of the first that failed.
    """
    processes = [_start(arguments, rank, count, port) for port in [free_port()] for rank in range(count)]
    before = {each: signal.signal(each, lambda number, _: _send(processes, number)) for each in end_signals()}
    try:
        first = _wait(processes)
        for rank, process in enumerate(processes):
            if process.poll() is None:
                click.echo(
                    f"training process {rank} did not end within {GRACE_S:.0f} s of the others: killed", err=True
                )
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for process in processes:
            process.kill()
            process.wait()
    if first is None:
        return
    code = processes[first].returncode
    if code < 0:
        raise click.ClickException(
            f"training process {first} of 0 to {count - 1} was ended by {signal.Signals(-code).name}, and the others "
            "were stopped; the same command goes on from the last checkpoint"
        )
    raise SystemExit(code)


def _start(arguments: Sequence[str], rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    # The variables that torchrun sets, so that training knows one way of being several.
    variables = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    environment = {**threads, **os.environ, **{name: str(value) for name, value in variables.items()}}
    # A session of its own, or Ctrl-C would reach it twice: from the terminal and from here.
    command = [sys.executable, "-m", "voncli", "train", *_without(arguments, "--devices", "--serve"), "--devices=1"]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _without(arguments: Sequence[str], counted: str, flag: str) -> list[str]:
    """The arguments without an option that takes a value and without a flag."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip or argument in (counted, flag):
            skip = argument == counted
        elif not argument.startswith(f"{counted}="):
            kept.append(argument)
    return kept


def free_port(wanted: int = 0) -> int:
    """A port that nothing on this machine listens on: the one wanted, else any."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _send(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        process.send_signal(number)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Waits for all to end well or, once one has not, a while for the others; says which one that was."""
    first: int | None = None
    deadline = float("inf")
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        failed = [rank for rank, process in enumerate(processes) if process.poll() not in (None, 0)]
        if failed and first is None:
            first, deadline = failed[0], time.monotonic() + GRACE_S
        time.sleep(0.1)
    if first is None:
        first = next((rank for rank, process in enumerate(processes) if process.returncode != 0), None)
    return first
