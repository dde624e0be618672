"""Task executor: in this process, or on a pool of Dask workers that are replaced when they hang or die.

Tasks are pinned to workers by the client, at most two to a worker and in order, so the running one is known: the head
of the worker's queue. A head over its time limit fails and its worker is restarted. The tasks of a worker that died
are quarantined: each is tried again alone, and fails when its worker dies once more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from vondata.errors import VonError
from vondata.pipeline.dask_cluster import SchedulerUnreachableError

if TYPE_CHECKING:
    from distributed import Client, Future

    from vondata.pipeline.dask_cluster import WorkerCheck


TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

QUEUE_DEPTH = 2  # one running and one waiting task, so that a worker never idles between tasks
POLL_S = 0.5
NO_WORKER_TIMEOUT_S = 300.0  # starting a process on a busy machine takes a minute or two
RESTART_TIMEOUT_S = 600.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutorOptions:
    """Where and under which limits tasks run.

    Attributes:
        workers: processes of the local cluster; 0 runs in this process, without time and memory limits.
        timeout_s: time limit of one task in seconds; on this machine multiplied by the load per core, if above 1.
        memory_limit: of each process, such as "4GB"; "auto" divides the machine's memory between the processes.
        scheduler: address of a running Dask scheduler; None starts a local cluster.
    """

    workers: int = 0
    timeout_s: float = 600.0
    memory_limit: str = "auto"
    scheduler: str | None = None


class NoWorkersError(VonError, RuntimeError):
    """The cluster has had no worker for five minutes."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the cluster at {address} has had no worker for {NO_WORKER_TIMEOUT_S:.0f} seconds",
            hint="look at its logs, then run again: what is done stays done",
        )


@dataclass(frozen=True)
class Failure:
    """A task that ended without a result.

    Attributes:
        reason: timed_out, worker_died, or internal_error for an exception that the task raised.
        detail: what happened, one line.
        error: the exception.
        trace: its traceback as text.
        seconds: time after which it was ended, 0 when unknown.
    """

    reason: Literal["timed_out", "worker_died", "internal_error"]
    detail: str
    error: BaseException | None = None
    trace: str = ""
    seconds: float = 0.0


def run_tasks(
    call: Callable[[TaskT], ResultT],
    tasks: Iterable[TaskT],
    options: ExecutorOptions,
    shared_folder: Path | None = None,
) -> Generator[tuple[TaskT, ResultT | Failure], None, None]:
    """Applies `call` to every task, in parallel and without order, and yields each task with its result or failure.

    Tasks are taken from the iterable as workers become free. Closing the generator, as an exception in the loop over
    it does, stops the workers; unfinished tasks are not yielded.

    Args:
        call: top-level function or functools.partial; sent to the workers by pickle, like tasks and results.
        tasks: picklable.
        options: where to run, and the limits.
        shared_folder: of the outputs, which workers of a running cluster must see under the same path; None if they
            need not.

    Raises:
        NoWorkersError: the cluster has no workers and none appears.
        SchedulerUnreachableError: the scheduler does not answer, or has ended.
        UnfitWorkersError: the workers cannot import `call`; those of a running cluster also when they run another
            version or do not see the folder.
        WorkersNotStartedError: the processes of the local cluster end before they accept tasks.
    """
    if options.workers == 0 and options.scheduler is None:
        yield from _run_here(call, tasks)
        return
    from vondata.pipeline.dask_cluster import WorkerCheck, connect

    with connect(options.workers, options.memory_limit, options.scheduler) as client:
        is_ours = options.scheduler is None
        check = WorkerCheck(client, call, None if is_ours else shared_folder, is_ours=is_ours)
        yield from WorkerPool(client, call, iter(tasks), options.timeout_s, check).run()


def internal_error(error: BaseException) -> Failure:
    """The failure of a task that raised an exception other than those it is allowed to raise."""
    trace = "".join(traceback.format_exception(error))
    return Failure("internal_error", f"{type(error).__name__}: {error}", error, trace)


def _run_here(call: Callable[[TaskT], ResultT], tasks: Iterable[TaskT]) -> Iterator[tuple[TaskT, ResultT | Failure]]:
    for task in tasks:
        attempt: _Attempt[ResultT] = _Attempt()
        with attempt:
            attempt.result = call(task)
        yield task, attempt.result


class _Attempt(Generic[ResultT]):
    """Converts an exception of one task to its failure, as a worker process does; Ctrl-C still ends the run."""

    result: ResultT | Failure

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.result = internal_error(error)
        return True


