"""Application state of the studio: model cache, run monitor, scheduler, uploads and access policy."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vonmodel.builtin import first_seed_of
from vonmodel.checkpoint import CheckpointError, CheckpointInfo, read_info
from vonmodel.config import STAGES, ConfigError
from vonmodel.inference.sampling import SamplingOptions
from vonmodel.inference.session import ModelSession, open_model
from vonmodel.reconstruction.reconstruct import Reconstructor
from vonmodel.reports.metrics_log import figures_of
from vonmodel.run_files import UnsafeFileError, check_run_files, open_run_file, read_run_file
from vonmodel.run_folder import RunError, RunFolder
from vonmodel.studio.scheduler import Scheduler, TaskRegistry
from vonmodel.studio.security import OriginPolicy
from vonmodel.studio.uploads import PhotoCache, Uploads

MAX_CURVE_POINTS = 400
MAX_SHEET_BYTES = 64 * 2**20
MAX_LINES_BYTES = 256 * 2**20
"""Bytes of a log read at a time; the rest follows with the next requests."""
MAX_LINE_BYTES = 2**20
_SHEET = re.compile(r"([a-z]+)-(\d{1,12})\.png")


class JsonLinesTail:
    """The complete JSON lines of a file that is being appended to; only new bytes are read.

    An unfinished last line is read once it is finished. Damaged lines are skipped.
    """

    def __init__(self, run: Path, name: str) -> None:
        """Takes the run folder and the file's name in it."""
        self._run, self._name = run, name
        self._lines: list[Mapping[str, Any]] = []
        self._read = 0
        self._identity: tuple[int, int] | None = None

    def lines(self) -> Sequence[Mapping[str, Any]]:
        """All complete lines of the file; none if it is missing or not a regular file of the run."""
        try:
            with open(open_run_file(self._run, self._name), "rb") as file:
                found = os.fstat(file.fileno())
                if self._identity != (found.st_dev, found.st_ino) or found.st_size < self._read:
                    self._lines, self._read = [], 0  # a resumed run has rewritten it
                self._identity = (found.st_dev, found.st_ino)
                file.seek(self._read)
                new = file.read(MAX_LINES_BYTES)
        except (OSError, ValueError):
            self._lines, self._read, self._identity = [], 0, None
            return self._lines
        complete = new[: new.rfind(b"\n") + 1]
        self._read += len(complete) or (len(new) if len(new) == MAX_LINES_BYTES else 0)
        self._lines += [line for text in complete.splitlines() if (line := _parse_object(text)) is not None]
        return self._lines


class RunMonitor:
    """Reads the training state of one run folder."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._stats = JsonLinesTail(run, "stats.jsonl")
        self._metrics = JsonLinesTail(run, "metrics.jsonl")

    def snapshot(self) -> Mapping[str, Any]:
        """The training state as JSON values.

        Returns:
            `stages`: by name the curves (see `_curves`); `latest`: the newest line of stats.jsonl; `scores`: by
            checkpoint its figures, newest first; `sheets`: names of sample sheets, oldest first; `nonfinite`:
            whether a loss was not finite; `reported`: when the training last wrote, in seconds since 1970, or null.
        """
        stats = [line for line in self._stats.lines() if _is_report(line)]
        return {
            "stages": {
                stage: _curves([line for line in stats if line["stage"] == stage])
                for stage in dict.fromkeys(line["stage"] for line in stats)
            },
            "latest": {key: value for key, value in stats[-1].items() if key != "losses"} if stats else None,
            "scores": _scores(self._metrics.lines()),
            "sheets": self.sheets(),
            "nonfinite": (self._run / "nonfinite.json").is_file(),
            "reported": _modified(self._run / "stats.jsonl"),
        }

    def sheets(self) -> list[str]:
        """The names of the sample sheets, oldest first."""
        found = [match for file in (self._run / "samples").glob("*.png") if (match := _SHEET.fullmatch(file.name))]
        known = [match for match in found if match[1] in STAGES]
        return [match[0] for match in sorted(known, key=lambda each: (STAGES.index(each[1]), int(each[2])))]

    def sheet(self, name: str) -> bytes | None:
        """A sample sheet as PNG; None if there is none of this name or it is not a regular file of the run."""
        if not _SHEET.fullmatch(name):
            return None
        try:
            return read_run_file(self._run, "samples", name, max_bytes=MAX_SHEET_BYTES)
        except (OSError, UnsafeFileError):
            return None


def _parse_object(text: bytes) -> Mapping[str, Any] | None:
    if len(text) > MAX_LINE_BYTES:
        return None
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _is_report(line: Mapping[str, Any]) -> bool:
    losses = line.get("losses")
    return (
        isinstance(line.get("stage"), str)
        and isinstance(line.get("step"), int)
        and isinstance(losses, dict)
        and all(isinstance(value, int | float | None) for value in losses.values())
    )


def _curves(reports: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The losses of a stage as curves of at most `MAX_CURVE_POINTS` points, the newest included.

    Returns:
        `steps` of the points, and `losses`: by term its value at each step, null if it has none.
    """
    stride = -(-len(reports) // MAX_CURVE_POINTS)
    shown = reports[::-1][::stride][::-1]
    terms = dict.fromkeys(term for report in shown for term in report["losses"])
    return {
        "steps": [report["step"] for report in shown],
        "losses": {term: [report["losses"].get(term) for report in shown] for term in terms},
    }


def _scores(metrics: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The figures of every scored checkpoint, newest first."""
    by_checkpoint: dict[str, list[Mapping[str, Any]]] = {}
    for line in metrics:
        checkpoint = line.get("checkpoint")
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get("name"), str):
            by_checkpoint.setdefault(checkpoint["name"], []).append(line)
    scores: list[Mapping[str, Any]] = [
        {"checkpoint": name, "figures": [vars(figure) for figure in figures_of(lines)]}
        for name, lines in by_checkpoint.items()
    ]
    return [each for each in scores if each["figures"]][::-1]


def _modified(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None


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
    """A least-recently-used cache of the models of a run.

    A session belongs to the thread of interactive jobs, a reconstructor and its session to that of background jobs;
    both share the model, which inference does not change. Everything else is thread-safe.

    Attributes:
        run: the run folder.
        data: the prepared dataset; it may be missing.
        device: where models compute.
        sampling: how codes are sampled and which pieces of generated shapes are kept.
        class_name: the class to show of a model of several classes; the first if None.
    """

    def __init__(
        self,
        run: Path,
        data: Path,
        device: str,
        sampling: SamplingOptions = SamplingOptions(),  # noqa: B008  # frozen
        class_name: str | None = None,
    ) -> None:
        self.run, self.data, self.device, self.sampling = run, data, device, sampling
        self.class_name = class_name
        self._lock = threading.RLock()
        self._sessions: dict[str, ModelSession] = {}
        self._reconstructors: dict[str, Reconstructor] = {}

    def checkpoints(self) -> Checkpoints:
        """The present checkpoints; a training may be writing more."""
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
            checkpoint: its name; the newest if None.

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
                    self.run,
                    data=self.data,
                    checkpoint=name,
                    device=self.device,
                    sampling=self.sampling,
                    class_name=self.class_name,
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
            "class": self.class_name or config.class_name,
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
    """Strict JSON: numbers that are not finite become null."""
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
    """The state shared by the request handlers of one studio.

    Attributes:
        policy: the access policy.
        models: the models of its run.
        monitor: the training state of its run.
        scheduler: runs all computations.
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
