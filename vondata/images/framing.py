"""From a cut-out to the square picture that training reads: centred, with a margin, white behind."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vondata.images.matting import CutOut

Bytes = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]


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
