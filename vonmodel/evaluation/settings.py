"""What to measure on a model, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vondata.manifest import Split

FeatureName = Literal["inception", "random"]


@dataclass(frozen=True)
class ScoreSettings:
    """What to measure and how.

    Attributes:
        fid: the Fréchet distance of images.
        kid: the kernel distance of images.
        precision_recall: precision, recall, density and coverage of images.
        shapes: overlap of generated shapes with training shapes and with each other.
        features: the network of image features.
        weights: file of the Inception weights; where None, the environment's or the cache's.
        samples: images to draw; as many as there are photos where None.
        max_images: upper limit of photos and of drawn images.
        shape_samples: shapes to draw.
        seed: what codes and viewpoints are drawn with.
        batch_size: images at a time; changes no score.
        split: part of the dataset that counts as real; all where None.
        untrained: measure the Fréchet distance of the model's initial weights too; where None, with random features
            only, whose numbers mean nothing without something to compare them with.
        device: where to compute.
    """

    fid: bool = True
    kid: bool = True
    precision_recall: bool = True
    shapes: bool = True
    features: FeatureName = "inception"
    weights: Path | None = None
    samples: int | None = None
    max_images: int | None = None
    shape_samples: int = 16
    seed: int = 0
    batch_size: int = 32
    split: Split | None = "train"
    untrained: bool | None = None
    device: str = "cpu"

    @property
    def images(self) -> bool:
        """Whether any score of images is asked for."""
        return self.fid or self.kid or self.precision_recall
