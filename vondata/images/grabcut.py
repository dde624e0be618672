"""The object on any other background: GrabCut, seeded by how little a pixel looks like the photo's border.

The border is described by what lies left and right in the same row and by a handful of its colours; darker copies of
them are taken for shadow. Works on a small copy of the photo, since GrabCut's time grows with its pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vondata.images.masks import overlap, regions
from vondata.images.plain_background import Segmentation, border_strip

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

SIDE_PX = 224  # longest side of the copy
ITERATIONS = 3
BORDER_COLOURS = 8
SHADOW_DEPTH = 0.5  # a shadow leaves at least this share of the brightness
SHADOW_COST = 0.3  # of the darkening still counts as difference
LIGHTNESS_WEIGHT = 0.6
SURE = 1.5  # times the threshold: what is surely object
SPECK = 0.01  # of the largest piece
SEED = 1


def segment_by_grabcut(rgb: Bytes) -> Segmentation:
    """Reads the object on any background.

    Its agreement is that with the part of the seed that is far from everything at the border.

    Args:
        rgb: (h, w, 3).
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, SIDE_PX / max(height, width))
    size = (max(8, round(scale * width)), max(8, round(scale * height)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    difference = _difference_to_border(small)
    threshold = _otsu(difference)
    mask = _grabcut(small, difference > threshold)
    found, surest = (_enlarged(each, width, height) for each in (mask, difference > SURE * threshold))
    return Segmentation(found, overlap(found, surest))


def _difference_to_border(rgb: Bytes) -> Floats:
    """(h, w) distance in CIE Lab to the nearest colour that the border suggests, lit or in shadow."""
    lab = cv2.GaussianBlur(cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab), (0, 0), 1.0)
    strip = border_strip(*lab.shape[:2])
    cv2.setRNGSeed(SEED)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    colours = min(BORDER_COLOURS, int(strip.sum()))
    _, _, centres = cv2.kmeans(lab[strip], colours, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    thickness = int(strip[:, strip.shape[1] // 2].argmin()) or 1
    left, right = lab[:, :thickness].mean(axis=1), lab[:, -thickness:].mean(axis=1)
    across = np.linspace(0.0, 1.0, lab.shape[1], dtype=np.float32)[None, :, None]
    rows = left[:, None] * (1.0 - across) + right[:, None] * across
    nearest: Floats = np.minimum.reduce([_difference(lab, each) for each in (rows, *centres)])
    return nearest


def _difference(lab: Floats, background: Floats) -> Floats:
    """(h, w) distance to a background (h, w, 3) or (3,), of which darker copies are nearly as near."""
    lightness = background[..., 0]
    darkening = np.clip(lab[..., 0] / np.maximum(lightness, 1.0), SHADOW_DEPTH, 1.0)
    beyond = LIGHTNESS_WEIGHT * (lab[..., 0] - darkening * lightness)
    colour = np.hypot(lab[..., 1] - darkening * background[..., 1], lab[..., 2] - darkening * background[..., 2])
    shadow = SHADOW_COST * lightness * (1.0 - darkening)
    return np.asarray(np.sqrt(beyond**2 + colour**2 + shadow**2), dtype=np.float32)


def _otsu(difference: Floats) -> float:
    """The threshold that splits the differences best into near and far; 2 at least, which nobody sees."""
    level, _ = cv2.threshold(np.clip(6.0 * difference, 0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    return max(2.0, float(level) / 6.0)


def _grabcut(rgb: Bytes, seed: Bools) -> Bools:
    labels = np.where(seed, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[border_strip(*seed.shape)] = cv2.GC_BGD
    if np.count_nonzero(labels == cv2.GC_PR_FGD) < 8:
        return np.zeros_like(seed)
    cv2.setRNGSeed(SEED)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(rgb[..., ::-1]), labels, None, *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _enlarged(mask: Bools, width: int, height: int) -> Bools:
    pieces = regions(mask, connectivity=8)
    mask = pieces.select(pieces.areas >= max(4.0, SPECK * pieces.areas.max()))
    return np.asarray(cv2.resize(mask.view(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR) > 127)
