"""Job scheduler of the studio: one thread for interactive view requests, one for background jobs."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from vondata.errors import VonError

Result = TypeVar("Result")

MAX_QUEUE = 512
MAX_BACKGROUND_QUEUE = 8
MAX_YIELD_S = 0.5
"""A background job waits at most this long between two steps, so that many clients cannot starve it."""
MAX_CLIENTS = 4096
MAX_WAIT_S = 15.0
"""An interactive job that would wait longer than this is refused, if at least `SHORT_QUEUE` others are queued."""
SHORT_QUEUE = 16
"""This many jobs are always accepted: one page has a few, and a slow machine must not refuse its only user."""
MAX_RETRY_AFTER_S = 60
_SMOOTHING = 0.2


class BusyError(VonError):
    """Too many requests are waiting.

    Attributes:
        retry_after_s: when to try again.
    """

    http_status = 503

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = max(1, min(MAX_RETRY_AFTER_S, math.ceil(retry_after_s)))


class SupersededError(VonError):
    """The same client has sent a newer request."""


@dataclass(frozen=True)
class RequestSequence:
    """A client and its request number; of a client's queued requests only the newest runs.

    Attributes:
        client: anything hashable that identifies the client.
        number: increases from request to request.
    """

    client: Hashable
    number: int


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[], Any]
    future: Future[Any]
    sequence: RequestSequence | None
    queued_s: float


class Scheduler:
    """Runs one interactive and one background job at a time, each in its own thread; any thread may submit."""

    def __init__(self, *, max_queue: int = MAX_QUEUE, now: Callable[[], float] = time.monotonic) -> None:
        """Starts the threads.

        Args:
            max_queue: interactive jobs beyond this many are refused.
            now: a clock in seconds.
        """
        self._max_queue, self._now = max_queue, now
        self._interactive: deque[_Job] = deque()
        self._background: deque[_Job] = deque()
        self._newest: OrderedDict[Hashable, int] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._computing = False
        self._job_s = 0.0
        self._threads = [
            threading.Thread(target=self._run_interactive, name="studio-interactive", daemon=True),
            threading.Thread(target=self._run_background, name="studio-background", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], Result], sequence: RequestSequence | None = None) -> Future[Result]:
        """Queues an interactive job.

        Args:
            work: computes the result.
            sequence: client and request number; a queued job of the same client is dropped in favour of this one.

        Returns:
            a future, which raises SupersededError if the client has sent a newer request, and BusyError if the job
            has waited for more than `MAX_WAIT_S` behind many others.

        Raises:
            BusyError: the queue is full, or the expected waiting time too long.
        """
        job = _Job(work, Future[Result](), sequence, self._now())
        with self._changed:
            superseded = self._superseded_by(job)
            if superseded is not job:
                self._check_room(self._interactive, self._max_queue, "requests")
                self._check_wait()
                self._interactive.append(job)
                self._changed.notify_all()
        if superseded is not None and superseded.future.set_running_or_notify_cancel():
            superseded.future.set_exception(SupersededError("a newer request of this client has replaced this one"))
        return job.future

    def submit_background(self, work: Callable[[], Result]) -> Future[Result]:
        """Queues a background job, which must call `yield_to_interactive` between its steps.

        Raises:
            BusyError: the queue is full.
        """
        job = _Job(work, Future[Result](), None, self._now())
        with self._changed:
            self._check_room(self._background, MAX_BACKGROUND_QUEUE, "photos and films")
            self._background.append(job)
            self._changed.notify_all()
        return job.future

    def yield_to_interactive(self) -> None:
        """Waits until no interactive job is queued or running, `MAX_YIELD_S` at most."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._computing or self._interactive), MAX_YIELD_S)

    def close(self) -> None:
        """Ends the threads after their current job; queued jobs are cancelled."""
        with self._changed:
            self._closed = True
            for job in (*self._interactive, *self._background):
                job.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _check_room(self, queue: deque[_Job], limit: int, noun: str) -> None:
        if self._closed:
            raise BusyError("the studio is closing")
        waiting = sum(not job.future.done() for job in queue)
        if waiting >= limit:
            raise BusyError(f"{waiting} {noun} are waiting already; try again in a moment")

    def _check_wait(self) -> None:
        waiting = sum(not job.future.done() for job in self._interactive)
        expected_s = waiting * self._job_s
        if waiting >= SHORT_QUEUE and expected_s > MAX_WAIT_S:
            raise BusyError(
                f"{waiting} requests are waiting, about {expected_s:.0f} s of work; try again in a moment",
                expected_s - MAX_WAIT_S,
            )

    def _superseded_by(self, job: _Job) -> _Job | None:
        """The job that must not run: a queued one of the same client, removed from the queue, or `job` itself."""
        if job.sequence is None:
            return None
        client, number = job.sequence.client, job.sequence.number
        if self._newest.get(client, number) > number:
            return job
        self._newest[client] = number
        self._newest.move_to_end(client)
        if len(self._newest) > MAX_CLIENTS:
            self._newest.popitem(last=False)
        queued = (each for each in self._interactive if each.sequence is not None and each.sequence.client == client)
        earlier = next(queued, None)
        if earlier is not None:
            self._interactive.remove(earlier)
        return earlier

    def _run_interactive(self) -> None:
        while (job := self._next_interactive()) is not None:
            start = self._now()
            if start - job.queued_s > MAX_WAIT_S and len(self._interactive) >= SHORT_QUEUE:
                _refuse(job)
                continue
            _run(job)
            took_s = self._now() - start
            self._job_s = took_s if self._job_s == 0.0 else self._job_s + _SMOOTHING * (took_s - self._job_s)

    def _next_interactive(self) -> _Job | None:
        with self._changed:
            self._computing = False
            self._changed.notify_all()
            job = self._next(self._interactive)
            self._computing = job is not None
            return job

    def _run_background(self) -> None:
        while (job := self._next(self._background)) is not None:
            _run(job)

    def _next(self, queue: deque[_Job]) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or queue)
            return queue.popleft() if queue else None


