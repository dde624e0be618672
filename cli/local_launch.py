"""Several training processes on one machine: started together, stopped together; who ended first is named."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import click

# How long the others have to end by themselves once one has.
GRACE_S = 15.0
INTERRUPTED = 130


class RememberingCommand(click.Command):
    """A command that keeps its arguments as they were given, to start processes with the same ones."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses them, and keeps them in the context's `meta`."""
        ctx.meta["von.arguments"] = list(args)
        return super().parse_args(ctx, args)


def train_on_devices(count: int, arguments: Sequence[str]) -> None:
    """Runs `von train` in one process for each device and ends with their exit code.

    Args:
        count: how many.
        arguments: those of this command.

    Raises:
        click.ClickException: one was killed; those that fail say why themselves.
        SystemExit: with the exit code of the first that failed.
    """
    processes = [_start(arguments, rank, count, port) for port in [_free_port()] for rank in range(count)]
    before = {each: signal.signal(each, lambda number, _: _send(processes, number)) for each in _SIGNALS}
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


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    command = [sys.executable, "-m", "voncli", "train", *arguments, "--devices=1"]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _free_port() -> int:
    with socket.socket() as probe:
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
