"""Segmentation on plain backgrounds by contrast: background fit, half-contrast edges, holes, shadows, faded outlines.

An edge lies where the contrast falls to half of its value just inside the object, which excludes JPEG ringing and the
mixed pixels of the edge and keeps thin legs. Pale parts are separated from noise by the grain of the border and the
ringing measured beside the object. Enclosed regions are holes, unless their inside or their rim indicates a pale
surface. Where the object fades into the background without an edge its outline is closed across a short gap.

The part at the foot of the object that can be reached from the background without crossing an edge is its shadow.
Then `mask_refinement` classifies the regions of the mask: contrast alone cannot tell a shadow with edges, a
reflection or a swatch from an object, nor a white seat from a hole.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vondata.images.mask_refinement import refine
from vondata.images.masks import CROSS, SQUARE, close, disk, grow, regions, shrink, without_drawn_frames

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

BORDER = 0.02  # of the longest side: width of the strip that is assumed to be background
PLAIN_SHARE = 0.85  # minimum share of the strip that a plain background explains
PLAIN_NOISE = 6.0  # of 255: maximum grain of a plain background
PLAIN_MISFIT = 2.0  # of 255: maximum misfit of a plain background besides grain
GRAIN_PX = 11  # grain averages out over a square of this side
NEARLY = 30.0  # of 255: pixels within this of the border's median colour start the fit
CHROMA_WEIGHT = 0.5  # JPEG stores chroma at half the resolution, so it bleeds and locates edges less precisely
HALF = 0.45  # of the contrast inside, at an edge; a little under half, since ringing brightens the inside
RINGING_REACH = 7  # pixels around an edge that JPEG's 8 x 8 blocks disturb
RINGING_LIMITS = (0.03, 0.12)  # of the contrast nearby
SPECK = 0.002  # of the largest piece: smaller pieces are noise
SMALL = 0.01  # of the largest piece: smaller pieces are noise if they are also faint
FAINT = 4.0  # times the noise floor
COLOUR_REACH = 16  # pixels around strong colour that JPEG disturbs, as it stores chroma at half the resolution
COLOUR_RINGING = 0.16  # of the chroma contrast
SOFT = 8.0  # of 255 per pixel: the steepest shade that is not an edge
SOFT_SHARE = 0.18  # of the contrast within four pixels
# If the fitted background differs by this much of 255 from that beside the object, holes look like surfaces.
MISSED, MISFIT = 4.0, 0.9  # the latter is the factor of the agreement
MIN_EDGE = 1.0  # of 255 per pixel: the outline of an object is steeper
PASSAGE = 3  # pixels on either side of a path into the object that must be free of edges
DARKEST_SHADOW = 0.65  # maximum share of the background's brightness that a shadow removes
SHADOW_TOP = 0.66  # of the object's height: minimum depth of the middle of a shadow
VANISHING = 0.7  # reduction of the agreement for a vanishing outline as long as the square root of the area
SHADOW_COVERED = 0.35  # maximum share of a shadow that lies above parts of the object


@dataclass(frozen=True, eq=False)
class Contrast:
    """Difference of each pixel to the background, in steps of 255.

    Attributes:
        luma: (h, w) of luma alone, which JPEG keeps sharp.
        chroma: (h, w) of chroma, with its weight in the total.
        total: (h, w) of luma and chroma.
    """

    luma: Floats
    chroma: Floats
    total: Floats


@dataclass(frozen=True, eq=False)
class Background:
    """A fitted background.

    Attributes:
        colour: (h, w, 3) Y, Cr, Cb in 0..255.
        noise: its grain, as the standard deviation of the contrast.
        share: of the border strip that it explains, 0..1.
        misfit: 90th percentile of the strip's residual after averaging out grain: folds, textures, a horizon.
    """

    colour: Floats
    noise: float
    share: float
    misfit: float

    @property
    def is_plain(self) -> bool:
        """Whether the fit is good enough to segment the object by contrast."""
        return self.share >= PLAIN_SHARE and self.noise <= PLAIN_NOISE and self.misfit <= PLAIN_MISFIT

    def contrast(self, photo: Floats) -> Contrast:
        """The contrast of a photo (h, w, 3) in Y, Cr, Cb."""
        difference = photo - self.colour
        luma = np.abs(difference[..., 0])
        chroma = CHROMA_WEIGHT * np.hypot(difference[..., 1], difference[..., 2])
        return Contrast(luma, chroma, np.hypot(luma, chroma))


def luma_chroma(rgb: npt.NDArray[np.uint8]) -> Floats:
    """(h, w, 3) Y, Cr, Cb in 0..255 of an RGB photo."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2YCrCb) * 255.0, dtype=np.float32)


