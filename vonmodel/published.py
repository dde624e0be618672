"""Conversion of the weights of the 2018 release: state dicts to and from our networks, and its files to a run."""

import dataclasses
import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.checkpoint import (
    CheckpointInfo,
    CheckpointState,
    checkpoint_name,
    checkpoint_names,
    save_checkpoint,
)
from vonmodel.config import Representation, TrainConfig
from vonmodel.model import VonModel, build_model
from vonmodel.networks import (
    PatchCritic,
    ShapeCritic,
    ShapeGenerator,
    SketchEncoder,
    TextureEncoder,
    TextureGenerator,
)
from vonmodel.networks.blocks import UnsupportedSizeError
from vonmodel.presets import PRESETS
from vonmodel.run_folder import RunFolder

PublishedName = Literal["net_G_3D", "net_D_3D", "net_G_AB", "net_G_BA", "net_E", "net_D_A", "net_D_B"]
PUBLISHED_NAMES: tuple[PublishedName, ...] = (
    "net_G_3D",
    "net_D_3D",
    "net_G_AB",
    "net_G_BA",
    "net_E",
    "net_D_A",
    "net_D_B",
)
# Our attribute for each network of the release.
PLACES: Mapping[PublishedName, str] = {
    "net_G_3D": "shape_generator",
    "net_D_3D": "shape_critic",
    "net_G_AB": "texture_generator",
    "net_G_BA": "sketch_encoder",
    "net_E": "texture_encoder",
    "net_D_A": "image_critic",
    "net_D_B": "sketch_critic",
}
# The networks that inference needs; critics are used in training only.
NEEDED: tuple[PublishedName, ...] = ("net_G_3D", "net_G_AB", "net_G_BA", "net_E")
# The release's words for its two kinds of shapes.
VARIANTS: Mapping[str, Representation] = {"df": "distance", "voxel": "occupancy"}
SUFFIXES = (".pth", ".pt", ".safetensors")
RECORD = "published.json"
"""In an imported run: the files it was made of."""
# Keys of a state dict in checkpoints with other content, the likelier ones first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
WRAPPED_LEVELS = 3
MODULE = "module."
COUNTER = "num_batches_tracked"
# The errors of the readers on damaged files; torch's unpickler does not validate them first.
UNREADABLE = (
    SafetensorError,
    UnpicklingError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)
RESIDUAL = "enc_content.model.3.model."


class PublishedWeightsError(VonError, ValueError):
    """A state dict or file that is not what the 2018 release holds under that name."""


@dataclass(frozen=True)
class PublishedFiles:
    """The files of one model of the release.

    Attributes:
        representation: of its shapes.
        files: by network; critics may be missing.
    """

    representation: Representation
    files: Mapping[PublishedName, Path]

    @property
    def missing(self) -> tuple[PublishedName, ...]:
        """The networks without a file, which get random weights."""
        return tuple(name for name in PUBLISHED_NAMES if name not in self.files)


