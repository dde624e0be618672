"""Shape classifier, whose features define the Fréchet distance of shapes: network, training and file."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vondata.dataset.manifest import Split, dataset_classes
from vondata.dataset.shards import OutputFiles
from vondata.io.files import atomic_path
from vondata.version import __version__
from vonmodel.config import Representation
from vonmodel.data.datasets import EmptyDatasetError, ShapeDataset
from vonmodel.evaluation.inception import WeightsError, file_sha256
from vonmodel.networks.blocks import shape_levels, shape_width
from vonmodel.representation import is_shell
from vonmodel.seeding import epoch_positions, numpy_generator, torch_generator

FORMAT = 1
FEATURES = 256
_KEY = "von_shape_classifier"
_LEAK = 0.2


class ClassifierError(WeightsError):
    """A shape classifier that is missing, damaged or does not fit the model."""


class ClassifierMissingError(ClassifierError):
    """There is no file of a shape classifier."""


class ClassifierMismatchError(ClassifierError):
    """A shape classifier of another resolution or representation than the model's.

    Args:
        seen: voxels along an edge and representation that the classifier was trained on.
        drawn: those of the model.
    """

    def __init__(self, seen: tuple[int, str], drawn: tuple[int, str]) -> None:
        self.resolution, self.representation = drawn
        super().__init__(
            f"the shape classifier sees {seen[1]} on {seen[0]} voxels, the model draws {drawn[1]} on {drawn[0]}; "
            "train one on what the model draws"
        )


@dataclass(frozen=True)
class ClassifierInfo:
    """The description of a classifier.

    Attributes:
        classes: in the order of its outputs.
        resolution: voxels along an edge of its input.
        representation: of its input.
        base_channels: width next to the volume.
        accuracy: fraction of the held-out shapes (splits val and test) classified correctly.
        held_out: number of held-out shapes by class.
        correct: number of them classified correctly, by class.
        trained: number of training shapes by class.
        dataset_sha256: hash of all these shapes.
        seed: of initial weights, batches and shifts.
        steps: number of training steps.
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
    """Strided 4x4x4 convolutions with batch norm down to 4 voxels, then a feature layer and a classification layer.

    Args:
        resolution: voxels along an edge; one of `networks.blocks.SHAPE_SIZES`.
        classes: number of classes.
        base_channels: channels at the finest grid; eight times as many at 4 voxels along an edge.
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
        """Non-negative features of volumes with values in [0, 1]."""
        features: Tensor = torch.relu(self.to_features(self.stages(volumes)))
        return features.flatten(1)

    def forward(self, volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n classes"]:
        """Logits of the classes."""
        dropped = nn.functional.dropout(self.features(volumes), 0.5, self.training)
        logits: Tensor = self.to_classes(dropped)
        return logits


def as_seen(volumes: Float[Tensor, "n 1 r r r"], representation: Representation) -> Float[Tensor, "n 1 r r r"]:
    """Volumes as input of a classifier: solids thresholded as in an export, shells unchanged."""
    return volumes if is_shell(representation) else (volumes > 0.5).float()


@dataclass(frozen=True)
class ShapeFeatures:
    """A trained classifier as the feature network of shapes.

    Attributes:
        module: in evaluation mode.
        info: its description.
        sha256: hash of its file.
    """

    module: ShapeClassifier
    info: ClassifierInfo
    sha256: str

    @property
    def name(self) -> str:
        """Its name in scores."""
        return f"shape-classifier-{self.sha256[:8]}"

    @property
    def size(self) -> int:
        """Length of a feature vector."""
        return FEATURES

    @property
    def identity(self) -> dict[str, str | int]:
        """Everything that determines the features of a shape; part of the key of cached statistics."""
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
    """Writes a classifier as one safetensors file, atomically.

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
        ClassifierError: the file is missing, damaged or not a classifier.
    """
    if not path.is_file():
        raise ClassifierMissingError(f"there is no shape classifier {path}; train one first")
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get(_KEY)
            if described is None:
                raise ClassifierError(f"{path} holds no shape classifier")
            description = json.loads(described)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if description.pop("format") != FORMAT:
            raise ClassifierError(f"{path} was written by another version of VON; train it again")
        info = ClassifierInfo(**{**description, "classes": tuple(description["classes"])})
        module = ShapeClassifier(info.resolution, len(info.classes), info.base_channels)
        module.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ClassifierError(f"{path} is not a shape classifier, or damaged: {error}") from error
    return ShapeFeatures(module.to(device).eval().requires_grad_(False), info, file_sha256(path))


MIN_STEPS, PASSES = 200, 10
_BATCH = 16
Datasets = Mapping[str, Sequence[ShapeDataset]]


@dataclass(frozen=True)
class ClassifierSettings:
    """How a classifier is trained.

    Attributes:
        classes: the classes; all prepared ones if empty.
        resolution: voxels along an edge.
        representation: of the volumes.
        base_channels: width next to the volume.
        steps: number of batches; if None, ten passes over the largest class, at least 200.
        batch_size: shapes a step, balanced over the classes.
        learning_rate: Adam's, falling linearly to zero.
        seed: of all random numbers.
        device: where to compute.
    """

    classes: tuple[str, ...] = ()
    resolution: int = 32
    representation: Representation = "occupancy"
    base_channels: int = 16
    steps: int | None = None
    batch_size: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    device: str = "cpu"


def train_classifier(
    data: Path, settings: ClassifierSettings, output: Path, progress: Callable[[int, int], None] | None = None
) -> tuple[ClassifierInfo, str]:
    """Trains a classifier on the training split, measures its accuracy on the others, and writes it.

    Returns:
        Its description and the hash of its file.

    Raises:
        ClassifierError: fewer than two classes, or no shape is held out; or `output` is a folder.
        EmptyDatasetError, ManifestMissingError, ResolutionError, ShapeFileError: the data cannot be used.
    """
    if output.is_dir():
        raise ClassifierError(f"{output} is a folder; name a file to write")
    found = dataset_classes(data, "shapes")
    classes = settings.classes or tuple(found)
    if len(set(classes)) < 2:
        named = f"only {classes[0]} is named, and " if settings.classes else ""
        raise ClassifierError(
            f"a classifier tells two classes or more apart; {named}{data} has prepared shapes of: "
            f"{', '.join(found) or 'none'}"
        )
    training = {name: _open(data, name, ("train",), settings) for name in classes}
    held_out = {name: _open(data, name, ("val", "test"), settings) for name in classes}
    empty = [name for name in classes if not training[name]]
    if empty:
        raise EmptyDatasetError(f"{data} has no shapes to train on of class {', '.join(empty)}")
    if not any(held_out.values()):
        raise ClassifierError(f"{data} holds out no shape (parts val and test) to measure the accuracy on")
    module = ShapeClassifier(settings.resolution, len(classes), settings.base_channels)
    _initialise(module, torch_generator(settings.seed, "classifier weights"))
    module.to(settings.device)
    largest = max(len(each[0]) for each in training.values())
    steps = settings.steps or max(MIN_STEPS, PASSES * len(classes) * largest // settings.batch_size)
    _learn(module, {name: each[0] for name, each in training.items()}, settings, steps, progress)
    correct = {name: _correct(module, index, held_out[name], settings) for index, name in enumerate(classes)}
    counts = {name: sum(map(len, held_out[name])) for name in classes}
    info = ClassifierInfo(
        classes=tuple(classes),
        resolution=settings.resolution,
        representation=settings.representation,
        base_channels=settings.base_channels,
        accuracy=sum(correct.values()) / sum(counts.values()),
        held_out=counts,
        correct=correct,
        trained={name: len(each[0]) for name, each in training.items()},
        dataset_sha256=dataset_sha256(data, {name: [*training[name], *held_out[name]] for name in classes}),
        seed=settings.seed,
        steps=steps,
        versions={"von": __version__} | {name: version(name) for name in ("torch", "numpy")},
    )
    return info, save_classifier(output, module.eval(), info)


def _open(data: Path, class_name: str, parts: Sequence[Split], settings: ClassifierSettings) -> list[ShapeDataset]:
    """The non-empty splits of a class."""
    opened = []
    for split in parts:
        try:
            opened.append(
                ShapeDataset(
                    data,
                    class_name,
                    resolution=settings.resolution,
                    representation=settings.representation,
                    split=split,
                    cache_mb=512,
                )
            )
        except EmptyDatasetError:
            continue
    return opened


def _learn(
    module: ShapeClassifier,
    training: Mapping[str, ShapeDataset],
    settings: ClassifierSettings,
    steps: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Minimises the cross entropy over class-balanced batches."""
    optimiser = torch.optim.Adam(module.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    names = tuple(training)
    module.train()
    for step in range(steps):
        turns = [(step * settings.batch_size + place) % len(names) for place in range(settings.batch_size)]
        volumes = as_seen(_batch(training, names, turns, step, settings), settings.representation)
        # Dropout draws from torch's global generator, so each step seeds it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(numpy_generator(settings.seed, "dropout", step).integers(2**63)))
            loss = nn.functional.cross_entropy(
                module(volumes.to(settings.device)), torch.tensor(turns, device=settings.device)
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)


def _batch(
    training: Mapping[str, ShapeDataset],
    names: Sequence[str],
    turns: Sequence[int],
    step: int,
    settings: ClassifierSettings,
) -> Tensor:
    """The shapes of a step, each shifted by up to a sixteenth of the grid."""
    rng = numpy_generator(settings.seed, "classifier shifts", step)
    most = settings.resolution // 16
    volumes = []
    for place, turn in enumerate(turns):
        dataset = training[names[turn]]
        purpose = f"classifier {names[turn]}"
        number = step * len(turns) + place
        (position,) = epoch_positions(number // len(names), 1, len(dataset), seed=settings.seed, purpose=purpose)
        volumes.append(_shifted(dataset[position], rng.integers(-most, most + 1, 3)))
    return torch.stack(volumes)


def _shifted(volume: Tensor, shift: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
    """A volume shifted by whole voxels and padded with zeros."""
    moved = torch.zeros_like(volume)
    edge = volume.shape[-1]
    to = [slice(max(0, by), edge + min(0, by)) for by in shift.tolist()]
    source = [slice(max(0, -by), edge + min(0, -by)) for by in shift.tolist()]
    moved[:, to[0], to[1], to[2]] = volume[:, source[0], source[1], source[2]]
    return moved


@torch.inference_mode()
def _correct(
    module: ShapeClassifier, index: int, datasets: Sequence[ShapeDataset], settings: ClassifierSettings
) -> int:
    """The number of shapes of a class that are classified correctly."""
    module.eval()
    right = 0
    for dataset in datasets:
        for start in range(0, len(dataset), _BATCH):
            part = [dataset[at] for at in range(start, min(start + _BATCH, len(dataset)))]
            seen = as_seen(torch.stack(part), settings.representation)
            right += int((module(seen.to(settings.device)).argmax(dim=1) == index).sum())
    return right


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Weights normal with variance 2 / fan-in, biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            fan_in = layer.weight[0].numel()
            drawn = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.data.copy_(drawn * (2.0 / fan_in) ** 0.5)
            if layer.bias is not None:
                layer.bias.data.zero_()


def dataset_sha256(data: Path, datasets: Datasets) -> str:
    """Hash of the ids and files of all shapes."""
    digest = hashlib.sha256()
    for name, parts in sorted(datasets.items()):
        files = OutputFiles(data, name, "shapes")
        for id in sorted(id for part in parts for id in part.ids):
            digest.update(f"{name} {id} {file_sha256(files[id])}\n".encode())
    return digest.hexdigest()
