"""A classifier of shapes, whose features the Fréchet distance of shapes is measured on, and its file."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vondata.dataset.shape_file import atomic_path
from vonmodel.config import Representation
from vonmodel.evaluation.weights import WeightsError, file_sha256
from vonmodel.networks.sizes import shape_levels, shape_width

FORMAT = 1
FEATURES = 256
_KEY = "von_shape_classifier"
_LEAK = 0.2


class ClassifierError(WeightsError):
    """A shape classifier that is not there, is damaged or does not fit."""


@dataclass(frozen=True)
class ClassifierInfo:
    """What a classifier says of itself.

    Attributes:
        classes: what it tells apart, in the order of its outputs.
        resolution: voxels along an edge of what it sees.
        representation: of the volumes it sees.
        base_channels: width next to the volume.
        accuracy: share of the held-out shapes (parts val and test) it names right.
        held_out: how many there were, by class.
        correct: how many of them it names right, by class.
        trained: how many shapes it learnt from, by class.
        dataset_sha256: hash of all these shapes.
        seed: of initial weights, batches and shifts.
        steps: how long it learnt.
        versions: of the libraries.
    """

    classes: tuple[str, ...]
    resolution: int
    representation: Representation
    base_channels: int
    accuracy: float
    held_out: dict[str, int]
    correct: dict[str, int]
    trained: dict[str, int]
    dataset_sha256: str
    seed: int
    steps: int
    versions: dict[str, str]


class ShapeClassifier(nn.Module):
    """Strided 4x4x4 convolutions with batch norm down to 4 voxels, then a layer of features and one of classes.

    Args:
        resolution: voxels along an edge; one of `networks.sizes.SHAPE_SIZES`.
        classes: how many classes.
        base_channels: channels at the finest grids; eight times as many at 4 voxels on a side.
    """

    def __init__(self, resolution: int, classes: int, base_channels: int = 16) -> None:
        super().__init__()
        levels = shape_levels(resolution)
        widths = [1, *(shape_width(level, base_channels) for level in reversed(range(levels)))]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv3d(fine, coarse, 4, stride=2, padding=1, bias=False),
                    nn.BatchNorm3d(coarse),
                    nn.LeakyReLU(_LEAK, inplace=True),
                )
                for fine, coarse in pairwise(widths)
            )
        )
        self.to_features = nn.Conv3d(widths[-1], FEATURES, 4)
        self.to_classes = nn.Linear(FEATURES, classes)

    def features(self, volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n 256"]:
        """Features of volumes with values in [0, 1], none below 0."""
        features: Tensor = torch.relu(self.to_features(self.stages(volumes)))
        return features.flatten(1)

    def forward(self, volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n classes"]:
        """Logits of the classes."""
        dropped = nn.functional.dropout(self.features(volumes), 0.5, self.training)
        logits: Tensor = self.to_classes(dropped)
        return logits


def as_seen(volumes: Float[Tensor, "n 1 r r r"], representation: Representation) -> Float[Tensor, "n 1 r r r"]:
    """Volumes as a classifier sees them: occupancy as the solid that an export shows, distances as they are."""
    return (volumes > 0.5).float() if representation == "occupancy" else volumes


@dataclass(frozen=True)
class ShapeFeatures:
    """A trained classifier as the feature network of shapes.

    Attributes:
        module: in evaluation mode.
        info: what it says of itself.
        sha256: hash of its file.
    """

    module: ShapeClassifier
    info: ClassifierInfo
    sha256: str

    @property
    def name(self) -> str:
        """What scores call it."""
        return f"shape-classifier-{self.sha256[:8]}"

    @property
    def size(self) -> int:
        """Length of a feature vector."""
        return FEATURES

    @property
    def identity(self) -> dict[str, str | int]:
        """What decides the features of a shape; part of the key of cached statistics."""
        return {"features": self.name, "sha256": self.sha256}

    def on(self, device: str) -> ShapeFeatures:
        """A copy on another device."""
        return dataclasses.replace(self, module=copy.deepcopy(self.module).to(device))

    @torch.inference_mode()
    def __call__(self, volumes: Float[Tensor, "n 1 r r r"]) -> npt.NDArray[np.float32]:
        """The features (n, 256) of volumes."""
        seen = as_seen(volumes.to(self.module.to_classes.weight.device), self.info.representation)
        features: npt.NDArray[np.float32] = self.module.features(seen).cpu().numpy()
        return features


def save_classifier(path: Path, module: ShapeClassifier, info: ClassifierInfo) -> str:
    """Writes a classifier as one safetensors file, whole or not at all.

    Returns:
        The hash of the file.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    description = json.dumps({"format": FORMAT, **dataclasses.asdict(info)})
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {_KEY: description})
    return file_sha256(path)


def load_classifier(path: Path, device: str = "cpu") -> ShapeFeatures:
    """Reads what `save_classifier` wrote.

    Raises:
        ClassifierError: there is no such file, it is something else, or damaged.
    """
    if not path.is_file():
        raise ClassifierError(f"there is no shape classifier {path}; train one with: von train-classifier")
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get(_KEY)
            if described is None:
                raise ClassifierError(f"{path} holds no shape classifier; von train-classifier writes one")
            description = json.loads(described)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if description.pop("format") != FORMAT:
            raise ClassifierError(f"{path} was written by another version of VON; train it again")
        info = ClassifierInfo(**{**description, "classes": tuple(description["classes"])})
        module = ShapeClassifier(info.resolution, len(info.classes), info.base_channels)
        module.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ClassifierError(f"{path} is no shape classifier, or damaged: {error}") from error
    return ShapeFeatures(module.to(device).eval().requires_grad_(False), info, file_sha256(path))