def border_strip(height: int, width: int, fraction: float = BORDER) -> Bools:
    """(height, width) the strip along the border, a fraction of the longest side wide but at least two pixels."""
    thickness = max(2, round(fraction * max(height, width)))
    strip = np.ones((height, width), dtype=bool)
    strip[thickness:-thickness, thickness:-thickness] = False
    return strip


def fit_background(photo: Floats) -> Background:
    """Fits a quadratic surface per channel to the border strip, with outliers removed.

    Args:
        photo: (h, w, 3) Y, Cr, Cb in 0..255.
    """
    height, width = photo.shape[:2]
    strip = border_strip(height, width)
    terms, values = _terms(height, width), photo[strip].astype(np.float64)
    at = terms[strip]
    fits = np.asarray((np.abs(values - np.median(values, axis=0)) < NEARLY).all(axis=1))
    if fits.mean() < 0.5:
        fits = np.ones_like(fits)
    for _ in range(4):
        surface = np.linalg.lstsq(at[fits], values[fits], rcond=None)[0]
        missed = np.abs(values - at @ surface)
        grain = 1.4826 * np.median(missed[fits], axis=0)
        fits = np.asarray((missed < 3.0 * grain + 2.0).all(axis=1))
        if not fits.any():
            return Background(np.zeros_like(photo), np.inf, 0.0, np.inf)
    noise = float(np.hypot(grain[0], CHROMA_WEIGHT * np.hypot(grain[1], grain[2])))
    colour = (terms @ surface).astype(np.float32)
    smooth = cv2.blur(photo - colour, (GRAIN_PX, GRAIN_PX))[strip]
    misfit = float(np.quantile(np.linalg.norm(smooth, axis=1), 0.9))
    return Background(colour, noise, float(fits.mean()), misfit)


def _terms(height: int, width: int) -> npt.NDArray[np.float64]:
    """(h, w, 6) the terms of a quadratic surface, with both coordinates from -1 to 1."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A mask and its expected accuracy.

    Attributes:
        mask: (h, w) the object.
        agreement: expected intersection over union with the true mask, 0 to 1.
    """

    mask: Bools
    agreement: float


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Contrast, and the contrast below which a pixel may be background.

    Attributes:
        contrast: of each pixel.
        floor: maximum contrast of the background's grain.
        threshold: (h, w) maximum contrast of grain and ringing together at each pixel.
    """

    contrast: Contrast
    floor: float
    threshold: Floats


def segment_plain(photo: Floats, background: Background) -> Segmentation:
    """Segments the object on a plain background.

    Args:
        photo: (h, w, 3) Y, Cr, Cb in 0..255.
        background: fitted to it.
    """
    evidence = _weigh(background.contrast(photo), background.noise)
    seen = _without_specks(_half_contrast(evidence), evidence)  # ringing in a hole would look like its rim
    mask = _fill_pale_regions(seen, evidence)
    reachable = mask & _reachable(mask, photo, background)
    shadow = _shadow(mask, reachable)
    mask = _without_specks(mask & ~shadow, evidence)
    if not mask.any():
        return Segmentation(mask, 0.0)
    closed = _close_faded(mask, _fading_rim(mask, evidence) & ~grow(shadow, SQUARE), reach=0.1 * np.sqrt(mask.sum()))
    standing_out = _without_specks(evidence.contrast.total > evidence.threshold, evidence)
    difference = photo - background.colour
    refined, agreement = refine(without_drawn_frames(closed), difference, standing_out)
    lost = _vanishing_outline(refined, evidence) / np.sqrt(max(1, int(refined.sum())))
    agreement = (agreement - VANISHING * float(lost)) * (1.0 - _soft_share(refined, difference, background.noise))
    beside = grow(refined, disk(8)) & ~grow(refined, disk(3))
    misses = float(np.median(evidence.contrast.total[beside])) if beside.any() else 0.0
    return Segmentation(refined, agreement if misses <= MISSED + 2.0 * background.noise else MISFIT * agreement)


def _soft_share(mask: Bools, difference: Floats, noise: float) -> float:
    """The share of a mask's outline without an edge, as at the border of a vignette or a light."""
    outline = mask & ~shrink(mask, CROSS)
    if not outline.any():
        return 0.0
    smooth = cv2.GaussianBlur(difference, (0, 0), 1.0)
    slopes = [cv2.Sobel(smooth, cv2.CV_32F, *along) / 8 for along in ((1, 0), (0, 1))]
    slope = np.sqrt(sum((each**2).sum(axis=2) for each in slopes))
    steepest = cv2.dilate(slope, np.ones((5, 5), dtype=np.uint8))
    return float((steepest[outline] < MIN_EDGE + 0.5 * noise).mean())


