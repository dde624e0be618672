"""Settings of a model's evaluation: which scores, features, sample sizes and devices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vondata.dataset.manifest import Split
from vonmodel.evaluation.features import Resize, Scale

Features = Literal["inception", "random"] | Path
"""A network by its name, or its file: ONNX, safetensors or trusted TorchScript."""


@dataclass(frozen=True)
class ScoreSettings:
    """Which scores to measure on a model, and how.

    Attributes:
        fid: the Fréchet distance of images.
        kid: the kernel distance of images.
        precision_recall: precision, recall, density and coverage of images.
        shapes: overlap of generated shapes with training shapes and each other, and distances of surface points.
        consistency: how colours of surface points differ between viewpoints.
        classifier: file of the shape classifier for the Fréchet distance of shapes; not measured if None.
        features: the network of image features.
        resizing: how images are resized for the network; if None, as in the literature.
        network_size: input size of a network from a file, in pixels along an edge.
        network_scale: input range of a network from a file.
        trust_code: run the code of a network that is a TorchScript file.
        weights: file of the Inception weights; if None, the environment's or the cache's.
        samples: images to generate; as many as there are photos if None.
        max_images: upper limit of photos and of generated images.
        shape_samples: shapes to generate; if None, as many as there are real ones, at most 32.
        points: on the surface of a shape.
        seed: of codes and viewpoints.
        batch_size: images at a time; changes no score.
        split: split of the dataset that counts as real; all if None. Copies are searched in the training split.
        untrained: measure the Fréchet distance of the model's initial weights too; if None, only with random
            features, whose values mean nothing without a baseline.
        devices: where to compute; the first one holds the model, several share the images.
    """

    fid: bool = True
    kid: bool = True
    precision_recall: bool = True
    shapes: bool = True
    consistency: bool = False
    classifier: Path | None = None
    features: Features = "inception"
    resizing: Resize | None = None
    network_size: int = 224
    network_scale: Scale = "imagenet"
    trust_code: bool = False
    weights: Path | None = None
    samples: int | None = None
    max_images: int | None = None
    shape_samples: int | None = None
    points: int = 2048
    seed: int = 0
    batch_size: int = 32
    split: Split | None = "train"
    untrained: bool | None = None
    devices: tuple[str, ...] = ("cpu",)

    @property
    def images(self) -> bool:
        """Whether any score of images is requested."""
        return self.fid or self.kid or self.precision_recall

    def shapes_only(self) -> ScoreSettings:
        """The same without scores of images."""
        return replace(self, fid=False, kid=False, precision_recall=False, consistency=False)
