"""Is a mask good enough to learn from? Numbers for the manifest, and the reason when it is not."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vondata.images.morphology import SQUARE, bounding_box, regions
from vondata.types import Rejected

Bools = npt.NDArray[np.bool_]

MIN_COVERAGE = 0.002  # of the photo
MIN_SIDE_PX = 24  # of the object's box, in the photo's own pixels
MAX_BORDER_SHARE = 0.05  # of a side of the object's box may lie on the photo's border
MAX_SCATTER = 0.03
EDGE_SIDE_PX, EDGE_REACH_PX = 320, 2.0  # of the copy on which contrast at the edge is measured
PIECE = 0.001  # of the mask: smaller pieces are not counted


@dataclass(frozen=True)
class MaskQuality:
    """Measurements of a mask.

    Attributes:
        pieces: how many unconnected pieces it has.
        scatter: its share outside of the largest piece.
        agreement: how far the mask is to be believed: the intersection over union with the true one to be expected,
            or with other readings of the photo; NaN where the file or its annotation gives the mask.
    """

    pieces: int
    scatter: float
    agreement: float


def measure_quality(mask: Bools, agreement: float = float("nan")) -> MaskQuality:
    """Measures a mask (h, w), of which `agreement` is known."""
    area = int(mask.sum())
    pieces = regions(mask, connectivity=8)
    return MaskQuality(
        pieces=int((pieces.areas >= max(1.0, PIECE * area)).sum()),
        scatter=float(1.0 - pieces.areas.max() / area) if area else 0.0,
        agreement=agreement,
    )


def overlap(first: Bools, second: Bools) -> float:
    """Intersection over union of two masks (h, w); 0 for two empty ones."""
    union = int((first | second).sum())
    return float((first & second).sum() / union) if union else 0.0


def check_presence(mask: Bools, scale: float) -> None:
    """Whether there is an object of a usable size.

    Args:
        mask: (h, w).
        scale: pixels of the photo per pixel of the mask.

    Raises:
        Rejected: mask_empty or mask_too_small.
    """
    if not mask.any():
        raise Rejected("mask_empty", "nothing stands out from the background")
    left, top, right, bottom = bounding_box(mask)
    side = scale * max(right - left, bottom - top)
    coverage = float(mask.mean())
    if side < MIN_SIDE_PX or coverage < MIN_COVERAGE:
        raise Rejected(
            "mask_too_small", f"the object is {side:.0f} pixels long and covers {100 * coverage:.2f} % of the photo"
        )


def check_border(mask: Bools, *, trimmed: bool) -> None:
    """Whether the object lies wholly inside the photo.

    Args:
        mask: (h, w).
        trimmed: whether a mask that touches all four sides is taken for one cut to its box on purpose.

    Raises:
        Rejected: mask_touches_border.
    """
    left, top, right, bottom = bounding_box(mask)
    sides = {
        "left": (mask[:, 0], bottom - top),
        "top": (mask[0], right - left),
        "right": (mask[:, -1], bottom - top),
        "bottom": (mask[-1], right - left),
    }
    if trimmed and all(rim.any() for rim, _ in sides.values()):
        return
    for name, (rim, length) in sides.items():
        count = int(np.count_nonzero(rim))
        if count > max(2, MAX_BORDER_SHARE * length):
            raise Rejected("mask_touches_border", f"{count} pixels of the object lie on the {name} border")


def check_trust(quality: MaskQuality, *, min_agreement: float) -> None:
    """Whether a mask that was found, not given, can be believed.

    Raises:
        Rejected: mask_in_pieces or mask_uncertain.
    """
    if quality.scatter > MAX_SCATTER:
        raise Rejected(
            "mask_in_pieces",
            f"{quality.pieces} pieces; {100 * quality.scatter:.0f} % of the object lies outside of the largest",
        )
    if quality.agreement < min_agreement:
        raise Rejected(
            "mask_uncertain",
            f"the mask can be trusted to {100 * quality.agreement:.0f} %, less than {100 * min_agreement:.0f} %",
        )


def edge_contrast(rgb: npt.NDArray[np.uint8], mask: Bools) -> float:
    """How different a photo (h, w, 3) is just inside and just outside of a mask's edge, in steps of 255.

    The mean along the edge tells whether a mask was drawn on this photo or on the same one turned.
    """
    scale = min(1.0, EDGE_SIDE_PX / max(mask.shape))
    size = max(1, round(scale * mask.shape[1])), max(1, round(scale * mask.shape[0]))
    photo = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    inside = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    sides = []
    for weight in (inside**4, (1.0 - inside) ** 4):  # mixed pixels say little
        total = cv2.GaussianBlur(photo * weight[..., None], (0, 0), EDGE_REACH_PX)
        sides.append(total / (cv2.GaussianBlur(weight, (0, 0), EDGE_REACH_PX) + np.float32(1e-6))[..., None])
    edge = cv2.morphologyEx((inside > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, SQUARE) > 0
    return float(np.linalg.norm(sides[0] - sides[1], axis=2)[edge].mean()) if edge.any() else 0.0
