"""Feature networks: 8-bit images in, feature vectors out, with a name that says what a score was measured with."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.evaluation import inception
from vonmodel.evaluation.inception import file_sha256, find_weights, load_inception
from vonmodel.evaluation.network_file import feature_size, load_network


def resize_tensorflow(images: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c size size"]:
    """Bilinear resizing as TensorFlow 1 did it (`align_corners=False`), which published FID values contain.

    Target pixel i samples the source at i * (source size / target size): no half pixel offset, no antialiasing,
    and the last source pixel repeated beyond the border.

    Args:
        images: any value range; the result keeps it.
        size: height and width of the result in pixels.
    """
    rows = _neighbours(images.shape[-2], size, images.device)
    columns = _neighbours(images.shape[-1], size, images.device)
    return _blend(_blend(images, columns, dim=-1), rows, dim=-2)


def resize_antialiased(images: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c size size"]:
    """Bilinear resizing with half pixel centres whose kernel widens when shrinking, as image editors do."""
    if images.shape[-2:] == (size, size):
        return images
    return torch.nn.functional.interpolate(
        images, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )


def resize_clean(images: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c size size"]:
    """Bicubic resizing whose kernel widens when shrinking, in float32: Pillow's, which "clean" FID values contain.

    Parmar, Zhang, Zhu 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation".

    Args:
        images: values in [0, 255]; where the cubic overshoots, the result is clipped to them again.
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
    """Four convolutions with maximum pools; the features are the mean responses of each.

    The first three are averaged over the whole picture and tell textures apart, the last one over its four quarters
    and tells where things are.
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
        name: what scores call it.
        module: scaled images (n, 3, s, s) to features (n, size).
        size: length of a feature vector.
        input_size: s, the edge of the images the module sees.
        resize: how images get that size.
        sha256: hash of the weights.
        comparable: whether scores with it may stand beside published ones.
        scale: what values its images have: "signed" (x - 128) / 128, "unit" x / 255, "imagenet" that with ImageNet's
            mean taken off and divided by its deviation.
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
        """What decides the features of an image; part of the key of cached statistics."""
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
    def __call__(self, images: UInt8[Tensor, "n 3 h w"]) -> npt.NDArray[np.float32]:
        """The features (n, size) of 8-bit images."""
        device = next(iter(self.module.state_dict().values())).device
        resized = _RESIZED[self.resize](images.to(device, torch.float32), self.input_size)
        # Channels last takes little more than half the time on CPUs and GPUs alike.
        scaled = _scaled(resized, self.scale).contiguous(memory_format=torch.channels_last)
        # Full float32 products: TF32 would make a score depend on the kind of GPU.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            features: Tensor = self.module(scaled)
        return features.cpu().numpy()


def inception_features(
    weights: Path | None = None, device: str = "cpu", *, resize: Resize = "tensorflow"
) -> FeatureNetwork:
    """The network of the published FID: TensorFlow's Inception of 2015-12-05, its last pool.

    Args:
        weights: the file of weights; where None, `$VON_INCEPTION_WEIGHTS` or the cache.
        device: where to compute.
        resize: "tensorflow" as most published values have it, "clean" as clean-fid does.

    Raises:
        WeightsError: the weights are missing or not the published ones.
    """
    path = find_weights(weights)
    module = load_inception(path).to(device)
    return FeatureNetwork(
        "inception-2015-12-05", module, inception.FEATURES, inception.INPUT_SIZE, resize, file_sha256(path), True
    )


def random_features(device: str = "cpu") -> FeatureNetwork:
    """Fixed random features: to compare models with each other, never with published numbers."""
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
    """A feature network of the user's own: images (n, 3, s, s) to features (n, d); see `network_file`.

    Scores with it compare with scores of the same file, size, scale and resizing alone.

    Args:
        path: the file.
        device: where to compute.
        input_size: s, the edge of the images it wants.
        scale: the values it wants.
        resize: how images get their size.
        trust_code: run the code of a TorchScript file.

    Raises:
        CodeNotTrustedError: it is TorchScript, and its code is not trusted.
        NetworkFileError: it is no network, or gives no vectors.
    """
    module = load_network(path, trust_code=trust_code).to(device)
    size = feature_size(module, input_size, device, path)
    sha256 = file_sha256(path)
    return FeatureNetwork(f"{path.stem}-{sha256[:8]}", module, size, input_size, resize, sha256, False, scale)


def _scaled(pixels: Tensor, scale: Scale) -> Tensor:
    """Values in [0, 255] as a network wants them."""
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
