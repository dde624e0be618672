"""Set-up of a training stage: datasets, device, compiled networks, optimiser state; checks and the plan of a run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vondata.classes import load_class
from vonmodel.checkpoint import CheckpointError
from vonmodel.config import ComputeConfig, ConfigError, StageName, TrainConfig
from vonmodel.data.datasets import ImageDataset, ShapeDataset, ViewpointSampler, viewpoint_sampler
from vonmodel.data.loader import ClassBalancedSource, Photos, PhotoSource, Shapes, ShapeSource
from vonmodel.distributed import Part, process_count
from vonmodel.model import VonModel, arrange_channels_last
from vonmodel.networks import ResidualCritic
from vonmodel.networks.blocks import share_batch_norms
from vonmodel.precision import weights_in
from vonmodel.run_folder import RunFolder
from vonmodel.training.joint_stage import JointStage
from vonmodel.training.shape_stage import ShapeStage
from vonmodel.training.stage import Phase, Stage
from vonmodel.training.texture_stage import TextureStage

Network = TypeVar("Network", bound=nn.Module)


def prepare_model(
    model: Network,
    compute: ComputeConfig,
    device: torch.device,
    *,
    twice_differentiated: Collection[str] = ("shape_critic",),
) -> Network:
    """Moves the model to its device and prepares it for `compute`; names and values of its weights do not change.

    Args:
        model: its networks are its children.
        compute: how steps are computed.
        device: the device.
        twice_differentiated: names of networks that a gradient penalty differentiates twice, which the compiler
            does not support; residual critics, which always have a penalty, are not compiled either.
    """
    model = model.to(device, weights_in(compute.precision)).eval().requires_grad_(False)
    if compute.channels_last or device.type == "cpu":
        arrange_channels_last(model)
    if process_count() > 1:
        share_batch_norms(model)
    if compute.compile == "always" or (compute.compile == "gpu" and device.type == "cuda"):
        # Compiled networks of an earlier stage count against the compiler's cache limit, which the critics of the
        # joint stage would exceed.
        torch.compiler.reset()
        for name, network in model.named_children():
            if name not in twice_differentiated and not isinstance(network, ResidualCritic):
                network.compile()
    return model


@contextmanager
def tuned_convolutions(compute: ComputeConfig) -> Iterator[None]:
    """Lets cuDNN benchmark its algorithms, if `compute.tune_convolutions`."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = compute.tune_convolutions or before
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@dataclass(frozen=True)
class TrainingData:
    """The data of a stage.

    Attributes:
        shapes: prepared shapes.
        photos: prepared photos; None for the shape stage.
        viewpoints: sampler of the class's viewpoints.
        mirror_symmetry: whether the class has mirror symmetry.
        class_name: the class.
        others: the data of the other classes of a model of several.
    """

    shapes: ShapeDataset
    photos: ImageDataset | None
    viewpoints: ViewpointSampler
    mirror_symmetry: bool
    class_name: str = ""
    others: tuple[TrainingData, ...] = ()

    @property
    def classes(self) -> tuple[TrainingData, ...]:
        """The data of all classes."""
        return (self, *self.others)

    @property
    def items(self) -> int:
        """Items of an epoch: all shapes and all photos, balanced over the classes, the fewer ones repeated."""
        kinds = [kind for each in self.classes for kind in (each.shapes, each.photos) if kind is not None]
        return len(self.classes) * max(map(len, kinds))

    @property
    def fingerprint(self) -> str:
        """A hash of the ids of all items, which determine the data of a step."""
        both = ((each.shapes.ids, () if each.photos is None else each.photos.ids) for each in self.classes)
        return items_fingerprint([ids for pair in both for ids in pair])


def items_fingerprint(ids: Sequence[Any]) -> str:
    """A hash of ids, in their order."""
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def open_data(config: TrainConfig, data: Path, stage: StageName) -> TrainingData:
    """Opens the data of a stage, of every class, in the split `config.data.split`.

    Raises:
        ManifestMissingError: a class was not prepared.
        EmptyDatasetError: it has no usable items.
    """
    first, *others = (_open_class(config, data, stage, name) for name in config.class_names)
    return dataclasses.replace(first, others=tuple(others))


def _open_class(config: TrainConfig, data: Path, stage: StageName, class_name: str) -> TrainingData:
    cache_mb = config.output.cache_mb // (2 * len(config.class_names))
    split = None if config.data.split == "all" else config.data.split
    return TrainingData(
        shapes=ShapeDataset(
            data,
            class_name,
            resolution=config.model.resolution,
            representation=config.model.representation,
            band=config.model.band,
            split=split,
            cache_mb=cache_mb,
        ),
        photos=None
        if stage == "shape"
        else ImageDataset(data, class_name, size=config.model.image_size, split=split, cache_mb=cache_mb),
        viewpoints=viewpoint_sampler(data, class_name, source=config.data.viewpoints),
        mirror_symmetry=load_class(class_name).mirror_symmetry,
        class_name=class_name,
    )


def build_stage(config: TrainConfig, name: StageName, model: VonModel, data: TrainingData, steps: int) -> Stage:
    """The phases of a stage on its data.

    Args:
        config: the run's configuration.
        name: the stage.
        model: its networks.
        data: opened for this stage.
        steps: length of the stage.
    """
    fused = config.compute.fused_optimiser
    shapes = _shape_source(config, name, data)
    if name == "shape":
        critic_from = round(config.shape.critic_from * steps)
        return ShapeStage(model, config.shape, shapes, critic_from, fused_optimiser=fused)
    config.check_objective()
    photos = _photo_source(config, name, data)
    if name == "texture":
        generated_from = steps - round(config.texture.generated_share * steps)
        return TextureStage(model, config.texture, shapes, photos, generated_from, fused_optimiser=fused)
    return JointStage(model, config.joint, config.shape, config.texture, shapes, photos, fused_optimiser=fused)


