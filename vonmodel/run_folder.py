"""The folder of one training run: configuration, log, statistics, checkpoints, samples, metrics; and its lock."""

from __future__ import annotations

import datetime
import json
import logging
import os
import platform
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vondata.io.lease import DatasetBusyError, Leases
from vondata.version import __version__
from vonmodel.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    checkpoint_names,
    list_checkpoints,
    read_info,
    remove_partial_checkpoints,
)
from vonmodel.config import STAGES, StageName, TrainConfig, difference, load_config, save_config, value_of
from vonmodel.run_files import JsonError, UnsafeFileError, parse_object, read_lines

LEASE = "training.lease"
ORIGIN = "started-from.json"
# Entries allowed in a new run's folder: the remains of a run stopped before it had a configuration.
REMAINS = {"checkpoints", "samples", "baselines", ".config.json.partial", ORIGIN, LEASE}

_log = logging.getLogger(__name__)


class RunError(VonError):
    """A run folder that cannot be used."""


class RunMissingError(RunError):
    """There is no run, or none with a checkpoint."""


class RunFolderTakenError(RunError):
    """A new run's folder holds other things."""


class RunBusyError(RunError):
    """Another process trains this run."""


class StageBegunError(RunError):
    """A stage is to be made longer although a later stage has started from its end."""


class ConfigChangedError(RunError):
    """A run was started with another configuration."""


