"""What a projection gives, and how distance-function shapes become opacity."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

SURFACE_THRESHOLD = 0.9


class Sketch(NamedTuple):
    """A 2.5D sketch as the camera sees it, before framing.

    Attributes:
        silhouette: (n, 1, R, R) probability in [0, 1] that the ray stops in the object.
        depth: (n, 1, R, R) expected depth along the optical axis in object units, larger is farther; the camera's
            `far` where nothing stops the ray.
    """

    silhouette: Float[Tensor, "n 1 R R"]
    depth: Float[Tensor, "n 1 R R"]


class FramedSketch(NamedTuple):
    """A 2.5D sketch with the object centred and filling the square.

    Attributes:
        silhouette: (n, 1, R, R) probability in [0, 1]; 0 outside the object.
        depth: (n, 1, R, R) depth; the camera's `far` outside the object.
        normalized_depth: (n, 1, R, R) in [-1, 1]: nearest point 1, background -1.
    """

    silhouette: Float[Tensor, "n 1 R R"]
    depth: Float[Tensor, "n 1 R R"]
    normalized_depth: Float[Tensor, "n 1 R R"]


def distance_to_opacity(
    volumes: Float[Tensor, "*n N N N"], threshold: float = SURFACE_THRESHOLD
) -> Float[Tensor, "*n N N N"]:
    """Opacity of distance-function shapes: values under the threshold become 0, the others stay.

    Args:
        volumes: exp(-8 d) in [0, 1], d the unsigned distance to the surface in cube edges.
        threshold: the smallest value that is kept; 0.9 keeps d up to 0.013.

    Returns:
        Opacity; the gradient passes where the value is kept.
    """
    return torch.where(volumes < threshold, torch.zeros_like(volumes), volumes)
