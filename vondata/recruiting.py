"""Whether somebody's cluster can do our work: the same program, and the same folder to write to."""

from __future__ import annotations

import logging
import platform
import uuid
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

# What has to be the same for work to travel and to come out the same.
COMPARED = ("von", "python", "distributed")

logger = logging.getLogger(__name__)


class UnfitWorkersError(RuntimeError):
    """The scheduler or all workers of the cluster cannot do our work; the message says why."""

    def __init__(self, who: str, why: str) -> None:
        super().__init__(f"--scheduler: {who}: {why}")


class Recruiter:
    """Looks at every new worker once, before it gets work.

    Args:
        client: of the cluster.
        folder: the folder that outputs go to, which workers must see under the same path; None when each of them
            reaches the outputs by URL.

    Raises:
        UnfitWorkersError: the scheduler itself runs another version.
    """

    def __init__(self, client: Client, folder: Path | None) -> None:
        self._client = client
        self._folder = folder
        self.refused: dict[str, str] = {}  # why, by address
        address = client.scheduler.address
        try:
            answer: object = client.run_on_scheduler(_look, None)  # which unpacks the work on its way
        except ModuleNotFoundError as error:
            answer = error
        if why := self._why_unfit(answer):
            raise UnfitWorkersError(f"the scheduler at {address} cannot pass this work on", why)

    def admit(self, addresses: Iterable[str]) -> list[str]:
        """Those of these workers that can do the work; each of the others is named in the log."""
        new = [address for address in addresses if address not in self.refused]
        if not new:
            return []
        token = self._folder / f".von-{uuid.uuid4().hex}" if self._folder else None
        if token:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.touch()
        try:
            answers = self._client.run(_look, None if token is None else str(token), workers=new, on_error="return")
        finally:
            if token:
                token.unlink(missing_ok=True)
        for address in new:
            if why := self._why_unfit(answers.get(address)):
                self.refused[address] = why
                logger.warning("worker %s gets no work: %s", address, why)
        return [address for address in new if address not in self.refused]

    def _why_unfit(self, answer: object) -> str:
        match answer:
            case ModuleNotFoundError(name=module):
                return f"it has no module {module}; install the same VON in its environment"
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


def _look(token: str | None) -> dict[str, object]:
    """Runs in a worker."""
    return {"versions": own_versions(), "sees_folder": token is None or Path(token).is_file()}


def _difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    names = [name for name in COMPARED if theirs.get(name) != ours[name]]
    return " and ".join(f"it runs {name} {theirs.get(name)}, not {ours[name]} as here" for name in names)
