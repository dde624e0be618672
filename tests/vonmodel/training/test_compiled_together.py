"""Compiled networks in two processes: the exchange of batch norms is part of the graphs, the losses are the same."""

import json
import warnings
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.vonmodel.training.together import CPU, run_together
from vonmodel.config import STAGES, ComputeConfig, TrainConfig, update
from vonmodel.distributed import Part, is_writer, process_count, rank
from vonmodel.model import build_model
from vonmodel.seeding import torch_generator
from vonmodel.training.setup import build_stage, open_data, prepare_model
from vonmodel.training.stage import Step, run_step


def losses_of_steps(data: Path, results: Path) -> None:
    """Writes what two steps of each stage give, compiled and not."""
    # Not the compiler's own warnings, and not its machine code, which takes minutes.
    warnings.simplefilter("ignore")
    nn.Module.compile = partialmethod(nn.Module.compile, backend="aot_eager", fullgraph=True)  # type: ignore[assignment,method-assign]
    sizes = {"resolution": 32, "image_size": 32, "shape_base_channels": 2, "texture_base_channels": 4}
    batches = {stage: {"batch_size": 2} for stage in STAGES}
    config = update(TrainConfig(), {"model": {**sizes, "shape_code_size": 4, "resampled": False}, **batches}, "test")
    part, told = Part(rank(), process_count()), {}
    for choice in ("always", "never"):
        for name in STAGES:
            model = prepare_model(build_model(config.model, 0), ComputeConfig(compile=choice), CPU)
            stage = build_stage(config, name, model, open_data(config, data, name), 10)
            for network in {network for phase in stage.phases for network in phase.networks}:
                network.train()
            for number in range(2):
                batch = stage.load(number, part).to(CPU)
                step = Step(number, batch, torch_generator(0, name, number), part)
                losses, _ = run_step(stage, [step], learning_rate=1.0)
                terms = {term: value.item() for phase in losses.values() for term, value in phase.items()}
                told[f"{choice} {name} {number}"] = terms
    if is_writer():
        results.write_text(json.dumps(told))


@pytest.mark.slow
def test_compiled_networks_of_two_processes_learn_the_same(tiny_data: Path, tmp_path: Path) -> None:
    results = tmp_path / "losses.json"
    assert run_together(2, losses_of_steps, tiny_data, results) == [0, 0]
    told = json.loads(results.read_text())
    assert len(told) == 12
    for name in STAGES:
        for number in range(2):
            compiled, plain = told[f"always {name} {number}"], told[f"never {name} {number}"]
            assert compiled == pytest.approx(plain, rel=1e-3, abs=1e-4), (name, number)
    assert torch.tensor([value for terms in told.values() for value in terms.values()]).isfinite().all()
