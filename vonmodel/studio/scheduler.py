"""Where the studio computes: view requests in one thread in order, long jobs in another, with their progress."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from vondata.errors import VonError

Answer = TypeVar("Answer")

MOST_WAITING = 512
MOST_LONG_WAITING = 8
MOST_LET_PASS_S = 0.5
"""Long work waits at most so long between two of its steps, or many askers would stop it altogether."""
ASKERS_REMEMBERED = 4096


class BusyError(VonError):
    """Too many are waiting already."""

    http_status = 503


class SupersededError(VonError):
    """The same asker has asked something newer meanwhile."""


@dataclass(frozen=True)
class Turn:
    """Who asks, and as the how-manieth question of theirs: of those waiting only the newest is answered.

    Attributes:
        asker: anything that tells askers apart.
        number: grows from question to question.
    """

    asker: Hashable
    number: int


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[], Any]
    future: Future[Any]
    turn: Turn | None


class Desk:
    """Computes one quick and one long thing at a time, each in its own thread; questions come from any thread."""

    def __init__(self, *, most_waiting: int = MOST_WAITING) -> None:
        """Starts the threads.

        Args:
            most_waiting: quick questions beyond this many are refused.
        """
        self._most_waiting = most_waiting
        self._quick: deque[_Job] = deque()
        self._long: deque[_Job] = deque()
        self._newest: OrderedDict[Hashable, int] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._answering = False
        self._threads = [
            threading.Thread(target=self._answer_questions, name="studio-questions", daemon=True),
            threading.Thread(target=self._do_long_work, name="studio-work", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, work: Callable[[], Answer], turn: Turn | None = None) -> Future[Answer]:
        """Queues quick work.

        Args:
            work: computes the answer.
            turn: whose question it is; theirs that still waits is dropped in favour of this one.

        Returns:
            the answer to be; it raises SupersededError where the asker had a newer question.

        Raises:
            BusyError: too many are waiting.
        """
        job = _Job(work, Future[Answer](), turn)
        with self._changed:
            useless = self._superseded_by(job)
            if useless is not job:
                self._check_room(self._quick, self._most_waiting, "questions")
                self._quick.append(job)
                self._changed.notify_all()
        if useless is not None and useless.future.set_running_or_notify_cancel():
            useless.future.set_exception(SupersededError("a newer question of yours came before this one's turn"))
        return job.future

    def ask_long(self, work: Callable[[], Answer]) -> Future[Answer]:
        """Queues long work, which is to call `let_pass` between its steps.

        Raises:
            BusyError: too many are waiting.
        """
        job = _Job(work, Future[Answer](), None)
        with self._changed:
            self._check_room(self._long, MOST_LONG_WAITING, "photos")
            self._long.append(job)
            self._changed.notify_all()
        return job.future

    def let_pass(self) -> None:
        """Waits for the quick questions to be answered, but not for long. To be called by long work between steps."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._answering or self._quick), MOST_LET_PASS_S)

    def close(self) -> None:
        """Ends the threads after what they are at; what waits is cancelled."""
        with self._changed:
            self._closed = True
            for job in (*self._quick, *self._long):
                job.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _check_room(self, waiting: deque[_Job], most: int, what: str) -> None:
        if self._closed:
            raise BusyError("the studio is closing")
        wanted = sum(not job.future.done() for job in waiting)
        if wanted >= most:
            raise BusyError(f"{wanted} {what} are waiting already; try again in a moment")

    def _superseded_by(self, job: _Job) -> _Job | None:
        """The question not to answer: one of the same asker that waited, taken off the queue, or this one."""
        if job.turn is None:
            return None
        asker, number = job.turn.asker, job.turn.number
        if self._newest.get(asker, number) > number:
            return job
        self._newest[asker] = number
        self._newest.move_to_end(asker)
        if len(self._newest) > ASKERS_REMEMBERED:
            self._newest.popitem(last=False)
        before = next((each for each in self._quick if each.turn is not None and each.turn.asker == asker), None)
        if before is not None:
            self._quick.remove(before)
        return before

    def _answer_questions(self) -> None:
        while (job := self._next_question()) is not None:
            _answer(job)

    def _next_question(self) -> _Job | None:
        with self._changed:
            self._answering = False
            self._changed.notify_all()
            job = self._next(self._quick)
            self._answering = job is not None
            return job

    def _do_long_work(self) -> None:
        while (job := self._next(self._long)) is not None:
            _answer(job)

    def _next(self, waiting: deque[_Job]) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or waiting)
            return waiting.popleft() if waiting else None


def _answer(job: _Job) -> None:
    if not job.future.set_running_or_notify_cancel():
        return  # nobody waits for it any more
    try:
        answer = job.work()
    except BaseException as error:  # noqa: BLE001  # raised again where the answer is awaited
        job.future.set_exception(error)
    else:
        job.future.set_result(answer)


TASKS_KEPT = 32
PATIENCE_S = 90.0
"""A page that has not asked for its task so long is gone, and the task is given up."""


class UnknownTaskError(VonError, KeyError):
    """A task that there is not, or that ended long ago."""

    http_status = 404

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
            raise UnknownTaskError(f"there is no work {id!r}: it ended long ago, or the studio was started anew")
        return self._tasks[id]

    def cancel_all(self) -> None:
        """Asks all of them to stop."""
        for task in self._tasks.values():
            task.cancel()
