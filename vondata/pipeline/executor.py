"""Where items run: in this process, or on a pool of Dask workers that are replaced when they hang or die.

Tasks are pinned to workers by the client, two to a worker and in order, so that it is known which one is running:
the head of its queue. A head over its time limit is given up and the worker restarted. The tasks of a worker that
died are tried again, each alone, and given up when that process dies as well.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
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

    from vondata.pipeline.dask_cluster import Recruiter


TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class EngineOptions:
    """Where and under which limits tasks run.

    Attributes:
        workers: processes of the local cluster; 0 runs in this process, where nothing can be stopped or limited.
        timeout_s: time limit of one task.
        memory_limit: of each process, such as "4GB"; "auto" shares the machine's memory between them.
        scheduler: address of a running Dask scheduler; None starts a local cluster.
        folder: the folder for outputs, which the workers of a running cluster must see as well; None asks for none.
    """

    workers: int
    timeout_s: float
    memory_limit: str = "auto"
    scheduler: str | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Failure:
    """A task without result.

    Attributes:
        reason: timed_out, worker_died, or internal_error for an exception that the task raised.
        detail: what happened, in one line.
        error: the exception.
        trace: its traceback as text.
        seconds: time after which it was given up, 0 when unknown.
    """

    reason: Literal["timed_out", "worker_died", "internal_error"]
    detail: str
    error: BaseException | None = None
    trace: str = ""
    seconds: float = 0.0


def run_tasks(
    call: Callable[[TaskT], ResultT], tasks: Iterable[TaskT], options: EngineOptions
) -> Generator[tuple[TaskT, ResultT | Failure], None, None]:
    """Applies `call` to every task, in parallel and without order, and yields each task with its result or failure.

    Tasks are taken from the iterable as workers get free. Closing the iterator, as an exception in the loop around it
    does, stops the workers; unfinished tasks are then simply not yielded.

    Args:
        call: top-level function or functools.partial; travels to the workers by pickle, as do tasks and results.
        tasks: picklable.
        options: where to run.

    Raises:
        NoWorkersError: all workers are gone and none comes back.
        SchedulerUnreachableError: the scheduler does not answer, or has gone.
        UnfitWorkersError: the workers cannot import `call`; those of a running cluster also where they run another
            version or do not see the folder.
        WorkersNotStartedError: the processes of the local cluster end before they can work.
    """
    if options.workers == 0 and options.scheduler is None:
        yield from _run_here(call, tasks)
        return
    from vondata.pipeline.dask_cluster import Recruiter, connect

    with connect(options.workers, options.memory_limit, options.scheduler) as client:
        is_ours = options.scheduler is None
        recruiter = Recruiter(client, call, None if is_ours else options.folder, is_ours=is_ours)
        yield from Crew(client, call, iter(tasks), options.timeout_s, recruiter).run()


def internal_error(error: BaseException) -> Failure:
    """An exception that a task should not have raised."""
    trace = "".join(traceback.format_exception(error))
    return Failure("internal_error", f"{type(error).__name__}: {error}", error, trace)


def _run_here(call: Callable[[TaskT], ResultT], tasks: Iterable[TaskT]) -> Iterator[tuple[TaskT, ResultT | Failure]]:
    for task in tasks:
        attempt: _Attempt[ResultT] = _Attempt()
        with attempt:
            attempt.result = call(task)
        yield task, attempt.result


class _Attempt(Generic[ResultT]):
    """Turns an error of one task into its result, as the border of a process does; Ctrl-C still ends the run."""

    result: ResultT | Failure

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.result = internal_error(error)
        return True


QUEUE_DEPTH = 2  # one running, one waiting: the worker never idles between items
POLL_S = 0.5
NO_WORKER_S = 300.0  # a process that starts on a machine with many others takes a minute or two
RESTART_S = 600.0

logger = logging.getLogger(__name__)


class NoWorkersError(VonError, RuntimeError):
    """No worker has been there for five minutes."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the cluster at {address} has had no worker for {NO_WORKER_S:.0f} seconds; look at its logs, then run "
            "the same command again: what is done stays done"
        )


