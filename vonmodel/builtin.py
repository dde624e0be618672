"""Built-in models: one file each in the package, unpacked into the cache as an ordinary run folder.

A file holds the averaged weights of the generators and of the shape critic, which ranks generated shapes; its header
holds the configuration, the checkpoint and the model card. Large weights are int8 with one scale per index of their
first axis, all others half precision: an error of 0.2 % of a channel's largest weight. The image critics are left
out: only training uses them. The networks that invert the checkpoint, kept beside the run, are included, so that
photos and meshes are encoded without training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from vondata.errors import VonError
from vondata.io.files import atomic_path, cache_folder
from vonmodel.checkpoint import (
    INVERSE,
    CheckpointInfo,
    CheckpointState,
    load_model,
    read_inverse,
    save_checkpoint,
    save_inverse,
)
from vonmodel.config import TrainConfig, update
from vonmodel.model import GENERATORS, build_model
from vonmodel.run_folder import RunFolder

FORMAT = 1
PREFIX = "builtin:"
DEFAULT = "chair"
"""The built-in model that is used when none is named."""
PACKED = (*GENERATORS, "shape_critic", "shape_prior")
"""The networks that a file holds."""
SMALL = 4096
"""Weights with fewer elements are stored in half precision."""
FACTS = "builtin.json"
"""In an unpacked run: name, card and first seed."""
_KEY = "von_builtin"
_SCALE = ":scale"


class BuiltinModelError(VonError):
    """There is no built-in model of this name, or its file is damaged."""


@dataclass(frozen=True)
class BuiltinModel:
    """A model of the package, as its file's header describes it.

    Attributes:
        name: also its class.
        config: the configuration it was trained with.
        checkpoint: of the run it was packed from.
        card: the model card: data, recipe, scores and limits.
        first_seed: of the shape to show first.
        sha256: of the file.
    """

    name: str
    config: TrainConfig
    checkpoint: CheckpointInfo
    card: dict[str, Any]
    first_seed: int
    sha256: str


def builtin_names() -> tuple[str, ...]:
    """Names of all built-in models."""
    files = (each.name for each in models_folder().iterdir())
    return tuple(sorted(name.removesuffix(".safetensors") for name in files if name.endswith(".safetensors")))


def builtin_name(run: Path | str) -> str | None:
    """The built-in model that stands for a run, `builtin:chair`; None for a path."""
    text = str(run)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def spoken_run(run: Path) -> str:
    """The name of a run that is valid on any machine: `builtin:chair` for an unpacked model, else its path."""
    facts = run / FACTS
    try:
        name = json.loads(facts.read_text("utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return str(run)
    return f"{PREFIX}{name}" if run.parent == cache_folder() / "models" else str(run)


def first_seed_of(run: Path) -> int:
    """The seed of the shape to show first of a run: the one chosen for a built-in model, else 0."""
    try:
        return int(json.loads((run / FACTS).read_text("utf-8"))["first_seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def describe_builtin(name: str) -> BuiltinModel:
    """The header of a built-in model's file.

    Raises:
        BuiltinModelError: there is none of this name, or its file is damaged.
    """
    return _read(name)[0]


def unpack_builtin(name: str) -> RunFolder:
    """The run folder of a built-in model, in the cache, unpacked if it is not there.

    Raises:
        BuiltinModelError: there is none of this name, or its file is damaged.
        OSError: the cache cannot be written.
    """
    model, weights = _read(name)
    folder = cache_folder() / "models" / f"{name}-{model.sha256[:12]}"
    if folder.is_dir():
        return RunFolder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as partial:
        run = RunFolder(Path(partial) / "run")
        run.start(model.config)
        # Networks that are not packed keep their random initial weights.
        networks = build_model(model.config.model, model.config.seed).state_dict()
        inverse, own = _separated(weights)
        networks |= {key: value.to(networks[key].dtype) for key, value in own.items()}
        saved = save_checkpoint(run.path, model.checkpoint, CheckpointState(networks, {}, {}))
        for network, its_weights in inverse.items():
            save_inverse(run.path, network, its_weights, saved.sha256)
        facts = {"name": name, "card": model.card, "first_seed": model.first_seed}
        (run.path / FACTS).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
        try:
            run.path.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return RunFolder(folder)


def pack_builtin(
    run: Path,
    file: Path,
    card: dict[str, Any],
    checkpoint: str | None = None,
    first_seed: int = 0,
    *,
    with_inverse: bool = True,
) -> BuiltinModel:
    """Packs a trained run as a built-in model.

    Args:
        run: the run folder.
        file: where to write it; its name without suffix is the model's.
        card: content of the model card.
        checkpoint: which one; the newest if None.
        first_seed: of the shape to show first.
        with_inverse: pack the networks in the run that invert this checkpoint, too.

    Raises:
        CheckpointError, RunError, ConfigError: the run has no such model.
    """
    config = RunFolder(run).config()
    model, info = load_model(run, checkpoint=checkpoint)
    kept = tuple(f"{each}." for each in PACKED)
    weights = dict[str, Tensor]()
    for name, value in model.state_dict().items():
        if name.startswith(kept):
            weights |= packed_weight(name, value)
    for file_of_network in sorted((run / INVERSE).glob("*.safetensors")) if with_inverse else ():
        inverse = read_inverse(run, file_of_network.stem, info.sha256) or {}
        for name, value in inverse.items():
            weights |= packed_weight(f"{INVERSE}/{file_of_network.stem}/{name}", value)
    header = {
        "format": FORMAT,
        "config": dataclasses.asdict(config),
        "checkpoint": dataclasses.asdict(info),
        "card": card,
        "first_seed": first_seed,
    }
    with atomic_path(file) as temporary:
        save_file(weights, temporary, {_KEY: json.dumps(header)})
    return BuiltinModel(file.stem, config, info, card, first_seed, hashlib.sha256(file.read_bytes()).hexdigest())


def packed_weight(name: str, value: Tensor) -> dict[str, Tensor]:
    """A weight in the form in which it is stored and `unpacked_weights` reads it."""
    if not value.is_floating_point():
        return {name: value.contiguous()}
    if value.numel() < SMALL:
        return {name: value.half().contiguous()}
    largest = value.abs().flatten(1).amax(1).clamp_min(1e-12)
    scale = (largest / 127.0).half().float().clamp_min(1e-7)
    rows = scale.reshape(-1, *[1] * (value.dim() - 1))
    return {name: (value / rows).round().clamp(-127, 127).to(torch.int8).contiguous(), name + _SCALE: scale.half()}


def unpacked_weights(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a file, in single precision."""
    weights = dict[str, Tensor]()
    for name, value in stored.items():
        scale = stored.get(name + _SCALE)
        if scale is not None:
            weights[name] = value.float() * scale.float().reshape(-1, *[1] * (value.dim() - 1))
        elif not name.endswith(_SCALE):
            weights[name] = value.float() if value.is_floating_point() else value
    return weights