def _shape_source(config: TrainConfig, name: str, data: TrainingData) -> Shapes:
    """The shapes of the class, or of all classes round-robin."""
    if data.others:
        parts = ((f"{name} {each.class_name}", dataclasses.replace(each, others=())) for each in data.classes)
        return ClassBalancedSource(tuple(_shape_source(config, stage, each) for stage, each in parts))
    return ShapeSource(data.shapes, name, config.seed, config.shape.mirror and data.mirror_symmetry)


def _photo_source(config: TrainConfig, name: str, data: TrainingData) -> Photos:
    """The photos of the class, or of all classes round-robin."""
    if data.others:
        parts = ((f"{name} {each.class_name}", dataclasses.replace(each, others=())) for each in data.classes)
        return ClassBalancedSource(tuple(_photo_source(config, stage, each) for stage, each in parts))
    assert data.photos is not None
    return PhotoSource(data.photos, data.viewpoints, config.data, data.mirror_symmetry, name, config.seed)


def training_tensors(stage: Stage) -> dict[str, Tensor]:
    """The state of all optimisers and pools of a stage."""
    tensors: dict[str, Tensor] = {}
    for phase in stage.phases:
        for index, values in phase.optimiser.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"{_prefix(phase)}{index}.{name}"] = value
    for name, pool in stage.pools.items():
        if pool.images is not None:
            tensors[f"pool.{name}"] = pool.images
    return tensors


def restore_training(stage: Stage, tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Restores saved state into a newly built stage.

    Raises:
        CheckpointError: the state is of other phases.
    """
    known = (*(_prefix(phase) for phase in stage.phases), "pool.")
    strange = next((name for name in tensors if not name.startswith(known)), None)
    if strange is not None:
        raise CheckpointError(
            f"the training state holds {strange}, which stage {stage.label} does not have",
            hint="another version of VON wrote it: train in a new run folder",
        )
    for phase in stage.phases:
        prefix = _prefix(phase)
        parameters = [each for group in phase.optimiser.param_groups for each in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, _, name = key.removeprefix(prefix).partition(".")
                # Moments need the memory format of their parameter, or every update would take the slow path.
                laid = value if value.dim() == 0 else torch.empty_like(parameters[int(index)]).copy_(value)
                state.setdefault(int(index), {})[name] = laid
        groups = phase.optimiser.state_dict()["param_groups"]
        phase.optimiser.load_state_dict({"state": state, "param_groups": groups})
    for name, pool in stage.pools.items():
        images = tensors.get(f"pool.{name}")
        pool.images = None if images is None else images.to(device)


def _prefix(phase: Phase) -> str:
    return f"optimiser.{phase.name}."


def check(config: TrainConfig, data: Path, stages: Sequence[StageName], *, processes: int = 1) -> None:
    """Checks all stages, so that a problem of the last one is reported before the first one trains for hours.

    Raises:
        ConfigError: a batch cannot be divided evenly among this many processes, or objective and networks do not fit
            together.
        UnsupportedSizeError: there are no networks of these sizes.
        ManifestMissingError, EmptyDatasetError, ResolutionError, ShapeFileError, OSError: the data cannot be used.
    """
    config.check_objective()
    with torch.device("meta"):
        VonModel(config.model)
    for name in stages:
        try:
            Part(0, processes * config.compute.accumulate).rows(config.stage(name).batch_size)
        except ValueError as error:
            raise ConfigError(f"{name}.batch_size: {error}") from error
        for opened in open_data(config, data, name).classes:
            opened.shapes[0]
            if opened.photos is not None:
                opened.photos[0]


def describe(config: TrainConfig, data: Path, run: RunFolder, stages: Sequence[StageName]) -> dict[str, Any]:
    """The resolved configuration, item counts, parameter counts of each network, and the steps of each stage.

    Raises:
        ManifestMissingError: shapes or photos were not prepared.
        EmptyDatasetError: none of them is usable.
    """
    with torch.device("meta"):
        model = VonModel(config.model)
    plan = {}
    for name in stages:
        opened = open_data(config, data, name)
        steady, decaying = config.stage(name).steps(opened.items)
        reached = run.latest_checkpoint(name) if run.exists else None
        plan[name] = {
            "steps": steady + decaying,
            "decaying": decaying,
            "done": reached.step if reached is not None else 0,
            "batch_size": config.stage(name).batch_size,
            "shapes": sum(len(each.shapes) for each in opened.classes),
            "photos": _total(len(each.photos) if each.photos is not None else None for each in opened.classes),
            "photos_with_viewpoint": _total(
                each.photos.annotated if each.photos is not None else None for each in opened.classes
            ),
        }
    return {
        "run": str(run.path),
        "data": str(data),
        "config": dataclasses.asdict(config),
        "parameters": {
            name: sum(each.numel() for each in network.parameters()) for name, network in model.named_children()
        },
        "stages": plan,
    }


def _total(counts: Iterator[int | None]) -> int | None:
    """The sum; None if nothing was counted."""
    known = [each for each in counts if each is not None]
    return sum(known) if known else None
