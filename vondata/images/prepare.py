"""Prepares one photo: decoding, object segmentation, framing, and its manifest row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from vondata.images.decoding import DecodedPhoto, decode_label_mask, decode_photo, turned
from vondata.images.masks import (
    Box,
    bounding_box,
    check_alignment,
    check_border,
    check_filled,
    check_presence,
    edge_contrast,
    frame_cut_out,
)
from vondata.images.near_duplicates import perceptual_hash
from vondata.images.object_mask import FoundObject, find_object, object_of_mask
from vondata.images.pixels import ProfileUse
from vondata.images.segmenter import Segmenter
from vondata.images.settings import ImageSettings
from vondata.io.files import atomic_path
from vondata.types import Item, Rejected

__all__ = ["ImageSettings", "LocatedObject", "locate_object", "prepare_image"]

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Pixel = TypeVar("Pixel", np.uint8, np.float32)

MIN_WORKING_PX = 512
WORKING_PX_PER_SIZE = 4  # working resolution, in multiples of the prepared size
LOOK_CLOSER = 2.0  # an object smaller than this many times the prepared size is segmented again in a closer window
CLEARLY_BETTER = 1.15  # minimum ratio of the edge contrasts of the two orientations of a photo
BOX_AGREEMENT = 0.5  # minimum intersection over union of the annotated box and the mask's
CLOSER_BOX, SAME_BOX = 0.05, 0.9  # gain in it of another reading of a mask; minimum of readings that are tried next
MAX_LABELS = 16  # different values of a mask that holds one for each object


@dataclass(frozen=True, eq=False)
class LocatedObject:
    """An object and the position of its pixels in the photo.

    Attributes:
        found: the object, in a window of the photo that may be scaled down.
        full_size: width and height of the photo.
        scale: pixels of the photo per pixel of the mask.
        left: left edge of the mask in the photo, in pixels of the photo.
        top: top edge of the mask.
        profile_use: see `DecodedPhoto`.
        missing: see `DecodedPhoto`.
    """

    found: FoundObject
    full_size: tuple[int, int]
    scale: float
    left: float = 0.0
    top: float = 0.0
    profile_use: ProfileUse | None = None
    missing: float = 0.0

    def mask_in_photo(self) -> Bools:
        """(h, w) the object's mask at the photo's own size."""
        width, height = self.full_size
        to_photo = np.array(
            [
                [self.scale, 0.0, self.left + 0.5 * self.scale - 0.5],
                [0.0, self.scale, self.top + 0.5 * self.scale - 0.5],
            ]
        )
        soft = self.found.mask.astype(np.float32)
        return np.asarray(cv2.warpAffine(soft, to_photo, (width, height), flags=cv2.INTER_LINEAR) > 0.5)


def prepare_image(item: Item, settings: ImageSettings, output: Path) -> Mapping[str, Any]:
    """Reads a photo, finds its object and writes it as a square RGBA picture on white, alpha = mask.

    Args:
        item: of `pix3d_items` (photo and mask) or `photo_items` (photo only).
        settings: of the preparation.
        output: the PNG to write.

    Returns:
        values for the manifest's columns.

    Raises:
        Rejected: the photo or its mask cannot be used.
    """
    placed = _annotated(item, settings) if len(item.inputs) == 2 else locate_object(Path(item.inputs[0]), settings)
    box = bounding_box(placed.found.mask)
    picture = frame_cut_out(placed.found.cut, box, size=settings.size, margin=settings.margin)
    with atomic_path(output) as temporary:
        Image.fromarray(picture).save(temporary, "PNG")
    return {**_measured(placed, box), "phash": perceptual_hash(picture), **_viewpoint(item)}


def _measured(placed: LocatedObject, box: Box) -> dict[str, Any]:
    (width, height), found, scale = placed.full_size, placed.found, placed.scale
    left, top, right, bottom = box
    return {
        "width_px": width,
        "height_px": height,
        "box_left_px": round(placed.left + scale * left),
        "box_top_px": round(placed.top + scale * top),
        "box_width_px": round(scale * (right - left)),
        "box_height_px": round(scale * (bottom - top)),
        "colour_profile": placed.profile_use,
        "missing_share": placed.missing,
        "mask_origin": found.origin,
        "mask_coverage": float(found.mask.sum()) * scale**2 / (width * height),
        "mask_pieces": found.quality.pieces,
        "mask_scatter": found.quality.scatter,
        "mask_agreement": found.quality.agreement,
    }


def _viewpoint(item: Item) -> dict[str, Any]:
    known = {name: item.fields.get(name) for name in ("azimuth_deg", "elevation_deg", "roll_deg")}
    return {**known, "viewpoint_origin": "none" if known["azimuth_deg"] is None else "annotated"}


def locate_object(source: Path, settings: ImageSettings) -> LocatedObject:
    """Finds the object of a photo that comes without a mask.

    It is segmented on a small copy of the photo, and again in a closer window if that increases the resolution.

    Raises:
        Rejected: the photo cannot be read, or no object is found that can be trusted.
    """
    working_px = _working_px(settings)
    photo = decode_photo(
        source,
        max_pixels=settings.max_pixels,
        enough_px=2 * working_px,
        keep_incomplete=settings.keep_incomplete,
    )
    height, width = photo.rgb.shape[:2]
    segmenter = settings.open_segmenter()
    first = _find_in_window(photo, (0, 0, width, height), working_px, segmenter)
    box = bounding_box(first.found.mask)
    longest = max(box[2] - box[0], box[3] - box[1])
    decoded_scale = photo.full_size[0] / width
    if longest >= LOOK_CLOSER * settings.size or first.scale <= 1.01 * decoded_scale:
        return first
    around = _grown([round(edge * first.scale / decoded_scale) for edge in box], 0.3, width, height)
    try:
        return _find_in_window(photo, around, working_px, segmenter)
    except Rejected:  # in the closer window something else may fill the border: the first result is kept
        return first


def _find_in_window(photo: DecodedPhoto, window: Box, working_px: int, segmenter: Segmenter | None) -> LocatedObject:
    """Finds the object in a window of the photo, scaled down to the working resolution."""
    left, top, right, bottom = window
    rgb, alpha = photo.rgb[top:bottom, left:right], None
    if photo.alpha is None:
        rgb = _shrunk(rgb, working_px)
    else:
        rgb, alpha = _shrunk_with_alpha(rgb, photo.alpha[top:bottom, left:right], working_px)
    decoded_scale = photo.full_size[0] / photo.rgb.shape[1]
    scale = decoded_scale * (right - left) / rgb.shape[1]
    found = find_object(rgb, alpha, scale, segmenter)
    return LocatedObject(
        found, photo.full_size, scale, decoded_scale * left, decoded_scale * top, photo.profile_use, photo.missing
    )


def _annotated(item: Item, settings: ImageSettings) -> LocatedObject:
    """Takes the object from its annotated mask."""
    readings = _mask_readings(*decode_label_mask(Path(item.inputs[1]), max_pixels=settings.max_pixels), item.fields)
    photo = decode_photo(Path(item.inputs[0]), max_pixels=settings.max_pixels, upright=False)
    photo, mask = _first_fitting(readings, photo, item.fields)
    height, width = mask.shape
    box = bounding_box(mask)
    left, top, right, bottom = _grown(box, 0.1, width, height)
    rgb = _shrunk(photo.rgb[top:bottom, left:right], _working_px(settings))
    share = _shrunk(mask[top:bottom, left:right].astype(np.uint8) * 255, _working_px(settings))
    scale = (right - left) / rgb.shape[1]
    found = object_of_mask(rgb, share > 127)
    return LocatedObject(found, photo.full_size, scale, left, top, photo.profile_use)


def _mask_readings(solid: Bools, labels: npt.NDArray[np.generic], fields: Mapping[str, Any]) -> list[Bools]:
    """The masks (h, w) that a stored one may mean, the likeliest first.

    It is the bright part. In some masks the object is black, and in some it is one of several values, each of another
    object: such a reading comes first if its box is clearly closer to the annotated one, and is otherwise only tried
    if its box is that one.
    """
    values = _few_values(labels)
    candidates = [solid, ~solid, *(labels == each for each in values if len(values) > 2)]
    scores = [_box_agreement(fields["bbox"], bounding_box(each)) if each.any() else 0.0 for each in candidates]
    best = max(scores)
    first = scores.index(best) if best > max(scores[0] + CLOSER_BOX, BOX_AGREEMENT) else 0
    others = [number for number, score in enumerate(scores) if number != first and score >= SAME_BOX]
    return [candidates[number] for number in (first, *sorted(others, key=lambda number: -scores[number]))]


def _few_values(labels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The values of a label map; none for more than `MAX_LABELS`."""
    some = np.unique(labels[:: max(1, labels.shape[0] // 64)])
    values = np.unique(labels) if len(some) <= MAX_LABELS else some
    return values if len(values) <= MAX_LABELS else values[:0]


def _first_fitting(
    readings: Sequence[Bools], photo: DecodedPhoto, fields: Mapping[str, Any]
) -> tuple[DecodedPhoto, Bools]:
    """The first reading of the mask that passes all checks, and the photo as that mask was drawn on it.

    Raises:
        Rejected: none does; the reason is that of the first.
    """
    rejections = list[Rejected]()
    for reading in readings:
        try:
            return _checked(photo, reading, fields), reading
        except Rejected as error:
            rejections.append(error)
    raise rejections[0]


def _checked(photo: DecodedPhoto, mask: Bools, fields: Mapping[str, Any]) -> DecodedPhoto:
    """The photo as the mask was drawn on it.

    Raises:
        Rejected: the mask cannot be that of the annotated object.
    """
    photo = _matching_photo(photo, mask)
    height, width = mask.shape
    check_presence(mask, 1.0)
    if not fields["truncated"]:
        check_border(mask, trimmed=False)
    _check_annotation(fields, bounding_box(mask), width, height)
    check_filled(mask)
    check_alignment(photo.rgb, mask)
    return photo


def _matching_photo(photo: DecodedPhoto, mask: Bools) -> DecodedPhoto:
    """The photo as stored or with its EXIF orientation applied, whichever the mask was drawn on.

    Raises:
        Rejected: mask_mismatch: neither has the mask's size, or the mask fits both equally well.
    """
    readings = [photo]
    if photo.orientation > 1:
        size = photo.full_size[::-1] if photo.orientation >= 5 else photo.full_size
        readings.append(replace(photo, rgb=turned(photo.rgb, photo.orientation), full_size=size))
    fitting = [each for each in readings if each.rgb.shape[:2] == mask.shape]
    if not fitting:
        height, width = mask.shape
        raise Rejected(
            "mask_mismatch", f"the mask is {width} x {height}, the photo {photo.full_size[0]} x {photo.full_size[1]}"
        )
    if len(fitting) == 1:
        return fitting[0]
    stored, upright = (edge_contrast(each.rgb, mask) for each in fitting)
    if max(stored, upright) < CLEARLY_BETTER * min(stored, upright):
        raise Rejected("mask_mismatch", "the mask fits the photo equally well with and without its EXIF orientation")
    return fitting[0] if stored > upright else fitting[1]


def _check_annotation(fields: Mapping[str, Any], box: Box, width: int, height: int) -> None:
    """Checks that size and box of the annotation match the photo and its mask."""
    if tuple(fields["img_size"]) != (width, height):
        raise Rejected("annotation_invalid", f"img_size is {fields['img_size']}, the photo is {width} x {height}")
    if _box_agreement(fields["bbox"], box) < BOX_AGREEMENT:
        raise Rejected("annotation_invalid", f"bbox {fields['bbox']} is not the mask's, {list(box)}")


def _box_agreement(bbox: Sequence[float], box: Box) -> float:
    """Intersection over union of an annotated box, whose right and bottom are inclusive, and a mask's box."""
    left, top, right, bottom = (float(value) for value in bbox)
    inner = max(0.0, min(right + 1, box[2]) - max(left, box[0])) * max(
        0.0, min(bottom + 1, box[3]) - max(top, box[1])
    )
    outer = (right + 1 - left) * (bottom + 1 - top) + (box[2] - box[0]) * (box[3] - box[1]) - inner
    return inner / outer


def _working_px(settings: ImageSettings) -> int:
    return max(MIN_WORKING_PX, WORKING_PX_PER_SIZE * settings.size)


def _grown(box: Sequence[int], share: float, width: int, height: int) -> Box:
    """A box enlarged on every side by a share of its longer side, at least 8 pixels, clipped to the photo."""
    left, top, right, bottom = box
    grow = max(8, round(share * max(right - left, bottom - top)))
    return max(0, left - grow), max(0, top - grow), min(width, right + grow), min(height, bottom + grow)


def _shrunk_with_alpha(rgb: Bytes, alpha: Bytes, longest_px: int) -> tuple[Bytes, Bytes]:
    """Downscales colours weighted by opacity, so that no colour of transparent pixels leaks in."""
    if max(alpha.shape) <= longest_px:
        return np.ascontiguousarray(rgb), np.ascontiguousarray(alpha)
    weight = alpha.astype(np.float32)[..., None] + np.float32(1e-3)
    total = _shrunk(np.dstack([rgb * weight, weight]), longest_px)
    return (total[..., :3] / total[..., 3:] + 0.5).astype(np.uint8), (total[..., 3] + 0.5).astype(np.uint8)


def _shrunk(image: npt.NDArray[Pixel], longest_px: int) -> npt.NDArray[Pixel]:
    """An image (h, w) or (h, w, c), downscaled by averaging to at most this many pixels on its longest side."""
    height, width = image.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1.0:
        return np.ascontiguousarray(image)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=image.dtype)
