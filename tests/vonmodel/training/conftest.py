"""Stages on the tiny dataset, and the published objective to compare with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vonmodel.config import StageName, TrainConfig
from vonmodel.model import VonModel, build_model
from vonmodel.training.setup import build_stage, open_data
from vonmodel.training.stage import Stage, Step

MakeStage = Callable[..., tuple[VonModel, Stage]]


@pytest.fixture
def make_stage(tiny_data: Path) -> MakeStage:
    def make(config: TrainConfig, name: StageName, steps: int = 10) -> tuple[VonModel, Stage]:
        model = build_model(config.model, 0).requires_grad_(False).eval()
        stage = build_stage(config, name, model, open_data(config, tiny_data, name), steps)
        for phase in stage.phases:
            for network in phase.networks:
                network.train()
        return model, stage

    return make


@pytest.fixture
def make_step() -> Callable[[Stage, int], Step]:
    def make(stage: Stage, number: int) -> Step:
        return Step(number, stage.load(number).to(torch.device("cpu")), torch.Generator().manual_seed(number))

    return make


@pytest.fixture
def golden_arrays(golden: Path) -> Callable[[str], dict[str, Tensor]]:
    def read(name: str) -> dict[str, Tensor]:
        with np.load(golden / f"{name}.npz") as stored:
            return {key: torch.from_numpy(value) for key, value in stored.items() if value.dtype.kind in "fiu"}

    return read