def convert_state_dict(name: PublishedName, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the entries of a published state dict to those of our network.

    Resolution, image size, code size and width are inferred from the keys and shapes, so that smaller or larger
    variants of the release convert too. Keys may begin with `module.`, as for networks on several GPUs, and the batch
    counters, which torch 0.4.0 did not have yet, may be missing; they are 0 then.

    Args:
        name: which network of the release it is.
        state_dict: its entries.

    Returns:
        The same tensors, for `load_state_dict` of the network that `network_of` describes.

    Raises:
        PublishedWeightsError: keys are missing or unknown, or shapes do not fit; they are named.
    """
    state_dict = _tidied(state_dict)
    network = network_of(name, state_dict)
    keys = _published_keys(network)
    differences = {
        "missing": sorted(set(keys.values()) - set(state_dict)),
        "unknown": sorted(set(state_dict) - set(keys.values())),
    }
    named = [f"{kind} keys {', '.join(which)}" for kind, which in differences.items() if which]
    if named:
        raise PublishedWeightsError(f"{name}: {'; '.join(named)}")
    for ours, expected in network.state_dict().items():
        given = state_dict[keys[ours]].shape
        if given != expected.shape:
            raise PublishedWeightsError(f"{name}: {keys[ours]} is {tuple(given)}, expected {tuple(expected.shape)}")
    return {ours: state_dict[theirs] for ours, theirs in keys.items()}


def published_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """The weights of one of our networks under the names of the release: the inverse of `convert_state_dict`."""
    keys = _published_keys(network)
    return {keys[ours]: value for ours, value in network.state_dict().items()}


def load_published(name: PublishedName, source: Path | Mapping[str, Tensor]) -> nn.Module:
    """A network with published weights, in evaluation mode on the CPU.

    Args:
        name: which network of the release it is.
        source: its state dict, or a file holding it: `.safetensors`, else the format of `torch.save`. Files are read
            without executing code.

    Raises:
        PublishedWeightsError: the file holds no state dict, or not that of this network.
    """
    state_dict = _tidied(source if isinstance(source, Mapping) else read_state_dict(source))
    converted = convert_state_dict(name, state_dict)
    network = network_of(name, state_dict).to_empty(device="cpu")
    network.load_state_dict(converted)
    return network.eval()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from a `.safetensors` file or one of `torch.save`, without executing code.

    If it was saved with other content, as `{"epoch": 3, "state_dict": ...}`, it is extracted.

    Raises:
        PublishedWeightsError: the file holds no state dict.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise PublishedWeightsError(f"{path} cannot be read as a state dict: {reason}") from error
    found = _unwrapped(content)
    if found is None:
        raise PublishedWeightsError(f"{path} does not hold a state dict: names with tensors")
    return found


def find_weights(root: Path, class_name: str, representation: Representation | None = None) -> PublishedFiles | None:
    """The files of a class's model in the release, or in the folder of a training run of the released code.

    The release has `models_3D/CLASS_VARIANT_G_3D.pth` and `models_2D/CLASS_VARIANT/latest_net_G_AB.pth`, in or beside
    `final_models`, a variant being df or voxel; a training run saves all seven as `EPOCH_net_NAME.pth` in one folder.

    Args:
        root: the folder.
        class_name: the class, as the release names it.
        representation: which variant; if None, distances are preferred to voxels.

    Returns:
        The files; None if there are none of the class.

    Raises:
        PublishedWeightsError: networks that inference needs are missing, or the variant cannot be inferred from the
            name of a training run's folder.
    """
    wanted = [word for word, each in VARIANTS.items() if representation in (None, each)]
    for folder in (root, root / "final_models"):
        for word in wanted:
            files = dict(_release_files(folder, f"{class_name}_{word}"))
            if files:
                return _complete(PublishedFiles(VARIANTS[word], files), folder)
    files = dict(_training_files(root))
    if not files:
        return None
    if representation is None:
        named = [each for word, each in VARIANTS.items() if re.search(rf"(^|_){word}(_|$)", root.resolve().name)]
        if len(named) != 1:
            raise PublishedWeightsError(f"{root} does not say whether its shapes are distances or occupancies")
        representation = named[0]
    return _complete(PublishedFiles(representation, files), root)


def import_weights(found: PublishedFiles, run: Path, class_name: str, *, seed: int = 0) -> TrainConfig:
    """Makes an ordinary run of published weights, which can be used and trained further.

    The configuration is the published one, so the projection is the two-pass one and depth is normalised over a
    batch; sizes are inferred from the weights. The run is at the start of its joint stage. Files are read without
    executing code.

    Args:
        found: the files.
        run: the run folder: new, or empty.
        class_name: the class.
        seed: of further training, and of the weights of networks without a file.

    Returns:
        The configuration of the run.

    Raises:
        PublishedWeightsError: a file does not hold its network, or two of them are not of one model.
        RunError: the folder holds other files.
        CheckpointWriteError: it cannot be written.
    """
    state_dicts = {name: _tidied(read_state_dict(path)) for name, path in found.files.items()}
    networks = {name: network_of(name, each) for name, each in state_dicts.items()}
    config = _config_of(networks, found.representation, class_name, seed)
    model = build_model(config.model, config.seed)
    for name, state_dict in state_dicts.items():
        _load_into(model, name, convert_state_dict(name, state_dict), found.files[name])
    folder = RunFolder(run)
    if checkpoint_names(run):
        raise PublishedWeightsError(f"{run} holds a run that has checkpoints; name a new folder")
    folder.start(config)
    with folder.locked():
        record = {
            "representation": found.representation,
            "files": {
                name: {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                for name, path in found.files.items()
            },
            "drawn_at_random": list(found.missing),
        }
        with atomic_path(run / RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        info = CheckpointInfo(checkpoint_name("joint", 0), "joint", 0, 1, 0, "", schedule=config.joint.schedule)
        save_checkpoint(run, info, CheckpointState(model.state_dict(), {}, {}))
    return config


def _config_of(
    networks: Mapping[PublishedName, nn.Module], representation: Representation, class_name: str, seed: int
) -> TrainConfig:
    """The published configuration with the sizes of these networks.

    Raises:
        PublishedWeightsError: they are not of one model.
    """
    shape, painter = networks["net_G_3D"], networks["net_G_AB"]
    assert isinstance(shape, ShapeGenerator)
    assert isinstance(painter, TextureGenerator)
    published = PRESETS["published"]
    model = dataclasses.replace(
        published.model,
        resolution=shape.resolution,
        image_size=painter.image_size,
        shape_code_size=shape.code_size,
        texture_code_size=painter.code_size,
        shape_base_channels=shape.base_channels,
        texture_base_channels=painter.base_channels,
        representation=representation,
    )
    return dataclasses.replace(published, class_name=class_name, seed=seed, model=model)


def _load_into(model: VonModel, name: PublishedName, weights: Mapping[str, Tensor], path: Path) -> None:
    network = getattr(model, PLACES[name])
    ours = {key: value.shape for key, value in network.state_dict().items()}
    strange = next((key for key, value in weights.items() if ours.get(key) != value.shape), None)
    if strange is not None or ours.keys() != weights.keys():
        config = model.config
        raise PublishedWeightsError(
            f"{path} is not of the same model as net_G_3D ({config.resolution}^3 voxels) and net_G_AB "
            f"({config.image_size} pixels, width {config.texture_base_channels}): {name} has other sizes"
        )
    network.load_state_dict(weights)


def _release_files(folder: Path, stem: str) -> Iterator[tuple[PublishedName, Path]]:
    """The files of a model in the release's folder."""
    for name in PUBLISHED_NAMES:
        three = name.endswith("3D")
        base = folder / "models_3D" if three else folder / "models_2D" / stem
        names = [f"{stem}_{name.removeprefix('net_')}"] if three else [f"latest_{name}", name]
        candidates = (base / (each + suffix) for each in names for suffix in SUFFIXES)
        path = next((each for each in candidates if each.is_file()), None)
        if path is not None:
            yield name, path


def _training_files(folder: Path) -> Iterator[tuple[PublishedName, Path]]:
    """The files of a training run: of the epoch `latest`, else of the last one that has a shape generator."""
    epochs = {
        match[1]
        for each in folder.glob("*_net_G_3D.*")
        if (match := re.fullmatch(r"(latest|\d+)_net_G_3D", each.stem))
    }
    if not epochs:
        return
    epoch = "latest" if "latest" in epochs else str(max(epochs, key=int))
    for name in PUBLISHED_NAMES:
        candidates = (folder / f"{epoch}_{name}{suffix}" for suffix in SUFFIXES)
        path = next((each for each in candidates if each.is_file()), None)
        if path is not None:
            yield name, path


def _complete(found: PublishedFiles, folder: Path) -> PublishedFiles:
    lacking = [name for name in NEEDED if name not in found.files]
    if lacking:
        raise PublishedWeightsError(f"{folder} has no file of {', '.join(lacking)} of this model")
    return found


def _unwrapped(content: Any, levels: int = WRAPPED_LEVELS) -> dict[str, Tensor] | None:
    """The state dict that a loaded object is or contains; None if there is none."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return None
    if all(isinstance(value, Tensor) for value in content.values()):
        return dict(content)
    if levels == 0:
        return None
    named = [content[key] for key in WRAPPERS if key in content]
    found = (_unwrapped(each, levels - 1) for each in named)
    return next((each for each in found if each), None)


def _tidied(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the key prefix `module.`, and with the batch counters that torch 0.4.0 did not have."""
    tidied = dict(state_dict)
    while tidied and all(key.startswith(MODULE) for key in tidied):
        tidied = {key.removeprefix(MODULE): value for key, value in tidied.items()}
    counters = [key.removesuffix("running_var") + COUNTER for key in tidied if key.endswith("running_var")]
    zero = {key: torch.zeros((), dtype=torch.int64) for key in counters if key not in tidied}
    return {**tidied, **zero}


def network_of(name: PublishedName, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Our network with the sizes of a published state dict, on the meta device: layout without weights.

    Raises:
        PublishedWeightsError: the name is not one of the release, a key that determines a size is missing, or the
            sizes are not supported.
    """
    if name not in PUBLISHED_NAMES:
        raise PublishedWeightsError(f"unknown network {name!r}; the release holds {', '.join(PUBLISHED_NAMES)}")
    entries = _Entries(name, state_dict)
    try:
        with torch.device("meta"):
            return _build(name, entries)
    except UnsupportedSizeError as error:
        raise PublishedWeightsError(f"{name}: {error}") from error


def _build(name: PublishedName, entries: "_Entries") -> nn.Module:
    match name:
        case "net_G_3D":
            code_size, widest = entries.shape("block_0.0.weight")[:2]
            return ShapeGenerator(entries.number("toRGB_"), code_size, max(1, widest // 8))
        case "net_D_3D":
            widest = entries.shape("block_4.weight")[1]
            return ShapeCritic(entries.number("fromRGB_"), max(1, widest // 8))
        case "net_G_AB":
            width = entries.shape("enc_content.model.0.conv.weight")[0]
            carried = entries.shape("dec.block_2.conv.weight")[1]
            return TextureGenerator(2 ** (5 + entries.number(RESIDUAL)), max(0, carried - width), width)
        case "net_G_BA":
            width = entries.shape("enc_content.model.0.conv.weight")[0]
            return SketchEncoder(2 ** (5 + entries.number(RESIDUAL)), width)
        case "net_E":
            width = entries.shape("enc_style.model.0.conv.weight")[0]
            code_size = entries.shape("enc_style.fc_mean.weight")[0]
            return TextureEncoder(2 ** (4 + entries.number("enc_style.model.")), code_size, width)
        case "net_D_A" | "net_D_B":
            width, in_channels = entries.shape("model_0.0.weight")[:2]
            halvings = entries.number("model_0.") // 3
            if entries.shape("model_0.2.weight")[0] == width:
                halvings = 0  # at 32 pixels: as many convolutions as at 64, but all of the same width
            return PatchCritic(in_channels, 2 ** (5 + halvings), width)


class _Entries:
    """Looks up the keys of a published state dict that determine the sizes of its network."""

    def __init__(self, name: str, state_dict: Mapping[str, Tensor]) -> None:
        self.name, self.state_dict = name, state_dict

    def shape(self, key: str) -> torch.Size:
        """The shape of a weight.

        Raises:
            PublishedWeightsError: it is missing, or not a weight.
        """
        if key not in self.state_dict:
            raise PublishedWeightsError(f"{self.name}: missing key {key}")
        if self.state_dict[key].dim() < 2:
            raise PublishedWeightsError(f"{self.name}: {key} has the shape {tuple(self.state_dict[key].shape)}")
        return self.state_dict[key].shape

    def number(self, prefix: str) -> int:
        """The largest number, of up to three digits, that follows a prefix of the keys.

        Raises:
            PublishedWeightsError: none does.
        """
        matches = [re.match(rf"{re.escape(prefix)}(\d{{1,3}})\.", key) for key in self.state_dict]
        numbers = [int(match[1]) for match in matches if match]
        if not numbers:
            raise PublishedWeightsError(f"{self.name}: no key starts with {prefix}<number>")
        return max(numbers)


def _published_modules(network: nn.Module) -> dict[str, str]:
    """Maps the modules of our networks to those of the release."""
    match network:
        case ShapeGenerator():
            stages = range(len(network.stages))
            return (
                {f"stages.{i}.conv": f"block_{i}.0" for i in stages}
                | {f"stages.{i}.norm": f"block_{i}.1" for i in stages}
                | {"to_volume": f"toRGB_{network.resolution}.0"}
            )
        case ShapeCritic():
            count = len(network.stages)  # the release numbers blocks so that the head is always block_4
            return (
                {f"stages.{i}": f"block_{4 - count + i}.0" for i in range(1, count)}
                | {"stages.0": f"fromRGB_{network.resolution}.0"}
                | {"head": "block_4"}
            )
        case TextureGenerator():
            return (
                _content_modules(len(network.residual), "dec.resnet_block")
                | {"up.0.block": "dec.block_0.1", "up.1.block": "dec.block_1.1"}
                | {"to_image": "dec.block_2"}
            )
        case SketchEncoder():
            return (
                _content_modules(len(network.residual), "dec.model.0")
                | {"up.0.block": "dec.model.2", "up.1.block": "dec.model.4"}
                | {"to_depth": "dec.model.5"}
            )
        case TextureEncoder():
            return {"stem": "enc_style.model.0", "mean": "enc_style.fc_mean", "log_variance": "enc_style.fc_var"} | {
                f"down.{i}": f"enc_style.model.{i + 1}" for i in range(len(network.down))
            }
        case PatchCritic():
            convolutions = len(list(network.scales[0].parameters())) // 2  # each with weight and bias
            # Between two convolutions are an activation and, except after the first, a normalisation.
            return {
                f"scales.{scale}.convolutions.{i}": f"model_{scale}.{max(0, 3 * i - 1)}"
                for scale in range(len(network.scales))
                for i in range(convolutions)
            }
    raise TypeError(f"{type(network).__name__} is not one of the published networks")


def _content_modules(residual_blocks: int, decoder: str) -> dict[str, str]:
    """The encoder, and the residual blocks behind the bottleneck that the release keeps under `decoder`."""
    modules = {f"encoder.{ours}": f"enc_content.model.{i}" for i, ours in enumerate(("stem", "down.0", "down.1"))}
    for ours, theirs in (("encoder.residual", "enc_content.model.3"), ("residual", decoder)):
        for i in range(residual_blocks):
            modules[f"{ours}.{i}.first"] = f"{theirs}.model.{i}.model.0"
            modules[f"{ours}.{i}.second"] = f"{theirs}.model.{i}.model.1"
    return modules


def _published_keys(network: nn.Module) -> dict[str, str]:
    """Maps the keys of our network to those of the release."""
    modules = _published_modules(network)
    owners = {key: next(ours for ours in modules if key.startswith(f"{ours}.")) for key in network.state_dict()}
    return {key: modules[ours] + key.removeprefix(ours) for key, ours in owners.items()}


def _load_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
