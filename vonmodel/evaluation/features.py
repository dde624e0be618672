"""Feature networks of image scores: Inception, a fixed random network, or a file (ONNX, safetensors, TorchScript).

ONNX and safetensors hold numbers and a graph of arithmetic: reading and running them touches no file and no other
process. TorchScript is a program: its code may call every operator of torch, those that write files among them, and
inspecting its source cannot prevent that. (`torch.export`'s loader unpickles the file, which runs code as well.) So
TorchScript runs only if the caller says that it trusts the file.
"""

from __future__ import annotations

import copy
import hashlib
import math
import stat
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.evaluation import inception
from vonmodel.evaluation.inception import Inception, WeightsError, file_sha256, find_weights, load_inception

if TYPE_CHECKING:
    import onnxruntime


MAX_FILE_BYTES = 2 << 30
_ZIP = b"PK\x03\x04"


class NetworkFileError(WeightsError):
    """A file that is not a feature network."""


class CodeNotTrustedError(NetworkFileError):
    """A file whose network is a program that the caller does not trust."""


def load_network(path: Path, *, trust_code: bool = False) -> nn.Module:
    """The network of a file, in evaluation mode, without gradients: images (n, 3, s, s) to features (n, d).

    Args:
        path: the file; its format is recognised by its content.
        trust_code: run the code of a TorchScript file.

    Raises:
        CodeNotTrustedError: it is TorchScript, and `trust_code` is not set.
        NetworkFileError: it holds no usable network.
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
    """The length of a network's feature vectors.

    Raises:
        NetworkFileError: it fails on images of this size, or does not give one vector per image.
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
    """A network run by ONNX Runtime, always on the CPU.

    Args:
        path: of the file, for messages.
        content: its bytes; a network with weights in other files is refused.

    Raises:
        NetworkFileError: ONNX Runtime is missing, or cannot run the network.
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
    """The exceptions of ONNX Runtime, which have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    found = [each for each in vars(onnxruntime_pybind11_state).values() if isinstance(each, type)]
    return (*(each for each in found if issubclass(each, Exception)), ValueError, RuntimeError)


def _load_safetensors(path: Path) -> nn.Module:
    """A network of a known architecture, recognised by the names of its weights: the PyTorch port of Inception."""
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


