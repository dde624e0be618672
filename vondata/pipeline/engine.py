"""Where items run: in this process, or on Dask workers that may hang and die without taking their neighbours along.

Whichever it is, an error of one task is a result like any other, and memory does not grow with the number of tasks.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Literal, TypeVar

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
    from vondata.pipeline.cluster import connect
    from vondata.pipeline.crew import Crew
    from vondata.pipeline.recruiting import Recruiter

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