def _refuse(job: _Job) -> None:
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(BusyError("too many requests are waiting; try again in a moment", MAX_WAIT_S / 2))


def _run(job: _Job) -> None:
    if not job.future.set_running_or_notify_cancel():
        return  # the client has gone
    try:
        result = job.work()
    except BaseException as error:  # noqa: BLE001  # raised again where the result is awaited
        job.future.set_exception(error)
    else:
        job.future.set_result(result)


MAX_TASKS = 32
TASK_TIMEOUT_S = 90.0
"""A task whose page has not asked for its status for this long is stopped."""


class UnknownTaskError(VonError, KeyError):
    """There is no task of this id, or it ended long ago."""

    http_status = 404

    def __str__(self) -> str:
        return "there is no such task any more"


class BackgroundTask:
    """Status of one background job, written by its thread and read by requests.

    Attributes:
        id: unguessable.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.id = secrets.token_urlsafe(9)
        self._now, self._polled = now, now()
        self._lock = threading.Lock()
        self._cancelled = False
        self._state: dict[str, Any] = {"state": "waiting", "share": 0.0, "doing": "waiting for its turn"}

    def progress(self, share: float, doing: str) -> None:
        """Records the fraction done, 0 to 1, and a description of the current step."""
        self._update(state="working", share=share, doing=doing)

    def succeed(self, result: Mapping[str, Any]) -> None:
        """Records the result."""
        self._update(state="done", share=1.0, result=result)

    def fail(self, message: str) -> None:
        """Records the error."""
        self._update(state="failed", error=message)

    def cancel(self) -> None:
        """Requests that the job stop."""
        with self._lock:
            self._cancelled = True
            if self._state["state"] == "waiting":
                self._state["state"] = "cancelled"

    def cancelled(self) -> bool:
        """Whether the job must stop: it was cancelled, or its page no longer asks for its status."""
        with self._lock:
            return self._cancelled or self._now() - self._polled > TASK_TIMEOUT_S

    def stopped(self) -> None:
        """Records that the job stopped unfinished."""
        self._update(state="cancelled")

    def status(self) -> Mapping[str, Any]:
        """The status as JSON values; reading it keeps the job alive."""
        with self._lock:
            self._polled = self._now()
            return {"id": self.id, **self._state}

    def _update(self, **values: Any) -> None:
        with self._lock:
            self._state |= values


class TaskRegistry:
    """The tasks of all pages by id; the oldest are cancelled beyond `MAX_TASKS`."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, BackgroundTask] = OrderedDict()

    def add(self) -> BackgroundTask:
        """Creates a task."""
        task = BackgroundTask()
        self._tasks[task.id] = task
        while len(self._tasks) > MAX_TASKS:
            self._tasks.popitem(last=False)[1].cancel()
        return task

    def find(self, id: str) -> BackgroundTask:
        """A task by its id.

        Raises:
            UnknownTaskError: there is no such task.
        """
        if id not in self._tasks:
            raise UnknownTaskError(f"there is no task {id!r}: it ended long ago, or the studio was restarted")
        return self._tasks[id]

    def cancel_all(self) -> None:
        """Requests that all jobs stop."""
        for task in self._tasks.values():
            task.cancel()
