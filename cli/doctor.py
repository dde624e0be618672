"""`von doctor`: checks Python, libraries, devices, kernels, caches and disk, with advice."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Literal

import click
from voncli.command import Command
from voncli.options import json_option
from voncli.output import print_json

MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 5_000_000_000
TOLERANCE = 2e-3  # of the fused projection against the reference, for silhouettes and depths of the order of 1
LIBRARIES = {"numpy": "numpy", "torch": "torch", "open3d": "open3d", "cv2": "opencv-python", "numba": "numba"}
OPTIONAL = {"s3fs": "s3", "onnxruntime": "segmenter", "pillow_heif": "photos", "huggingface_hub": "hub"}
Status = Literal["ok", "note", "fail"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: what was checked.
        status: ok; note for something optional that is missing or slow; fail.
        found: what was found.
        advice: what to do; "" for nothing.
    """

    what: str
    status: Status
    found: str
    advice: str = ""


@click.command(cls=Command)
@json_option
def doctor(as_json: bool) -> None:
    """Checks Python, libraries, devices, kernels, caches and disk, and prints a line with advice for each.

    The exit code is 1 if a check fails.
    """
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print_json([asdict(each) for each in findings])
    if any(each.status == "fail" for each in findings):
        raise click.exceptions.Exit(1)


def examine() -> Iterator[Finding]:
    """Runs all checks, and yields each finding as soon as it is known."""
    yield _python()
    yield from map(_library, LIBRARIES.items())
    yield _extras()
    if "torch" in sys.modules:
        yield _devices()
        yield from check_kernels()
    yield _cache()
    yield _inception()
    yield _disk(Path())


def _print(finding: Finding) -> None:
    mark, colour = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "fail": ("FAIL", "red")}[finding.status]
    advice = f": {finding.advice}" if finding.advice else ""
    click.echo(f"{click.style(mark, fg=colour)}  {finding.what:18} {finding.found}{advice}")


def _python() -> Finding:
    found = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info < MIN_PYTHON:
        return Finding("Python", "fail", found, f"VON needs {'.'.join(map(str, MIN_PYTHON))} or newer")
    return Finding("Python", "ok", found)


def _library(names: tuple[str, str]) -> Finding:
    module, package = names
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        return Finding(package, "fail", f"is missing ({error})", "pip install visual-object-networks")
    except (ImportError, OSError) as error:
        return Finding(package, "fail", f"cannot be loaded ({error})", _libraries_advice())
    return Finding(package, "ok", _version(package))


def _libraries_advice() -> str:
    if sys.platform != "linux":
        return "install the package again"
    return (
        "install what it expects from the system: sudo apt-get install -y libusb-1.0-0 libgl1 libegl1 libx11-6 "
        "libudev1 libidn2-0 libglib2.0-0 libsm6 libice6 libxext6 libxcb1 libgomp1"
    )


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _extras() -> Finding:
    from importlib.util import find_spec

    missing = sorted(extra for module, extra in OPTIONAL.items() if find_spec(module) is None)
    if not missing:
        return Finding("extras", "ok", "all installed")
    return Finding(
        "extras",
        "note",
        f"without {', '.join(missing)}",
        f"pip install 'visual-object-networks[{','.join(missing)}]'",
    )


def _devices() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        free, total = torch.cuda.mem_get_info()
        return Finding("GPU", "ok", f"{', '.join(names)}; {free / 1e9:.0f} of {total / 1e9:.0f} GB are free")
    if torch.backends.mps.is_available():
        return Finding("GPU", "note", "Metal", "--device mps computes on it, with the plain projection")
    cores = os.cpu_count() or 1
    if torch.version.cuda is None:
        return Finding("GPU", "note", f"none is used; {cores} CPU cores", "for a GPU, install a CUDA build of torch")
    return Finding("GPU", "note", f"none found; {cores} CPU cores", "for a GPU, check its driver with nvidia-smi")


def check_kernels() -> Iterator[Finding]:
    """Compares the fused projection with the reference, forward and backward, on the CPU and on CUDA if available."""
    import torch

    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        yield _guarded(f"kernels on {device}", partial(compare_projection, device))
    yield _guarded("kernels of shapes", compare_distance)


def _guarded(what: str, compare: Callable[[], float]) -> Finding:
    try:
        error = compare()
    except Exception as problem:  # noqa: BLE001 - a compiler may raise anything
        text = str(problem).partition("\n")[0]
        return Finding(what, "fail", f"{type(problem).__name__}: {text}", "reinstall numba, llvmlite and triton")
    if not error <= TOLERANCE:
        return Finding(what, "fail", f"differ from the reference by {error:.2g}", "report this with the output")
    return Finding(what, "ok", f"equal to the reference within {error:.1g}")


def compare_projection(device: str) -> float:
    """The largest difference between the fused projection on a device and the reference, forward and backward."""
    import torch

    from vonmodel.geometry import viewpoint_rotation
    from vonmodel.projection import project

    axis = torch.linspace(-1, 1, 24)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    ball = torch.sigmoid(8 * (0.6 - torch.sqrt(x**2 + (1.5 * y) ** 2 + z**2)))[None, None].to(device)
    rotation = viewpoint_rotation(torch.tensor([0.5]), torch.tensor([0.3])).to(device)
    results = []
    for implementation in ("reference", "fused"):
        volume = ball.clone().requires_grad_()
        sketch = project(volume, rotation, implementation=implementation)
        (gradient,) = torch.autograd.grad(sketch.silhouette.mean() + sketch.depth.mean(), volume)
        results.append((sketch.silhouette, sketch.depth, gradient * volume.numel()))
    return max(float((one - other).detach().abs().max()) for one, other in zip(*results, strict=True))


def compare_distance() -> float:
    """The largest error of the distances to a cube's faces, against the closed form."""
    import numpy as np

    from vondata.shapes.distance import distance_field

    corners = np.array([[x, y, z] for x in (8, 23) for y in (8, 23) for z in (8, 23)], dtype=np.float64)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = np.array([[a, b, c] for a, b, c, _ in quads] + [[a, c, d] for a, _, c, d in quads], dtype=np.int64)
    found = distance_field(corners, faces, 32)
    grid = np.stack(np.meshgrid(*[np.arange(32.0)] * 3, indexing="ij"), axis=-1)
    beyond = np.abs(grid - 15.5) - 7.5
    truth = np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(axis=-1), 0)
    return float(np.abs(found - np.abs(truth) / 31).max())


def _cache() -> Finding:
    from vondata.io.files import cache_folder

    folder = cache_folder()
    place = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(place, os.W_OK):
        return Finding("cache", "fail", f"{folder} cannot be written", "set XDG_CACHE_HOME to a folder that can")
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
    return Finding("cache", "ok", f"{folder} holds {held / 1e9:.1f} GB")


def _inception() -> Finding:
    from vondata.errors import VonError

    try:
        from vonmodel.evaluation.inception import find_weights

        return Finding("Inception weights", "ok", str(find_weights()))
    except VonError:
        return Finding("Inception weights", "note", "are missing", "von evaluate --fid --download fetches them")
    except ImportError as error:
        return Finding("Inception weights", "note", f"cannot be checked ({error})")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:,.0f} GB are free in {folder.resolve()}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "fail", f"{folder.resolve()} cannot be written", "work in another folder")
    if free < MIN_FREE_BYTES:
        return Finding("disk", "note", found, "a dataset of thousands of shapes takes some GB, so does a run")
    return Finding("disk", "ok", found)
