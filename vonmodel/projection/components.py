"""The largest connected component of binary images, as one operator that torch.compile carries on any device.

Operators are registered from their annotations, so these stay evaluated (no __future__ import).
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@torch.library.custom_op("von::largest_component", mutates_args=(), device_types="cpu")
def largest_component(masks: Tensor) -> Tensor:
    """The pixels of the largest 4-connected component of each mask (n, R, C), bool; none where the mask is empty.

    Of equally large components the one counts whose first pixel, row by row, comes first.
    """
    kept = [_largest_component_of_image(mask) for mask in masks.numpy()]
    return torch.from_numpy(np.stack(kept)) if kept else torch.empty_like(masks)


@largest_component.register_fake
def _(masks: Tensor) -> Tensor:
    return torch.empty_like(masks)


def _largest_component_of_image(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    import cv2

    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    if not areas.size:
        return np.zeros_like(mask)
    tied = 1 + np.flatnonzero(areas == areas.max())
    first = min(tied, key=lambda label: int((labels == label).argmax())) if len(tied) > 1 else tied[0]
    kept: npt.NDArray[np.bool_] = labels == first
    return kept


@largest_component.register_kernel("cuda")
def largest_component_by_hooking(masks: Tensor) -> Tensor:
    """The same in tensor operations whose number depends on the size alone, so that no result visits the host.

    Shiloach and Vishkin's parallel components: every pixel points at the root of its tree. In a round each root hooks
    onto its smallest neighbouring root, if smaller than itself; a root that took no part hooks onto any neighbour;
    then all trees are flattened. A round leaves at most half as many trees in a component, which bounds the rounds.
    """
    n, rows, columns = masks.shape
    if masks.numel() == 0:
        return torch.empty_like(masks)
    parents = _row_runs(masks)
    linked = (masks[:, 1:] & masks[:, :-1]).flatten(1)
    trees = rows * ((columns + 1) // 2)
    while trees > 1:
        parents = _flatten(_hook(parents, linked, columns), depth=trees)
        trees //= 2
    return _largest_tree(parents, masks.flatten(1)).view(n, rows, columns)


def _row_runs(masks: Tensor) -> Tensor:
    """Points every pixel (n, R C) at the first one of its run in its row, a pixel outside the mask at itself."""
    pixels = torch.arange(masks[0].numel(), device=masks.device).view_as(masks[0])
    before = torch.nn.functional.pad(masks[..., :-1], (1, 0))
    starts = torch.where(masks & before, 0, pixels)
    return starts.cummax(-1).values.flatten(1)


def _hook(parents: Tensor, linked: Tensor, columns: int) -> Tensor:
    """Hangs roots onto neighbouring roots, without cycles; `linked` says which pixels join the one below."""
    above = parents[:, :-columns]
    below = torch.where(linked, parents[:, columns:], above)
    low, high = torch.minimum(above, below), torch.maximum(above, below)
    hooked = parents.scatter_reduce(1, high, low, "amin")
    # A root that neither hooked nor was hooked onto is smaller than its neighbours, and these all hooked elsewhere:
    # following any of them cannot lead back to it.
    target = hooked.gather(1, high)
    taken = torch.zeros_like(parents).scatter_reduce(1, target, (target != high).long(), "amax")
    onto = hooked.gather(1, low)
    idle = (onto == low) & (taken.gather(1, low) == 0)
    return hooked.scatter_reduce(1, low, torch.where(idle, high, onto), "amax")


def _flatten(parents: Tensor, depth: int) -> Tensor:
    """Points every pixel at its root, at most `depth` steps away."""
    for _ in range((depth - 1).bit_length()):
        parents = parents.gather(1, parents)
    return parents


def _largest_tree(parents: Tensor, masks: Tensor) -> Tensor:
    """The pixels of the largest tree, of equals the one that starts first."""
    pixels = torch.arange(masks.shape[1], device=masks.device).expand_as(parents)
    sizes = torch.zeros_like(parents).scatter_add(1, parents, masks.long())
    first = pixels.scatter_reduce(1, parents, pixels, "amin")
    best = (sizes * len(pixels[0]) - first).argmax(1, keepdim=True)
    return masks & (parents == best)
