"""Dask clusters, local or by address: start, connection, shutdown, and the version check of workers."""

from __future__ import annotations

import asyncio
import errno
import logging
import platform
import signal
import sys
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vondata.errors import VonError
from vondata.io.files import FULL, ScratchError
from vondata.version import __version__

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Nanny


# One process per core: further threads inside them would compete for the same cores.
SINGLE_THREADED = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"
)
LOCAL_SETTINGS = {
    # By default a worker whose replacement takes over 15 s to start, as on a busy machine, is removed for good.
    "distributed.deploy.lost-worker-timeout": "1 day",
    # A process that does not answer may wait for a core, or compile; the connection to a dead one closes at once.
    # By default the scheduler considers a worker dead after five minutes without a message.
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.connect": "10 minutes",
    "distributed.comm.timeouts.tcp": "1 day",
    "distributed.scheduler.allowed-failures": 0,  # the executor itself retries, as it knows which task was running
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.nanny.pre-spawn-environ": SINGLE_THREADED | {"MALLOC_TRIM_THRESHOLD_": "65536"},
}
KILL_AFTER_S = 0.5
ENDED_AFTER_S = 60.0  # a process that was killed and still has not ended is left to the system
CONNECT_TIMEOUT_S = 10.0


class SchedulerUnreachableError(VonError, ConnectionError):
    """No Dask scheduler answers at the address, or it has ended.

    Attributes:
        address: of the scheduler.
    """

    def __init__(self, address: str, what: str) -> None:
        super().__init__(
            f"Dask scheduler {address}: {what}",
            hint="start one with `dask scheduler`, give its address as tcp://host:port, or work on this machine",
        )
        self.address = address


class WorkersNotStartedError(VonError, RuntimeError):
    """The processes of a local cluster end before they accept tasks."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(
            f"the worker processes do not start ({error}); their output above says why",
            hint='a script must prepare below `if __name__ == "__main__":`, as every worker process imports '
            "it; this is not needed with 0 workers, which start no process",
        )


@contextmanager
def connect(workers: int, memory_limit: str, scheduler: str | None = None) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a local cluster that ends with the block.

    Args:
        workers: processes of the local cluster, one thread each.
        memory_limit: of each process, such as "4GB"; one that exceeds it is killed and replaced. "auto" divides the
            machine's memory between them.
        scheduler: address of a running scheduler; None starts a local cluster.

    Raises:
        SchedulerUnreachableError: no scheduler answers at the address.
        WorkersNotStartedError: the processes of the local cluster end at once.
    """
    import dask
    from distributed import Client

    if scheduler is not None:
        with _reach(scheduler) as client:
            yield client
        return
    with dask.config.set(LOCAL_SETTINGS), ExitStack() as stack:
        with _ctrl_c_deferred():
            cluster = stack.enter_context(_start(workers, memory_limit))
            stack.callback(cluster.sync, _kill_workers, cluster)
            client = stack.enter_context(Client(cluster, set_as_default=False))
        yield client


def _start(workers: int, memory_limit: str) -> LocalCluster:
    """Starts a local cluster."""
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory_limit,
            # Without a dashboard Dask still serves its state over HTTP, by default to the whole network.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError as error:
        raise WorkersNotStartedError(error) from error
    except OSError as error:  # the cluster keeps its working folders in the temporary folder
        if error.errno not in (*FULL, errno.ENOENT, errno.EACCES, errno.EROFS):
            raise
        raise ScratchError(error.strerror or str(error)) from error


def _reach(scheduler: str) -> Client:
    """A client of a running scheduler."""
    from distributed import Client
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend
    from distributed.versions import VersionMismatchWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # `WorkerCheck` says which versions differ
            # A client of a malformed address stays half initialised and fails again when it is garbage collected.
            protocol, location = parse_address(scheduler)
            get_backend(protocol)
            parse_host_port(location)
            return Client(scheduler, set_as_default=False, timeout=CONNECT_TIMEOUT_S)
    except (OSError, ImportError, ValueError) as error:  # ValueError: no such protocol, no port
        raise SchedulerUnreachableError(
            scheduler, f"no Dask scheduler answers there ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


@contextmanager
def _ctrl_c_deferred() -> Iterator[None]:
    """Defers Ctrl-C to the end of the block in this thread, and blocks it in threads and processes started in it.

    Ctrl-C is sent to the whole process group, but only the client should react to it, by closing the cluster.
    """
    if sys.platform == "win32":  # has no signal masks
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing would start it on demand, which resets the signal mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _kill_workers(cluster: LocalCluster) -> None:
    """Ends the worker processes at once; closing the cluster would wait for their running tasks."""
    await asyncio.gather(*(_kill_worker(nanny) for nanny in cluster.workers.values()))


async def _kill_worker(nanny: Nanny) -> None:
    """Ends the process of a nanny; a process that takes long to end on a busy machine is not an error."""
    process = nanny.process
    try:
        await nanny.close(timeout=KILL_AFTER_S)
    except TimeoutError:
        if process is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.stopped.wait(), ENDED_AFTER_S)