def _separated(weights: dict[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The weights of each network that inverts the checkpoint, by its name, and all others."""
    inverse, own = dict[str, dict[str, Tensor]](), dict[str, Tensor]()
    for key, value in weights.items():
        if key.startswith(f"{INVERSE}/"):
            _, network, name = key.split("/", 2)
            inverse.setdefault(network, {})[name] = value
        else:
            own[key] = value
    return inverse, own


def _read(name: str) -> tuple[BuiltinModel, dict[str, Tensor]]:
    """A file of the package: its header and its weights."""
    file = models_folder() / f"{name}.safetensors"
    if name not in builtin_names():
        raise BuiltinModelError(f"{PREFIX}{name}: the package has {_listed()}")
    content = file.read_bytes()
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
        if header["format"] != FORMAT:
            raise BuiltinModelError(f"{PREFIX}{name} has format {header['format']}; this version reads {FORMAT}")
        model = BuiltinModel(
            name,
            update(TrainConfig(), header["config"], f"{PREFIX}{name}"),
            CheckpointInfo(**header["checkpoint"]),
            header["card"],
            header["first_seed"],
            hashlib.sha256(content).hexdigest(),
        )
        return model, unpacked_weights(load(content))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BuiltinModelError(
            f"the file of {PREFIX}{name} is damaged: {error}", hint="install VON again"
        ) from error


def models_folder() -> Any:
    """The package's folder of built-in models."""
    return resources.files("vonmodel") / "builtin_models"


def _listed() -> str:
    return ", ".join(f"{PREFIX}{each}" for each in builtin_names()) or "no built-in models"
