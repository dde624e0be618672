"""The two sides of an image score, as batches of 8-bit images: prepared photos, and what a model draws."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from vondata.manifest import Split, output_path
from vonmodel.datasets import ImageDataset, ViewpointSampler
from vonmodel.export import to_pixels
from vonmodel.model import VonModel
from vonmodel.synthesis.draw import draw_codes, draw_shapes, draw_viewpoints, render

from .weights import file_sha256


@runtime_checkable
class Images(Protocol):
    """Something that gives 8-bit images, the same ones every time."""

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[UInt8[Tensor, "n 3 h w"]]:
        """All images in batches of at most `size`."""
        ...


class RealImages:
    """Prepared photos on white, at a model's image size.

    Attributes:
        size: pixels along an edge.
        ids: those that count, in the order of the hash of their id: a part of a class taken by number is a sample of
            all its sources.
    """

    def __init__(
        self, data: Path, class_name: str, *, size: int, split: Split | None = "train", maximum: int | None = None
    ) -> None:
        """Lists the photos.

        Args:
            data: the prepared dataset.
            class_name: the class.
            size: pixels along an edge, at most what was prepared.
            split: which part; all where None.
            maximum: take at most this many.

        Raises:
            ManifestMissingError: no photos of this class were prepared.
            EmptyDatasetError: none of them is usable.
        """
        self.size = size
        self._dataset = ImageDataset(data, class_name, size=size, split=split)
        order = sorted(range(len(self._dataset)), key=lambda index: _digest(self._dataset.ids[index]))
        self._chosen = order[:maximum]
        self.ids = tuple(self._dataset.ids[index] for index in self._chosen)
        self._files = [output_path(data, class_name, "images", each) for each in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content: of every photo's id and bytes, in the order of the ids."""
        digest = hashlib.sha256()
        for id, file in sorted(zip(self.ids, self._files, strict=True)):
            digest.update(f"{id} {file_sha256(file)}\n".encode())
        return digest.hexdigest()

    def batches(self, size: int) -> Iterator[UInt8[Tensor, "n 3 h w"]]:
        """All photos in batches of at most `size`."""
        for start in range(0, len(self), size):
            photos = [self._dataset[index].image for index in self._chosen[start : start + size]]
            yield torch.from_numpy(to_pixels(torch.stack(photos)))


@dataclass(frozen=True)
class GeneratedImages:
    """What a model draws: new shapes, each from a viewpoint of the class and in a texture of its own.

    Attributes:
        model: in evaluation mode.
        sampler: the class's viewpoints.
        count: how many images.
        seed: what codes and viewpoints are drawn with.
    """

    model: VonModel
    sampler: ViewpointSampler
    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    @torch.inference_mode()
    def batches(self, size: int) -> Iterator[UInt8[Tensor, "n 3 h w"]]:
        """All images in batches of at most `size`; an image does not depend on the batch it comes in."""
        config = self.model.config
        device = next(self.model.parameters()).device
        shape_codes = draw_codes(self.count, config.shape_code_size, seed=self.seed, purpose="shape")
        texture_codes = draw_codes(self.count, config.texture_code_size, seed=self.seed, purpose="texture")
        viewpoints = draw_viewpoints(self.count, self.sampler, seed=self.seed)
        for start in range(0, self.count, size):
            part = slice(start, start + size)
            volumes = draw_shapes(self.model, shape_codes[part])
            rendering = render(self.model, volumes, viewpoints[part], texture_codes[part].to(device))
            yield torch.from_numpy(to_pixels(rendering.images))


def _digest(id: str) -> bytes:
    return hashlib.blake2b(id.encode(), digest_size=8).digest()
