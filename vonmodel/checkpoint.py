"""Checkpoints: folders of safetensors files and JSON description, written atomically, checked by hash; no pickle."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.config import STAGES, StageName, TrainConfig, load_config
from vonmodel.model import VonModel
from vonmodel.run_files import JsonError, open_run_file, parse_object, read_run_file

FORMAT = 1
MAX_DESCRIPTION_BYTES = 1 << 20
INVERSE = "inverse"
"""In a run folder: the networks that invert its checkpoint, photo to codes and mesh to code."""
Part = Literal["networks", "average", "training"]
PARTS: tuple[Part, ...] = get_args(Part)
_NAME = re.compile(rf"(?P<stage>{'|'.join(STAGES)})-\d{{8,12}}")
_HASH = re.compile(r"[0-9a-f]{64}")

_log = logging.getLogger(__name__)


class CheckpointError(VonError):
    """A run or checkpoint that is missing, incomplete or of another version."""


class ClassNotInModelError(CheckpointError):
    """A class that a model was not trained on."""


class CheckpointMissingError(CheckpointError):
    """A run that has no checkpoint yet."""


class CheckpointDamagedError(CheckpointError):
    """A checkpoint whose files are not what was written."""


class CheckpointWriteError(CheckpointError, OSError):
    """A checkpoint that cannot be written."""


@dataclass(frozen=True)
class CheckpointInfo:
    """The description of a checkpoint.

    Attributes:
        name: its folder's name, such as `texture-00000800`.
        stage: the stage that wrote it.
        step: steps of this stage that are done.
        steps: steps that this stage has in all.
        images_seen: items this stage has trained on.
        sha256: hash of the networks' file.
        dataset: hash of the ids it was trained on; "" where unknown.
        files: hash of every file by its name; empty for checkpoints of 0.1.0, for which only `sha256` is checked.
        saved: when it was written, UTC in ISO 8601; "" for checkpoints of 0.1.0.
        schedule: the configured length of the stage, such as `100+100 epochs`; "" for checkpoints of 0.1.0.
    """

    name: str
    stage: StageName
    step: int
    steps: int
    images_seen: int
    sha256: str
    dataset: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    saved: str = field(default="", compare=False)
    schedule: str = ""

    @property
    def finished(self) -> bool:
        """Whether the stage was complete."""
        return self.step >= self.steps


@dataclass(frozen=True)
class CheckpointState:
    """The tensors of a checkpoint, by name.

    Attributes:
        networks: all weights of the model as they train.
        average: running averages of the generators' weights, under the names of the weights; may be empty.
        training: the state of optimisers and image pools.
    """

    networks: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    training: Mapping[str, Tensor]


def checkpoint_name(stage: StageName, step: int) -> str:
    """The folder name of a checkpoint; names of a stage sort by step."""
    return f"{stage}-{step:08d}"


def save_checkpoint(run: Path, info: CheckpointInfo, state: CheckpointState) -> CheckpointInfo:
    """Writes a checkpoint next to the run's others, under its final name only once it is on disk.

    Args:
        run: the run folder.
        info: all but hashes and time, which are added here.
        state: the tensors, on any device.

    Returns:
        The info with hashes and time.

    Raises:
        CheckpointWriteError: it cannot be written; the checkpoints before it are as they were.
    """
    final = run / "checkpoints" / info.name
    partial = final.with_name(f".{info.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in PARTS:
            tensors = {key: value.detach().cpu().contiguous() for key, value in getattr(state, name).items()}
            save_file(tensors, partial / f"{name}.safetensors")
        hashes = {f"{name}.safetensors": _sha256(partial / f"{name}.safetensors") for name in PARTS}
        saved = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        info = dataclasses.replace(info, sha256=hashes["networks.safetensors"], files=hashes, saved=saved)
        values = dataclasses.asdict(info)
        description = json.dumps({"format": FORMAT, **values, "checksum": _checksum(values)}, indent=2)
        (partial / "checkpoint.json").write_text(description + "\n", "utf-8")
        for file in partial.iterdir():
            _flush(file)
        _remove(final)
        partial.replace(final)
        _flush(final.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckpointWriteError(
            f"checkpoint {info.name} cannot be written to {final.parent} ({reason}); those before it are whole",
            hint="make room or make the folder writable, then continue the run",
        ) from error
    return info


def checkpoint_names(run: Path, stage: StageName | None = None) -> list[str]:
    """The names of the checkpoint folders of a run (or of one of its stages), damaged ones too, oldest first."""
    try:
        entries = sorted(os.listdir(run / "checkpoints"))
    except OSError:
        return []
    named = [(match["stage"], name) for name in entries if (match := _NAME.fullmatch(name))]
    chosen = [each for each in named if stage in (None, each[0])]
    return [name for _, name in sorted(chosen, key=lambda each: (STAGES.index(each[0]), int(each[1].split("-")[1])))]


def list_checkpoints(run: Path, stage: StageName | None = None) -> list[CheckpointInfo]:
    """The checkpoints of a run (or of one of its stages) whose description can be read, oldest first.

    Those whose description is damaged are reported in the log and left out.
    """
    found = []
    for name in checkpoint_names(run, stage):
        try:
            found.append(read_info(run, name))
        except CheckpointDamagedError as error:
            _log.warning("%s; passed over", error)
        except CheckpointMissingError:
            continue  # removed in the meantime, or a folder without description
    return found


def newest_whole(run: Path, stage: StageName | None = None) -> CheckpointInfo | None:
    """The newest undamaged checkpoint of a run (or of one of its stages).

    Damaged ones are passed over and named in the log; None if there is no checkpoint.

    Raises:
        CheckpointDamagedError: there are some, and all of them are damaged.
    """
    damaged = []
    for name in reversed(checkpoint_names(run, stage)):
        try:
            info = read_info(run, name)
            check_files(run, info)
        except CheckpointDamagedError as error:
            damaged.append(name)
            _log.warning("%s; passed over", error)
        except CheckpointMissingError:
            continue
        else:
            if damaged:
                _log.warning("%s: going on with checkpoint %s in place of %s", run, name, ", ".join(damaged))
            return info
    if damaged:
        raise CheckpointDamagedError(
            f"{run}: all checkpoints of {'the run' if stage is None else stage} are damaged: {', '.join(damaged)}",
            hint="restore them from a copy, or remove them to train the stage anew",
        )
    return None


def set_damaged_aside(run: Path, stage: StageName, whole: CheckpointInfo | None) -> None:
    """Renames the checkpoints of a stage that are newer than the newest whole one to NAME.damaged."""
    for name in checkpoint_names(run, stage):
        if whole is None or name > whole.name:
            folder = run / "checkpoints" / name
            aside = folder.with_name(f"{name}.damaged")
            _remove(aside)
            folder.replace(aside)


def read_info(run: Path, name: str) -> CheckpointInfo:
    """The description of the checkpoint of this name.

    Raises:
        CheckpointMissingError: there is none of this name.
        CheckpointDamagedError: its description cannot be read, is of something else, or lies outside of the run.
        CheckpointError: another version of VON wrote it.
    """
    file = run / "checkpoints" / name / "checkpoint.json"
    missing = CheckpointMissingError(
        f"{run} has no checkpoint {name!r}; it has: {', '.join(checkpoint_names(run)) or 'none'}"
    )
    if not _NAME.fullmatch(name):
        raise missing
    try:
        content = read_run_file(run, "checkpoints", name, "checkpoint.json", max_bytes=MAX_DESCRIPTION_BYTES)
        values = parse_object(content)
        version = values.pop("format", None)
        if isinstance(version, int) and version != FORMAT:
            raise CheckpointError(f"{file.parent} has format {version}; this version of VON reads {FORMAT}")
        if (recorded := values.pop("checksum", None)) not in (None, _checksum(values)):
            raise JsonError(f"its checksum is not the recorded one, {str(recorded)[:12]}")
        return _typed_info(name, values)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise missing from error
    except (OSError, JsonError) as error:
        reason = str(error).removeprefix(str(file)).strip(": ") or type(error).__name__
        raise CheckpointDamagedError(f"{file} is damaged: {reason}") from error


def _checksum(values: Mapping[str, Any]) -> str:
    """SHA-256 of a description without its format and checksum; those of 0.1.0 record none."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _typed_info(name: str, values: Mapping[str, Any]) -> CheckpointInfo:
    """The description with every field of its type and in its range; unknown fields are ignored.

    Raises:
        JsonError: a field is missing or has an invalid value.
    """
    counts: dict[str, Any] = {key: values.get(key) for key in ("step", "steps", "images_seen")}
    wrong = [key for key, value in counts.items() if type(value) is not int or not 0 <= value < 1 << 53]
    texts: dict[str, Any] = {key: values.get(key, "") for key in ("sha256", "dataset", "saved", "schedule")}
    wrong += [key for key, value in texts.items() if type(value) is not str]
    files = values.get("files", {})
    known = {f"{part}.safetensors" for part in PARTS}
    if type(files) is not dict or not all(
        key in known and type(value) is str and _HASH.fullmatch(value) for key, value in files.items()
    ):
        wrong.append("files")
    match = _NAME.fullmatch(name)
    if values.get("name") != name or match is None or values.get("stage") != match["stage"]:
        wrong.append("name")
    if wrong:
        raise JsonError(f"its {', '.join(wrong)} cannot be used")
    return CheckpointInfo(name=name, stage=values["stage"], **counts, **texts, files=files)


