"""Resizing images for feature networks, each the way the literature that uses it does."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


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
