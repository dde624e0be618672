"""The Inception network of 2015-12-05 whose pooled features define the FID.

Its parameters carry the names of the PyTorch port of the weights (`Mixed_5b.branch5x5_1.conv.weight`). It differs
from the textbook's Inception v3 in three places: average pools do not count the padding, the last mixed block takes a
maximum where the others average, and the classifier has 1008 outputs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 2048
INPUT_SIZE = 299
Pool = Literal["average", "maximum", "halving"]
Kernel = int | tuple[int, int]


@dataclass(frozen=True)
class Conv:
    """One convolution of a branch: stride 1 keeps the size, stride 2 pads nothing."""

    name: str
    channels: int
    kernel: Kernel = 1
    stride: int = 1


Branch = tuple[Conv | tuple[Conv, Conv], ...]
"""Convolutions in a row; a pair works side by side on the same input."""


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
    """Branches side by side, their channels concatenated; the last one starts with a 3 x 3 pool."""

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

    The classifier is part of the network so that the published state dict loads whole; features do not need it.
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
    """A block of the 8 x 8 grid: the 3 x 3 convolutions end in a row and a column side by side."""
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
