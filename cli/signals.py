"""Requests to end: Ctrl-C, signals, a lost terminal, a closed pipe; and how their exit code is called."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

EXIT_INTERRUPTED = 130  # of every verb that Ctrl-C or a request to end stopped; what was done is kept


class StopRequest:
    """Whether a running verb is asked to end: by Ctrl-C, by a signal, or because nobody reads its output any more.

    Attributes:
        requested: whether it is.
    """

    def __init__(self) -> None:
        self.requested = False

    def receive(self, number: int, _: object) -> None:
        """Handles a signal: the first one asks to end, the second one ends at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if os.environ.get("RANK", "0") == "0":
            self.print("\nStopping after this step and saving; once more to stop at once.", err=True)

    def print(self, text: str, *, err: bool = False) -> None:
        """Prints a line; a pipe that is closed or a terminal that is gone asks to end, as a signal does."""
        try:
            click.echo(text, err=err)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.requested = True
            _discard_output()


def _discard_output() -> None:
    """Sends what is printed from now on nowhere, also what Python flushes when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def end_signals() -> list[signal.Signals]:
    """The signals that ask a process to end, of those that this system has and that are not ignored (as by nohup)."""
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    return [each for each in known if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN]


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns Ctrl-C, a request to end and a lost terminal into a `StopRequest` for as long as the block lasts."""
    stop = StopRequest()
    before = {each: signal.signal(each, stop.receive) for each in end_signals()}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def thread_errors_once() -> Iterator[None]:
    """Keeps OSErrors of the thread that writes TensorBoard's files from being printed twice.

    It raises them in the main thread as well.
    """
    before = threading.excepthook

    def print_others(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            before(arguments)

    threading.excepthook = print_others
    try:
        yield
    finally:
        threading.excepthook = before
