"""The baselines' objectives and numbers, and the data and steps they are trained with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from vondata.classes import load_class
from vonmodel.config import StageName, TrainConfig
from vonmodel.data.augmentation import augment
from vonmodel.data.datasets import ImageDataset, ShapeDataset
from vonmodel.seeding import epoch_positions, numpy_generator
from vonmodel.training.ema import KeptShare, kept_share

BaselineName = Literal["dcgan", "lsgan", "wgan-gp", "3dgan"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
Objective = Literal["cross_entropy", "least_squares", "wasserstein"]


@dataclass(frozen=True)
class Recipe:
    """A baseline.

    Attributes:
        title: as papers write it.
        draws: images, or shapes.
        objective: what generator and critic play for.
        generator_rate: Adam's step size for the generator.
        critic_rate: Adam's step size for the critic.
        betas: Adam's decays.
        critic_steps: updates of the critic for each of the generator.
        gradient_penalty: weight of the penalty on the critic's slope; 0 has none.
        normalised_critic: batch norm in the critic; a penalty on each sample's slope rules it out.
        code_size: length of a code.
        accuracy_limit: the critic learns only while it names no more than this share of a batch right.
    """

    title: str
    draws: Literal["images", "shapes"]
    objective: Objective
    generator_rate: float = 2e-4
    critic_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    critic_steps: int = 1
    gradient_penalty: float = 0.0
    normalised_critic: bool = True
    code_size: int = 100
    accuracy_limit: float = 1.0


RECIPES: Mapping[BaselineName, Recipe] = {
    # Radford, Metz, Chintala 2016.
    "dcgan": Recipe("DCGAN", "images", "cross_entropy"),
    # Mao et al. 2017, with DCGAN's networks and optimiser.
    "lsgan": Recipe("LSGAN", "images", "least_squares"),
    # Gulrajani et al. 2017.
    "wgan-gp": Recipe(
        "WGAN-GP",
        "images",
        "wasserstein",
        generator_rate=1e-4,
        critic_rate=1e-4,
        betas=(0.5, 0.9),
        critic_steps=5,
        gradient_penalty=10.0,
        normalised_critic=False,
    ),
    # Wu et al. 2016.
    "3dgan": Recipe(
        "3D-GAN",
        "shapes",
        "cross_entropy",
        generator_rate=2.5e-3,
        critic_rate=1e-5,
        code_size=200,
        accuracy_limit=0.8,
    ),
}


@dataclass(frozen=True)
class Budget:
    """How long a baseline is trained.

    Attributes:
        steady: steps at the full learning rate.
        decaying: steps over which it falls linearly to zero.
        batch_size: items an update.
        kept: share that the running average of the generator's weights keeps at a step; None for no average.
    """

    steady: int
    decaying: int
    batch_size: int
    kept: KeptShare | None

    @property
    def steps(self) -> int:
        """All of them."""
        return self.steady + self.decaying


class BaselineData:
    """The photos or shapes that the model itself is trained on, in batches that are a function of seed and step.

    Attributes:
        stage: the stage of the model that learns from the same data.
        dataset: photos or shapes.
        budget: the steps of that stage and of the joint one together.
    """

    def __init__(self, name: BaselineName, config: TrainConfig, data: Path) -> None:
        """Opens the training part.

        Raises:
            ManifestMissingError: it was not prepared.
            EmptyDatasetError: nothing of it is usable.
        """
        images = RECIPES[name].draws == "images"
        model = config.model
        self._name, self._config = name, config
        self.stage: StageName = "texture" if images else "shape"
        self.dataset: ImageDataset | ShapeDataset
        shapes = ShapeDataset(
            data,
            config.class_name,
            resolution=model.resolution,
            representation=model.representation,
            band=model.band,
            cache_mb=0 if images else config.output.cache_mb,
        )
        photos = ImageDataset(data, config.class_name, size=model.image_size, cache_mb=config.output.cache_mb)
        self.dataset = photos if images else shapes
        self._mirror_symmetry = load_class(config.class_name).mirror_symmetry
        own, joint = config.texture if images else config.shape, config.joint
        # An epoch of the texture and joint stage visits all shapes and all photos.
        largest = max(len(photos), len(shapes))
        steady, decaying = own.steps(largest if images else len(shapes))
        joint_steady, joint_decaying = joint.steps(largest)
        more = round((joint_steady + joint_decaying) * joint.batch_size / own.batch_size)
        self.budget = Budget(steady + more, decaying, own.batch_size, kept_share(own))

    @property
    def fingerprint(self) -> str:
        """A hash of the ids of all items."""
        return hashlib.sha256(json.dumps(list(self.dataset.ids)).encode()).hexdigest()

    def batch(self, step: int) -> tuple[Tensor, tuple[str, ...]]:
        """What the critic sees in a step, and the ids: photos varied as for the model, or volumes."""
        count = self.budget.batch_size * RECIPES[self._name].critic_steps
        seed, purpose = self._config.seed, f"{self._name} items"
        positions = epoch_positions(step, count, len(self.dataset), seed=seed, purpose=purpose)
        ids = tuple(self.dataset.ids[position] for position in positions)
        if isinstance(self.dataset, ShapeDataset):
            return torch.stack([self.dataset[position] for position in positions]), ids
        rng = numpy_generator(seed, self._name, "photos", step)
        photos = [
            augment(self.dataset[position], self._config.data, rng, mirror_symmetry=self._mirror_symmetry)
            for position in positions
        ]
        return torch.stack([photo.image for photo in photos]), ids
