"""Weights of the 2018 release: its state dicts to and from the networks of this package."""

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vondata.errors import VonError
from vonmodel.networks import (
    PatchCritic,
    ShapeCritic,
    ShapeGenerator,
    SketchEncoder,
    TextureEncoder,
    TextureGenerator,
)
from vonmodel.networks.blocks import UnsupportedSizeError

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
# What the readers raise at damaged files; torch's walks through them without looking ahead.
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


def convert_state_dict(name: PublishedName, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the entries of a published state dict to those of our network.

    Resolution, image size, code size and width are read off the keys and shapes, so that smaller or larger variants
    of the release convert too.

    Args:
        name: which network of the release it is.
        state_dict: its entries.

    Returns:
        The same tensors, for `load_state_dict` of the network that `network_of` describes.

    Raises:
        PublishedWeightsError: keys are missing or unknown, or shapes do not fit; they are named.
    """
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
        source: its state dict, or a file holding it: `.safetensors`, else what `torch.save` writes. Files are read
            without running any code of theirs.

    Raises:
        PublishedWeightsError: the file holds no state dict, or not that of this network.
    """
    state_dict = source if isinstance(source, Mapping) else read_state_dict(source)
    converted = convert_state_dict(name, state_dict)
    network = network_of(name, state_dict).to_empty(device="cpu")
    network.load_state_dict(converted)
    return network.eval()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from a `.safetensors` file or from what `torch.save` wrote.

    Raises:
        PublishedWeightsError: the file does not hold names with tensors alone.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise PublishedWeightsError(f"{path} cannot be read as a state dict: {reason}") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise PublishedWeightsError(f"{path} does not hold a state dict: names with tensors")
    return dict(content)


def network_of(name: PublishedName, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Our network of the sizes that a published state dict has, on the meta device: layout without weights.

    Raises:
        PublishedWeightsError: the name is not one of the release, a key that tells a size is missing, or the sizes
            are not supported.
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
                halvings = 0  # at 32 pixels: as many convolutions as at 64, but they get no wider
            return PatchCritic(in_channels, 2 ** (5 + halvings), width)


class _Entries:
    """A published state dict, asked for what tells the sizes of its network."""

    def __init__(self, name: str, state_dict: Mapping[str, Tensor]) -> None:
        self.name, self.state_dict = name, state_dict

    def shape(self, key: str) -> torch.Size:
        """The shape of a weight.

        Raises:
            PublishedWeightsError: it is missing, or is no weight.
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
    """From the modules of our networks to those of the release."""
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
            # Between two convolutions stand an activation and, but for the first, a normalisation.
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
    """From the keys of our network to those of the release."""
    modules = _published_modules(network)
    owners = {key: next(ours for ours in modules if key.startswith(f"{ours}.")) for key in network.state_dict()}
    return {key: modules[ours] + key.removeprefix(ours) for key, ours in owners.items()}


def _load_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