def check_files(run: Path, info: CheckpointInfo, parts: Sequence[Part] = PARTS) -> None:
    """Compares the files of a checkpoint with their recorded hashes.

    Raises:
        CheckpointDamagedError: one is missing, is not a regular file of the run, or has other bytes.
    """
    recorded = dict(info.files) or {"networks.safetensors": info.sha256}
    for part in parts:
        name = f"{part}.safetensors"
        file = run / "checkpoints" / info.name / name
        try:
            with open(open_run_file(run, "checkpoints", info.name, name), "rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointDamagedError(f"{file} is missing or damaged: {_reason(error)}") from error
        if recorded.get(name) not in (None, "", found):
            raise CheckpointDamagedError(f"{file} is damaged: its SHA-256 is not the recorded one")


def read_state(run: Path, info: CheckpointInfo, parts: Sequence[Part] = PARTS) -> CheckpointState:
    """The tensors of a checkpoint, on the CPU; parts that are not requested are empty.

    Raises:
        CheckpointDamagedError: a file is missing or is not what was written.
    """
    check_files(run, info, parts)
    folder = run / "checkpoints" / info.name
    return CheckpointState(*(read_weights(folder / f"{part}.safetensors") if part in parts else {} for part in PARTS))


def prune_checkpoints(run: Path, stage: StageName, keep: int) -> None:
    """Removes the older checkpoints of a stage, all but the newest `keep` (at least one stays)."""
    for info in list_checkpoints(run, stage)[: -max(1, keep)]:
        _remove(run / "checkpoints" / info.name)


def remove_partial_checkpoints(run: Path) -> None:
    """Removes what a killed run left half written or half removed. Only the process that trains may call this."""
    for pattern in (".*.partial", ".*.removed"):
        for folder in (run / "checkpoints").glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Removes a checkpoint's folder, renamed first so that it never looks like an incomplete checkpoint."""
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    try:
        folder.replace(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed)


def load_model(
    run: Path, *, checkpoint: str | None = None, device: str | torch.device = "cpu"
) -> tuple[VonModel, CheckpointInfo]:
    """The model of a run in evaluation mode, with averaged weights where training kept them.

    Args:
        run: the run folder.
        checkpoint: name of the checkpoint; if None, the newest one whose weights are undamaged.
        device: where the model goes.

    Raises:
        CheckpointError: the run has no such checkpoint, or it is damaged.
        ConfigError: the run's configuration cannot be read.
    """
    info, state = _newest_usable(run) if checkpoint is None else _named(run, checkpoint)
    model = VonModel(load_config(run / "config.json").model)
    load_weights(model, state, info)
    return model.to(device).eval().requires_grad_(False), info


def chosen_class(config: TrainConfig, name: str | None) -> TrainConfig:
    """The configuration of a run with one of its classes selected.

    Args:
        config: of the run.
        name: the class; if None the run's own, the first of several.

    Raises:
        ClassNotInModelError: the model is not of this class.
    """
    if name is None or name == config.class_name:
        return config
    if name not in config.class_names:
        raise ClassNotInModelError(f"this model is of {', '.join(config.class_names)}, not of {name}")
    return dataclasses.replace(config, class_name=name)


def _named(run: Path, name: str) -> tuple[CheckpointInfo, CheckpointState]:
    info = read_info(run, name)
    return info, read_state(run, info, ("networks", "average"))


def _newest_usable(run: Path) -> tuple[CheckpointInfo, CheckpointState]:
    """The newest checkpoint whose weights are undamaged; damaged ones are named in the log.

    Raises:
        CheckpointMissingError, CheckpointDamagedError: there is none, or all are damaged.
    """
    first: CheckpointDamagedError | None = None
    for name in reversed(checkpoint_names(run)):
        try:
            found = _named(run, name)
        except CheckpointDamagedError as error:
            _log.warning("%s; passed over", error)
            first = first or error
        except CheckpointMissingError:
            continue
        else:
            return found
    if first is not None:
        raise first
    raise CheckpointMissingError(f"{run} has no checkpoint yet; train it first")


def load_weights(model: nn.Module, state: CheckpointState, info: CheckpointInfo, *, averaged: bool = True) -> None:
    """Copies a checkpoint's weights into the model.

    Args:
        model: where the weights go.
        state: the checkpoint's tensors.
        info: the checkpoint, for its name in errors.
        averaged: take the running averages where the checkpoint has them.

    Raises:
        CheckpointError: the weights are of a model of another size.
    """
    try:
        model.load_state_dict({**state.networks, **(state.average if averaged else {})})
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint {info.name} does not fit the model of config.json: {error}") from error


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
        CheckpointDamagedError: the file is missing or damaged.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointDamagedError(f"{file} is missing or damaged: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """An error without the path that its message begins with."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def save_inverse(run: Path, name: str, weights: Mapping[str, Tensor], checkpoint_sha256: str) -> None:
    """Keeps a network that inverts a checkpoint beside the run, in half precision, with the checkpoint's hash.

    Raises:
        OSError: it cannot be written.
    """
    file = run / INVERSE / f"{name}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    halves = {key: value.detach().half().cpu().contiguous() for key, value in weights.items()}
    with atomic_path(file) as temporary:
        save_file(halves, temporary, {"checkpoint": checkpoint_sha256})


def read_inverse(run: Path, name: str, checkpoint_sha256: str) -> dict[str, Tensor] | None:
    """The weights that `save_inverse` wrote; None if they are missing, damaged or of another checkpoint."""
    file = run / INVERSE / f"{name}.safetensors"
    try:
        with safe_open(file, "pt") as opened:
            if (opened.metadata() or {}).get("checkpoint") != checkpoint_sha256:
                return None
            return {key: opened.get_tensor(key).float() for key in opened.keys()}  # noqa: SIM118  # not a mapping
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        _log.warning("%s is damaged (%s) and passed over", file, error)
        return None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
