"""The two sides of an image score, as batches of 8-bit images: prepared photos, and what a model draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from vondata.dataset.manifest import Split
from vonmodel.data.datasets import ImageDataset, ViewpointSampler
from vonmodel.evaluation.samples import Sample
from vonmodel.inference.sampling import Viewpoints, generate_volumes, render, sample_codes, sample_viewpoints
from vonmodel.mesh import to_pixels
from vonmodel.model import VonModel


@runtime_checkable
class Images(Protocol):
    """Something that gives 8-bit images, the same ones every time."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> UInt8[Tensor, "n 3 h w"]:
        """The images from `start` on, before `stop`; an image does not depend on what it is asked for with."""
        ...


def batches(images: Images, size: int) -> Iterator[UInt8[Tensor, "n 3 h w"]]:
    """All images in batches of at most `size`."""
    for start in range(0, len(images), size):
        yield images.part(start, min(start + size, len(images)))


class RealImages(Sample):
    """Prepared photos on white, at a model's image size.

    Attributes:
        size: pixels along an edge.
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
        super().__init__(data, class_name, "images", self._dataset.ids, maximum)

    def part(self, start: int, stop: int) -> UInt8[Tensor, "n 3 h w"]:
        """The photos from `start` on, before `stop`."""
        photos = [self._dataset[index].image for index in self._chosen[start:stop]]
        return torch.from_numpy(to_pixels(torch.stack(photos)))


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
    def part(self, start: int, stop: int) -> UInt8[Tensor, "n 3 h w"]:
        """The images from `start` on, before `stop`."""
        some = slice(start, stop)
        device = next(self.model.parameters()).device
        shape_codes, texture_codes, viewpoints = self._draws
        volumes = generate_volumes(self.model, shape_codes[some])
        rendering = render(self.model, volumes, viewpoints[some], texture_codes[some].to(device))
        return torch.from_numpy(to_pixels(rendering.images))

    @cached_property
    def _draws(self) -> tuple[Tensor, Tensor, Viewpoints]:
        config = self.model.config
        return (
            sample_codes(self.count, config.shape_code_size, seed=self.seed, purpose="shape"),
            sample_codes(self.count, config.texture_code_size, seed=self.seed, purpose="texture"),
            sample_viewpoints(self.count, self.sampler, seed=self.seed),
        )
