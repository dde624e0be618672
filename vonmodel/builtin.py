"""The models that come with the package: one file each, unpacked into the cache as a run that everything else reads.

A file holds the averaged weights of the networks that make pictures, in half precision, and in its header the
configuration, the checkpoint and what the model card says. Critics are left out: they serve training alone.
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

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from vondata.errors import VonError
from vondata.io.files import atomic_path, cache_folder
from vonmodel.checkpoint import CheckpointInfo, CheckpointState, load_model, save_checkpoint
from vonmodel.config import TrainConfig, update
from vonmodel.model import GENERATORS, build_model
from vonmodel.run_folder import RunFolder

FORMAT = 1
PREFIX = "builtin:"
DEFAULT = "chair"
"""The built-in model where nothing says which."""
_KEY = "von_builtin"


class BuiltinModelError(VonError):
    """There is no built-in model of this name, or its file is damaged."""


@dataclass(frozen=True)
class BuiltinModel:
    """A model of the package, as its file's header describes it.

    Attributes:
        name: also its class.
        config: what it was trained with.
        checkpoint: of the run it was packed from.
        card: data, recipe, scores and limits, for people.
        sha256: of the file.
    """

    name: str
    config: TrainConfig
    checkpoint: CheckpointInfo
    card: dict[str, Any]
    sha256: str


def builtin_names() -> tuple[str, ...]:
    """The built-in models there are, by name."""
    files = (each.name for each in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".safetensors") for name in files if name.endswith(".safetensors")))


def builtin_name(run: Path | str) -> str | None:
    """The built-in model that stands for a run, `builtin:chair`; None for a path."""
    text = str(run)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def describe_builtin(name: str) -> BuiltinModel:
    """What the file of a built-in model says of it.

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
        # The critics are not there: they stay as they are drawn.
        networks = build_model(model.config.model, model.config.seed).state_dict()
        networks |= {key: value.to(networks[key].dtype) for key, value in weights.items()}
        save_checkpoint(run.path, model.checkpoint, CheckpointState(networks, {}, {}))
        try:
            run.path.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return RunFolder(folder)


def pack_builtin(run: Path, file: Path, card: dict[str, Any], checkpoint: str | None = None) -> BuiltinModel:
    """Packs a trained run as a built-in model.

    Args:
        run: the run folder.
        file: where to write it; its name without suffix is the model's.
        card: what the model card says.
        checkpoint: which one; the newest where None.

    Raises:
        CheckpointError, RunError, ConfigError: the run has no such model.
    """
    config = RunFolder(run).config()
    model, info = load_model(run, checkpoint=checkpoint)
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
        if name.startswith(tuple(f"{each}." for each in GENERATORS))
    }
    header = {
        "format": FORMAT,
        "config": dataclasses.asdict(config),
        "checkpoint": dataclasses.asdict(info),
        "card": card,
    }
    with atomic_path(file) as temporary:
        save_file(weights, temporary, {_KEY: json.dumps(header)})
    return BuiltinModel(file.stem, config, info, card, hashlib.sha256(file.read_bytes()).hexdigest())


def _read(name: str) -> tuple[BuiltinModel, dict[str, Tensor]]:
    """A file of the package: its header and its weights."""
    file = _folder() / f"{name}.safetensors"
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
            hashlib.sha256(content).hexdigest(),
        )
        return model, load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BuiltinModelError(
            f"the file of {PREFIX}{name} is damaged: {error}", hint="install VON again"
        ) from error


def _folder() -> Any:
    """Where the files are in the package."""
    return resources.files("vonmodel") / "builtin_models"


def _listed() -> str:
    return ", ".join(f"{PREFIX}{each}" for each in builtin_names()) or "no built-in models"
