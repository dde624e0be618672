"""Whose output is scored: something that draws images, shapes or both."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from vonmodel.config import TrainConfig
from vonmodel.data.datasets import ViewpointSampler, viewpoint_sampler
from vonmodel.evaluation.images import GeneratedImages, Images
from vonmodel.evaluation.volumes import GeneratedShapes, Volumes
from vonmodel.inference.draw import draw_shapes
from vonmodel.model import VonModel, build_model


@runtime_checkable
class Subject(Protocol):
    """What draws, what it was trained with, and the prepared data of its class."""

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

    def untrained(self) -> Subject:
        """The same with its initial weights."""
        ...

    def on(self, device: str) -> Subject:
        """A copy on another device."""
        ...


@dataclass(frozen=True)
class VonSubject:
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
        """New shapes, the ones that `von generate` shows for the same seed."""
        return GeneratedShapes(partial(draw_shapes, self.model), self.config.model.shape_code_size, count, seed)

    def untrained(self) -> VonSubject:
        """The model before it learnt anything: its weights are a function of configuration and seed."""
        device = next(self.model.parameters()).device
        model = build_model(self.config.model, self.config.seed).to(device).eval().requires_grad_(False)
        return replace(self, model=model)

    def on(self, device: str) -> VonSubject:
        """A copy on another device."""
        return replace(self, model=copy.deepcopy(self.model).to(device))
