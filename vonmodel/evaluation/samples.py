"""Real and generated samples of a score: prepared photos or shapes of a class, and the output of a generator."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vondata.dataset.manifest import Split
from vondata.dataset.shards import OutputFiles
from vondata.io.files import ReadableFile
from vondata.types import Kind
from vonmodel.baselines.models import CONFIGS, Baseline, BaselineName, build_baseline
from vonmodel.config import ModelConfig, TrainConfig
from vonmodel.data.datasets import ImageDataset, ShapeDataset, ViewpointSampler, viewpoint_sampler
from vonmodel.evaluation.inception import file_sha256
from vonmodel.inference.sampling import (
    MAX_BATCH_VOXELS,
    Viewpoints,
    generate_volumes,
    render,
    sample_codes,
    sample_viewpoints,
)
from vonmodel.mesh import to_pixels
from vonmodel.model import VonModel, build_model


class Sample:
    """A sample of the prepared items of a class.

    Attributes:
        ids: in the order of the hash of the id, so that the first n are a sample of all sources.
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
    """The positions of ids in the order of their hashes, so that the first n are a sample of all sources."""

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
    """A deterministic sequence of volumes in [0, 1]."""

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
            split: which split; all if None.
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
    """Shapes of a shape generator.

    Attributes:
        generate: codes (n, size) on the CPU to volumes (n, 1, r, r, r) in [0, 1].
        code_size: length of a code.
        count: number of shapes.
        seed: of their codes.
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


@runtime_checkable
class Images(Protocol):
    """A deterministic sequence of 8-bit images."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> UInt8[Tensor, "n 3 h w"]:
        """The images from `start` on, before `stop`; an image does not depend on the others of the range."""
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
            split: which split; all if None.
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
    """Images of a model: new shapes, each from a viewpoint of the class and in a texture of its own.

    Attributes:
        model: in evaluation mode.
        sampler: the class's viewpoints.
        count: number of images.
        seed: of codes and viewpoints.
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


@runtime_checkable
class Generator(Protocol):
    """A generator under test, its configuration and the prepared data of its class."""

    @property
    def config(self) -> TrainConfig:
        """The configuration it was trained with."""
        ...

    @property
    def data(self) -> Path:
        """The prepared dataset."""
        ...

    def images(self, count: int, seed: int) -> Images | None:
        """Generated images; None if it generates only shapes."""
        ...

    def shapes(self, count: int, seed: int) -> Volumes | None:
        """Generated shapes; None if it generates only images."""
        ...

    def untrained(self) -> Generator:
        """The same with its initial weights."""
        ...

    def on(self, device: str) -> Generator:
        """A copy on another device."""
        ...


@dataclass(frozen=True)
class VonGenerator:
    """A VON model as a generator under test.

    Attributes:
        model: in evaluation mode, on the device to compute on.
        config: the configuration it was trained with.
        data: the prepared dataset.
    """

    model: VonModel
    config: TrainConfig
    data: Path

    def sampler(self) -> ViewpointSampler:
        """The viewpoints of the class."""
        return viewpoint_sampler(self.data, self.config.class_name, source=self.config.data.viewpoints)

    def images(self, count: int, seed: int) -> Images:
        """New shapes, each from a viewpoint of the class and in a texture of its own."""
        return GeneratedImages(self.model, self.sampler(), count, seed)

    def shapes(self, count: int, seed: int) -> Volumes:
        """New shapes, the same as in a gallery of this seed."""
        return GeneratedShapes(partial(generate_volumes, self.model), self.config.model.shape_code_size, count, seed)

    def untrained(self) -> VonGenerator:
        """The model with its initial weights, which are a function of configuration and seed."""
        device = next(self.model.parameters()).device
        model = build_model(self.config.model, self.config.seed).to(device).eval().requires_grad_(False)
        return replace(self, model=model)

    def on(self, device: str) -> VonGenerator:
        """A copy on another device."""
        return replace(self, model=copy.deepcopy(self.model).to(device))


@dataclass(frozen=True)
class BaselineImages:
    """Images of an image generator.

    Attributes:
        model: in evaluation mode.
        code_size: length of a code.
        count: number of images.
        seed: of their codes.
    """

    model: Baseline
    code_size: int
    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    @torch.inference_mode()
    def part(self, start: int, stop: int) -> UInt8[Tensor, "n 3 h w"]:
        """The images from `start` on, before `stop`."""
        codes = sample_codes(self.count, self.code_size, seed=self.seed, purpose="shape")[start:stop]
        device = next(self.model.parameters()).device
        return torch.from_numpy(to_pixels(self.model.generator(codes.to(device))))


@dataclass(frozen=True)
class BaselineGenerator:
    """A baseline that was trained beside a run.

    Attributes:
        name: which one.
        model: in evaluation mode, on the device to compute on.
        config: the configuration it was trained with.
        data: the prepared dataset.
    """

    name: BaselineName
    model: Baseline
    config: TrainConfig
    data: Path

    def images(self, count: int, seed: int) -> Images | None:
        """Its images; None for 3D-GAN."""
        gan = CONFIGS[self.name]
        return BaselineImages(self.model, gan.code_size, count, seed) if gan.draws == "images" else None

    def shapes(self, count: int, seed: int) -> Volumes | None:
        """Its shapes; None for generators of images."""
        gan = CONFIGS[self.name]
        return GeneratedShapes(self._generate, gan.code_size, count, seed) if gan.draws == "shapes" else None

    def untrained(self) -> BaselineGenerator:
        """The baseline with its initial weights."""
        device = next(self.model.parameters()).device
        model = build_baseline(self.name, self.config.model, self.config.seed).to(device).eval()
        return replace(self, model=model.requires_grad_(False))

    def on(self, device: str) -> BaselineGenerator:
        """A copy on another device."""
        return replace(self, model=copy.deepcopy(self.model).to(device))

    def _generate(self, codes: Float[Tensor, "n k"]) -> Float[Tensor, "n 1 r r r"]:
        device = next(self.model.parameters()).device
        at_once = max(1, MAX_BATCH_VOXELS // self.config.model.resolution**3)
        return torch.cat([self.model.generator(some.to(device)) for some in torch.split(codes, at_once)])
