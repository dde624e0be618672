"""Checkpoints: a folder of safetensors files and one JSON file that appears complete or not at all; no pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vondata.errors import VonError
from vonmodel.config import STAGES, StageName, load_config
from vonmodel.model import VonModel

FORMAT = 1


class CheckpointError(VonError):
    """A run or checkpoint that is missing, half there or of another version."""


class CheckpointMissingError(CheckpointError):
    """A run that has no checkpoint yet."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself.

    Attributes:
        name: its folder's name, such as `texture-00000800`.
        stage: the stage that wrote it.
        step: steps of this stage that are done.
        steps: steps that this stage has in all.
        images_seen: items this stage has trained on.
        sha256: hash of the networks' file.
        dataset: hash of the ids it was trained on; "" where unknown.
    """

    name: str
    stage: StageName
    step: int
    steps: int
    images_seen: int
    sha256: str
    dataset: str = ""

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
        training: what only training needs: optimisers and image pools.
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
        info: all but `sha256`, which is computed here.
        state: the tensors, on any device.

    Returns:
        The info with its hash.
    """
    final = run / "checkpoints" / info.name
    partial = final.with_name(f".{info.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in ("networks", "average", "training"):
        tensors = {key: value.detach().cpu().contiguous() for key, value in getattr(state, name).items()}
        save_file(tensors, partial / f"{name}.safetensors")
    info = dataclasses.replace(info, sha256=_sha256(partial / "networks.safetensors"))
    description = json.dumps({"format": FORMAT, **dataclasses.asdict(info)}, indent=2)
    (partial / "checkpoint.json").write_text(description + "\n", "utf-8")
    for file in partial.iterdir():
        _flush(file)
    if final.exists():
        shutil.rmtree(final)
    partial.replace(final)
    _flush(final.parent)
    return info


def list_checkpoints(run: Path, stage: StageName | None = None) -> list[CheckpointInfo]:
    """The complete checkpoints of a run (or of one of its stages), oldest first."""
    found = [
        read_info(run, file.parent.name)
        for file in (run / "checkpoints").glob("*/checkpoint.json")
        if not file.parent.name.startswith(".")
    ]
    chosen = [each for each in found if stage in (None, each.stage)]
    return sorted(chosen, key=lambda each: (STAGES.index(each.stage), each.step))


def read_info(run: Path, name: str) -> CheckpointInfo:
    """What the checkpoint of this name says of itself.

    Raises:
        CheckpointError: there is none of this name, or another version of VON wrote it.
    """
    file = run / "checkpoints" / name / "checkpoint.json"
    try:
        values = json.loads(file.read_text("utf-8"))
        version = values.pop("format")
        if version != FORMAT:
            raise CheckpointError(f"{file.parent} has format {version}; this version of VON reads {FORMAT}")
        return CheckpointInfo(**values)
    except FileNotFoundError as error:
        known = ", ".join(sorted(each.parent.name for each in (run / "checkpoints").glob("*/checkpoint.json")))
        raise CheckpointError(f"{run} has no checkpoint {name!r}; it has: {known or 'none'}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def read_state(run: Path, info: CheckpointInfo) -> CheckpointState:
    """The tensors of a checkpoint, on the CPU.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    folder = run / "checkpoints" / info.name
    return CheckpointState(*(_read(folder / f"{name}.safetensors") for name in ("networks", "average", "training")))


def prune_checkpoints(run: Path, stage: StageName, keep: int) -> None:
    """Removes the older checkpoints of a stage, all but the newest `keep` (at least one stays)."""
    for info in list_checkpoints(run, stage)[: -max(1, keep)]:
        folder = run / "checkpoints" / info.name
        doomed = folder.with_name(f".{info.name}.removed")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.replace(doomed)
        shutil.rmtree(doomed)


def load_model(
    run: Path, *, checkpoint: str | None = None, device: str | torch.device = "cpu"
) -> tuple[VonModel, CheckpointInfo]:
    """The model of a run as it is to be used: averaged weights where training kept them, evaluation mode.

    Args:
        run: the run folder.
        checkpoint: name of the checkpoint; the newest one where None.
        device: where the model goes.

    Raises:
        CheckpointError: the run has no such checkpoint, or it is damaged.
        ConfigError: the run's configuration cannot be read.
    """
    if checkpoint is None:
        found = list_checkpoints(run)
        if not found:
            raise CheckpointMissingError(f"{run} has no checkpoint yet; train it first")
        info = found[-1]
    else:
        info = read_info(run, checkpoint)
    model = VonModel(load_config(run / "config.json").model)
    load_weights(model, read_state(run, info), info)
    return model.to(device).eval().requires_grad_(False), info


def load_weights(model: nn.Module, state: CheckpointState, info: CheckpointInfo, *, averaged: bool = True) -> None:
    """Copies a checkpoint's weights into the model.

    Args:
        model: where the weights go.
        state: the checkpoint's tensors.
        info: the checkpoint, to name it in an error.
        averaged: take the running averages where the checkpoint has them.

    Raises:
        CheckpointError: the weights are of a model of another size.
    """
    try:
        model.load_state_dict({**state.networks, **(state.average if averaged else {})})
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint {info.name} does not fit the model of config.json: {error}") from error


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} is missing or damaged: {error}") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
