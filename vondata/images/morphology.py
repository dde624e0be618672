"""Growing, shrinking and counting regions of a mask."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right and bottom; the latter two are one beyond the last pixel

SQUARE = np.ones((3, 3), dtype=np.uint8)
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def disk(radius: int) -> Bytes:
    """A disk of this radius in pixels, as a structuring element."""
    element: Bytes = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return element


def grow(mask: Bools, element: Bytes) -> Bools:
    """Dilation."""
    return np.asarray(cv2.dilate(mask.view(np.uint8), element).view(np.bool_))


def shrink(mask: Bools, element: Bytes) -> Bools:
    """Erosion; what lies beyond the border counts as part of the mask."""
    return np.asarray(cv2.erode(mask.view(np.uint8), element).view(np.bool_))


def close(mask: Bools, radius: int) -> Bools:
    """Closing with a disk; nothing is gained at the border."""
    padded = cv2.copyMakeBorder(mask.view(np.uint8), *(radius + 1,) * 4, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disk(radius))
    inner = slice(radius + 1, -radius - 1)
    return np.ascontiguousarray(closed[inner, inner]).view(np.bool_)


@dataclass(frozen=True, eq=False)
class Regions:
    """The connected regions of a mask.

    Attributes:
        labels: (h, w) number of the region, 0 outside of all.
        areas: (n + 1,) pixels of each region; areas[0] is 0.
        boxes: (n + 1, 4) left, top, width and height of each.
    """

    labels: npt.NDArray[np.int32]
    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]

    def select(self, chosen: Bools) -> Bools:
        """(h, w) the pixels of the regions for which `chosen` (n + 1,) holds."""
        return np.asarray((chosen & (self.areas > 0))[self.labels])

    def mean(self, values: npt.NDArray[np.generic], where: Bools) -> npt.NDArray[np.float64]:
        """(n + 1,) mean of `values` (h, w) over the pixels of each region in `where`; NaN where there are none."""
        labels = self.labels[where]
        count = np.bincount(labels, minlength=len(self.areas)).astype(np.float64)
        total = np.bincount(labels, weights=values[where].astype(np.float64), minlength=len(self.areas))
        mean = np.full(len(count), np.nan)
        np.divide(total, count, out=mean, where=count > 0)
        return mean

    def at_border(self) -> Bools:
        """(n + 1,) whether a region touches the picture's border."""
        rim = np.concatenate([self.labels[0], self.labels[-1], self.labels[:, 0], self.labels[:, -1]])
        return np.bincount(rim, minlength=len(self.areas)) > 0


def regions(mask: Bools, connectivity: int = 4) -> Regions:
    """Finds the regions of a mask, neighbours by their edges (4) or also by their corners (8)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=connectivity)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    return Regions(labels, areas, stats[:, :4].astype(np.int64))


def bounding_box(mask: Bools) -> Box:
    """Left, top, right and bottom of a mask that is not empty; right and bottom are one beyond the last pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
