"""Generators under test: a trained model or a baseline that generates images, shapes or both."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vonmodel.baselines.models import CONFIGS, Baseline, BaselineName, build_baseline
from vonmodel.config import TrainConfig
from vonmodel.data.datasets import ViewpointSampler, viewpoint_sampler
from vonmodel.evaluation.samples import GeneratedImages, GeneratedShapes, Images, Volumes
from vonmodel.inference.sampling import MAX_BATCH_VOXELS, generate_volumes, sample_codes
from vonmodel.mesh import to_pixels
from vonmodel.model import VonModel, build_model


@runtime_checkable
class Generator(Protocol):
    """A generator under test, its configuration and the prepared data of its class."""

    @property
    def config(self) -> TrainConfig:
        """What it was trained with."""
        ...

    @property
    def data(self) -> Path:
        """The prepared dataset."""
        ...

    def images(self, count: int, seed: int) -> Images | None:
        """The images it draws; None where it draws none."""
        ...

    def shapes(self, count: int, seed: int) -> Volumes | None:
        """The shapes it draws; None where it draws none."""
        ...

    def untrained(self) -> Generator:
        """The same with its initial weights."""
        ...

    def on(self, device: str) -> Generator:
        """A copy on another device."""
        ...


@dataclass(frozen=True)
class VonGenerator:
    """A model of this project.

    Attributes:
        model: in evaluation mode, on the device to compute on.
        config: what it was trained with.
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
        """New shapes, the ones that a gallery shows for the same seed."""
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
    """What an image generator draws.

    Attributes:
        model: in evaluation mode.
        code_size: length of a code.
        count: how many images.
        seed: what their codes are drawn with.
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
        config: what it was trained with.
        data: the prepared dataset.
    """

    name: BaselineName
    model: Baseline
    config: TrainConfig
    data: Path

    def images(self, count: int, seed: int) -> Images | None:
        """Its images; None of 3D-GAN."""
        gan = CONFIGS[self.name]
        return BaselineImages(self.model, gan.code_size, count, seed) if gan.draws == "images" else None

    def shapes(self, count: int, seed: int) -> Volumes | None:
        """Its shapes; None of generators of images."""
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
