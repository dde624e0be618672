"""Mask operations: morphology, connected regions, quality checks, picture frames, and alpha matting of cut-outs.

A pixel at the edge shows I = a F + (1 - a) B. F is extrapolated from inside the object, B from outside, or B is the
fitted background; then a is the position of I on the line from B to F. Where F and B are similar the shape of the
mask decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from vondata.types import Rejected

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
    """Erosion; pixels beyond the border count as part of the mask."""
    return np.asarray(cv2.erode(mask.view(np.uint8), element).view(np.bool_))


def close(mask: Bools, radius: int) -> Bools:
    """Closing with a disk; pixels beyond the border count as outside."""
    padded = cv2.copyMakeBorder(mask.view(np.uint8), *(radius + 1,) * 4, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disk(radius))
    inner = slice(radius + 1, -radius - 1)
    return np.ascontiguousarray(closed[inner, inner]).view(np.bool_)


@dataclass(frozen=True, eq=False)
class Regions:
    """The connected regions of a mask.

    Attributes:
        labels: (h, w) number of the region, 0 outside of all.
        areas: (n + 1,) number of pixels of each region; areas[0] is 0.
        boxes: (n + 1, 4) left, top, width and height of each.
    """

    labels: npt.NDArray[np.int32]
    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]

    def select(self, chosen: Bools) -> Bools:
        """(h, w) the pixels of the regions for which `chosen` (n + 1,) holds."""
        return np.asarray((chosen & (self.areas > 0))[self.labels])

    def mean(self, values: npt.NDArray[np.generic], where: Bools) -> npt.NDArray[np.float64]:
        """(n + 1,) mean of `values` (h, w) over the pixels of each region in `where`; NaN if there are none."""
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
    """Finds the connected regions of a mask; connectivity 4 or 8."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=connectivity)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    return Regions(labels, areas, stats[:, :4].astype(np.int64))


def bounding_box(mask: Bools) -> Box:
    """Left, top, right and bottom of a mask that is not empty; right and bottom are one beyond the last pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


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
        pieces: number of unconnected pieces.
        scatter: share of the mask outside of the largest piece.
        agreement: confidence in the mask: the expected intersection over union with the true mask, or that with other
            segmentations of the photo; NaN if the file or its annotation gives the mask.
    """

    pieces: int
    scatter: float
    agreement: float


