"""Where things are computed: quick questions in one thread in their order, long work in another.

Long work waits whenever it comes up for breath while a quick question is being answered, and never keeps one waiting:
a slider answers while a photo is being reconstructed, however long its steps are. What its asker no longer waits for
is not computed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

Answer = TypeVar("Answer")

MOST_WAITING = 512
MOST_LONG_WAITING = 8
MOST_LET_PASS_S = 0.5
"""Long work waits at most so long between two of its steps, or many askers would stop it altogether."""
ASKERS_REMEMBERED = 4096


class BusyError(Exception):
    """Too many are waiting already."""


class SupersededError(Exception):
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
