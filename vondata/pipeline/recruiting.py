"""Whether workers can do our work: the same program, the same modules, and the same folder to write to."""

from __future__ import annotations

import logging
import platform
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

# What has to be the same for work to travel and to come out the same.
COMPARED = ("von", "python", "distributed")

logger = logging.getLogger(__name__)


class UnfitWorkersError(RuntimeError):
    """The scheduler or all workers of the cluster cannot do our work; the message says why."""


class Recruiter:
    """Looks at every new worker once, before it gets work.

    Args:
        client: of the cluster.
        call: the work, which every worker must be able to import.
        folder: the folder that outputs go to, which workers must see under the same path; None when each of them
            reaches the outputs by URL, or is a process of this machine.
        is_ours: whether the workers were started for this run, and not found by --scheduler.

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
            raise UnfitWorkersError(f"--scheduler: the scheduler at {address} cannot pass this work on: {why}")

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
        raise UnfitWorkersError(f"--scheduler: no worker at {address} can do this work: {reasons[0]}")

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
            f"{self._folder} is not there or is another folder; give a --data folder that all machines share, or a "
            "URL such as s3://bucket/data"
        )


def own_versions() -> dict[str, str]:
    """Of this process's programs, what has to be the same on both sides."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"von": version("von"), "python": python, "distributed": version("distributed")}


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
