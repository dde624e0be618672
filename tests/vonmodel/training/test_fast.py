"""The preset `fast` trains like `published`: its losses differ no more than seeds do, in both precisions."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vonmodel.config import ComputeConfig, StageName, TrainConfig, update
from vonmodel.model import VonModel, build_model
from vonmodel.precision import computing_in
from vonmodel.presets import PRESETS
from vonmodel.seeding import torch_generator
from vonmodel.training.losses import gradient_penalty
from vonmodel.training.setup import build_stage, open_data, prepare_model
from vonmodel.training.stage import Step, run_step

CPU = torch.device("cpu")
Losses = dict[str, float]

SMALL = {
    "seed": 0,
    "model": {
        "resolution": 32,
        "image_size": 32,
        "shape_code_size": 8,
        "shape_base_channels": 2,
        "texture_base_channels": 4,
    },
    "shape": {"batch_size": 4},
    "texture": {"batch_size": 4},
    "joint": {"batch_size": 4},
    "data": {"viewpoints": "class"},
}


def learn(data: Path, preset: str, changes: dict[str, object], stage_name: StageName, steps: int) -> Losses:
    """Means of the losses over the second half of some steps."""
    config = update(update(PRESETS[preset], SMALL, "test"), changes, "test")
    model = prepare_model(build_model(config.model, config.seed), config.compute, CPU)
    stage = build_stage(config, stage_name, model, open_data(config, data, stage_name), 10**6)
    for phase in stage.phases:
        for network in phase.networks:
            network.train()
    seen: list[Losses] = []
    for number in range(steps):
        batch = stage.load(number).to(CPU)
        step = Step(number, batch, torch_generator(config.seed, stage_name, "step", number))
        losses, _ = run_step(stage, [step], learning_rate=1.0, precision=computing_in(config.compute.precision, CPU))
        seen.append({name: value.item() for terms in losses.values() for name, value in terms.items()})
    half = seen[steps // 2 :]
    return {name: sum(each[name] for each in half) / len(half) for name in half[0]}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["shape", "texture"])
def test_losses_are_those_of_published_within_noise(stage: StageName, tiny_data: Path) -> None:
    seeds = [learn(tiny_data, "published", {"seed": seed}, stage, 200) for seed in range(3)]
    for precision in ("float32", "bfloat16"):
        fast = learn(tiny_data, "fast", {"compute": {"precision": precision}}, stage, 200)
        for name, value in fast.items():
            values = torch.tensor([each[name] for each in seeds])
            noise = 3 * values.std().item() + 0.1 * values.abs().mean().item()
            assert abs(value - values.mean().item()) <= noise, (precision, name, value, values.tolist())


@pytest.mark.parametrize("stage", ["shape", "texture", "joint"])
def test_a_step_in_bfloat16_has_nearly_the_losses_of_float32(stage: StageName, tiny_data: Path) -> None:
    plain, half = (
        learn(tiny_data, "fast", {"compute": {"precision": precision}}, stage, 1)
        for precision in ("float32", "bfloat16")
    )
    assert half != plain
    for name, value in plain.items():
        assert half[name] == pytest.approx(value, rel=0.1, abs=0.05), name


def test_what_must_be_precise_is(tiny_config: TrainConfig) -> None:
    model: VonModel = build_model(tiny_config.model, 0)
    volumes = torch.rand(2, 1, 32, 32, 32)
    halves = torch.full((2,), 0.5)
    precise = gradient_penalty(model.shape_critic, volumes, 1 - volumes, halves)
    with computing_in("bfloat16", CPU)():
        assert model.shape_critic(volumes).dtype == torch.bfloat16
        penalty = gradient_penalty(model.shape_critic, volumes, 1 - volumes, halves)
        sketch = model.sketch(volumes.bfloat16(), torch.eye(3).expand(2, 3, 3))
    assert penalty.item() == pytest.approx(precise.item(), rel=1e-6)
    assert {each.dtype for each in sketch} == {torch.float32}
    assert {each.dtype for each in model.parameters()} == {torch.float32}


def test_the_presets_differ_only_in_compute_settings() -> None:
    published, fast = PRESETS["published"], PRESETS["fast"]
    assert update(fast, {"model": {"resampled": True}}, "test").model == published.model
    assert (fast.data, fast.shape, fast.texture, fast.joint) == (
        published.data,
        published.shape,
        published.texture,
        published.joint,
    )
    assert published.compute == ComputeConfig()


class HostReads(TorchDispatchMode):
    """Collects operations that make the host wait: reading a number, or results of data-dependent size."""

    READS = (
        torch.ops.aten._local_scalar_dense,
        torch.ops.aten.equal,
        torch.ops.aten.masked_select,
        torch.ops.aten.nonzero,
        torch.ops.aten._unique2,
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in self.READS:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage_name", ["shape", "texture", "joint"])
def test_no_step_reads_a_result(stage_name: StageName, tiny_data: Path) -> None:
    # Without the pool, which reads its decisions from the CPU's own generator.
    config = update(update(PRESETS["fast"], SMALL, "test"), {"texture": {"image_pool": 0}}, "test")
    model = prepare_model(build_model(config.model, 0), config.compute, CPU)
    stage = build_stage(config, stage_name, model, open_data(config, tiny_data, stage_name), 10)
    step = Step(0, stage.load(0).to(CPU), torch_generator(0))
    with HostReads() as reads:
        run_step(stage, [step], learning_rate=1.0)
    assert reads.seen == []
    with HostReads() as reads:
        assert torch.ones(()) > 0
    assert reads.seen


COMPILED = """
import torch
from vonmodel.training.setup import prepare_model
from vonmodel.config import ComputeConfig, ModelConfig
from vonmodel.model import build_model

torch.set_num_threads(1)
config = ModelConfig(32, 32, shape_code_size=8, shape_base_channels=2, texture_base_channels=4)
plain, compiled = (
    prepare_model(build_model(config, 0), ComputeConfig(compile=choice), torch.device("cpu"))
    for choice in ("never", "always")
)
assert plain.state_dict().keys() == compiled.state_dict().keys()
codes, depth = torch.randn(2, 8), torch.rand(2, 1, 32, 32)
for run in (lambda model: model.shape_generator(codes), lambda model: model.texture_generator(depth, codes)):
    torch.testing.assert_close(run(compiled), run(plain), atol=1e-4, rtol=1e-4)
"""


@pytest.mark.slow
def test_compiled_networks_compute_the_same() -> None:
    # In a process of its own, as the checks of tensor shapes in tests are not for the compiler.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
