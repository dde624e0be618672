"""The largest connected component of binary images, as an operator that torch.compile can carry."""

from __future__ import annotations

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
