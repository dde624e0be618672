"""Object segmentation of photos: by the alpha channel, by a plain background, else by GrabCut or a network.

GrabCut is seeded by each pixel's difference to the photo's border. The border is described by the colours left and
right in the same row and by a handful of cluster colours; darker copies of them count as shadow. GrabCut runs on a
small copy of the photo, since its time grows with the number of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from vondata.images.masks import (
    RECTANGLE,
    SAME_COLOUR,
    SQUARE,
    Box,
    CutOut,
    MaskQuality,
    Regions,
    bounding_box,
    check_border,
    check_presence,
    check_trust,
    cut_out,
    disk,
    framed_picture,
    grow,
    inside_of_band,
    inside_of_bars,
    measure_quality,
    overlap,
    regions,
    shrink,
)
from vondata.images.plain_background import (
    Background,
    Segmentation,
    border_strip,
    fit_background,
    luma_chroma,
    segment_plain,
)
from vondata.images.segmenter import Segmenter
from vondata.types import Rejected

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

SIDE_PX = 224  # longest side of the copy
ITERATIONS = 3
BORDER_COLOURS = 8
SHADOW_DEPTH = 0.5  # a shadow leaves at least this share of the brightness
SHADOW_COST = 0.3  # share of the darkening that still counts as difference
LIGHTNESS_WEIGHT = 0.6
SURE = 1.5  # times the threshold: certainly object
SPECK = 0.01  # of the largest piece
SEED = 1


def segment_by_grabcut(rgb: Bytes) -> Segmentation:
    """Segments the object on any background with GrabCut.

    The agreement is the overlap with the part of the seed that differs clearly from the border.

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
    """(h, w) distance in CIE Lab to the nearest border colour, lit or in shadow."""
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
    """(h, w) distance to a background (h, w, 3) or (3,); darker copies of the background are nearly as close."""
    lightness = background[..., 0]
    darkening = np.clip(lab[..., 0] / np.maximum(lightness, 1.0), SHADOW_DEPTH, 1.0)
    beyond = LIGHTNESS_WEIGHT * (lab[..., 0] - darkening * lightness)
    colour = np.hypot(lab[..., 1] - darkening * background[..., 1], lab[..., 2] - darkening * background[..., 2])
    shadow = SHADOW_COST * lightness * (1.0 - darkening)
    return np.asarray(np.sqrt(beyond**2 + colour**2 + shadow**2), dtype=np.float32)


def _otsu(difference: Floats) -> float:
    """Otsu's threshold of the differences; at least 2, which is invisible."""
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


MaskOrigin = Literal["annotated", "alpha", "plain", "grabcut", "segmenter"]

OPAQUE = 250  # of 255
MIN_OPACITY = 16  # of 255: less opaque pixels count as empty
EDGE_PX = 2  # maximum half width of a soft edge
UNEVEN, DARK, SHADOW_TOP = 0.2, 70.0, 0.6  # a shadow in the alpha channel: its spread, brightness, and height
MIN_EFFECT, EFFECT_COLOUR = (
    0.02,
    0.7,
)  # area of a shadow or glow relative to the largest; share of its pixels of one colour
MAX_EFFECTS = 24  # only so many of the largest regions are examined
OUTSIDE = 0.2  # minimum share of the outline of a shadow or glow of one colour that borders on nothing
FADED = 0.5  # minimum share of a faded layer's pixels that are nearly as opaque as its most opaque one
STRAY = 0.05  # of the object's longer side: pieces of a cut-out farther from its largest piece are cut off
FLAT, FLAT_RIM = 4, 0.95  # of 255, and share of the pixels along a crop's edge that have one colour
MIN_TRANSPARENT, MAX_TRANSPARENT = 0.02, 0.999  # share of transparent pixels of an alpha channel that is used
PLAIN_AGREEMENT, GRABCUT_AGREEMENT, NETWORK_AGREEMENT = 0.86, 0.8, 0.8
DOUBTFUL = ("mask_empty", "mask_in_pieces", "mask_uncertain")  # rejections after which the network is tried
NETWORK_SPECK = 0.01  # of the largest piece
SHARP = 0.3  # values of a network's map between this and 1 - this are undecided
FLAT_SHARE, MAX_FLAT_COLOURS = 0.9, 3  # share of the border's pixels that have one of at most so many colours
RIM_SHARE = 0.7  # maximum opaque share of the border if an alpha channel outlines an object
MIN_NOTCHES = 0.05  # minimum share of pixels in notches of a cut-out that fills its box
SMOOTH_SHARE = 0.8  # of the border explained by one surface: below, contrast to that surface is meaningless


