"""A feature network from a TorchScript file, read without running what a feature network has no need of.

A TorchScript file holds no Python pickle that runs: its own reader builds tensors and plain objects only. But its
code can call all of torch's operators, among them those that read and write files. So its source, which lies in the
file as text, is looked through before torch sees it. That is a screen, not a sandbox: a network can still take up
memory and time, so take it from where you would take a program from.
"""

from __future__ import annotations

import ast
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from vonmodel.evaluation.inception import WeightsError

_FORBIDDEN = {"save", "from_file", "load", "set_data", "rpc_async", "rpc_sync", "rpc_remote"}
"""Operators that touch files or other machines."""
_NAMESPACES = {"aten", "prim"}


class NetworkFileError(WeightsError):
    """A file that is no feature network, or one that asks for too much."""


def load_network(path: Path) -> nn.Module:
    """The network of a TorchScript file, in evaluation mode, without gradients.

    Raises:
        NetworkFileError: see there.
    """
    _screen(path)
    try:
        with warnings.catch_warnings():
            # Its proposed successor, torch.export, falls back to unpickling whatever a file holds.
            warnings.simplefilter("ignore", DeprecationWarning)
            module: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise NetworkFileError(f"{path} cannot be read as TorchScript: {_last_line(error)}") from error
    if not module.state_dict():
        raise NetworkFileError(f"{path} holds a network without weights")
    # A script has no requires_grad_ of its own.
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


@torch.inference_mode()
def feature_size(module: nn.Module, input_size: int, device: str, path: Path) -> int:
    """The length of the vectors that a network makes of images.

    Raises:
        NetworkFileError: it fails on an image of this size, or gives something else than one vector an image.
    """
    wanted = f"it must turn images (n, 3, {input_size}, {input_size}) into features (n, d)"
    try:
        features = module(torch.zeros(2, 3, input_size, input_size, device=device))
    except (RuntimeError, ValueError, TypeError) as error:
        raise NetworkFileError(f"{path}: {wanted}, but fails: {_last_line(error)}") from error
    if not isinstance(features, torch.Tensor) or features.dim() != 2 or len(features) != 2:
        found = f"shape {tuple(features.shape)}" if isinstance(features, torch.Tensor) else type(features).__name__
        raise NetworkFileError(f"{path}: {wanted}, but gives {found}")
    return int(features.shape[1])


def _screen(path: Path) -> None:
    """Looks through the source in the file.

    Raises:
        NetworkFileError: it is not TorchScript, or it uses something forbidden.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member.filename for member in archive.infolist()]
            sources = [archive.read(member) for member in archive.infolist() if member.filename.endswith(".py")]
    except (OSError, zipfile.BadZipFile) as error:
        raise NetworkFileError(f"{path} is no TorchScript file: {error}") from error
    if not sources or not any(name.endswith("/constants.pkl") for name in names):
        raise NetworkFileError(
            f"{path} is no TorchScript file; make one with torch.jit.save(torch.jit.trace(network, images), FILE)"
        )
    for source in sources:
        try:
            used = sorted(_forbidden(ast.parse(source)))
        except (SyntaxError, ValueError) as error:
            raise NetworkFileError(f"{path}: its code cannot be looked through: {error}") from error
        if used:
            raise NetworkFileError(
                f"{path} uses {', '.join(used)}, which a feature network has no need of; it was not loaded"
            )


def _forbidden(source: ast.AST) -> Iterator[str]:
    """What a source uses that is not allowed."""
    for node in ast.walk(source):
        match node:
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="ops"), attr=space)) if space not in _NAMESPACES:
                yield f"ops.{space}.{node.attr}"
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="__torch__"), attr="torch"), attr="classes"):
                yield "torch.classes"
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in _FORBIDDEN:
                yield name
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=name)]) if name in _FORBIDDEN:
                yield str(name)
            case ast.Import() | ast.ImportFrom():
                yield "import"


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
