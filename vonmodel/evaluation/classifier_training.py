"""Training a shape classifier on the prepared shapes of several classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vondata.dataset.manifest import Split, dataset_classes
from vondata.dataset.shards import OutputFiles
from vonmodel.config import Representation
from vonmodel.data.datasets import EmptyDatasetError, ShapeDataset
from vonmodel.evaluation.shape_classifier import (
    ClassifierError,
    ClassifierInfo,
    ShapeClassifier,
    as_seen,
    save_classifier,
)
from vonmodel.evaluation.weights import file_sha256
from vonmodel.seeding import epoch_positions, numpy_generator, torch_generator

FEWEST_STEPS, PASSES = 200, 10
_BATCH = 16
Datasets = Mapping[str, Sequence[ShapeDataset]]


@dataclass(frozen=True)
class ClassifierSettings:
    """How a classifier is trained.

    Attributes:
        classes: what to tell apart; all that were prepared where empty.
        resolution: voxels along an edge.
        representation: of the volumes.
        base_channels: width next to the volume.
        steps: batches; where None, ten passes over the largest class, 200 at least.
        batch_size: shapes a step, the classes in turn.
        learning_rate: Adam's, falling linearly to zero.
        seed: of everything random.
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
    """Trains a classifier on the training parts, looks how it does on the rest, and writes it.

    Returns:
        What it says of itself, and the hash of its file.

    Raises:
        ClassifierError: fewer than two classes, or no shape is held out; or `output` is a folder.
        EmptyDatasetError, ManifestMissingError, ResolutionError, ShapeFileError: the data does not serve.
    """
    if output.is_dir():
        raise ClassifierError(f"--output {output} is a folder; name a file to write")
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
        raise ClassifierError(f"{data} holds out no shape (parts val and test), so that nothing could be said of it")
    module = ShapeClassifier(settings.resolution, len(classes), settings.base_channels)
    _initialise(module, torch_generator(settings.seed, "classifier weights"))
    module.to(settings.device)
    largest = max(len(each[0]) for each in training.values())
    steps = settings.steps or max(FEWEST_STEPS, PASSES * len(classes) * largest // settings.batch_size)
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
        dataset_sha256=_dataset_sha256(data, {name: [*training[name], *held_out[name]] for name in classes}),
        seed=settings.seed,
        steps=steps,
        versions={name: version(name) for name in ("von", "torch", "numpy")},
    )
    return info, save_classifier(output, module.eval(), info)


def _open(data: Path, class_name: str, parts: Sequence[Split], settings: ClassifierSettings) -> list[ShapeDataset]:
    """The parts of a class that hold any shape."""
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
    """Minimises the cross entropy over batches that hold every class equally often."""
    optimiser = torch.optim.Adam(module.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    names = tuple(training)
    module.train()
    for step in range(steps):
        turns = [(step * settings.batch_size + place) % len(names) for place in range(settings.batch_size)]
        volumes = as_seen(_batch(training, names, turns, step, settings), settings.representation)
        # Dropout draws from torch's own generator: each step starts it anew.
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
    """The shapes of a step, each moved by up to a sixteenth of the grid."""
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
    """A volume moved by whole voxels; what comes in is empty."""
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
    """How many shapes of a class are given its index."""
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


def _dataset_sha256(data: Path, datasets: Datasets) -> str:
    """Hash of the ids and files of all shapes."""
    digest = hashlib.sha256()
    for name, parts in sorted(datasets.items()):
        files = OutputFiles(data, name, "shapes")
        for id in sorted(id for part in parts for id in part.ids):
            digest.update(f"{name} {id} {file_sha256(files[id])}\n".encode())
    return digest.hexdigest()