@dataclass(frozen=True, eq=False)
class FoundObject:
    """The object of a photo.

    Attributes:
        mask: (h, w) the object.
        cut: its colours and soft mask.
        origin: how it was found.
        quality: numbers for the manifest.
    """

    mask: Bools
    cut: CutOut
    origin: MaskOrigin
    quality: MaskQuality


def find_object(
    rgb: Bytes, alpha: Bytes | None, scale: float = 1.0, segmenter: Segmenter | None = None
) -> FoundObject:
    """Finds the object of a photo that comes without a mask.

    Args:
        rgb: (h, w, 3) sRGB.
        alpha: (h, w) opacity of the file, if it has any.
        scale: pixels of the original photo per pixel of this one.
        segmenter: is used instead of GrabCut, and where contrast to a plain background leaves doubts.

    Raises:
        Rejected: no object is found, or none that can be trusted: one of the mask_ reasons.
    """
    if alpha is not None and is_telling(alpha, rgb):
        return _object_of_alpha(rgb, _unfaded(alpha), scale, segmenter)
    if alpha is not None and (alpha.min() < alpha.max() or not alpha.any()):  # some pixels may be transparent
        rgb = _on_white(rgb, alpha)
    if (box := inside_of_bars(rgb) or inside_of_band(rgb)) is not None:
        return _found_inside(box, rgb, scale, segmenter)
    photo = luma_chroma(rgb)
    background = fit_background(photo)
    reading = segment_plain(photo, background)
    if background.is_plain and (box := framed_picture(rgb, reading.mask)) is not None:
        return _found_inside(box, rgb, scale, segmenter)
    if background.is_plain:
        try:
            quality = _checked(reading, scale, PLAIN_AGREEMENT)
            return FoundObject(reading.mask, cut_out(rgb, reading.mask, _rgb_of(background)), "plain", quality)
        except Rejected as verdict:
            if segmenter is None or verdict.reason not in DOUBTFUL:
                raise
    if segmenter is not None:
        return _object_of_network(rgb, segmenter(rgb), scale)
    seeded = segment_by_grabcut(rgb)
    if (flat := _other_than_flat_grounds(rgb)) is not None:
        seeded = replace(seeded, agreement=min(seeded.agreement, overlap(seeded.mask, flat)))
    if background.share >= SMOOTH_SHARE:  # then contrast to the fitted surface is informative, too
        seeded = replace(seeded, agreement=min(seeded.agreement, overlap(seeded.mask, reading.mask)))
    quality = _checked(seeded, scale, GRABCUT_AGREEMENT)
    return FoundObject(seeded.mask, cut_out(rgb, seeded.mask), "grabcut", quality)