# Programs whose version must be the same on both sides, so that tasks can be unpickled and give the same results.
COMPARED = ("von", "python", "distributed")

logger = logging.getLogger(__name__)


class UnfitWorkersError(VonError, RuntimeError):
    """The scheduler, or every worker of the cluster, cannot run the tasks; the message says why."""


class WorkerCheck:
    """Checks versions, imports and shared folder of every new worker once, before it gets tasks.

    Args:
        client: of the cluster.
        call: applied to the tasks; every worker must be able to import it.
        folder: of the outputs, which workers must see under the same path; None when they reach the outputs by URL
            or are processes of this machine.
        is_ours: whether the workers were started for this run.

    Raises:
        UnfitWorkersError: the scheduler itself runs another version.
    """

    def __init__(self, client: Client, call: Callable[..., Any], folder: Path | None, *, is_ours: bool) -> None:
        from distributed.protocol.pickle import dumps

        self._client = client
        self._call = dumps(call)
        self._folder = folder
        self._is_ours = is_ours
        self.refused: dict[str, str] = {}  # reasons by address
        if is_ours:  # the scheduler runs in this process
            return
        address = client.scheduler.address
        try:
            answer: object = client.run_on_scheduler(_describe_worker, None)  # which also unpickles the call
        except ModuleNotFoundError as error:
            answer = error
        if why := self._why_unfit(answer):
            raise UnfitWorkersError(f"the scheduler at {address} cannot forward these tasks: {why}")

    def accept_workers(self, addresses: Iterable[str]) -> list[str]:
        """Those of the workers that can run the tasks; the others are logged."""
        new = [address for address in addresses if address not in self.refused]
        if not new:
            return []
        token = self._folder / f".von-{uuid.uuid4().hex}" if self._folder else None
        if token:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.touch()
        try:
            describe = partial(_describe_worker, None if token is None else str(token), self._call)
            answers = self._client.run(describe, workers=new, on_error="return")
        finally:
            if token:
                token.unlink(missing_ok=True)
        answered = [address for address in new if not isinstance(answers.get(address), OSError)]  # others have ended
        for address in answered:
            if why := self._why_unfit(answers.get(address)):
                self.refused[address] = why
                logger.warning("worker %s gets no tasks: %s", address, why)
        return [address for address in answered if address not in self.refused]

    @property
    def is_local(self) -> bool:
        """Whether the workers are processes of this run on this machine."""
        return self._is_ours

    def require_accepted(self, present: Iterable[str]) -> None:
        """Checks that not all of these workers were refused.

        Raises:
            UnfitWorkersError: they were, with the first one's reason.
        """
        reasons = [self.refused.get(address) for address in present]
        if not reasons or None in reasons:
            return
        if self._is_ours:
            raise UnfitWorkersError(f"the worker processes cannot run these tasks: {reasons[0]}")
        address = self._client.scheduler.address
        raise UnfitWorkersError(f"no worker at {address} can run these tasks: {reasons[0]}")

    def _why_unfit(self, answer: object) -> str:
        match answer:
            case ModuleNotFoundError(name=module):
                return f"it has no module {module}; install the same VON in its environment"
            case {"import_error": str(error)} if error:
                return (
                    f"the function cannot be imported ({error}); put the module that defines it where every Python "
                    "of this environment finds it, such as an installed package"
                )
            case {"versions": versions, "sees_folder": sees}:
                if difference := _difference(versions, own_versions()):
                    return f"{difference}; use the same environment on both sides"
                return "" if sees else self._folder_is_elsewhere()
        return f"it does not answer ({answer!r})"

    def _folder_is_elsewhere(self) -> str:
        return (
            f"{self._folder} is not there or is another folder; use a data folder that all machines share, or a URL "
            "such as s3://bucket/data"
        )


def own_versions() -> dict[str, str]:
    """Versions, in this process, of the programs in COMPARED."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"von": __version__, "python": python, "distributed": version("distributed")}


def _describe_worker(token: str | None, call: bytes | None = None) -> dict[str, object]:
    """Versions, whether the token file is visible, and the import error of the call; runs in a worker."""
    return {
        "versions": own_versions(),
        "sees_folder": token is None or Path(token).is_file(),
        "import_error": "" if call is None else _import_error(call),
    }


def _import_error(call: bytes) -> str:
    """The error of unpickling the call in this process; empty when there is none."""
    from distributed.protocol.pickle import loads

    try:
        loads(call)
    except (ImportError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    names = [name for name in COMPARED if theirs.get(name) != ours[name]]
    return " and ".join(f"it runs {name} {theirs.get(name)}, not {ours[name]} as here" for name in names)
