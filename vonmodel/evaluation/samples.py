"""CodeLike prepared items stand for a collection in a score, and the volumes of both sides of a shape score."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vondata.dataset.manifest import Split
from vondata.dataset.shards import OutputFiles
from vondata.io.files import ReadableFile
from vondata.types import Kind
from vonmodel.config import ModelConfig
from vonmodel.data.datasets import ShapeDataset
from vonmodel.evaluation.inception import file_sha256
from vonmodel.inference.sampling import sample_codes


class Sample:
    """The prepared items that count.

    Attributes:
        ids: in the order of the hash of the id: a part of a class taken by number is a sample of all its sources.
    """

    def __init__(self, data: Path, class_name: str, kind: Kind, ids: Sequence[str], maximum: int | None) -> None:
        """Chooses at most `maximum` of the ids of a class, in the order of their hashes."""
        self._chosen = in_order_of_hash(ids)[:maximum]
        self.ids = tuple(ids[index] for index in self._chosen)
        files = OutputFiles(data, class_name, kind)
        self._files = [files[id] for id in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content: of every item's id and bytes, in the order of the ids."""
        return content_sha256(self.ids, self._files)


def in_order_of_hash(ids: Sequence[str]) -> list[int]:
    """The positions of ids in the order of their hashes: the first of them are a sample of all sources alike."""

    def digest(position: int) -> bytes:
        return hashlib.blake2b(ids[position].encode(), digest_size=8).digest()

    return sorted(range(len(ids)), key=digest)


def content_sha256(ids: Iterable[str], files: Iterable[ReadableFile]) -> str:
    """Hash of every item's id and bytes, in the order of the ids, as hexadecimal digits."""
    digest = hashlib.sha256()
    for id, file in sorted(zip(ids, files, strict=True), key=lambda pair: pair[0]):
        digest.update(f"{id} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


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
            data,
            class_name,
            resolution=config.resolution,
            representation=config.representation,
            band=config.band,
            split=split,
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
        codes = sample_codes(self.count, self.code_size, seed=self.seed, purpose="shape")
        return self.generate(codes[start:stop]).cpu()