@dataclass
class _Assignment(Generic[TaskT]):
    task: TaskT
    quarantined: bool = False  # was on a worker that died; runs alone


@dataclass
class _Worker(Generic[TaskT]):
    """A worker and the futures of the tasks sent to it; the first one is running."""

    address: str
    identity: str  # a new process may get the address of an old one
    depth: int = QUEUE_DEPTH
    queue: dict[Future, _Assignment[TaskT]] = field(default_factory=dict)
    head_since: float = 0.0

    @property
    def has_room(self) -> bool:
        """Whether one more task may be queued; a quarantined task runs alone."""
        return len(self.queue) < self.depth and not any(each.quarantined for each in self.queue.values())


class WorkerPool(Generic[TaskT, ResultT]):
    """The workers of one run: assigns tasks, restarts workers that hang and replaces those that die.

    Args:
        client: of the cluster.
        call: applied to every task.
        tasks: taken as workers become free.
        timeout_s: time limit of one task in seconds.
        check: decides which workers get tasks.
    """

    def __init__(
        self,
        client: Client,
        call: Callable[[TaskT], ResultT],
        tasks: Iterator[TaskT],
        timeout_s: float,
        check: WorkerCheck,
    ) -> None:
        self.client = client
        self.check = check
        self.call = call
        self.tasks = tasks
        self.timeout_s = timeout_s
        self.exhausted = False
        self.requeued: deque[_Assignment[TaskT]] = deque()  # were queued behind a task that hung
        self.quarantined: deque[_Assignment[TaskT]] = deque()  # were on a worker that died
        self.workers: dict[str, _Worker[TaskT]] = {}
        self.owners: dict[Future, _Worker[TaskT]] = {}
        self.retired: set[str] = set()  # addresses of hung workers, until they are restarted
        self.restarter = ThreadPoolExecutor(1, thread_name_prefix="restart")
        self.completed: queue.SimpleQueue[tuple[Future, ResultT | Failure]] = queue.SimpleQueue()
        self.fetches: set[concurrent.futures.Future[ResultT]] = set()
        self.results: deque[tuple[TaskT, ResultT | Failure]] = deque()
        self.update_due = 0.0
        self.last_worker_seen = time.monotonic()

    def run(self) -> Iterator[tuple[TaskT, ResultT | Failure]]:
        """Yields tasks with their results until all are done."""
        try:
            while True:
                self._update_workers()
                while self.results:
                    yield self.results.popleft()
                self._assign()
                if self.exhausted and not self.owners and not self.requeued and not self.quarantined:
                    return
                self._collect()
                self._enforce_time_limit()
        finally:
            self.restarter.shutdown(wait=False, cancel_futures=True)
            self.client.cancel(list(self.owners), force=True)
            for fetch in list(self.fetches):
                fetch.cancel()

    def _update_workers(self) -> None:
        """Adds workers that have appeared and removes those that have gone."""
        now = time.monotonic()
        if now < self.update_due:
            return
        self.update_due = now + POLL_S
        present = self._present_workers()
        for address, worker in list(self.workers.items()):
            if address not in present or present[address]["id"] != worker.identity:
                self._on_worker_lost(worker)
        new = present.keys() - self.workers.keys()
        for address in self.check.accept_workers(sorted(new)):
            # A worker with several threads runs several tasks at once, so its head would not be the only running one.
            depth = QUEUE_DEPTH if present[address]["nthreads"] == 1 else 1
            self.workers[address] = _Worker(address, present[address]["id"], depth)
        if self.workers:
            self.last_worker_seen = now
            return
        if not self.retired:
            self.check.require_accepted(present)
        if now - self.last_worker_seen > NO_WORKER_TIMEOUT_S:
            raise NoWorkersError(self.client.scheduler.address)

    def _present_workers(self) -> dict[str, Any]:
        """The scheduler's description of its workers by address, without those being restarted."""
        address = self.client.scheduler.address
        try:
            workers = self.client.scheduler_info(n_workers=-1)["workers"]
        except OSError as error:
            raise SchedulerUnreachableError(address, "the scheduler has ended; what is done stays done") from error
        self.retired &= workers.keys()  # their replacements mostly have other addresses
        return {address: worker for address, worker in workers.items() if address not in self.retired}

    def _assign(self) -> None:
        """Gives every idle worker a task to run, then every worker one to queue."""
        for worker in self.workers.values():
            if not worker.queue and (assignment := self._next(alone=True)) is not None:
                self._submit(worker, assignment)
        for worker in self.workers.values():
            if worker.has_room and (assignment := self._next(alone=False)) is not None:
                self._submit(worker, assignment)

    def _next(self, *, alone: bool) -> _Assignment[TaskT] | None:
        if alone and self.quarantined:
            return self.quarantined.popleft()
        if self.requeued:
            return self.requeued.popleft()
        if not self.exhausted:
            for task in self.tasks:
                return _Assignment(task)
            self.exhausted = True
        return None

    def _submit(self, worker: _Worker[TaskT], assignment: _Assignment[TaskT]) -> None:
        future = self.client.submit(self.call, assignment.task, workers=[worker.address], pure=False)
        if not worker.queue:
            worker.head_since = time.monotonic()
        worker.queue[future] = assignment
        self.owners[future] = worker
        future.add_done_callback(self._fetch)

    def _fetch(self, future: Future) -> None:
        """Runs in a thread of the client when a task has ended: starts to fetch its result.

        The result of a worker that dies before it is fetched never arrives; `_update_workers` notices that worker.
        """
        if future.status in ("finished", "error"):
            coroutine = self.client.gather(future, asynchronous=True)
            fetch = asyncio.run_coroutine_threadsafe(coroutine, self.client.loop.asyncio_loop)
            self.fetches.add(fetch)
            fetch.add_done_callback(partial(self._deliver, future))

    def _deliver(self, future: Future, fetch: concurrent.futures.Future[ResultT]) -> None:
        """Runs in the client's event loop when a result has arrived."""
        self.fetches.discard(fetch)
        if not fetch.cancelled():
            error = fetch.exception()
            self.completed.put((future, fetch.result() if error is None else _failure(error)))

    def _collect(self) -> None:
        """Waits for results, at most for POLL_S."""
        timeout_s = POLL_S
        try:
            while True:
                future, result = self.completed.get(timeout=timeout_s)
                self._finish(future, result)
                timeout_s = 0.0
        except queue.Empty:
            return

    def _finish(self, future: Future, result: ResultT | Failure) -> None:
        worker = self.owners.get(future)
        if worker is None:  # its worker hung or died meanwhile
            return
        if isinstance(result, Failure) and result.reason == "worker_died":
            self._on_worker_lost(worker)
            return
        assignment = worker.queue.pop(future)
        worker.head_since = time.monotonic()
        del self.owners[future]
        self.results.append((assignment.task, result))

    def _enforce_time_limit(self) -> None:
        now = time.monotonic()
        limit_s = self.timeout_s * (_tasks_per_core() if self.check.is_local else 1.0)
        for worker in list(self.workers.values()):
            taken_s = now - worker.head_since
            if worker.queue and taken_s > limit_s:
                head, *waiting = self._release(worker)
                detail = f"stopped after {round(taken_s):g} s"
                self.results.append((head.task, Failure("timed_out", detail, seconds=taken_s)))
                self.requeued.extend(waiting)
                self.retired.add(worker.address)
                self.restarter.submit(self._restart, worker.address)

    def _on_worker_lost(self, worker: _Worker[TaskT]) -> None:
        """Quarantines the tasks of a worker that died; a task whose worker dies for the second time fails.

        The worker may have died before it reported that its head was done and the next task running, so all of its
        tasks are retried, each alone.
        """
        logger.info("worker %s died", worker.address)
        for assignment in self._release(worker):
            if assignment.quarantined:
                self.results.append((assignment.task, Failure("worker_died", "its process died, twice")))
            else:
                assignment.quarantined = True
                self.quarantined.append(assignment)

    def _release(self, worker: _Worker[TaskT]) -> list[_Assignment[TaskT]]:
        """Removes a worker from the pool and returns its tasks, the running one first."""
        futures, assignments = list(worker.queue), list(worker.queue.values())
        del self.workers[worker.address]
        for future in futures:
            del self.owners[future]
        self.client.cancel(futures, force=True)
        return assignments

    def _restart(self, address: str) -> None:
        """Kills and restarts a hung worker; runs in a thread, as it takes seconds."""
        try:
            answer = self.client.restart_workers([address], timeout=RESTART_TIMEOUT_S, raise_for_error=False)
        except ValueError:
            logger.warning("worker %s hangs and has no nanny to restart it; it gets no more tasks", address)
        else:
            if answer[address] == "OK":
                self.retired.discard(address)


def _tasks_per_core() -> float:
    """The slowdown of a task by other load on this machine, from the load average of the last minute."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _failure(error: BaseException) -> Failure:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return Failure("worker_died", "its process died", error)
    return internal_error(error)
