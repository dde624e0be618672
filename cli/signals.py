"""Ends of a training that come from outside: Ctrl-C, a request to end, a full disk."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Collects the first Ctrl-C or request to end, for the training loop to see; the second one ends at once."""
    received: list[int] = []

    def receive(number: int, _: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        if os.environ.get("RANK", "0") == "0":
            click.echo("\nStopping after this step and saving; once more to stop at once.", err=True)

    before = {each: signal.signal(each, receive) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def disk_errors_said_once() -> Iterator[None]:
    """Keeps what the thread that writes TensorBoard's files could not write from being told twice.

    It raises its error in the main thread as well.
    """
    before = threading.excepthook

    def tell(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            before(arguments)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = before
