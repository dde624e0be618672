"""Compiled networks: few graphs without breaks, within the compiler's limits."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, as the checks of tensor shapes in tests are not for the compiler. All stages in it, as in
# training, with batches of other sizes; the compiler's first half alone, which is the one that gives up.
COMPILED = """
import sys
from pathlib import Path

import torch
from torch import nn
from torch._dynamo.utils import counters

torch.set_num_threads(1)
torch._dynamo.config.fail_on_recompile_limit_hit = True
compile_fully = nn.Module.compile
nn.Module.compile = lambda self: compile_fully(self, backend="eager", fullgraph=True)

from vonmodel.training.setup import prepare_model
from vonmodel.config import update
from vonmodel.model import build_model
from vonmodel.precision import computing_in
from vonmodel.presets import PRESETS
from vonmodel.training.log import draw_sheet, sheet_codes
from vonmodel.training.stage import Step, run_step
from vonmodel.training.setup import build_stage, open_data

device = torch.device("cpu")
config = update(PRESETS["fast"], {
    "model": {"resolution": 32, "image_size": 32, "shape_code_size": 8, "shape_base_channels": 2,
              "texture_base_channels": 4},
    "shape": {"batch_size": 4}, "texture": {"batch_size": 3}, "joint": {"batch_size": 2},
    "data": {"viewpoints": "class"}, "compute": {"compile": "always"},
}, "test")
for name in ("shape", "texture", "joint"):
    model = prepare_model(build_model(config.model, 0), config.compute, device)
    data = open_data(config, Path(sys.argv[1]), name)
    stage = build_stage(config, name, model, data, 10)
    codes = sheet_codes(model, data.viewpoints, seed=0)
    for phase in stage.phases:
        for network in phase.networks:
            network.train()
    counters.clear()
    graphs = []
    for number in range(3):
        step = Step(number, stage.load(number).to(device), torch.Generator())
        run_step(stage, [step], learning_rate=1.0, precision=computing_in("bfloat16", device))
        graphs.append(counters["stats"]["unique_graphs"])
        model.eval()
        draw_sheet(model, codes, images=name != "shape")
        model.train()
    assert graphs[0] <= 12, (name, graphs)
    assert counters["stats"]["unique_graphs"] <= graphs[0] + 4, (name, graphs, counters["stats"])
    assert not counters["graph_break"], counters["graph_break"]
"""


@pytest.mark.slow
def test_all_stages_compile_into_few_graphs(tiny_data: Path) -> None:
    command = [sys.executable, "-c", COMPILED, str(tiny_data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
