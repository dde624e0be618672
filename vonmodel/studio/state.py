"""Application state of the studio: the model cache of a run, and everything that request handlers share."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vonmodel.builtin import first_seed_of
from vonmodel.checkpoint import CheckpointError, CheckpointInfo, read_info
from vonmodel.config import STAGES, ConfigError
from vonmodel.inference.sampling import SamplingOptions
from vonmodel.inference.session import ModelSession, open_model
from vonmodel.reconstruction.reconstruct import Reconstructor
from vonmodel.run_files import UnsafeFileError, check_run_files
from vonmodel.run_folder import RunError, RunFolder
from vonmodel.studio.run_monitor import RunMonitor
from vonmodel.studio.scheduler import Scheduler, TaskRegistry
from vonmodel.studio.security import OriginPolicy
from vonmodel.studio.uploads import PhotoCache, Uploads

MAX_SESSIONS = 2


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run.

    Attributes:
        usable: oldest first.
        problems: a sentence for each that cannot be used.
    """

    usable: tuple[CheckpointInfo, ...]
    problems: tuple[str, ...]


class ModelCache:
    """Keeps the models of a run that were used last.

    A session belongs to the thread of interactive jobs, a reconstructor and its session to that of background jobs;
    both share the model, which inference does not change. Everything else is for any thread.

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
        """The checkpoints at this moment; a training may be writing more."""
        usable, problems = list[CheckpointInfo](), list[str]()
        for file in sorted((self.run / "checkpoints").glob("*/checkpoint.json")):
            name = file.parent.name
            if name.startswith("."):
                continue
            try:
                check_run_files(self.run, *_files_of(name))
                info = read_info(self.run, name)
                STAGES.index(info.stage)
                if info.name != name:
                    raise CheckpointError(f"{file} is that of another checkpoint, {str(info.name)[:80]!r}")
                usable.append(info)
            except (CheckpointError, UnsafeFileError, ValueError) as error:
                problems.append(str(error))
        return Checkpoints(
            tuple(sorted(usable, key=lambda each: (STAGES.index(each.stage), each.step))), tuple(problems)
        )

    def session(self, checkpoint: str | None) -> ModelSession:
        """The session of a checkpoint, for interactive jobs.

        Args:
            checkpoint: its name; the newest where None.

        Raises:
            CheckpointError: there is no such checkpoint, or it cannot be used.
            UnsafeFileError: one of its files is not a regular file of the run.
            RunError, ConfigError, UnknownClassError: the run cannot be used.
        """
        with self._lock:
            name = checkpoint if checkpoint is not None else self._newest()
            if name not in self._sessions:
                check_run_files(self.run, ("config.json",), *_files_of(name))
                source = open_model(
                    self.run, data=self.data, checkpoint=name, device=self.device, sampling=self.sampling
                )
                self._sessions[name] = ModelSession(source)
            self._sessions[name] = self._sessions.pop(name)  # most recently used last
            while len(self._sessions) > MAX_SESSIONS:
                oldest = next(iter(self._sessions))
                del self._sessions[oldest]
                self._reconstructors.pop(oldest, None)
            return self._sessions[name]

    def reconstructor(self, checkpoint: str | None) -> Reconstructor:
        """The reconstructor of a checkpoint, whose session is for background jobs; see `session`."""
        with self._lock:
            source = self.session(checkpoint).source
            name = source.checkpoint.name
            if name not in self._reconstructors:
                self._reconstructors[name] = Reconstructor(ModelSession(source))
            return self._reconstructors[name]

    def describe(self) -> Mapping[str, Any]:
        """The run as JSON values: class, model, checkpoints, and a sentence for each problem."""
        found = self.checkpoints()
        described: dict[str, Any] = {
            "run": self.run.resolve().name,
            "checkpoints": [dataclasses.asdict(info) for info in found.usable],
            "problems": list(found.problems),
        }
        try:
            check_run_files(self.run, ("config.json",))
            config = RunFolder(self.run).config()
        except (RunError, ConfigError, OSError) as error:
            return described | {"class": self.run.resolve().name, "model": None, "problems": [str(error)]}
        return described | {
            "class": config.class_name,
            "model": dataclasses.asdict(config.model),
            "first_seed": first_seed_of(self.run),
        }

    def _newest(self) -> str:
        found = self.checkpoints()
        if found.usable:
            return found.usable[-1].name
        if found.problems:
            raise CheckpointError(found.problems[-1])
        raise CheckpointError(f"{self.run} has no checkpoint yet; the training writes the first one after a while")


def _files_of(checkpoint: str) -> list[tuple[str, ...]]:
    """The files that loading a checkpoint opens, as path components inside the run."""
    files = ("checkpoint.json", "networks.safetensors", "average.safetensors")
    return [("checkpoints", checkpoint, file) for file in files]


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
class AppState:
    """What the request handlers of one studio share.

    Attributes:
        policy: who may use it.
        models: the models of its run.
        monitor: the training state of its run.
        scheduler: where everything is computed.
        photos: the uploaded photos.
        uploads: the uploads in progress.
        tasks: background jobs whose progress pages show.
    """

    policy: OriginPolicy
    models: ModelCache
    monitor: RunMonitor
    scheduler: Scheduler = field(default_factory=Scheduler)
    photos: PhotoCache = field(default_factory=PhotoCache)
    uploads: Uploads = field(default_factory=Uploads)
    tasks: TaskRegistry = field(default_factory=TaskRegistry)

    def close(self) -> None:
        """Stops all jobs."""
        self.tasks.cancel_all()
        self.scheduler.close()
