"""Training steps on the meta device, which holds no numbers: nothing is read back, nothing stays on the host."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vonmodel.config import StageName, TrainConfig, update
from vonmodel.data.loader import Batch
from vonmodel.model import VonModel
from vonmodel.precision import computing_in
from vonmodel.presets import PRESETS
from vonmodel.projection import dispatch, framing
from vonmodel.projection.framing import largest_component_by_hooking
from vonmodel.training import stage as phase
from vonmodel.training.setup import build_stage, open_data, prepare_model
from vonmodel.training.stage import ImagePool, Stage, Step, run_step

SMALL = {
    "model": {
        "resolution": 32,
        "image_size": 32,
        "shape_code_size": 8,
        "shape_base_channels": 2,
        "texture_base_channels": 4,
    },
    "shape": {"batch_size": 2},
    "texture": {"batch_size": 2, "image_pool": 3},
    "joint": {"batch_size": 2},
    "data": {"viewpoints": "class"},
    "compute": {"compile": "never"},
}
STAGES = ["shape", "texture", "joint"]


def _take_steps(config: TrainConfig, name: StageName, data: Path, device: torch.device) -> None:
    """Three steps with everything on the device; the second stage's later ones paint generated shapes."""
    with torch.device(device):
        model = VonModel(config.model)  # first weights are numbers, which there are none of
    model = prepare_model(model, config.compute, device)
    stage: Stage = build_stage(config, name, model, open_data(config, data, name), 4)
    for each in stage.phases:
        for network in each.networks:
            network.train()
    for number in (0, 1, 3):
        batch: Batch = stage.load(number).to(device)
        step = Step(number, batch, torch.Generator().manual_seed(0))
        losses, sound = run_step(
            stage, [step], learning_rate=1.0, precision=computing_in(config.compute.precision, device)
        )
        assert sound
        for terms in losses.values():
            assert {value.device.type for value in terms.values()} == {device.type}


SIGNED = {
    "model": {"representation": "signed", "finer_grid": 48, "symmetric": True},
    "shape": {"objective": "relativistic", "mirror": True, "slope_every": 2},
}


@pytest.mark.parametrize("shapes", [{}, SIGNED], ids=["published", "signed"])
@pytest.mark.parametrize("name", STAGES)
def test_on_a_device_without_numbers(
    name: StageName, shapes: dict[str, Any], tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reading a number of a meta tensor fails, and so does computing with it and a tensor on the host. What runs on
    # GPUs stands in for what this kind of device lacks.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(dispatch, "uses_fused", lambda implementation, volumes, resampled: True)
    monkeypatch.setattr(framing, "largest_component", largest_component_by_hooking)
    changes = {"compute": {"precision": "float32", "fused_optimiser": False}}
    config = update(update(update(PRESETS["fast"], SMALL, "test"), shapes, "test"), changes, "test")
    _take_steps(config, name, tiny_data, torch.device("meta"))


def test_such_a_device_notices() -> None:
    numbers = torch.ones(3, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        numbers.sum().item()
    with pytest.raises(RuntimeError):
        numbers + torch.ones(3)


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this PyTorch knows no GPUs")
@pytest.mark.parametrize("preset", ["fast", "published"])
@pytest.mark.parametrize("name", STAGES)
def test_on_a_gpu_that_is_not_there(
    preset: Any, name: StageName, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is no driver to pin memory, and modules cannot move tensors of this kind, which are there already.
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(VonModel, "to", lambda model, *_: model)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(ImagePool, "decide", lambda *_: (True, 1))  # drawn on the host, without numbers here too
    if not torch.cuda.is_available():
        # The way back needs a driver: forward alone.
        monkeypatch.setattr(torch.autograd, "grad", lambda _, inputs, **__: (inputs * 2.0,))
        monkeypatch.setattr(phase, "backward", lambda loss: None)
    config = update(PRESETS[preset], SMALL, "test")
    with FakeTensorMode(allow_non_fake_inputs=True):
        _take_steps(config, name, tiny_data, torch.device("cuda", 0))
