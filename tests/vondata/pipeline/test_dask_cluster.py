"""An external Dask cluster, started as processes: hanging, dying or killed workers cost no other item."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest

from tests import harness
from vondata.dataset.manifest import output_path, read_manifest
from vondata.io.files import atomic_path
from vondata.pipeline import dask_cluster as cluster
from vondata.pipeline import dask_cluster as recruiting
from vondata.pipeline.dask_cluster import SchedulerUnreachableError, UnfitWorkersError
from vondata.pipeline.executor import ExecutorOptions, Failure, run_tasks
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import prepare
from vondata.types import Event, Item

UNUSED = "tcp://127.0.0.1:9"
LIMIT_S = 20.0  # of tasks that take no time, where one of them hangs
ROOT = Path(__file__).parents[3]  # from where the processes can import this module


@contextmanager
def process(folder: Path, *arguments: str) -> Iterator[psutil.Process]:
    command, environment = [sys.executable, "-m", *arguments], os.environ | {"PYTHONPATH": str(ROOT)}
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        running = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    family = psutil.Process(running.pid)
    try:
        yield family
    finally:
        children = family.children(recursive=True)
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


@contextmanager
def workers(folder: Path, address: str, *options: str) -> Iterator[psutil.Process]:
    place = ("--local-directory", str(folder / "dask"), "--no-dashboard")
    with process(folder, "distributed.cli.dask_worker", address, "--nthreads", "1", *place, *options) as family:
        yield family


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler without workers."""
    folder = tmp_path_factory.mktemp("scheduler")
    place = folder / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place))
    with process(folder, "distributed.cli.dask_scheduler", *options):
        harness.wait_until(lambda: place.is_file() and place.read_text("utf-8").endswith("}"))
        yield json.loads(place.read_text("utf-8"))["address"]


@pytest.fixture(scope="module")
def crew(scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[psutil.Process]:
    """Two workers, each under a nanny."""
    with workers(tmp_path_factory.mktemp("workers"), scheduler, "--nworkers", "2") as family:
        yield family


def square(task: int | str) -> int:
    match task:
        case "hang":
            time.sleep(1000)
        case "exit":
            os._exit(3)
        case "raise":
            raise ZeroDivisionError("no luck")
    return int(task) ** 2


def test_bad_items_harm_only_themselves(crew: psutil.Process, scheduler: str) -> None:
    good = range(20)
    tasks = [*good[:5], "exit", "hang", *good[5:10], "raise", *good[10:]]
    results = dict(run_tasks(square, tasks, ExecutorOptions(0, LIMIT_S, scheduler=scheduler)))
    assert {task: results[task] for task in good} == {task: task**2 for task in good}
    bad = {task: result.reason for task, result in results.items() if isinstance(result, Failure)}
    assert bad == {"exit": "worker_died", "hang": "timed_out", "raise": "internal_error"}

    again = dict(run_tasks(process_id, range(20), ExecutorOptions(0, harness.TIMEOUT_S, scheduler=scheduler)))
    assert os.getpid() not in again.values()  # the replaced workers work


def process_id(task: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def slow_copy(item: Item, settings: Any, output: Path) -> dict[str, Any]:
    time.sleep(0.05)
    with atomic_path(output) as temporary:
        temporary.write_bytes(Path(item.inputs[0]).read_bytes())
    return {"faces": os.getpid()}


def test_a_worker_killed_in_the_middle_loses_nothing(
    crew: psutil.Process, scheduler: str, tmp_path: Path, settings: Any
) -> None:
    items = []
    for number in range(60):
        source = tmp_path / f"{number}.obj"
        source.write_text(str(number), "utf-8")
        items.append(Item(f"item{number}", "chair", str(source), (str(source),), collection="here"))
    killed: list[int] = []

    def kill_one(event: Event) -> None:
        if event.stage == "finished" and event.done == 10 and event.row is not None:
            killed.append(event.row["faces"])
            os.kill(killed[0], signal.SIGKILL)

    options = PrepareOptions(timeout_s=harness.TIMEOUT_S, scheduler=scheduler)
    data = tmp_path / "data"
    result = prepare("shapes", items, slow_copy, settings, data, options, kill_one)
    assert result.classes["chair"].prepared == 60
    rows = read_manifest(data, "chair", "shapes")
    assert killed
    assert set(rows["faces"]) - set(killed)
    for number in range(60):
        assert output_path(data, "chair", "shapes", f"item{number}").read_text("utf-8") == str(number)
    again = prepare("shapes", items, slow_copy, settings, data, options)
    assert again.classes["chair"].worked == 0


def test_a_hung_worker_without_nanny_gets_no_more_work(
    scheduler: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with workers(tmp_path, scheduler, "--no-nanny", "--nworkers", "1"):
        options = ExecutorOptions(0, LIMIT_S, scheduler=scheduler)
        with closing(run_tasks(square, ["hang", *range(6)], options)) as results:
            found = dict(results)
    assert isinstance(found["hang"], Failure)
    assert [found[task] for task in range(6)] == [task**2 for task in range(6)]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT_S", 1.0)


def test_a_wrong_address_is_named_at_once(impatient: None) -> None:
    started = time.monotonic()
    with dask.config.set({"distributed.comm.timeouts.connect": f"{harness.TIMEOUT_S} s"}):
        for address in (UNUSED, "here:there", "ftp://127.0.0.1:1"):
            why = f"Dask scheduler {address}: no Dask scheduler answers"
            with pytest.raises(SchedulerUnreachableError, match=why):
                list(run_tasks(square, [1], ExecutorOptions(0, 1.0, scheduler=address)))
    assert time.monotonic() - started < harness.TIMEOUT_S / 2


def test_the_command_names_the_option(impatient: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "one.obj").write_text("v 0 0 0\n", "utf-8")
    (tmp_path / "von.toml").write_text(f'[prepare]\nscheduler = "{UNUSED}"\n', "utf-8")
    result = harness.von("prepare", "meshes", "--root", "meshes", "--class", "chair")
    assert result.exit_code == 1
    assert f"Dask scheduler {UNUSED}: no Dask scheduler answers there" in result.output


def test_other_versions_are_refused(
    crew: psutil.Process, scheduler: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours = {**recruiting.own_versions(), "von": "99.0"}
    monkeypatch.setattr(recruiting, "own_versions", lambda: ours)
    with pytest.raises(UnfitWorkersError, match=r"it runs von \S+, not 99.0 as here"):
        list(run_tasks(square, [1], ExecutorOptions(0, harness.TIMEOUT_S, scheduler=scheduler)))


def test_a_folder_that_workers_do_not_see_is_refused(
    crew: psutil.Process, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers' current folder is another one
    with pytest.raises(UnfitWorkersError, match="data is not there or is another folder"):
        list(run_tasks(square, [1], ExecutorOptions(0, harness.TIMEOUT_S, scheduler=scheduler), Path("data")))
    assert not list((tmp_path / "data").iterdir())


@pytest.fixture
def settings() -> Any:
    from vondata.images.settings import ImageSettings

    return ImageSettings()
