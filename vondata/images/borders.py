"""Frames: a band along a photo's edges, a line drawn around the object, a framed picture on a plain ground."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vondata.images.morphology import Box, regions

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

BAND = 0.06  # of the shorter side: the thickest band that is taken for a frame
SAME_COLOUR = 12  # of 255, in every channel
OTHER_COLOUR = 24
WHITE = 235
UNIFORM = 0.97  # of a line's pixels have its colour
PLAIN = 0.9  # of the pixels just inside a band have one colour
SOFT_EDGE_PX = 3  # at a band's inner edge
LINE = 0.04  # of a drawn frame's longer side: how far its pixels lie from its box at most
RECTANGLE = 0.97  # of its box a framed picture fills
LEAST_PICTURE = 0.12  # of the photo
RIM = 0.03  # of the picture's shorter side: the strip that is looked at for one colour
BUSY = 0.6  # of the strip's pixels have the commonest colour at most, in a picture


def inside_of_band(rgb: Bytes) -> Box | None:
    """The box inside of a band of one colour along all four edges of a photo (h, w, 3); None without one.

    A white band around a coloured ground is left alone: it may as well be the margin of a box-shaped object.
    """
    height, width = rgb.shape[:2]
    colour = np.median(np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]]), axis=0)
    if (colour > WHITE).all():
        return None
    same = (np.abs(rgb.astype(np.int16) - colour) <= SAME_COLOUR).all(axis=2)
    most = int(BAND * min(height, width))
    lines = (same.mean(axis=1), same.mean(axis=0))
    left, right = _leading(lines[1], most), _leading(lines[1][::-1], most)
    top, bottom = _leading(lines[0], most), _leading(lines[0][::-1], most)
    if min(left, right, top, bottom) < 1 or max(left, right, top, bottom) >= most:
        return None
    box = left + SOFT_EDGE_PX, top + SOFT_EDGE_PX, width - right - SOFT_EDGE_PX, height - bottom - SOFT_EDGE_PX
    if box[2] - box[0] < 16 or box[3] - box[1] < 16:
        return None
    inner = rgb[box[1] : box[3], box[0] : box[2]].astype(np.int16)
    ring = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    ground = np.median(ring, axis=0)
    is_plain = (np.abs(ring - ground) <= SAME_COLOUR).all(axis=1).mean() >= PLAIN
    return box if is_plain and np.abs(ground - colour).max() > OTHER_COLOUR else None


def _leading(shares: npt.NDArray[np.floating], most: int) -> int:
    """How many lines from the start on are of one colour."""
    other = np.flatnonzero(shares[: most + 1] < UNIFORM)
    return int(other[0]) if len(other) else most + 1


def without_drawn_frames(mask: Bools) -> Bools:
    """The mask (h, w) without pieces that are a rectangle's outline around other pieces."""
    pieces = regions(mask, connectivity=8)
    keep = pieces.areas > 0
    for number in np.flatnonzero(keep):
        left, top, width, height = pieces.boxes[number]
        if min(width, height) < 16 or pieces.areas[number] > 0.4 * width * height:
            continue
        inset = max(3, round(LINE * max(width, height)))
        part = pieces.labels[top : top + height, left : left + width] == number
        inner = part[inset:-inset, inset:-inset]
        across, down = (part[:inset], part[-inset:]), (part[:, :inset], part[:, -inset:])
        sides = [side.any(axis=0) for side in across] + [side.any(axis=1) for side in down]
        others = mask[top + inset : top + height - inset, left + inset : left + width - inset] & ~inner
        if others.any() and inner.sum() < 0.05 * part.sum() and all(side.mean() > 0.9 for side in sides):
            keep[number] = False
    return pieces.select(keep)


def framed_picture(rgb: Bytes, mask: Bools) -> Box | None:
    """The box of a picture within the photo: an upright filled rectangle whose rim has many colours, or None.

    Args:
        rgb: (h, w, 3) the photo.
        mask: (h, w) all that stands out from its ground.
    """
    pieces = regions(mask, connectivity=8)
    if not pieces.areas.any():
        return None
    number = int(pieces.areas.argmax())
    left, top, width, height = (int(each) for each in pieces.boxes[number])
    filled = _filled(pieces.labels[top : top + height, left : left + width] == number)
    if width * height < LEAST_PICTURE * mask.size or filled.mean() < RECTANGLE or min(width, height) < 32:
        return None
    inset = max(2, round(0.01 * min(width, height)))
    box = left + inset, top + inset, left + width - inset, top + height - inset
    picture = rgb[box[1] : box[3], box[0] : box[2]]
    thick = max(2, round(RIM * min(picture.shape[:2])))
    strip = np.ones(picture.shape[:2], dtype=bool)
    strip[thick:-thick, thick:-thick] = False
    colours = picture[strip].astype(np.int16)
    samples = colours[:: max(1, len(colours) // 24)]
    commonest = max((np.abs(colours - each) <= 2 * SAME_COLOUR).all(axis=1).mean() for each in samples)
    return box if commonest < BUSY else None


def _filled(mask: Bools) -> Bools:
    """The mask with its holes."""
    holes = regions(~mask)
    return mask | holes.select((holes.areas > 0) & ~holes.at_border())
