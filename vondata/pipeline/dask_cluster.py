"""The Dask cluster that items run on, local or by address, and the check that its workers can do the work."""

from __future__ import annotations

import asyncio
import logging
import platform
import signal
import sys
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vondata import __version__
from vondata.errors import VonError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster


# The processes share the cores already; threads inside them would only get in each other's way.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"
)
LOCAL_SETTINGS = {
    # Else the cluster gives a worker up whose replacement takes more than 15 seconds to start, as on a busy machine.
    "distributed.deploy.lost-worker-timeout": "1 day",
    # A process that the machine lets wait is not a dead one; of a dead one the connection closes at once.
    "distributed.comm.timeouts.connect": "2 minutes",
    "distributed.comm.timeouts.tcp": "5 minutes",
    "distributed.scheduler.allowed-failures": 0,  # the engine tries again itself, for it knows what was running
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.nanny.pre-spawn-environ": ONE_THREAD | {"MALLOC_TRIM_THRESHOLD_": "65536"},
}
KILL_AFTER_S = 0.5
CONNECT_TIMEOUT_S = 10.0


class SchedulerUnreachableError(VonError, ConnectionError):
    """There is no Dask scheduler at the address, or it has gone."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__(
            f"Dask scheduler {address}: {what}; start one with `dask scheduler`, give its address as "
            "tcp://host:port, or work on this machine"
        )


class WorkersNotStartedError(VonError, RuntimeError):
    """The processes of a local cluster end before they can work."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(
            f"the worker processes do not start ({error}); what they wrote above says why. A script of your own must "
            'prepare below `if __name__ == "__main__":` in a file, as each of them imports it; without processes '
            "(0 workers) it need not"
        )


@contextmanager
def connect(workers: int, memory_limit: str, scheduler: str | None = None) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a local cluster that ends with the block.

    Args:
        workers: processes of the local cluster, one thread each.
        memory_limit: of each process, such as "4GB"; one that exceeds it is killed and replaced. "auto" shares the
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
        with _ctrl_c_held_back():
            cluster = stack.enter_context(_start(workers, memory_limit))
            stack.callback(cluster.sync, _kill_workers, cluster)
            client = stack.enter_context(Client(cluster, set_as_default=False))
        yield client


def _start(workers: int, memory_limit: str) -> LocalCluster:
    """Processes on this machine."""
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory_limit,
            # Without a dashboard Dask still serves its state over HTTP, by default to all of the network.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError as error:
        raise WorkersNotStartedError(error) from error


def _reach(scheduler: str) -> Client:
    """A client of a running scheduler."""
    from distributed import Client
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend
    from distributed.versions import VersionMismatchWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # the recruiter says it better
            # A client of an address that makes no sense is never whole and fails again when it is collected.
            protocol, location = parse_address(scheduler)
            get_backend(protocol)
            parse_host_port(location)
            return Client(scheduler, set_as_default=False, timeout=CONNECT_TIMEOUT_S)
    except (OSError, ImportError, ValueError) as error:  # ValueError: no such protocol, no port
        raise SchedulerUnreachableError(scheduler, f"no Dask scheduler answers there ({_in_words(error)})") from error