def resize_tensorflow(images: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c size size"]:
    """Bilinear resizing of TensorFlow 1 (`align_corners=False`), which published FID values use.

    Target pixel i samples the source at i * (source size / target size): no half pixel offset, no antialiasing,
    and the last source pixel repeated beyond the border.

    Args:
        images: of any value range, which is kept.
        size: height and width of the result in pixels.
    """
    rows = _neighbours(images.shape[-2], size, images.device)
    columns = _neighbours(images.shape[-1], size, images.device)
    return _blend(_blend(images, columns, dim=-1), rows, dim=-2)


def resize_antialiased(images: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c size size"]:
    """Antialiased bilinear resizing with half pixel centres, as in image editors."""
    if images.shape[-2:] == (size, size):
        return images
    return torch.nn.functional.interpolate(
        images, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )


def resize_clean(images: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c size size"]:
    """Pillow's antialiased bicubic resizing, in float32, which "clean" FID values use.

    Parmar, Zhang, Zhu 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation".

    Args:
        images: values in [0, 255]; overshoots of the cubic are clipped.
        size: height and width of the result in pixels.
    """
    if images.shape[-2:] == (size, size):
        return images
    resized = torch.nn.functional.interpolate(
        images, size=(size, size), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.clamp(0.0, 255.0)


Neighbours = tuple[Tensor, Tensor, Tensor]


def _neighbours(source: int, target: int, device: torch.device) -> Neighbours:
    """The two source indices of every target index and the weight of the second, in TensorFlow's float32."""
    scale = torch.tensor(source, dtype=torch.float32, device=device) / target
    position = torch.arange(target, dtype=torch.float32, device=device) * scale
    lower = position.floor()
    index = lower.long()
    return index, (index + 1).clamp(max=source - 1), position - lower


def _blend(images: Tensor, neighbours: Neighbours, dim: int) -> Tensor:
    lower, upper, weight = neighbours
    if dim == -2:
        weight = weight[:, None]
    first, second = images.index_select(dim, lower), images.index_select(dim, upper)
    return first + (second - first) * weight


INPUT_SIZE = 64
WIDTH = 24
FEATURES = 3 * WIDTH + 4 * WIDTH
SEED = 20151205


class RandomNetwork(nn.Module):
    """Four random convolutions with max pooling; the features are the mean responses of each.

    The first three are averaged over the whole image and capture texture, the last one over its quadrants and
    captures layout.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(3, WIDTH, 5, padding=2, bias=False),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            ]
        )
        fill_uniform(self, SEED)

    def forward(self, images: Float[Tensor, "n 3 64 64"]) -> Float[Tensor, "n 168"]:
        """Features of images with values in [-1, 1]."""
        features = []
        x = images
        for convolution in self.convolutions:
            x = functional.relu(convolution(x))
            cells = 2 if convolution is self.convolutions[-1] else 1
            features.append(functional.adaptive_avg_pool2d(x, cells).flatten(1))
            x = functional.max_pool2d(x, 2)
        return torch.cat(features, dim=1)


@torch.no_grad()
def fill_uniform(module: nn.Module, seed: int) -> None:
    """Fills every parameter with uniform numbers of variance 2 / fan-in, in the order of their names.

    The numbers are PCG64's raw integers turned into floats by exact arithmetic, so they depend neither on the machine
    nor on the version of a library.
    """
    generator = np.random.PCG64(seed)
    for _, parameter in sorted(module.named_parameters()):
        fan_in = max(1, math.prod(parameter.shape[1:]))
        unit = (generator.random_raw(parameter.numel()) >> np.uint64(11)) * 2.0**-53
        values = (2 * unit - 1) * math.sqrt(6 / fan_in)
        parameter.copy_(torch.from_numpy(values).view(parameter.shape))


Resize = Literal["tensorflow", "antialiased", "clean"]
Scale = Literal["signed", "imagenet", "unit"]
_RESIZED: Mapping[Resize, Callable[[Tensor, int], Tensor]] = {
    "tensorflow": resize_tensorflow,
    "antialiased": resize_antialiased,
    "clean": resize_clean,
}
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that turns images into feature vectors.

    Attributes:
        name: its name in scores.
        module: scaled images (n, 3, s, s) to features (n, size).
        size: length of a feature vector.
        input_size: s, the edge of its input images.
        resize: how images are resized to it.
        sha256: hash of the weights.
        comparable: whether scores with it are comparable with published ones.
        scale: range of its input: "signed" (x - 128) / 128, "unit" x / 255, "imagenet" x / 255 normalised by
            ImageNet's mean and standard deviation.
    """

    name: str
    module: nn.Module
    size: int
    input_size: int
    resize: Resize
    sha256: str
    comparable: bool
    scale: Scale = "signed"

    @property
    def identity(self) -> dict[str, str | int]:
        """Everything that determines the features of an image; part of the key of cached statistics."""
        return {
            "features": self.name,
            "sha256": self.sha256,
            "resize": self.resize,
            "input_size": self.input_size,
            "scale": self.scale,
        }

    def on(self, device: str) -> FeatureNetwork:
        """A copy of the network on another device."""
        return replace(self, module=copy.deepcopy(self.module).to(device))

    @torch.inference_mode()
    def __call__(
        self, images: UInt8[Tensor, "n 3 h w"] | Sequence[UInt8[Tensor, "3 _ _"]]
    ) -> npt.NDArray[np.float32]:
        """The features (n, size) of 8-bit images; those of a sequence may differ in size."""
        device = next(iter(self.module.state_dict().values())).device
        if not isinstance(images, Tensor) and len({each.shape for each in images}) == 1:
            images = torch.stack(tuple(images))
        batches = [images] if isinstance(images, Tensor) else [each[None] for each in images]
        resized = torch.cat(
            [_RESIZED[self.resize](each.to(device, torch.float32), self.input_size) for each in batches]
        )
        # Channels last takes little more than half the time, on CPUs and GPUs.
        scaled = _scaled(resized, self.scale).contiguous(memory_format=torch.channels_last)
        # Full float32 products: TF32 would make a score depend on the kind of GPU.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            features: Tensor = self.module(scaled)
        return features.cpu().numpy()


def inception_features(
    weights: Path | None = None, device: str = "cpu", *, resize: Resize = "tensorflow"
) -> FeatureNetwork:
    """The network of the published FID: the last pool of TensorFlow's Inception of 2015-12-05.

    Args:
        weights: the file of weights; if None, `$VON_INCEPTION_WEIGHTS` or the cache.
        device: where to compute.
        resize: "tensorflow" as for most published values, "clean" as in clean-fid.

    Raises:
        WeightsError: the weights are missing or not the published ones.
    """
    path = find_weights(weights)
    module = load_inception(path).to(device)
    return FeatureNetwork(
        "inception-2015-12-05", module, inception.FEATURES, inception.INPUT_SIZE, resize, file_sha256(path), True
    )


def random_features(device: str = "cpu") -> FeatureNetwork:
    """Fixed random features, to compare models with each other, never with published numbers."""
    module = RandomNetwork().eval().requires_grad_(False)
    sha256 = weights_sha256(module)
    return FeatureNetwork(
        f"random-{sha256[:8]}",
        module.to(device),
        FEATURES,
        INPUT_SIZE,
        "antialiased",
        sha256,
        False,
    )


def file_features(
    path: Path,
    device: str = "cpu",
    *,
    input_size: int,
    scale: Scale,
    resize: Resize = "clean",
    trust_code: bool = False,
) -> FeatureNetwork:
    """A feature network of the user's own: images (n, 3, s, s) to features (n, d); see `load_network`.

    Scores with it are comparable only with scores of the same file, size, scale and resizing.

    Args:
        path: the file.
        device: where to compute.
        input_size: s, the edge of its input images.
        scale: the range of its input.
        resize: how images are resized.
        trust_code: run the code of a TorchScript file.

    Raises:
        CodeNotTrustedError: it is TorchScript, and its code is not trusted.
        NetworkFileError: it is not a network, or does not give vectors.
    """
    module = load_network(path, trust_code=trust_code).to(device)
    size = feature_size(module, input_size, device, path)
    sha256 = file_sha256(path)
    return FeatureNetwork(f"{path.stem}-{sha256[:8]}", module, size, input_size, resize, sha256, False, scale)


def _scaled(pixels: Tensor, scale: Scale) -> Tensor:
    """Values in [0, 255] in a network's input range."""
    match scale:
        case "signed":
            return (pixels - 128.0) / 128.0
        case "unit":
            return pixels / 255.0
        case "imagenet":
            mean, deviation = (
                torch.tensor(each, device=pixels.device)[:, None, None]
                for each in (_IMAGENET_MEAN, _IMAGENET_DEVIATION)
            )
            return (pixels / 255.0 - mean) / deviation


def weights_sha256(module: nn.Module) -> str:
    """Hash of a module's parameters and buffers, in the order of their names, as little-endian bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.cpu().numpy()
        digest.update(f"{name} {array.shape} {array.dtype.str} ".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