def _weigh(contrast: Contrast, noise: float) -> _Evidence:
    """Estimates the ringing around edges from the background beside the object."""
    floor = 1.5 + 3.5 * noise
    reach = np.ones((2 * RINGING_REACH + 1,) * 2, dtype=np.uint8)
    nearby = cv2.dilate(contrast.total, reach)
    certain = contrast.total > np.maximum(floor, 0.3 * nearby)
    beside = grow(certain, disk(4)) & ~grow(certain, SQUARE) & (nearby > 20.0)
    ringing = 0.06
    if np.count_nonzero(beside) > 50:
        ringing = float(np.clip(np.quantile(contrast.total[beside] / nearby[beside], 0.98), *RINGING_LIMITS))
    return _Evidence(contrast, floor, floor + np.minimum(ringing * nearby, 6.0 + floor))


def _half_contrast(evidence: _Evidence) -> Bools:
    """Pixels with more than half the contrast of their neighbours, and pale ones away from the background."""
    total = evidence.contrast.total
    visible = total > evidence.threshold
    inside = cv2.dilate(total, SQUARE)
    # Pale pixels beside a dark part are object, too, unless they lie on the edge to the background.
    mask: Bools = (visible & (total > HALF * inside)) | shrink(visible, SQUARE)
    return mask


def _fill_pale_regions(mask: Bools, evidence: _Evidence) -> Bools:
    """Adds enclosed regions that are a pale surface rather than background seen through the object.

    A hole shows the background, as bright as beside the object, up to an edge. A pale surface is a little darker in
    its middle, or its contrast rises gradually at its rim.
    """
    outside = regions(~mask)
    enclosed = (outside.areas > 0) & ~outside.at_border()
    if not enclosed.any():
        return mask
    luma = evidence.contrast.luma
    open_air = outside.select(outside.at_border())
    beside = grow(mask, disk(4)) & ~grow(mask, SQUARE) & open_air
    calm = float(luma[beside].mean()) if beside.any() else 0.0
    core = shrink(~mask, CROSS)
    middle = outside.mean(luma, core)
    middle = np.where(np.isnan(middle), outside.mean(luma, ~mask), middle)
    rim = grow(mask, CROSS) & ~mask
    fading = outside.mean(_contrast_inside(mask, evidence, 2) < 2.0 * evidence.floor + 5.0, rim)
    pale = (middle > 1.5 + 0.5 * evidence.floor + 1.2 * calm) | (fading > 0.35) | (outside.areas < 4)
    filled: Bools = mask | outside.select(np.asarray(enclosed & pale))
    return filled


def _contrast_inside(mask: Bools, evidence: _Evidence, reach: int) -> Floats:
    """(h, w) the strongest contrast of the object within `reach` pixels."""
    element = SQUARE if reach == 1 else np.ones((5, 5), dtype=np.uint8) if reach == 2 else disk(reach)
    return np.asarray(cv2.dilate(np.where(mask, evidence.contrast.total, np.float32(0)), element))


def _fading_rim(mask: Bools, evidence: _Evidence) -> Bools:
    """Background pixels along the outline where contrast rises gradually instead of at an edge."""
    rim = grow(mask, CROSS) & ~mask
    near, far = _contrast_inside(mask, evidence, 2), _contrast_inside(mask, evidence, 6)
    return grow(rim & (near < 0.5 * far) & (near < 10.0 + 3.3 * evidence.floor), SQUARE) & rim