def _in_words(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Puts Ctrl-C off until the end of the block, for this thread; for ever for threads and processes begun in it.

    Ctrl-C reaches the whole process group, but the client alone answers it, by closing the cluster.
    """
    resource_tracker.ensure_running()  # multiprocessing would start it on demand, and take the mask away by doing so
    if sys.platform == "win32":  # which has no signal masks
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _kill_workers(cluster: LocalCluster) -> None:
    """Ends the processes at once, whatever they are doing; closing the cluster would wait for their items."""
    await asyncio.gather(*(nanny.close(timeout=KILL_AFTER_S) for nanny in cluster.workers.values()))


# What has to be the same for work to travel and to come out the same.
COMPARED = ("von", "python", "distributed")

logger = logging.getLogger(__name__)


class UnfitWorkersError(VonError, RuntimeError):
    """The scheduler or all workers of the cluster cannot do our work; the message says why."""


class Recruiter:
    """Looks at every new worker once, before it gets work.

    Args:
        client: of the cluster.
        call: the work, which every worker must be able to import.
        folder: the folder that outputs go to, which workers must see under the same path; None when each of them
            reaches the outputs by URL, or is a process of this machine.
        is_ours: whether the workers were started for this run, and not found by a scheduler's address.

    Raises:
        UnfitWorkersError: the scheduler itself runs another version.
    """

    def __init__(self, client: Client, call: Callable[..., Any], folder: Path | None, *, is_ours: bool) -> None:
        from distributed.protocol.pickle import dumps

        self._client = client
        self._call = dumps(call)
        self._folder = folder
        self._is_ours = is_ours
        self.refused: dict[str, str] = {}  # why, by address
        if is_ours:  # the scheduler is a part of this process
            return
        address = client.scheduler.address
        try:
            answer: object = client.run_on_scheduler(_look, None)  # which unpacks the work on its way
        except ModuleNotFoundError as error:
            answer = error
        if why := self._why_unfit(answer):
            raise UnfitWorkersError(f"the scheduler at {address} cannot pass this work on: {why}")

    def admit(self, addresses: Iterable[str]) -> list[str]:
        """Those of these workers that can do the work; each of the others is named in the log.

        Raises:
            UnfitWorkersError: the processes of this machine cannot, and those in their place could not either.
        """
        new = [address for address in addresses if address not in self.refused]
        if not new:
            return []
        token = self._folder / f".von-{uuid.uuid4().hex}" if self._folder else None
        if token:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.touch()
        try:
            look = partial(_look, None if token is None else str(token), self._call)
            answers = self._client.run(look, workers=new, on_error="return")
        finally:
            if token:
                token.unlink(missing_ok=True)
        answered = [address for address in new if not isinstance(answers.get(address), OSError)]  # others are gone
        for address in answered:
            if why := self._why_unfit(answers.get(address)):
                self.refused[address] = why
                logger.warning("worker %s gets no work: %s", address, why)
        return [address for address in answered if address not in self.refused]

    def check_any_fit(self, present: Iterable[str]) -> None:
        """Makes sure that not all workers that are there were refused.

        Raises:
            UnfitWorkersError: they were.
        """
        reasons = [self.refused.get(address) for address in present]
        if not reasons or None in reasons:
            return
        if self._is_ours:
            raise UnfitWorkersError(f"the worker processes cannot do this work: {reasons[0]}")
        address = self._client.scheduler.address
        raise UnfitWorkersError(f"no worker at {address} can do this work: {reasons[0]}")

    def _why_unfit(self, answer: object) -> str:
        match answer:
            case ModuleNotFoundError(name=module):
                return f"it has no module {module}; install the same VON in its environment"
            case {"unknown_work": str(error)} if error:
                return (
                    f"they cannot import it ({error}); put the module that defines it where every Python of this "
                    "environment finds it, such as an installed package"
                )
            case {"versions": versions, "sees_folder": sees}:
                if difference := _difference(versions, own_versions()):
                    return f"{difference}; use the same environment on both sides"
                return "" if sees else self._folder_is_elsewhere()
        return f"it does not answer ({answer!r})"

    def _folder_is_elsewhere(self) -> str:
        return (
            f"{self._folder} is not there or is another folder; give a data folder that all machines share, or a "
            "URL such as s3://bucket/data"
        )


def own_versions() -> dict[str, str]:
    """Of this process's programs, what has to be the same on both sides."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"von": __version__, "python": python, "distributed": version("distributed")}


def _look(token: str | None, call: bytes | None = None) -> dict[str, object]:
    """Runs in a worker."""
    return {
        "versions": own_versions(),
        "sees_folder": token is None or Path(token).is_file(),
        "unknown_work": "" if call is None else _why_not_unpacked(call),
    }


def _why_not_unpacked(call: bytes) -> str:
    """What goes wrong when this process unpacks the work; empty where nothing does."""
    from distributed.protocol.pickle import loads

    try:
        loads(call)
    except (ImportError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    names = [name for name in COMPARED if theirs.get(name) != ours[name]]
    return " and ".join(f"it runs {name} {theirs.get(name)}, not {ours[name]} as here" for name in names)
