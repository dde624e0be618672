"""What a stage of training learns from: its datasets, its length and its phases, from one configuration."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from vondata.classes import load_class
from vonmodel.config import StageName, TrainConfig
from vonmodel.data.datasets import ImageDataset, ShapeDataset, ViewpointSampler, viewpoint_sampler
from vonmodel.data.loader import PhotoSource, ShapeSource
from vonmodel.model import VonModel
from vonmodel.training.joint_stage import JointStage
from vonmodel.training.shape_stage import ShapeStage
from vonmodel.training.stage import Stage
from vonmodel.training.texture_stage import TextureStage


@dataclass(frozen=True)
class TrainingData:
    """The data of a stage.

    Attributes:
        shapes: prepared shapes.
        photos: prepared photos; None for the shape stage, which looks at none.
        viewpoints: draws viewpoints of the class.
        mirror_symmetry: whether the class looks alike in the mirror.
    """

    shapes: ShapeDataset
    photos: ImageDataset | None
    viewpoints: ViewpointSampler
    mirror_symmetry: bool

    @property
    def items(self) -> int:
        """What an epoch visits: all shapes and all photos, the fewer ones more than once."""
        return max(len(self.shapes), len(self.photos) if self.photos is not None else 0)

    @property
    def fingerprint(self) -> str:
        """A hash of the ids of all items, which decide what a step sees."""
        ids = [self.shapes.ids, self.photos.ids if self.photos is not None else ()]
        return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def open_data(config: TrainConfig, data: Path, stage: StageName) -> TrainingData:
    """Opens the training part of what a stage needs.

    Raises:
        ManifestMissingError: it was not prepared.
        EmptyDatasetError: nothing of it is usable.
    """
    cache_mb = config.output.cache_mb // 2
    return TrainingData(
        shapes=ShapeDataset(
            data,
            config.class_name,
            resolution=config.model.resolution,
            representation=config.model.representation,
            band=config.model.band,
            cache_mb=cache_mb,
        ),
        photos=None
        if stage == "shape"
        else ImageDataset(data, config.class_name, size=config.model.image_size, cache_mb=cache_mb),
        viewpoints=viewpoint_sampler(data, config.class_name, source=config.data.viewpoints),
        mirror_symmetry=load_class(config.class_name).mirror_symmetry,
    )


def build_stage(config: TrainConfig, name: StageName, model: VonModel, data: TrainingData, steps: int) -> Stage:
    """The phases of a stage on its data.

    Args:
        config: the run's configuration.
        name: the stage.
        model: its networks.
        data: opened for this stage.
        steps: the stage's length.
    """
    fused = config.compute.fused_optimiser
    shapes = ShapeSource(data.shapes, name, config.seed, config.shape.mirror and data.mirror_symmetry)
    if name == "shape":
        return ShapeStage(model, config.shape, shapes, fused_optimiser=fused)
    assert data.photos is not None
    photos = PhotoSource(data.photos, data.viewpoints, config.data, data.mirror_symmetry, name, config.seed)
    if name == "texture":
        generated_from = steps - round(config.texture.generated_share * steps)
        return TextureStage(model, config.texture, shapes, photos, generated_from, fused_optimiser=fused)
    return JointStage(model, config.joint, config.shape, config.texture, shapes, photos, fused_optimiser=fused)
