"""Feature networks: 8-bit images in, feature vectors out, with a name that says what a score was measured with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from . import inception, random_network
from .resize import resize_antialiased, resize_tensorflow
from .weights import SHA256, find_weights, load_inception

Resize = Literal["tensorflow", "antialiased"]


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that turns images into feature vectors.

    Attributes:
        name: what scores call it.
        module: images (n, 3, s, s) in [-1, 1] to features (n, size).
        size: length of a feature vector.
        input_size: s, the edge of the images the module sees.
        resize: how images get that size.
        sha256: hash of the weights.
        comparable: whether scores with it may stand beside published ones.
    """

    name: str
    module: nn.Module
    size: int
    input_size: int
    resize: Resize
    sha256: str
    comparable: bool

    @property
    def identity(self) -> dict[str, str | int]:
        """What decides the features of an image; part of the key of cached statistics."""
        return {
            "features": self.name,
            "sha256": self.sha256,
            "resize": self.resize,
            "input_size": self.input_size,
        }

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "n 3 h w"]) -> npt.NDArray[np.float32]:
        """The features (n, size) of 8-bit images."""
        device = next(self.module.parameters()).device
        pixels = images.to(device, torch.float32)
        resized = (resize_tensorflow if self.resize == "tensorflow" else resize_antialiased)(pixels, self.input_size)
        # Channels last takes little more than half the time on CPUs and GPUs alike.
        scaled = ((resized - 128.0) / 128.0).contiguous(memory_format=torch.channels_last)
        # Full float32 products: TF32 would make a score depend on the kind of GPU.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            features: Tensor = self.module(scaled)
        return features.cpu().numpy()

    def over(self, batches: Iterable[UInt8[Tensor, "n 3 h w"]]) -> Iterator[npt.NDArray[np.float32]]:
        """The features of batches, one by one."""
        return (self(batch) for batch in batches)


def inception_features(weights: Path | None = None, device: str = "cpu") -> FeatureNetwork:
    """The network of the published FID: TensorFlow's Inception of 2015-12-05, its last pool, its resizing.

    Args:
        weights: the file of weights; where None, `$VON_INCEPTION_WEIGHTS` or the cache.
        device: where to compute.

    Raises:
        WeightsError: the weights are missing or not the published ones.
    """
    module = load_inception(find_weights(weights)).to(device)
    return FeatureNetwork(
        "inception-2015-12-05", module, inception.FEATURES, inception.INPUT_SIZE, "tensorflow", SHA256, True
    )


def random_features(device: str = "cpu") -> FeatureNetwork:
    """Fixed random features: to compare models with each other, never with published numbers."""
    module = random_network.RandomNetwork().eval().requires_grad_(False)
    sha256 = weights_sha256(module)
    return FeatureNetwork(
        f"random-{sha256[:8]}",
        module.to(device),
        random_network.FEATURES,
        random_network.INPUT_SIZE,
        "antialiased",
        sha256,
        False,
    )


def weights_sha256(module: nn.Module) -> str:
    """Hash of a module's parameters and buffers, in the order of their names, as little-endian bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.cpu().numpy()
        digest.update(f"{name} {array.shape} {array.dtype.str} ".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
