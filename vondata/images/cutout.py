"""From a hard mask to a soft one, and to colours without the old background in them.

A pixel at the edge shows I = a F + (1 - a) B. F is continued from inside the object, B from outside, or it is the
fitted background; then a is the place of I on the line from B to F. Where F and B look alike the shape of the mask
decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vondata.images.masks import SQUARE, Box, disk, grow

Bytes = npt.NDArray[np.uint8]


SURE_DEPTH = 1.9  # pixels from the edge at which a pixel is wholly object
TELLING = 24.0  # of 255: the difference of F and B above which colours tell more than the mask's shape
SPREADS = (1.5, 5.0)  # pixels over which colours are continued: close ones first, then farther where none are


@dataclass(frozen=True, eq=False)
class CutOut:
    """An object without its background.

    Attributes:
        rgb: (h, w, 3) the object's own colours in 0..255, continued a little beyond its edge.
        alpha: (h, w) how much of each pixel it covers, 0..1.
    """

    rgb: Floats
    alpha: Floats


def cut_out(rgb: npt.NDArray[np.uint8], mask: Bools, background: Floats | None = None) -> CutOut:
    """Finds coverage and colours of the object at its edges.

    Args:
        rgb: (h, w, 3) the photo.
        mask: (h, w) the object, right to about a pixel.
        background: (h, w, 3) what lies behind it, where that is known.
    """
    photo = rgb.astype(np.float32)
    depth = cv2.distanceTransform(np.pad(mask, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    deep = depth >= SURE_DEPTH
    # Of a thin leg no pixel is deep inside; its ridge shows its colour best.
    thin = mask & ~grow(deep, disk(3))
    sure = deep | (thin & (depth >= cv2.dilate(depth, SQUARE)))
    foreground = _continued(photo, sure)
    if background is None:
        background = _continued(photo, ~grow(mask, disk(2)))
    line = foreground - background
    length = (line**2).sum(axis=2)
    place = np.clip(((photo - background) * line).sum(axis=2) / np.maximum(length, 1.0), 0.0, 1.0)
    shape = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)
    trust = length / (length + TELLING**2)
    alpha = trust * place + (1.0 - trust) * shape
    alpha[deep] = 1.0
    # Colours decide about the soft edge only: what the mask holds stays more than half, all else less.
    alpha = np.where(mask, np.maximum(alpha, 0.55), np.where(grow(mask, SQUARE), np.minimum(alpha, 0.45), 0.0))
    return CutOut(np.where(alpha[..., None] >= 1.0, photo, foreground), alpha.astype(np.float32))


def _continued(photo: Floats, known: Bools) -> Floats:
    """The photo where it is known, else the mean of the known pixels around, near ones first."""
    colours = np.where(known[..., None], photo, np.float32(0))
    weight = known.astype(np.float32)
    result, trust = np.zeros_like(photo), np.zeros_like(weight)
    for spread in SPREADS:
        total = cv2.GaussianBlur(colours, (0, 0), spread)
        amount = cv2.GaussianBlur(weight, (0, 0), spread)
        share = (1.0 - trust) * amount / (amount + 1e-3)
        result += (share / np.maximum(amount, 1e-6))[..., None] * total
        trust += share
    overall = photo[known].mean(axis=0) if known.any() else np.float32(255)
    return np.where(known[..., None], photo, result + (1.0 - trust)[..., None] * overall)


def frame_cut_out(cut: CutOut, box: Box, *, size: int, margin: float) -> Bytes:
    """Cuts a square around the object and resizes it.

    Colours and coverage are averaged together, so that nothing from beyond the edge comes in.

    Args:
        cut: the object.
        box: left, top, right and bottom of its mask; right and bottom are one beyond the last pixel.
        size: side of the result in pixels.
        margin: free border as a fraction of the box's longer side.

    Returns:
        (size, size, 4) RGBA, composited on white, alpha = mask.
    """
    layers = np.dstack([cut.rgb * cut.alpha[..., None], cut.alpha * np.float32(255)])
    square = _square(layers, frame_of_box(box, margin))
    # Enlarging is linear: anything sharper overshoots, and colour and coverage would no longer belong together.
    shrinks = len(square) >= size
    resized = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    coverage = resized[..., 3:]
    rgb = resized[..., :3] + (255.0 - coverage)
    return np.clip(np.concatenate([rgb, coverage], axis=2) + 0.5, 0, 255).astype(np.uint8)


def frame_of_box(box: Box, margin: float) -> tuple[int, int, int]:
    """Left, top and side of the square around a box; may reach beyond the photo."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    side = max(width, height)
    pad = max(1, int(margin * side))
    return left - (side - width) // 2 - pad, top - (side - height) // 2 - pad, side + 2 * pad


def _square(layers: npt.NDArray[np.float32], frame: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Cuts a square (side, side, 4) out of (h, w, 4), with nothing in it where it reaches beyond."""
    left, top, side = frame
    height, width = layers.shape[:2]
    square = np.zeros((side, side, layers.shape[2]), dtype=np.float32)
    rows, columns = slice(max(0, top), min(height, top + side)), slice(max(0, left), min(width, left + side))
    square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = layers[rows, columns]
    return square


Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
