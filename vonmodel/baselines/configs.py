"""The configurations of the baselines: objective, networks and optimiser of each, as its paper has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from vonmodel.config import StageName

BaselineName = Literal["dcgan", "lsgan", "wgan-gp", "3dgan"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
Objective = Literal["cross_entropy", "least_squares", "wasserstein"]


@dataclass(frozen=True)
class BaselineConfig:
    """A baseline.

    Attributes:
        title: as papers write it.
        draws: images, or shapes.
        objective: the losses of generator and critic.
        generator_rate: Adam's step size for the generator.
        critic_rate: Adam's step size for the critic.
        betas: Adam's decays.
        critic_steps: updates of the critic for each of the generator.
        gradient_penalty: weight of the penalty on the critic's slope; 0 has none.
        normalised_critic: batch norm in the critic; a penalty on each sample's slope rules it out.
        code_size: length of a code.
        accuracy_limit: the critic is updated only while it classifies at most this share of a batch correctly.
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

    @property
    def stage(self) -> StageName:
        """The stage of the model that is trained on the same data."""
        return "texture" if self.draws == "images" else "shape"


CONFIGS: Mapping[BaselineName, BaselineConfig] = {
    # Radford, Metz, Chintala 2016.
    "dcgan": BaselineConfig("DCGAN", "images", "cross_entropy"),
    # Mao et al. 2017, with DCGAN's networks and optimiser.
    "lsgan": BaselineConfig("LSGAN", "images", "least_squares"),
    # Gulrajani et al. 2017.
    "wgan-gp": BaselineConfig(
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
    "3dgan": BaselineConfig(
        "3D-GAN",
        "shapes",
        "cross_entropy",
        generator_rate=2.5e-3,
        critic_rate=1e-5,
        code_size=200,
        accuracy_limit=0.8,
    ),
}
