"""The two sides of a shape score: prepared shapes, and what a generator draws, as volumes of one grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vondata.dataset.manifest import Split
from vonmodel.config import ModelConfig
from vonmodel.data.datasets import ShapeDataset
from vonmodel.evaluation.sample import Sample
from vonmodel.inference.draw import draw_codes


@runtime_checkable
class Volumes(Protocol):
    """Something that gives volumes in [0, 1], the same ones every time."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> Float[Tensor, "n 1 r r r"]:
        """The volumes from `start` on, before `stop`, on the CPU."""
        ...


class RealShapes(Sample):
    """Prepared shapes at a model's resolution and in its representation.

    Attributes:
        size: voxels along an edge.
        representation: what a volume holds.
    """

    def __init__(
        self, data: Path, class_name: str, config: ModelConfig, *, split: Split | None, maximum: int | None = None
    ) -> None:
        """Lists the shapes.

        Args:
            data: the prepared dataset.
            class_name: the class.
            config: resolution and representation.
            split: which part; all where None.
            maximum: take at most this many.

        Raises:
            ManifestMissingError: no shapes of this class were prepared.
            EmptyDatasetError: none of them is usable.
        """
        self.size, self.representation = config.resolution, config.representation
        self._dataset = ShapeDataset(
            data, class_name, resolution=config.resolution, representation=config.representation, split=split
        )
        super().__init__(data, class_name, "shapes", self._dataset.ids, maximum)

    def part(self, start: int, stop: int) -> Float[Tensor, "n 1 r r r"]:
        """The shapes from `start` on, before `stop`."""
        return torch.stack([self._dataset[index] for index in self._chosen[start:stop]])


@dataclass(frozen=True)
class GeneratedShapes:
    """What a shape generator draws.

    Attributes:
        generate: codes (n, size) on the CPU to volumes (n, 1, r, r, r) in [0, 1].
        code_size: length of a code.
        count: how many shapes.
        seed: what their codes are drawn with.
    """

    generate: Callable[[Tensor], Tensor]
    code_size: int
    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    @torch.inference_mode()
    def part(self, start: int, stop: int) -> Float[Tensor, "n 1 r r r"]:
        """The shapes from `start` on, before `stop`."""
        codes = draw_codes(self.count, self.code_size, seed=self.seed, purpose="shape")
        return self.generate(codes[start:stop]).cpu()
