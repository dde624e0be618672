"""What a training run is going to do: datasets, parameters and steps, without doing any of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vonmodel.config import ConfigError, StageName, TrainConfig
from vonmodel.model import VonModel
from vonmodel.parallel import Part
from vonmodel.run_folder import RunFolder
from vonmodel.training.training_data import open_data


def check(config: TrainConfig, data: Path, stages: Sequence[StageName], *, processes: int = 1) -> None:
    """Looks ahead, so that what the last stage lacks is said before the first one trains for hours.

    Raises:
        ConfigError: a batch cannot be dealt out evenly to this many processes.
        UnsupportedSizeError: there are no networks of these sizes.
        ManifestMissingError, EmptyDatasetError, ResolutionError, ShapeFileError, OSError: the data does not serve.
    """
    with torch.device("meta"):
        VonModel(config.model)
    for name in stages:
        try:
            Part(0, processes * config.compute.accumulate).rows(config.stage(name).batch_size)
        except ValueError as error:
            raise ConfigError(f"{name}.batch_size: {error}") from error
        opened = open_data(config, data, name)
        opened.shapes[0]
        if opened.photos is not None:
            opened.photos[0]


def describe(config: TrainConfig, data: Path, run: RunFolder, stages: Sequence[StageName]) -> dict[str, Any]:
    """The resolved configuration, what the data holds, parameters of each network, and the steps of each stage.

    Raises:
        ManifestMissingError: shapes or photos were not prepared.
        EmptyDatasetError: nothing of them is usable.
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
            "shapes": len(opened.shapes),
            "photos": len(opened.photos) if opened.photos is not None else None,
            "photos_with_viewpoint": opened.photos.annotated if opened.photos is not None else None,
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
