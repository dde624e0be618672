"""Long work that a page watches: how far it is, how it ended, and that nobody waits for it any more."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

TASKS_KEPT = 32
PATIENCE_S = 90.0
"""A page that has not asked for its task so long is gone, and the task is given up."""


class UnknownTaskError(KeyError):
    """A task that there is not, or that ended long ago."""

    def __str__(self) -> str:
        return "there is no such task any more"


class Task:
    """One piece of long work, told about from the thread that does it and asked about from others.

    Attributes:
        id: unguessable.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.id = secrets.token_urlsafe(9)
        self._now, self._asked = now, now()
        self._lock = threading.Lock()
        self._cancelled = False
        self._state: dict[str, Any] = {"state": "waiting", "share": 0.0, "doing": "waiting its turn"}

    def progress(self, share: float, doing: str) -> None:
        """Notes how much is done, 0 to 1, and what is being done."""
        self._update(state="working", share=share, doing=doing)

    def succeed(self, result: Mapping[str, Any]) -> None:
        """Notes the result."""
        self._update(state="done", share=1.0, result=result)

    def fail(self, message: str) -> None:
        """Notes why there is no result."""
        self._update(state="failed", error=message)

    def cancel(self) -> None:
        """Asks the work to stop."""
        with self._lock:
            self._cancelled = True
            if self._state["state"] == "waiting":
                self._state["state"] = "cancelled"

    def cancelled(self) -> bool:
        """Whether the work is to stop: it was cancelled, or nobody asks any more."""
        with self._lock:
            return self._cancelled or self._now() - self._asked > PATIENCE_S

    def stopped(self) -> None:
        """Notes that the work has stopped unfinished."""
        self._update(state="cancelled")

    def look(self) -> Mapping[str, Any]:
        """How it stands; who looks still waits for it."""
        with self._lock:
            self._asked = self._now()
            return {"id": self.id, **self._state}

    def _update(self, **values: Any) -> None:
        with self._lock:
            self._state |= values


class TaskBoard:
    """The tasks of all pages."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, Task] = OrderedDict()

    def add(self) -> Task:
        """A new task; the oldest go."""
        task = Task()
        self._tasks[task.id] = task
        while len(self._tasks) > TASKS_KEPT:
            self._tasks.popitem(last=False)[1].cancel()
        return task

    def find(self, id: str) -> Task:
        """A task by its id.

        Raises:
            UnknownTaskError: there is none.
        """
        if id not in self._tasks:
            raise UnknownTaskError
        return self._tasks[id]

    def cancel_all(self) -> None:
        """Asks all of them to stop."""
        for task in self._tasks.values():
            task.cancel()
