"""Items on real processes: hanging, dying and raising items are distinguished, and other items are unaffected."""

import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import cloudpickle
import dask
import psutil
import pytest

from tests.harness import TIMEOUT_S, wait_until
from vondata.pipeline import dask_cluster as cluster
from vondata.pipeline.dask_cluster import UnfitWorkersError, connect
from vondata.pipeline.executor import NO_WORKER_TIMEOUT_S, ExecutorOptions, Failure, run_tasks

HANGS_S = 1000.0
LOCAL = ExecutorOptions(workers=2, timeout_s=20.0)


@pytest.fixture(autouse=True, scope="module")
def _functions_travel_by_value() -> Iterator[None]:
    """Worker processes cannot import test modules."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def square(task: int | str) -> int:
    match task:
        case "hang":
            time.sleep(HANGS_S)
        case "exit":
            os._exit(3)
        case "raise":
            raise ZeroDivisionError("no luck")
        case "eat":
            hog = [bytearray(1 << 20) for _ in range(100_000)]
            return len(hog)
    time.sleep(0.01)
    return int(task) ** 2


def outcomes(
    call: Callable[..., object], tasks: Iterable[object], options: ExecutorOptions
) -> dict[object, object | Failure]:
    results = list(run_tasks(call, tasks, options))
    assert len(results) == len({task for task, _ in results})
    return dict(results)


def test_bad_items_harm_only_themselves() -> None:
    good = range(40)
    tasks = [*good[:10], "exit", "hang", *good[10:20], "raise", *good[20:], "exit2"]
    results = outcomes(_exit_at_any_exit, tasks, LOCAL)

    assert {task: results[task] for task in good} == {task: task**2 for task in good}
    failures = {task: results[task] for task in ("exit", "exit2", "hang", "raise")}
    reasons = {task: failure.reason for task, failure in failures.items() if isinstance(failure, Failure)}
    assert reasons == {"exit": "worker_died", "exit2": "worker_died", "hang": "timed_out", "raise": "internal_error"}
    raised = failures["raise"]
    assert isinstance(raised, Failure)
    assert raised.detail == "ZeroDivisionError: no luck"
    assert "in square" in raised.trace


def _exit_at_any_exit(task: int | str) -> int:
    return square("exit" if str(task).startswith("exit") else task)


def _hold_the_interpreter(task: int) -> int:
    """Blocks all threads of the process, including its heartbeat, as a compilation or a busy machine does."""
    import ctypes

    ctypes.PyDLL(None).sleep(task)
    return task


def test_a_process_that_is_not_heard_of_is_not_dead() -> None:
    with dask.config.set({"distributed.scheduler.worker-ttl": "1s"}):
        options = ExecutorOptions(workers=1, timeout_s=TIMEOUT_S)
        assert outcomes(_hold_the_interpreter, [4, 5], options) == {4: 4, 5: 5}


def test_the_time_limit_grows_with_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (40.0 * (os.cpu_count() or 1), 0.0, 0.0))
    assert outcomes(_hold_the_interpreter, [3], ExecutorOptions(workers=1, timeout_s=2.0)) == {3: 3}


def test_memory_limit_ends_the_process_and_not_the_run() -> None:
    options = ExecutorOptions(workers=1, timeout_s=TIMEOUT_S, memory_limit="300MB")
    results = outcomes(square, [1, "eat", 2], options)
    assert results[1] == 1
    assert results[2] == 4
    eaten = results["eat"]
    assert isinstance(eaten, Failure)
    assert eaten.reason == "worker_died"


def test_tasks_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for task in range(1000):
            taken.append(task)
            yield task

    with closing(run_tasks(square, tasks(), LOCAL)) as results:
        next(results)
    assert len(taken) <= 20  # two workers, two tasks each, and a few finished meanwhile


def test_processes_that_take_long_to_end_cost_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "KILL_AFTER_S", 0.0)  # none ends as fast, on any machine
    before = set(psutil.Process().children(recursive=True))
    options = ExecutorOptions(workers=2, timeout_s=TIMEOUT_S)
    assert outcomes(square, range(4), options) == {task: task**2 for task in range(4)}
    assert not _started_since(before)


def test_an_abandoned_run_leaves_no_process() -> None:
    before = set(psutil.Process().children(recursive=True))
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _interrupt_at_the_first_result()
    assert time.monotonic() - started < HANGS_S / 5  # it waits for no task
    wait_until(lambda: not _started_since(before))


def _started_since(before: set[psutil.Process]) -> list[psutil.Process]:
    """New child processes of this one, except the one that multiprocessing keeps."""
    found = []
    for each in set(psutil.Process().children(recursive=True)) - before:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "resource_tracker" not in " ".join(each.cmdline()):
                found.append(each)
    return found


def _interrupt_at_the_first_result() -> None:
    with closing(run_tasks(square, ["hang", *range(10)], ExecutorOptions(2, HANGS_S))) as results:
        for _ in results:
            raise KeyboardInterrupt


def test_workers_use_one_thread() -> None:
    (environment,) = outcomes(_environment, ["look"], ExecutorOptions(1, TIMEOUT_S)).values()
    assert isinstance(environment, dict)
    assert environment["OMP_NUM_THREADS"] == environment["NUMBA_NUM_THREADS"] == "1"


def _environment(_: str) -> dict[str, str]:
    return dict(os.environ)


def test_in_this_process_nothing_is_started(tmp_path: Path) -> None:
    results = outcomes(_process_id, [1, "raise", 2], ExecutorOptions(0, 1.0))
    assert results[1] == results[2] == os.getpid()
    raised = results["raise"]
    assert isinstance(raised, Failure)
    assert raised.reason == "internal_error"
    assert isinstance(raised.error, ZeroDivisionError)


def _process_id(task: int | str) -> int:
    square(task)
    return os.getpid()


def test_a_running_scheduler_can_be_used() -> None:
    with connect(1, "auto") as client, connect(1, "auto"):  # two clusters at once do not interfere
        address = client.scheduler.address
        results = outcomes(square, range(5), ExecutorOptions(0, TIMEOUT_S, scheduler=address))
    assert results == {task: task**2 for task in range(5)}


def test_work_that_no_process_can_import_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_here")
    exec("def double(task):\n    return 2 * task\n", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    started = time.monotonic()
    with pytest.raises(UnfitWorkersError, match=r"worker processes cannot .* \(ModuleNotFoundError: .*'only_here'\)"):
        list(run_tasks(module.double, [1, 2], ExecutorOptions(1, TIMEOUT_S)))
    assert time.monotonic() - started < NO_WORKER_TIMEOUT_S


def test_a_script_without_main_guard_is_reported(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from vondata.pipeline.executor import ExecutorOptions, run_tasks\n"
        "print(list(run_tasks(abs, [-1], ExecutorOptions(1, 60.0))))\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ended.returncode == 1
    assert 'must prepare below `if __name__ == "__main__":`' in ended.stderr