def _other_than_flat_grounds(rgb: Bytes) -> Bools | None:
    """(h, w) pixels with none of the few flat colours that the border consists of; None if it has many.

    Examples are a wall with a floor, and the checkerboard that stands for transparency.
    """
    height, width = rgb.shape[:2]
    rim = rgb[border_strip(height, width)].astype(np.int16)
    colours, left = list[npt.NDArray[np.float64]](), np.ones(len(rim), dtype=bool)
    while left.mean() > 1.0 - FLAT_SHARE and len(colours) < MAX_FLAT_COLOURS:
        samples = rim[left][:: max(1, int(left.sum()) // 16)]
        shares = [(np.abs(rim[left] - each) <= SAME_COLOUR).all(axis=1).mean() for each in samples]
        colours.append(samples[int(np.argmax(shares))].astype(np.float64))
        left &= (np.abs(rim - colours[-1]) > SAME_COLOUR).any(axis=1)
    if left.mean() > 1.0 - FLAT_SHARE:
        return None
    other = np.logical_and.reduce([(np.abs(rgb - each) > SAME_COLOUR).any(axis=2) for each in colours])
    other = shrink(grow(other, SQUARE), SQUARE)
    pieces = regions(other, connectivity=8)
    return pieces.select(pieces.areas >= NETWORK_SPECK * pieces.areas.max())


def _found_inside(box: Box, rgb: Bytes, scale: float, segmenter: Segmenter | None) -> FoundObject:
    """Finds the object in a part of a photo, the inside of a frame.

    Raises:
        Rejected: as `find_object`.
    """
    left, top, right, bottom = box
    around = ((top, rgb.shape[0] - bottom), (left, rgb.shape[1] - right))
    try:
        found = find_object(np.ascontiguousarray(rgb[top:bottom, left:right]), None, scale, segmenter)
    except Rejected as verdict:
        verdict.mask = None if verdict.mask is None else np.pad(verdict.mask, around)
        raise
    cut = CutOut(np.pad(found.cut.rgb, (*around, (0, 0)), mode="edge"), np.pad(found.cut.alpha, around))
    return replace(found, mask=np.pad(found.mask, around), cut=cut)


def _checked(found: Segmentation, scale: float, min_agreement: float) -> MaskQuality:
    """The quality of a segmented mask.

    Raises:
        Rejected: it is not good enough.
    """
    with _refusing(found.mask):
        check_presence(found.mask, scale)
        check_border(found.mask, trimmed=False)
        quality = measure_quality(found.mask, found.agreement)
        check_trust(quality, min_agreement=min_agreement)
    return quality


@contextmanager
def _refusing(mask: Bools) -> Iterator[None]:
    """Attaches the mask to a rejection raised in the block."""
    try:
        yield
    except Rejected as verdict:
        verdict.mask = mask
        raise


def _object_of_network(rgb: Bytes, share: Floats, scale: float) -> FoundObject:
    """The object in a network's map (h, w); the sharpness of the map determines the agreement."""
    pieces = regions(share > 0.5, connectivity=8)
    mask = pieces.select(pieces.areas >= max(4.0, NETWORK_SPECK * pieces.areas.max()))
    narrow, wide = (share > 1.0 - SHARP) & mask, (share > SHARP) & (mask | (share <= 0.5))
    agreement = min(overlap(mask, narrow), overlap(mask, wide))
    quality = _checked(Segmentation(mask, agreement), scale, NETWORK_AGREEMENT)
    return FoundObject(mask, cut_out(rgb, mask), "segmenter", quality)


def object_of_mask(rgb: Bytes, mask: Bools) -> FoundObject:
    """The object of a photo (h, w, 3) that comes with a mask (h, w)."""
    return FoundObject(mask, cut_out(rgb, mask), "annotated", measure_quality(mask))


def is_telling(alpha: Bytes, rgb: Bytes | None = None) -> bool:
    """Whether an alpha channel (h, w) outlines an object.

    An empty, unused, uniform or inverted one does not, nor one that only rounds corners or fades a photo out.

    Args:
        alpha: the opacity.
        rgb: (h, w, 3) the colours, by which a cut-out that nearly fills its box is recognised.
    """
    transparent = float((alpha < OPAQUE).mean())
    rim = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    if transparent < MIN_TRANSPARENT:
        return False
    if (rim >= MIN_OPACITY).mean() > RIM_SHARE:
        return rgb is not None and _is_trimmed(alpha, rgb)
    return transparent <= MAX_TRANSPARENT or not (alpha >= OPAQUE).any()


def _is_trimmed(alpha: Bytes, rgb: Bytes) -> bool:
    """Whether a cut-out fills its box but for notches, such as that between a chair's legs, of one colour below.

    What hides more colours is an inverted mask; what is transparent in corners alone has been rounded.
    """
    nothing = alpha < MIN_OPACITY
    found = regions(nothing)
    corners = found.labels[[0, 0, -1, -1], [0, -1, 0, -1]]
    notches = found.at_border() & ~np.isin(np.arange(len(found.areas)), corners)
    if not nothing.any() or found.areas[notches].sum() < MIN_NOTCHES * alpha.size:
        return False
    return bool((np.ptp(rgb[nothing], axis=0) <= SAME_COLOUR).all())


def _unfaded(alpha: Bytes) -> Bytes:
    """The opacity without that of the whole layer: of an object that is evenly half-transparent, or of 0 and 1."""
    highest = int(alpha.max())
    if highest >= OPAQUE or (alpha[alpha > 0] > 0.9 * highest).mean() < FADED:
        return alpha
    return np.asarray(alpha * np.float32(255 / highest) + np.float32(0.5), dtype=np.uint8)


def _object_of_alpha(rgb: Bytes, alpha: Bytes, scale: float, segmenter: Segmenter | None) -> FoundObject:
    """The object that an alpha channel outlines, or that lies in the crop of a photo which it outlines.

    Raises:
        Rejected: it is too small, cut or in pieces; or as `find_object` for a crop.
    """
    parts, shadow = _half_transparent(rgb, alpha)
    mask = ((alpha >= 128) | parts) & ~shadow
    with _refusing(mask):
        check_presence(mask, scale)
    if (found := _object_of_crop(rgb, mask, scale, segmenter)) is not None:
        return found
    stray = _stray_pieces(mask)
    with _refusing(mask):
        check_border(mask & ~stray, trimmed=True)
        quality = measure_quality(mask)
        check_trust(quality, min_agreement=0.0)
    mask &= ~stray
    soft = np.where(shadow | grow(stray, disk(2 * EDGE_PX)) & ~mask, np.float32(0), alpha / np.float32(255))
    # Transparent pixels and soft edges may store any colour: there the object's own colours are extrapolated.
    inner = cut_out(rgb, mask)
    own = (alpha >= OPAQUE) | parts
    colours = np.where(own[..., None], rgb.astype(np.float32), inner.rgb)
    return FoundObject(mask, CutOut(colours, soft), "alpha", measure_quality(mask))


def _stray_pieces(mask: Bools) -> Bools:
    """(h, w) the pieces that do not lie beside the largest one, such as a logo."""
    pieces = regions(mask, connectivity=8)
    left, top, width, height = (int(each) for each in pieces.boxes[int(pieces.areas.argmax())])
    reach = STRAY * max(width, height)
    begins, ends = pieces.boxes[:, :2], pieces.boxes[:, :2] + pieces.boxes[:, 2:]
    apart = (ends < np.array([left, top]) - reach) | (begins > np.array([left + width, top + height]) + reach)
    return pieces.select(np.asarray(apart.any(axis=1)))


def _object_of_crop(rgb: Bytes, mask: Bools, scale: float, segmenter: Segmenter | None) -> FoundObject | None:
    """The object of a photo of which the opaque pixels are a crop with its background; None if they are the object.

    They are a crop if they fill an upright rectangle, as in a photo with transparent margins, or if their rim is
    evenly white, as in a photo cut to a disk and in a sticker.

    Raises:
        Rejected: as `find_object`, for a rectangle.
    """
    left, top, right, bottom = box = bounding_box(mask)
    rim = shrink(mask, disk(EDGE_PX)) & ~shrink(mask, disk(2 * EDGE_PX + 1))
    if not rim.any() or mask.all():
        return None
    ground = np.median(rgb[rim], axis=0)
    is_flat = (np.abs(rgb[rim] - ground) <= FLAT).all(axis=1).mean() >= FLAT_RIM
    is_rectangle = mask[top:bottom, left:right].mean() >= RECTANGLE
    is_white = (rgb[rim] >= OPAQUE).all(axis=1).mean() >= FLAT_RIM
    if not is_rectangle and not is_white:
        return None
    inner = shrink(mask, disk(EDGE_PX))
    try:
        return _found_inside(
            box,
            np.where(inner[..., None], rgb, ground.astype(np.uint8)) if is_flat or is_white else rgb,
            scale,
            segmenter,
        )
    except Rejected as error:
        if is_rectangle and error.reason != "mask_empty":
            raise
        return None  # an object of one colour may itself be a rectangle


def _half_transparent(rgb: Bytes, alpha: Bytes) -> tuple[Bools, Bools]:
    """(h, w) the half-transparent parts of an object, such as glass, and the shadows and glows that some files have.

    A shadow is black or grey, of uneven opacity and low in the picture. A shadow or glow elsewhere has one colour, as
    programs draw it, and fades out where there is no object.
    """
    half = (alpha >= MIN_OPACITY) & (alpha < OPAQUE)
    wide = grow(shrink(half, disk(EDGE_PX)), disk(2 * EDGE_PX)) & half  # a soft edge is narrower
    if not wide.any():
        return wide, wide
    _, top, _, bottom = bounding_box(alpha >= MIN_OPACITY)
    found = regions(wide, connectivity=8)
    depth = (np.arange(len(alpha), dtype=np.float64)[:, None] - top) / max(1, bottom - top)
    opacity = alpha.astype(np.float64)
    mean = found.mean(opacity, wide)
    uneven = np.sqrt(np.maximum(found.mean(opacity**2, wide) - mean**2, 0.0)) > UNEVEN * np.maximum(mean, 1.0)
    is_dark = found.mean(rgb.max(axis=2), wide) < DARK
    is_low = found.mean(np.broadcast_to(depth, alpha.shape), wide) > SHADOW_TOP
    is_shadow = uneven & ((is_dark & is_low) | _is_effect(found, rgb, alpha)) & (alpha >= OPAQUE).any()
    parts, dark = found.select(~is_shadow), found.select(is_shadow)
    faint = regions((alpha > 0) & (alpha < OPAQUE) & ~parts, connectivity=8)
    beside = np.zeros(len(faint.areas), dtype=bool)
    beside[np.unique(faint.labels[dark])] = True
    return parts, faint.select(beside) & ~grow(alpha >= OPAQUE, SQUARE)


def _is_effect(found: Regions, rgb: Bytes, alpha: Bytes) -> Bools:
    """(n + 1,) whether a half-transparent region has one colour and borders on nothing, or has the same colour."""
    nothing = grow(alpha < MIN_OPACITY, SQUARE)
    is_effect, even = np.zeros(len(found.areas), dtype=bool), dict[int, npt.NDArray[np.float64]]()
    large = np.flatnonzero(found.areas >= MIN_EFFECT * max(1, int(found.areas.max())))
    for number in large[np.argsort(-found.areas[large], kind="stable")][:MAX_EFFECTS]:
        region = found.labels == number
        colour = np.median(rgb[region], axis=0)
        if (np.abs(rgb[region] - colour) <= SAME_COLOUR).all(axis=1).mean() >= EFFECT_COLOUR:
            even[int(number)] = colour
            is_effect[number] = nothing[region & grow(~region, SQUARE)].mean() >= OUTSIDE
    known = [colour for each, colour in even.items() if is_effect[each]]
    for each, colour in even.items():  # seen through holes of the object
        is_effect[each] |= any((np.abs(colour - other) <= FLAT).all() for other in known)
    return is_effect


def _on_white(rgb: Bytes, alpha: Bytes) -> Bytes:
    opacity = alpha[..., None].astype(np.float32) / 255.0
    return np.asarray(rgb * opacity + 255.0 * (1.0 - opacity) + 0.5, dtype=np.uint8)


def _rgb_of(background: Background) -> Floats:
    """(h, w, 3) the fitted background in RGB, 0..255."""
    rgb = cv2.cvtColor(background.colour / np.float32(255), cv2.COLOR_YCrCb2RGB)
    return np.asarray(np.clip(rgb * np.float32(255), 0, 255), dtype=np.float32)