def _vanishing_outline(mask: Bools, evidence: _Evidence) -> int:
    """The number of outline pixels where contrast rises slowly from zero: there a part of the object is lost."""
    rim = grow(mask, CROSS) & ~mask
    near, far = _contrast_inside(mask, evidence, 2), _contrast_inside(mask, evidence, 10)
    reach = np.ones((2 * COLOUR_REACH + 1,) * 2, dtype=np.uint8)
    is_echo = near < COLOUR_RINGING * cv2.dilate(evidence.contrast.chroma, reach)
    return int(np.count_nonzero(rim & (near < 0.6 * far) & (near < 8.0 + evidence.floor - 1.5) & ~is_echo))


def _close_faded(mask: Bools, fading: Bools, *, reach: float, share: float = 0.25) -> Bools:
    """Closes concavities of the outline, up to twice `reach` wide, of whose rim at least `share` is fading."""
    if not fading.any():
        return mask
    bays = regions(close(mask, max(2, round(reach))) & ~mask)
    shore = grow(mask, CROSS) & ~mask
    return mask | bays.select(bays.mean(fading, shore) >= share)


def _reachable(mask: Bools, photo: Floats, background: Background) -> Bools:
    """(h, w) pixels connected to the background through shades of its own colour, without crossing an edge."""
    difference = photo - background.colour
    darker = -difference[..., 0]
    same_colour = np.hypot(difference[..., 1], difference[..., 2]) < 3.0 + 0.12 * darker + 2.0 * background.noise
    luma = cv2.GaussianBlur(np.ascontiguousarray(photo[..., 0]), (0, 0), 0.7)
    slope = np.hypot(cv2.Scharr(luma, cv2.CV_32F, 1, 0), cv2.Scharr(luma, cv2.CV_32F, 0, 1)) / 32.0
    shade = same_colour & (darker < DARKEST_SHADOW * background.colour[..., 0])
    nearby = cv2.dilate(darker, disk(4))
    # In a shadow the slope is small compared with the contrast, at a faint edge it is large.
    gentle = slope < np.clip(SOFT_SHARE * nearby, 1.5 + background.noise, SOFT)
    free = (gentle & shade) | ~mask
    ways = regions(shrink(free, disk(PASSAGE)))
    reached: Bools = grow(ways.select(ways.at_border()), disk(PASSAGE)) & free
    return reached


def _shadow(mask: Bools, reachable: Bools) -> Bools:
    """The reachable regions at the object's foot, with little of the object below them."""
    rest = mask & ~reachable
    rows = np.flatnonzero(rest.any(axis=1))
    if not len(rows):
        return np.zeros_like(mask)
    depth = (np.arange(len(mask), dtype=np.float64)[:, None] - rows[0]) / max(1, rows[-1] - rows[0])
    has_object_below = np.flip(np.logical_or.accumulate(np.flip(rest, axis=0), axis=0), axis=0)
    found = regions(reachable)
    is_low = found.mean(np.broadcast_to(depth, mask.shape), reachable) > SHADOW_TOP
    return found.select(is_low & (found.mean(has_object_below, reachable) < SHADOW_COVERED))


def _without_specks(mask: Bools, evidence: _Evidence) -> Bools:
    """Drops pieces too small, or too small and faint, to be part of the object, and chroma ringing."""
    pieces = regions(mask, connectivity=8)
    largest = int(pieces.areas.max())
    total = evidence.contrast.total
    clear = np.zeros(len(pieces.areas), dtype=bool)
    clear[np.unique(pieces.labels[mask & (total > FAINT * evidence.floor)])] = True
    # Beyond seven pixels from strong colour, luma no longer rings, but chroma does.
    reach = np.ones((2 * COLOUR_REACH + 1,) * 2, dtype=np.uint8)
    echo = mask & (total < COLOUR_RINGING * cv2.dilate(evidence.contrast.chroma, reach))
    own = np.bincount(pieces.labels[echo], minlength=len(pieces.areas)) < 0.98 * pieces.areas
    return pieces.select(
        own & (pieces.areas >= max(4.0, SPECK * largest)) & (clear | (pieces.areas >= SMALL * largest))
    )
