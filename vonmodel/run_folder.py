"""The folder of one training run: configuration, environment, log, statistics, checkpoints, samples and metrics."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vondata import __version__
from vondata.errors import VonError
from vonmodel.checkpoint import CheckpointInfo, list_checkpoints
from vonmodel.config import STAGES, StageName, TrainConfig, difference, load_config, save_config, value_of

# What may lie in a folder in which a run starts: what one leaves that was stopped before it had a configuration.
REMAINS = {"checkpoints", "samples", "baselines", ".config.json.partial"}


class RunError(VonError):
    """A run folder that cannot be used."""


class RunMissingError(RunError):
    """There is no run, or none with a checkpoint."""


class RunFolderTakenError(RunError):
    """A new run's folder holds other things."""


class ConfigChangedError(RunError):
    """A run was started with another configuration."""


class RunFolder:
    """What a run leaves on disk, and where.

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
        """Where the sample sheets go."""
        return self.path / "samples"

    def config(self) -> TrainConfig:
        """The configuration this run was started with.

        Raises:
            RunError: no run was started here.
        """
        if not self.exists:
            raise RunMissingError(f"{self.path} is no run: it has no config.json; train one first")
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
        (self.path / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n", "utf-8")

    def latest_checkpoint(self, stage: StageName | None = None) -> CheckpointInfo | None:
        """The newest complete checkpoint of the run, or of one of its stages."""
        found = list_checkpoints(self.path, stage)
        return found[-1] if found else None

    def log_stats(self, values: Mapping[str, Any]) -> None:
        """Appends one line to stats.jsonl."""
        _append(self.path / "stats.jsonl", json.dumps(values))

    def append_metric(self, values: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl; it must name the `checkpoint` that was measured."""
        if "checkpoint" not in values:
            raise ValueError("a metric must name its checkpoint")
        _append(self.path / "metrics.jsonl", json.dumps(values))

    def append_log(self, line: str) -> None:
        """Appends one line to log.txt."""
        _append(self.path / "log.txt", line)

    def rewind_stats(self, stage: StageName, step: int) -> None:
        """Drops statistics of steps that a killed run did after its last checkpoint and that now run again."""
        file = self.path / "stats.jsonl"
        if not file.exists():
            return
        kept = [line for line in file.read_text("utf-8").splitlines() if _is_before(line, stage, step)]
        partial = file.with_name(".stats.jsonl.partial")
        partial.write_text("".join(line + "\n" for line in kept), "utf-8")
        partial.replace(file)

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
            raise RunFolderTakenError(f"{self.path} is no folder; name a new one")

    def check_same(self, config: TrainConfig) -> None:
        """Checks that the run was started with this configuration, but for what it writes and when.

        Raises:
            RunError: it was not; the message names the fields that differ.
        """
        theirs = self.config()
        changed = difference(theirs, config)
        if changed:
            fields = "; ".join(
                f"{name} was {value_of(theirs, name)!r}, now {value_of(config, name)!r}" for name in changed
            )
            raise ConfigChangedError(
                f"{self.path} was started with another configuration ({fields}). Give the old values to "
                f"go on with it, or start another run"
            )


def latest_run(runs: Path) -> RunFolder:
    """The run with the newest checkpoint in a folder of runs.

    Raises:
        RunError: there is no run with a checkpoint.
    """
    found = {
        file.parent.parent.parent: file.stat().st_mtime
        for file in sorted(runs.glob("*/checkpoints/*/checkpoint.json"), key=lambda each: each.stat().st_mtime)
    }
    if not found:
        raise RunMissingError(f"{runs} holds no run with a checkpoint; train one first")
    return RunFolder(max(found, key=lambda run: found[run]))


def environment() -> dict[str, Any]:
    """What a run's figures depend on besides its configuration."""
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
        values = json.loads(line)
        order = STAGES.index(values["stage"])
    except (ValueError, KeyError):
        return False  # a line that the kill cut short
    return order < STAGES.index(stage) or (order == STAGES.index(stage) and values["step"] <= step)


def _append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
