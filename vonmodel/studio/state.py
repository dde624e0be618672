"""What all of a studio's answers share: the loaded checkpoints of a run and the application's parts."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vonmodel.checkpoint import CheckpointError, CheckpointInfo, read_info
from vonmodel.config import STAGES, ConfigError
from vonmodel.inference.sampling import SamplingOptions
from vonmodel.inference.session import ModelSession, open_model
from vonmodel.reconstruction.reconstruct import Reconstructor
from vonmodel.run_folder import RunError, RunFolder
from vonmodel.studio.run_monitor import Chronicle
from vonmodel.studio.scheduler import Desk, TaskBoard
from vonmodel.studio.security import Guard
from vonmodel.studio.uploads import PhotoTray, Uploads

SESSIONS_KEPT = 2


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run, and what is wrong with the ones that cannot be used.

    Attributes:
        usable: oldest first.
        problems: a sentence each.
    """

    usable: tuple[CheckpointInfo, ...]
    problems: tuple[str, ...]


class ModelShelf:
    """Keeps the models of a run that were asked for last.

    A session is for the thread that answers quick questions, a reconstructor for the one that does long work; both
    share the model, which computing leaves as it is. Everything else is for any thread.

    Attributes:
        run: the run folder.
        data: the prepared dataset; it may be missing.
        device: where models compute.
        sampling: how codes are drawn and what of generated shapes is kept.
    """

    def __init__(
        self,
        run: Path,
        data: Path,
        device: str,
        sampling: SamplingOptions = SamplingOptions(),  # noqa: B008  # frozen
    ) -> None:
        self.run, self.data, self.device, self.sampling = run, data, device, sampling
        self._lock = threading.RLock()
        self._sessions: dict[str, ModelSession] = {}
        self._reconstructors: dict[str, Reconstructor] = {}

    def checkpoints(self) -> Checkpoints:
        """The checkpoints as they are now: a training goes on writing them."""
        usable, problems = list[CheckpointInfo](), list[str]()
        for file in sorted((self.run / "checkpoints").glob("*/checkpoint.json")):
            if file.parent.name.startswith("."):
                continue
            try:
                info = read_info(self.run, file.parent.name)
                STAGES.index(info.stage)
                usable.append(info)
            except (CheckpointError, ValueError) as error:
                problems.append(str(error))
        return Checkpoints(
            tuple(sorted(usable, key=lambda each: (STAGES.index(each.stage), each.step))), tuple(problems)
        )

    def session(self, checkpoint: str | None) -> ModelSession:
        """The model of a checkpoint, loaded.

        Args:
            checkpoint: its name; the newest where None.

        Raises:
            CheckpointError: there is no such checkpoint, or it cannot be used.
            RunError, ConfigError, UnknownClassError: the run cannot be used.
        """
        with self._lock:
            name = checkpoint if checkpoint is not None else self._newest()
            if name not in self._sessions:
                source = open_model(
                    self.run, data=self.data, checkpoint=name, device=self.device, sampling=self.sampling
                )
                self._sessions[name] = ModelSession(source)
            self._sessions[name] = self._sessions.pop(name)  # used last
            while len(self._sessions) > SESSIONS_KEPT:
                oldest = next(iter(self._sessions))
                del self._sessions[oldest]
                self._reconstructors.pop(oldest, None)
            return self._sessions[name]

    def reconstructor(self, checkpoint: str | None) -> Reconstructor:
        """Reconstructs photos with the model of a checkpoint; arguments and errors as `session`."""
        with self._lock:
            source = self.session(checkpoint).source
            name = source.checkpoint.name
            if name not in self._reconstructors:
                self._reconstructors[name] = Reconstructor(ModelSession(source))
            return self._reconstructors[name]

    def describe(self) -> Mapping[str, Any]:
        """The run for the page: its class, its model, its checkpoints, and what is wrong with them."""
        found = self.checkpoints()
        described: dict[str, Any] = {
            "run": self.run.resolve().name,
            "checkpoints": [dataclasses.asdict(info) for info in found.usable],
            "problems": list(found.problems),
        }
        try:
            config = RunFolder(self.run).config()
        except (RunError, ConfigError, OSError) as error:
            return described | {"class": self.run.resolve().name, "model": None, "problems": [str(error)]}
        return described | {"class": config.class_name, "model": dataclasses.asdict(config.model)}

    def _newest(self) -> str:
        found = self.checkpoints()
        if found.usable:
            return found.usable[-1].name
        if found.problems:
            raise CheckpointError(found.problems[-1])
        raise CheckpointError(f"{self.run} has no checkpoint yet; the training writes the first one after a while")


def to_json(value: Any) -> str:
    """JSON as every browser reads it: numbers that are not finite become null."""
    return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


@dataclass(frozen=True, eq=False)
class Workshop:
    """The state of one studio.

    Attributes:
        guard: whom it answers.
        shelf: the models of its run.
        chronicle: what the run tells of its training.
        desk: where everything is computed.
        tray: the photos brought.
        uploads: those on their way.
        tasks: long work that pages wait for.
    """

    guard: Guard
    shelf: ModelShelf
    chronicle: Chronicle
    desk: Desk = field(default_factory=Desk)
    tray: PhotoTray = field(default_factory=PhotoTray)
    uploads: Uploads = field(default_factory=Uploads)
    tasks: TaskBoard = field(default_factory=TaskBoard)

    def close(self) -> None:
        """Stops what is being computed."""
        self.tasks.cancel_all()
        self.desk.close()