def measure_quality(mask: Bools, agreement: float = float("nan")) -> MaskQuality:
    """Measures a mask (h, w) whose `agreement` is known."""
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
    """Checks that there is an object of a usable size.

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
    """Checks that the object lies wholly inside the photo.

    Args:
        mask: (h, w).
        trimmed: whether a mask that touches all four sides is accepted as intentionally cropped to its box.

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
    """Checks that a mask found by segmentation can be trusted.

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
    """Mean difference of a photo (h, w, 3) between just inside and just outside of a mask's edge, in 1/255.

    It tells whether a mask was drawn on this photo or on a rotated copy of it.
    """
    scale = min(1.0, EDGE_SIDE_PX / max(mask.shape))
    photo = _smaller(rgb, scale).astype(np.float32)
    inside = _smaller(mask.view(np.uint8) * np.uint8(255), scale).astype(np.float32) / 255
    sides = []
    for weight in (inside**4, (1.0 - inside) ** 4):  # mixed pixels get little weight
        total = cv2.GaussianBlur(photo * weight[..., None], (0, 0), EDGE_REACH_PX)
        sides.append(total / (cv2.GaussianBlur(weight, (0, 0), EDGE_REACH_PX) + np.float32(1e-6))[..., None])
    edge = cv2.morphologyEx((inside > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, SQUARE) > 0
    return float(np.linalg.norm(sides[0] - sides[1], axis=2)[edge].mean()) if edge.any() else 0.0


LINE_SHARE, LINE_PX = 0.015, 2.5  # maximum thickness of an outline: of the object's longer side, and in pixels
LINE_AROUND = 0.8  # minimum share of a hole's border along which the mask is that thin
LINE_HOLE = 0.05  # minimum area of such a hole, relative to the mask with its holes filled
MAX_ANNOTATED_SCATTER = 0.75  # an object behind bars falls into pieces; the largest is still a quarter of it


def check_filled(mask: Bools) -> None:
    """Checks that a mask (h, w) is a region, not a line along an object's border, a hatching or scattered points.

    Raises:
        Rejected: mask_uncertain or mask_in_pieces.
    """
    quality = measure_quality(mask)
    if quality.scatter > MAX_ANNOTATED_SCATTER:
        raise Rejected("mask_in_pieces", f"the mask is hatched or dotted: {quality.pieces} pieces")
    left, top, right, bottom = bounding_box(mask)
    outside = np.pad(~mask[top:bottom, left:right], 1, constant_values=True)
    thickness = max(LINE_PX, LINE_SHARE * max(right - left, bottom - top))
    holes = regions(outside)
    filled = outside.size - holes.areas[holes.labels[0, 0]]
    enclosed = 0
    for number in np.flatnonzero((holes.areas >= LINE_HOLE * filled) & ~holes.at_border()):
        hole = holes.labels == number
        border = grow(hole, SQUARE) & ~hole
        beyond = cv2.distanceTransform((~outside | hole).view(np.uint8), cv2.DIST_L2, 5)
        if (beyond[border] <= thickness).mean() > LINE_AROUND:
            enclosed += int(holes.areas[number])
    if enclosed > mask.sum():
        raise Rejected("mask_uncertain", "the mask is a line along the object's border, not a filled region")


FIT_SIDE_PX = 320  # longest side of the copy on which the outline is compared with the photo's edges
FIT_REACH = 0.25  # of the copy's longer side: the largest offset
FIT_NEAR_PX = 5  # of the copy: smaller offsets are inaccuracies of drawing
MAX_FIT_ELSEWHERE = 1.2  # maximum fit at another offset, relative to that where the mask lies
MIN_FIT_DEVIATIONS = 2.5  # of the fit where the mask lies from the mean over offsets, in standard deviations
FAINT_EDGE = 1.0  # of 255 per pixel; it, with twice the median of the photo, is an edge that counts half


def check_alignment(rgb: Bytes, mask: Bools) -> None:
    """Checks that a mask (h, w) lies on an object of its photo (h, w, 3): edges of the photo run along its outline.

    The fit at an offset is the mean strength in [0, 1] of the photo's edges along the moved outline, weighted by how
    parallel they are to it.

    Raises:
        Rejected: mask_mismatch: the outline fits better elsewhere, or as badly as at random.
    """
    scale = min(1.0, FIT_SIDE_PX / max(mask.shape))
    fit = _fit_by_offset(*(_smaller(each, scale) for each in (rgb, mask.view(np.uint8) * np.uint8(255))))
    reach = len(fit) // 2
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    near = np.hypot(down, right) <= FIT_NEAR_PX
    here, elsewhere = float(fit[near].max()), np.where(near, -np.inf, fit)
    best = int(elsewhere.argmax())
    if elsewhere.flat[best] > MAX_FIT_ELSEWHERE * here:
        moves = [f"{abs(round(each.flat[best] / scale))} pixels" for each in (right, down)]
        sides = "right" if right.flat[best] > 0 else "left", "down" if down.flat[best] > 0 else "up"
        moved = " and ".join(f"{move} {side}" for move, side in zip(moves, sides, strict=True))
        raise Rejected(
            "mask_mismatch", f"the mask does not lie on the object; moved {moved}, it fits the photo better"
        )
    if here - fit.mean() <= MIN_FIT_DEVIATIONS * fit.std():
        raise Rejected("mask_mismatch", "no edges of the photo run along the mask's outline")


def _fit_by_offset(photo: Bytes, mask: Bytes) -> Floats:
    """(2 r + 1, 2 r + 1) fit of a mask's outline to a photo's edges when moved by up to r pixels down and right."""
    strength, direction = _edges(photo)
    outline, normal = _edges(mask[..., None])
    strength = strength / (strength + 2.0 * np.median(strength) + FAINT_EDGE)
    # cos^2 of the angle between two directions is (1 + cos of twice the angle) / 2.
    pairs = [
        (strength, outline),
        (strength * np.cos(2 * direction), outline * np.cos(2 * normal)),
        (strength * np.sin(2 * direction), outline * np.sin(2 * normal)),
    ]
    reach = int(FIT_REACH * max(mask.shape))
    size = [scipy.fft.next_fast_len(side + 2 * reach + 1, real=True) for side in mask.shape]
    spectrum = sum(scipy.fft.rfft2(each, size) * np.conj(scipy.fft.rfft2(moved, size)) for each, moved in pairs)
    fit = np.roll(scipy.fft.irfft2(spectrum, size), (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    return np.asarray(fit / max(2.0 * float(outline.sum()), 1e-6))


def _edges(image: Bytes) -> tuple[Floats, Floats]:
    """(h, w) magnitude per pixel and direction in radians of an image's (h, w, c) strongest gradient."""
    smooth = np.atleast_3d(cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0))
    across, down = (np.atleast_3d(cv2.Sobel(smooth, cv2.CV_32F, *order, scale=0.125)) for order in ((1, 0), (0, 1)))
    magnitude = np.hypot(across, down)
    strongest = magnitude.argmax(axis=2)[..., None]
    along = [np.take_along_axis(each, strongest, axis=2)[..., 0] for each in (across, down)]
    return magnitude.max(axis=2), np.arctan2(along[1], along[0])


