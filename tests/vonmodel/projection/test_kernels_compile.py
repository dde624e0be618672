"""Triton's kernels compiled to an H100's machine code, for which no GPU is needed: types, registers and spills."""

import json
import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is made for Linux only")

# In a process of its own, as the kernels may be interpreted here. Reads what to compile, prints the results.
COMPILE = """
import json, pathlib, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vonmodel.projection import march_gpu, sampling_gpu

WHOLE = ("n", "bricks", "samples", "image_size", "tiles", "count", "stride")
POINTERS = {"clearance": "*u8", "distance": "*u8", "source": "*u8", "target": "*u8"}
tool = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
results = []
for name, dtype, constants, warps in json.load(sys.stdin):
    kernel = getattr(march_gpu, name, None) or getattr(sampling_gpu, name)
    constants = dict(constants)
    types = {}
    for argument in kernel.arg_names:
        if argument in constants:
            types[argument] = "constexpr"
        elif argument in WHOLE:
            types[argument] = "i32"
        elif argument == "half_width" or (argument == "distance" and name.endswith("tiles")):
            types[argument] = "fp32"
        elif argument == "volumes":
            types[argument] = "*" + dtype
        elif argument == "gradient":
            types[argument] = "*i64" if constants["DETERMINISTIC"] else "*fp32"
        else:
            types[argument] = POINTERS.get(argument, "*fp32")
    places = {(kernel.arg_names.index(argument),): value for argument, value in constants.items()}
    source = ASTSource(kernel, signature=types, constexprs=places)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        told = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    results.append(told.stdout)
json.dump(results, sys.stdout)
"""
FORWARD = {"ROWS": 8, "COLUMNS": 4}
BACKWARD = {**FORWARD, "NEED_VOLUMES": True, "NEED_ROTATIONS": True, "DETERMINISTIC": False, "TOGETHER": 2}


def _compile(*kernels: tuple[str, str, dict[str, int | bool], int]) -> list[dict[str, int]]:
    """Registers and bytes of stack, shared and local memory of kernels (name, type of volumes, constants, warps)."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        input=json.dumps(kernels),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [
        {key: int(value) for key, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", told)}
        for told in json.loads(done.stdout)
    ]


def _check(usage: dict[str, int], registers: int) -> None:
    """Nothing spills, and enough programs of one warp find room on a multiprocessor of 65,536 registers."""
    assert usage["STACK"] == usage["LOCAL"] == 0, usage
    assert usage["REG"] <= registers, usage


def test_the_forward_kernels() -> None:
    mark, spread, sketch = _compile(
        ("mark_bricks", "bf16", {"LANES": 64}, 1),
        ("spread_along_axis", "", {"LANES": 1024}, 4),
        ("sketch_tiles", "bf16", FORWARD, 1),
    )
    _check(mark, 128)
    _check(spread, 64)
    _check(sketch, 64)
    # A program of one warp never waits for another: neither shared memory nor a barrier.
    assert sketch["SHARED"] == 0


def test_the_backward_kernel() -> None:
    (usage,) = _compile(("gradient_tiles", "bf16", BACKWARD, 1))
    _check(usage, 96)
    assert usage["SHARED"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_other_types_of_volumes(dtype: str) -> None:
    for usage in _compile(
        ("mark_bricks", dtype, {"LANES": 64}, 1),
        ("sketch_tiles", dtype, FORWARD, 1),
        ("gradient_tiles", dtype, BACKWARD, 1),
    ):
        _check(usage, 128)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"NEED_VOLUMES": False}, {"NEED_ROTATIONS": False}, {"DETERMINISTIC": True}])
def test_other_gradients(changes: dict[str, bool]) -> None:
    (usage,) = _compile(("gradient_tiles", "fp32", {**BACKWARD, **changes}, 1))
    _check(usage, 128)


@pytest.mark.slow
def test_the_smallest_volumes_and_images() -> None:
    # Triton makes a constant of whole numbers that are 1: bricks at N = 2, and tiles of a small image.
    for usage in _compile(
        ("mark_bricks", "fp32", {"LANES": 1, "bricks": 1}, 1),
        ("spread_along_axis", "", {"LANES": 1024, "bricks": 1, "stride": 1, "count": 1}, 4),
        ("sketch_tiles", "fp32", {**FORWARD, "bricks": 1, "tiles": 1}, 1),
        ("gradient_tiles", "fp32", {**BACKWARD, "bricks": 1, "tiles": 1}, 1),
    ):
        _check(usage, 128)