@dataclass
class _Assignment(Generic[TaskT]):
    task: TaskT
    suspect: bool = False  # was on a worker that died


@dataclass
class _Worker(Generic[TaskT]):
    """A worker and the futures of the tasks sent to it; the first one is the one that runs."""

    address: str
    identity: str  # another one under the same address is another process
    depth: int = QUEUE_DEPTH
    queue: dict[Future, _Assignment[TaskT]] = field(default_factory=dict)
    head_since: float = 0.0

    @property
    def has_room(self) -> bool:
        """Whether one more task may wait behind the running one; a suspect runs alone."""
        return len(self.queue) < self.depth and not any(each.suspect for each in self.queue.values())


class Crew(Generic[TaskT, ResultT]):
    """The workers of one run, kept busy and replaced when they hang or die.

    Args:
        client: of the cluster.
        call: what to do with a task.
        tasks: taken as workers get free.
        timeout_s: time limit of one task.
        recruiter: says which workers are fit for the work.
    """

    def __init__(
        self,
        client: Client,
        call: Callable[[TaskT], ResultT],
        tasks: Iterator[TaskT],
        timeout_s: float,
        recruiter: Recruiter,
    ) -> None:
        self.client = client
        self.recruiter = recruiter
        self.call = call
        self.tasks = tasks
        self.timeout_s = timeout_s
        self.exhausted = False
        self.again: deque[_Assignment[TaskT]] = deque()  # innocent, of hung workers
        self.suspects: deque[_Assignment[TaskT]] = deque()
        self.workers: dict[str, _Worker[TaskT]] = {}
        self.owners: dict[Future, _Worker[TaskT]] = {}
        self.retired: set[str] = set()  # addresses of hung workers, until they are restarted
        self.restarter = ThreadPoolExecutor(1, thread_name_prefix="restart")
        self.completed: queue.SimpleQueue[tuple[Future, ResultT | Failure]] = queue.SimpleQueue()
        self.fetches: set[concurrent.futures.Future[ResultT]] = set()
        self.results: deque[tuple[TaskT, ResultT | Failure]] = deque()
        self.roster_due = 0.0
        self.last_worker_seen = time.monotonic()

    def run(self) -> Iterator[tuple[TaskT, ResultT | Failure]]:
        """Yields tasks with their results until all are done."""
        try:
            while True:
                self._update_roster()
                while self.results:
                    yield self.results.popleft()
                self._assign()
                if self.exhausted and not self.owners and not self.again and not self.suspects:
                    return
                self._collect()
                self._enforce_time_limit()
        finally:
            self.restarter.shutdown(wait=False, cancel_futures=True)
            self.client.cancel(list(self.owners), force=True)
            for fetch in list(self.fetches):
                fetch.cancel()

    def _update_roster(self) -> None:
        """Learns which workers have come and gone."""
        now = time.monotonic()
        if now < self.roster_due:
            return
        self.roster_due = now + POLL_S
        present = self._present_workers()
        for address, worker in list(self.workers.items()):
            if address not in present or present[address]["id"] != worker.identity:
                self._bury(worker)
        new = present.keys() - self.workers.keys()
        for address in self.recruiter.admit(sorted(new)):
            # Threads of one process would do several tasks at once, and a hung one could not be told apart.
            depth = QUEUE_DEPTH if present[address]["nthreads"] == 1 else 1
            self.workers[address] = _Worker(address, present[address]["id"], depth)
        if self.workers:
            self.last_worker_seen = now
            return
        if not self.retired:
            self.recruiter.check_any_fit(present)
        if now - self.last_worker_seen > NO_WORKER_S:
            raise NoWorkersError(self.client.scheduler.address)

    def _present_workers(self) -> dict[str, Any]:
        """What the scheduler says of its workers, without those that hang, by address."""
        address = self.client.scheduler.address
        try:
            workers = self.client.scheduler_info(n_workers=-1)["workers"]
        except OSError as error:
            raise SchedulerUnreachableError(address, "the scheduler has gone; what is done stays done") from error
        self.retired &= workers.keys()  # what comes in their place mostly has another address
        return {address: worker for address, worker in workers.items() if address not in self.retired}

    def _assign(self) -> None:
        """Gives every worker a task to run, then every worker one to wait."""
        for worker in self.workers.values():
            if not worker.queue and (assignment := self._next(alone=True)) is not None:
                self._submit(worker, assignment)
        for worker in self.workers.values():
            if worker.has_room and (assignment := self._next(alone=False)) is not None:
                self._submit(worker, assignment)

    def _next(self, *, alone: bool) -> _Assignment[TaskT] | None:
        if alone and self.suspects:
            return self.suspects.popleft()
        if self.again:
            return self.again.popleft()
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
        """Runs in a thread of the client when a task has ended: asks for its result and waits for nothing.

        A result whose worker dies before it is fetched never comes; the roster tells.
        """
        if future.status in ("finished", "error"):
            coroutine = self.client.gather(future, asynchronous=True)
            fetch = asyncio.run_coroutine_threadsafe(coroutine, self.client.loop.asyncio_loop)
            self.fetches.add(fetch)
            fetch.add_done_callback(partial(self._deliver, future))

    def _deliver(self, future: Future, fetch: concurrent.futures.Future[ResultT]) -> None:
        """Runs in the client's event loop when a result has come."""
        self.fetches.discard(fetch)
        if not fetch.cancelled():
            error = fetch.exception()
            self.completed.put((future, fetch.result() if error is None else _failure(error)))

    def _collect(self) -> None:
        """Waits for results, at most until something else is due."""
        patience = POLL_S
        try:
            while True:
                future, result = self.completed.get(timeout=patience)
                self._finish(future, result)
                patience = 0.0
        except queue.Empty:
            return

    def _finish(self, future: Future, result: ResultT | Failure) -> None:
        worker = self.owners.get(future)
        if worker is None:  # given up meanwhile
            return
        if isinstance(result, Failure) and result.reason == "worker_died":
            self._bury(worker)
            return
        assignment = worker.queue.pop(future)
        worker.head_since = time.monotonic()
        del self.owners[future]
        self.results.append((assignment.task, result))

    def _enforce_time_limit(self) -> None:
        now = time.monotonic()
        for worker in list(self.workers.values()):
            if worker.queue and now - worker.head_since > self.timeout_s:
                head, *waiting = self._dismiss(worker)
                detail = f"gave up after {self.timeout_s:g} s"
                self.results.append((head.task, Failure("timed_out", detail, seconds=self.timeout_s)))
                self.again.extend(waiting)
                self.retired.add(worker.address)
                self.restarter.submit(self._restart, worker.address)

    def _bury(self, worker: _Worker[TaskT]) -> None:
        """Takes the tasks of a dead worker back.

        The death may have overtaken the news that the head was done and the next task running, so all of them are
        suspects; only a task that dies alone, for the second time, is guilty.
        """
        logger.info("worker %s died", worker.address)
        for assignment in self._dismiss(worker):
            if assignment.suspect:
                self.results.append((assignment.task, Failure("worker_died", "its process died, twice")))
            else:
                assignment.suspect = True
                self.suspects.append(assignment)

    def _dismiss(self, worker: _Worker[TaskT]) -> list[_Assignment[TaskT]]:
        futures, assignments = list(worker.queue), list(worker.queue.values())
        del self.workers[worker.address]
        for future in futures:
            del self.owners[future]
        self.client.cancel(futures, force=True)
        return assignments

    def _restart(self, address: str) -> None:
        """Kills and replaces a hung worker; takes seconds, in a thread of its own."""
        try:
            answer = self.client.restart_workers([address], timeout=RESTART_S, raise_for_error=False)
        except ValueError:
            logger.warning("worker %s hangs and has no nanny to restart it; it gets no more work", address)
        else:
            if answer[address] == "OK":
                self.retired.discard(address)


def _failure(error: BaseException) -> Failure:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return Failure("worker_died", "its process died", error)
    return internal_error(error)