class RunFolder:
    """The files of a run.

    Attributes:
        path: the folder; it exists once `start` was called.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "config.json").is_file()

    @property
    def samples(self) -> Path:
        """Folder of the sample sheets."""
        return self.path / "samples"

    def config(self) -> TrainConfig:
        """The configuration this run was started with.

        Raises:
            RunError: no run was started here.
        """
        if not self.exists:
            raise RunMissingError(f"{self.path} is not a run: it has no config.json; train one first")
        return load_config(self.path / "config.json")

    def start(self, config: TrainConfig) -> None:
        """Makes the folder for this configuration, or checks that the run in it has the same one.

        Raises:
            RunError: see `check`.
        """
        self.check(config)
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.samples.mkdir(exist_ok=True)
        partial = self.path / ".config.json.partial"
        save_config(config, partial)
        partial.replace(self.path / "config.json")
        partial = self.path / ".environment.json.partial"  # writing in place would block if it were a pipe
        partial.write_text(json.dumps(environment(), indent=2) + "\n", "utf-8")
        partial.replace(self.path / "environment.json")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the run for this process, and removes what killed processes left half written.

        The lock is a lease, renewed every minute, so it also works between machines that share a file system; the
        lease of a killed process is taken over: at once on its own machine, after five minutes elsewhere.

        Raises:
            RunBusyError: another process trains this run; names its host, process and start time.
        """
        leases = Leases()
        try:
            leases.take(str(self.path / LEASE))
        except DatasetBusyError as error:
            raise RunBusyError(f"{self.path} is being trained by another process ({error.who})") from error
        try:
            remove_partial_checkpoints(self.path)
            yield
        finally:
            leases.release()

    def latest_checkpoint(self, stage: StageName | None = None) -> CheckpointInfo | None:
        """The newest checkpoint of the run, or of one of its stages, by its description; see `newest_whole`."""
        found = list_checkpoints(self.path, stage)
        return found[-1] if found else None

    def log_stats(self, values: Mapping[str, Any]) -> None:
        """Appends one line to stats.jsonl."""
        _append(self.path / "stats.jsonl", json.dumps(values))

    def log_nonfinite(self, where: Mapping[str, Any]) -> None:
        """Appends a skipped step to nonfinite.jsonl."""
        _append(self.path / "nonfinite.jsonl", json.dumps(where))

    def append_metric(self, values: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl; it must name the `checkpoint` that was measured."""
        if "checkpoint" not in values:
            raise ValueError("a metric must name its checkpoint")
        _append(self.path / "metrics.jsonl", json.dumps(values))

    def append_log(self, line: str) -> None:
        """Appends one line to log.txt."""
        _append(self.path / "log.txt", line)

    def rewind_stats(self, stage: StageName, step: int) -> None:
        """Drops statistics of steps after the last checkpoint of a killed run, which now run again.

        Lines that cannot be read are dropped as well; a failure to write is logged and does not stop training.
        """
        file = self.path / "stats.jsonl"
        if not os.path.lexists(file):
            return
        try:
            with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8") as kept:
                kept.writelines(line + "\n" for line in read_lines(file) if _is_before(line, stage, step))
        except OSError as error:
            _log.warning("%s cannot be rewound (%s): it may hold steps twice", file, error)

    def check(self, config: TrainConfig) -> None:
        """Checks that a run with this configuration can start here or go on.

        Raises:
            RunError: the run in the folder was started with another configuration, the message names the fields; or
                the folder holds other things, such as a dataset.
        """
        if self.exists:
            self.check_same(config)
        elif self.path.is_dir():
            strange = sorted(each.name for each in self.path.iterdir() if each.name not in REMAINS)
            if strange:
                named = ", ".join(strange[:3]) + (" and more" if len(strange) > 3 else "")
                raise RunFolderTakenError(f"{self.path} holds other things than a run ({named}); name a new folder")
        elif self.path.exists():
            raise RunFolderTakenError(f"{self.path} is not a folder; name a new one")

    def check_same(self, config: TrainConfig) -> None:
        """Checks that the run was started with this configuration, except for its `output` settings.

        Stages may have become longer if no later stage has started: the run is then trained further.

        Raises:
            StageBegunError: a later stage has started.
            ConfigChangedError: it was not; the message names the fields that differ.
        """
        theirs = self.config()
        changed = difference(theirs, config)
        longer = _longer_stages(theirs, config, changed)
        for stage in longer or ():
            for later in STAGES[STAGES.index(stage) + 1 :]:
                if checkpoint_names(self.path, later):
                    raise StageBegunError(
                        f"{self.path}: stage {stage} cannot be made longer, as stage {later} has begun from its end",
                        hint="start another run from its weights",
                    )
        if changed and longer is None:
            fields = "; ".join(
                f"{name} was {value_of(theirs, name)!r}, now {value_of(config, name)!r}" for name in changed
            )
            raise ConfigChangedError(
                f"{self.path} was started with another configuration ({fields}; see its config.json). Give the old "
                f"values to go on with it, or start another run"
            )


def _longer_stages(before: TrainConfig, after: TrainConfig, changed: Sequence[str]) -> list[StageName] | None:
    """The stages that have become longer; None if anything else has changed."""
    stages = [stage for stage in STAGES if any(name.startswith(f"{stage}.") for name in changed)]
    lengths = {f"{stage}.{name}" for stage in STAGES for name in ("steady", "decaying")}
    grown = all(sum(after.stage(stage).steps(1 << 40)) > sum(before.stage(stage).steps(1 << 40)) for stage in stages)
    return stages if lengths.issuperset(changed) and grown else None


def latest_run(runs: Path) -> RunFolder:
    """The run with the newest checkpoint in a folder of runs, by the time that checkpoints record.

    Checkpoints of 0.1.0 record none; the time of their file counts.

    Raises:
        RunMissingError: there is no run with a checkpoint.
    """
    folders = [folder.parent for folder in sorted(runs.glob("*/checkpoints"))]
    times = {run: max((_saved(run, name) for name in checkpoint_names(run)), default="") for run in folders}
    found = {run: time for run, time in times.items() if time}
    if not found:
        raise RunMissingError(f"{runs} holds no run with a checkpoint; train one first")
    return RunFolder(max(found, key=lambda run: found[run]))


def _saved(run: Path, name: str) -> str:
    """When a checkpoint was written, UTC in ISO 8601; "" if unknown."""
    try:
        saved = read_info(run, name).saved
        return saved or _iso((run / "checkpoints" / name / "checkpoint.json").stat().st_mtime)
    except (CheckpointError, OSError, ValueError, OverflowError):
        return ""


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="microseconds")


def environment() -> dict[str, Any]:
    """Versions and hardware, on which a run's results depend besides its configuration."""
    return {
        "von": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _is_before(line: str, stage: StageName, step: int) -> bool:
    try:
        values = parse_object(line)
    except JsonError:  # a line cut short by a kill
        return False
    own, at = values.get("stage"), values.get("step")
    if own not in STAGES or type(at) is not int:
        return False
    order, here = STAGES.index(own), STAGES.index(stage)
    return order < here or (order == here and at <= step)


def _append(file: Path, line: str) -> None:
    """Appends a line to a regular file; a line cut short by a kill is terminated first.

    Raises:
        OSError: it cannot be written.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(file, flags, 0o666), "rb+", buffering=0) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeFileError(f"{file} is not a regular file")
        if status.st_size:
            stream.seek(-1, os.SEEK_END)
        cut = status.st_size and stream.read(1) != b"\n"
        stream.write(("\n" if cut else "").encode() + line.encode("utf-8") + b"\n")
