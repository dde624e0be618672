"""A feature network from a file: ONNX, safetensors of a known architecture, or TorchScript whose code is trusted.

ONNX and safetensors hold numbers and a graph of arithmetic: reading and running them touches no file and no other
process. TorchScript is a program: its code may call every operator of torch, those that write files among them, and
looking through its source does not keep it from that. (`torch.export`'s loader unpickles what a file holds, which is
code as well.) So TorchScript runs only where the caller says that it trusts the file.
"""

from __future__ import annotations

import copy
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vonmodel.evaluation.inception import Inception, WeightsError

if TYPE_CHECKING:
    import onnxruntime

MAX_FILE_BYTES = 2 << 30
_ZIP = b"PK\x03\x04"


class NetworkFileError(WeightsError):
    """A file that is no feature network."""


class CodeNotTrustedError(NetworkFileError):
    """A file whose network is a program, which the caller did not say it trusts."""


def load_network(path: Path, *, trust_code: bool = False) -> nn.Module:
    """The network of a file, in evaluation mode, without gradients: images (n, 3, s, s) to features (n, d).

    Args:
        path: the file; its content decides what it is.
        trust_code: run the code of a TorchScript file.

    Raises:
        CodeNotTrustedError: it is TorchScript, and `trust_code` is not set.
        NetworkFileError: it holds no network that can be used.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NetworkFileError(f"{path} is not a regular file")
        size = status.st_size
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise NetworkFileError(f"{path} cannot be read: {error.strerror}") from error
    if size > MAX_FILE_BYTES:
        raise NetworkFileError(f"{path} has {size:,} bytes; a network has at most {MAX_FILE_BYTES:,}")
    if head.startswith(_ZIP):
        module = _load_torchscript(path, trust_code=trust_code)
    elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        module = _load_safetensors(path)
    else:
        module = OnnxNetwork(path, path.read_bytes())
    for parameter in module.parameters():  # a script has no requires_grad_ of its own
        parameter.requires_grad_(False)
    return module.eval()


@torch.inference_mode()
def feature_size(module: nn.Module, input_size: int, device: str, path: Path) -> int:
    """The length of the vectors that a network makes of images.

    Raises:
        NetworkFileError: it fails on an image of this size, or gives something else than one finite vector an image.
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


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime computes, on the CPU, whatever device it is asked for on.

    Args:
        path: of the file, for messages.
        content: its bytes; a network that keeps its weights in other files is refused.

    Raises:
        NetworkFileError: ONNX Runtime is missing, or cannot run this.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__()
        self._path, self._content = path, content
        self._session = _start(path, content)
        self.register_buffer("place", torch.empty(0))

    def forward(self, images: Tensor) -> Tensor:
        """The first output for images (n, 3, s, s)."""
        source = self._session.get_inputs()[0]
        kind = np.float16 if source.type == "tensor(float16)" else np.float32
        pixels = np.ascontiguousarray(images.cpu().numpy(), dtype=kind)
        try:
            (features, *_) = self._session.run(None, {source.name: pixels})
        except _onnx_failures() as error:
            raise RuntimeError(_last_line(error)) from error
        return torch.from_numpy(np.array(features, dtype=np.float32)).to(images.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNetwork:
        return OnnxNetwork(self._path, copy.copy(self._content))


def _start(path: Path, content: bytes) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise NetworkFileError(
            f"{path} needs ONNX Runtime, unless it is a TorchScript or safetensors file",
            hint="pip install 'visual-object-networks[segmenter]'",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised as well
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _onnx_failures() as error:
        raise NetworkFileError(
            f"{path} holds no network: neither ONNX ({_last_line(error)}), nor safetensors, nor TorchScript"
        ) from error


def _onnx_failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: exceptions that have no other base than Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    found = [each for each in vars(onnxruntime_pybind11_state).values() if isinstance(each, type)]
    return (*(each for each in found if issubclass(each, Exception)), ValueError, RuntimeError)


def _load_safetensors(path: Path) -> nn.Module:
    """A network of a known architecture, told by the names of its weights: Inception, as the PyTorch port has it."""
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise NetworkFileError(f"{path} is damaged: {error}") from error
    network = Inception()
    known = network.state_dict()
    needed = {name for name in known if not name.endswith("num_batches_tracked")}
    missing = sorted(needed - state.keys())
    if missing:
        raise NetworkFileError(
            f"{path} holds weights of no known architecture: of Inception it lacks {', '.join(missing[:3])}",
            hint="save the network as ONNX",
        )
    try:
        network.load_state_dict({name: value for name, value in state.items() if name in known}, strict=False)
    except RuntimeError as error:
        raise NetworkFileError(f"{path} does not fit Inception: {_last_line(error)}") from error
    return network


def _load_torchscript(path: Path, *, trust_code: bool) -> nn.Module:
    if not trust_code:
        raise CodeNotTrustedError(
            f"{path} is TorchScript or another archive of torch: its network is a program, which can read, write and "
            "remove every file of yours while it runs",
            hint="save the network as ONNX, or say that you trust this file's code as you would trust a program",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise NetworkFileError(f"{path} cannot be read as TorchScript: {_last_line(error)}") from error
    if not module.state_dict():
        raise NetworkFileError(f"{path} holds a network without weights")
    return module


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
