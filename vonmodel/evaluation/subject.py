"""Whose output is scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vonmodel.config import TrainConfig
from vonmodel.datasets import ShapeDataset, ViewpointSampler, viewpoint_sampler
from vonmodel.model import VonModel, build_model


@dataclass(frozen=True)
class Subject:
    """A model, its configuration and the prepared data of its class.

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

    def training_shapes(self) -> ShapeDataset:
        """The shapes of the class that the model was trained on."""
        config = self.config.model
        return ShapeDataset(
            self.data, self.config.class_name, resolution=config.resolution, representation=config.representation
        )

    def untrained(self) -> VonModel:
        """The model before it learnt anything: its weights are a function of configuration and seed."""
        device = next(self.model.parameters()).device
        return build_model(self.config.model, self.config.seed).to(device).eval().requires_grad_(False)