def _smaller(image: Bytes, scale: float) -> Bytes:
    size = max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0]))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


BAND = 0.06  # of the shorter side: the thickest band that counts as a frame
SAME_COLOUR = 12  # of 255, in every channel
OTHER_COLOUR = 24
WHITE = 235
UNIFORM = 0.97  # minimum share of a line's pixels with its colour
PLAIN = 0.9  # minimum share of the pixels just inside a band with one colour
BAR = 0.3  # of a side: the thickest bar along an edge
SOFT_EDGE_PX = 3  # at a band's inner edge
LINE = 0.04  # of a drawn frame's longer side: maximum distance of its pixels from its box
RECTANGLE = 0.97  # minimum share of its box that a framed picture fills
MIN_PICTURE_SHARE = 0.12  # of the photo
PAPER = 200  # minimum brightness of the background of a picture on paper, in every channel
MIN_CONTENT = 0.03  # minimum share of a picture on paper that differs from the paper
RIM = 0.03  # of the picture's shorter side: width of the strip that is tested for one colour
BUSY = 0.6  # maximum share of the most common colour in the strip of a picture


def inside_of_band(rgb: Bytes) -> Box | None:
    """The box inside a band of one colour along all four edges of a photo (h, w, 3); None without one.

    A white band around a coloured region is ignored: it may as well be the margin of a box-shaped object.
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
    """The number of leading lines of one colour."""
    other = np.flatnonzero(shares[: most + 1] < UNIFORM)
    return int(other[0]) if len(other) else most + 1


def inside_of_bars(rgb: Bytes) -> Box | None:
    """The box between bars of one colour along some edges of a photo (h, w, 3), as in video frames and screenshots.

    A bar may contain text, but not at its inner edge. The photo has to be plain where it meets the bar. A white bar
    beside a coloured region is ignored, as in `inside_of_band`.
    """
    height, width = rgb.shape[:2]
    top, bottom = _bar(rgb), _bar(rgb[::-1])
    across = rgb[top : height - bottom].transpose(1, 0, 2)
    left, right = _bar(across), _bar(across[::-1])
    box = left, top, width - right, height - bottom
    if not any((left, top, right, bottom)) or min(box[2] - box[0], box[3] - box[1]) < 32:
        return None
    return box


def _bar(lines: Bytes) -> int:
    """The number of first lines that are a bar of another colour than the lines after it; 0 without one."""
    colour = np.median(lines[0], axis=0)
    if (colour > WHITE).all():
        return 0
    head = lines[: int(BAR * len(lines)) + 1].astype(np.int16)
    same = (np.abs(head - colour) <= SAME_COLOUR).all(axis=2).mean(axis=1) >= UNIFORM
    if not same[0]:
        return 0
    end = int(np.flatnonzero(same)[-1]) + 1 + SOFT_EDGE_PX
    if end >= len(lines) - 32:
        return 0
    after = lines[end].astype(np.int16)
    ground = np.median(after, axis=0)
    is_plain = (np.abs(after - ground) <= SAME_COLOUR).all(axis=1).mean() >= PLAIN
    return end if is_plain and np.abs(ground - colour).max() > OTHER_COLOUR else 0


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
    """The box of a picture within the photo, or None.

    It is an upright filled rectangle whose rim has many colours; or whose rim is as bright as paper and brighter than
    its surroundings, and whose inside is not empty.

    Args:
        rgb: (h, w, 3) the photo.
        mask: (h, w) everything that stands out from the background.
    """
    pieces = regions(mask, connectivity=8)
    if not pieces.areas.any():
        return None
    number = int(pieces.areas.argmax())
    left, top, width, height = (int(each) for each in pieces.boxes[number])
    filled = _filled(pieces.labels[top : top + height, left : left + width] == number)
    if width * height < MIN_PICTURE_SHARE * mask.size or filled.mean() < RECTANGLE or min(width, height) < 32:
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
    if commonest < BUSY:
        return box
    ground = np.median(colours, axis=0)
    is_paper = (ground >= PAPER).all() and (ground - np.median(rgb[~mask], axis=0)).max() > OTHER_COLOUR
    content = (np.abs(picture.astype(np.int16) - ground) > OTHER_COLOUR).any(axis=2) & ~strip
    return box if is_paper and content.mean() > MIN_CONTENT else None


def _filled(mask: Bools) -> Bools:
    """The mask with its holes filled."""
    holes = regions(~mask)
    return mask | holes.select((holes.areas > 0) & ~holes.at_border())


SURE_DEPTH = 1.9  # pixels from the edge at which a pixel is fully object
COLOUR_CONTRAST = 24.0  # of 255: the difference of F and B above which colours count more than the mask's shape
SPREADS = (1.5, 5.0)  # standard deviations in pixels for extrapolating colours: near first, then farther if needed


@dataclass(frozen=True, eq=False)
class CutOut:
    """An object without its background.

    Attributes:
        rgb: (h, w, 3) the object's own colours in 0..255, extrapolated a little beyond its edge.
        alpha: (h, w) coverage of each pixel, in [0, 1].
    """

    rgb: Floats
    alpha: Floats


def cut_out(rgb: npt.NDArray[np.uint8], mask: Bools, background: Floats | None = None) -> CutOut:
    """Estimates coverage and colours of the object at its edges.

    Args:
        rgb: (h, w, 3) the photo.
        mask: (h, w) the object, accurate to about a pixel.
        background: (h, w, 3) the background behind the object, if known.
    """
    photo = rgb.astype(np.float32)
    depth = cv2.distanceTransform(np.pad(mask, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    deep = depth >= SURE_DEPTH
    # No pixel of a thin leg is deep inside; its ridge shows its colour best.
    thin = mask & ~grow(deep, disk(3))
    sure = deep | (thin & (depth >= cv2.dilate(depth, SQUARE)))
    foreground = _continued(photo, sure)
    if background is None:
        background = _continued(photo, ~grow(mask, disk(2)))
    line = foreground - background
    length = (line**2).sum(axis=2)
    place = np.clip(((photo - background) * line).sum(axis=2) / np.maximum(length, 1.0), 0.0, 1.0)
    shape = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)
    trust = length / (length + COLOUR_CONTRAST**2)
    alpha = trust * place + (1.0 - trust) * shape
    alpha[deep] = 1.0
    # Colours decide about the soft edge only: alpha stays above half inside the mask and below half outside.
    alpha = np.where(mask, np.maximum(alpha, 0.55), np.where(grow(mask, SQUARE), np.minimum(alpha, 0.45), 0.0))
    return CutOut(np.where(alpha[..., None] >= 1.0, photo, foreground), alpha.astype(np.float32))


def _continued(photo: Floats, known: Bools) -> Floats:
    """The photo where known, else a Gaussian-weighted mean of the known pixels nearby."""
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

    Colours are averaged weighted by coverage, so that no background colour leaks in.

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
    # Enlarging is linear: sharper filters overshoot, and colour and coverage would no longer match.
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
    """Cuts a square (side, side, 4) out of (h, w, 4), padded with zeros beyond the border."""
    left, top, side = frame
    height, width = layers.shape[:2]
    square = np.zeros((side, side, layers.shape[2]), dtype=np.float32)
    rows, columns = slice(max(0, top), min(height, top + side)), slice(max(0, left), min(width, left + side))
    square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = layers[rows, columns]
    return square


Floats = npt.NDArray[np.float32]
