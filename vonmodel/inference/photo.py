"""Photos as encoder input: the object is segmented, cut out and centred on white at the model's image size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vondata.dataset.schema import load_reason
from vondata.errors import VonError
from vondata.images.decoding import decode_mask, decode_photo
from vondata.images.masks import bounding_box, check_presence, frame_cut_out
from vondata.images.object_mask import FoundObject, find_object, object_of_mask
from vondata.images.prepare import locate_object
from vondata.images.settings import ImageSettings
from vondata.types import Rejected
from vonmodel.data.resampling import smaller_photo

MARGIN = ImageSettings().margin
MAX_SMALL_PX = 160
SMALL_PADDING_PX = 8
OUTLINE_PX = 128


class PhotoError(VonError, ValueError):
    """A photo that cannot be used: not readable, too large, or without an object that stands out."""


@dataclass(frozen=True, eq=False)
class CutPhoto:
    """The object of a photo, framed as the model's sketches and images are.

    Attributes:
        name: its name.
        image: (3, R, R) colours in [-1, 1], the object on white.
        mask: (1, R, R) fraction of the pixel that the object covers, in [0, 1].
        outline: (1, S, S) the same at the photo's own resolution, S a multiple of R.
        origin: how the object was found: alpha, plain or grabcut.
    """

    name: str
    image: Float[Tensor, "3 R R"]
    mask: Float[Tensor, "1 R R"]
    outline: Float[Tensor, "1 S S"]
    origin: str


def read_photo(path: Path, size: int, mask: Path | None = None) -> CutPhoto:
    """Reads a photo and finds its object.

    Args:
        path: an image file of any common format; its alpha channel, if any, is the mask.
        size: the model's image size.
        mask: a mask of the same size, light on the object, in place of segmentation.

    Raises:
        PhotoError: a file is not an image or too large, or no object is found in it with confidence.
    """
    try:
        found = _find(path, size) if mask is None else _find_by_mask(path, mask)
    except Rejected as error:
        raise PhotoError(_refusal(path, error)) from error
    return photo_of_object(path.stem, found, size)


def _refusal(path: Path, error: Rejected) -> str:
    """Why a photo cannot be used, with advice if no object was found."""
    detail = error.detail if error.detail.startswith(str(path)) else f"{path}: {error.detail}"
    seen = error.reason.startswith("mask_") and error.reason not in _OF_MASK_FILES
    return f"{detail} ({error.reason}); {_ADVICE if seen else load_reason(error.reason).advice}"


def photo_of_object(name: str, found: FoundObject, size: int) -> CutPhoto:
    """A photo of an object that was found, at the model's size, its outline as fine as the photo but at most 128."""
    box = bounding_box(found.mask)
    shown_px = max(box[2] - box[0], box[3] - box[1])
    finest = size * max(1, min(OUTLINE_PX, shown_px) // size)
    return photo_of_pixels(name, frame_cut_out(found.cut, box, size=finest, margin=MARGIN), size, found.origin)


def _find(path: Path, size: int) -> FoundObject:
    settings = ImageSettings(size=size)
    photo = decode_photo(path, max_pixels=settings.max_pixels, enough_px=MAX_SMALL_PX)
    if max(photo.full_size) > MAX_SMALL_PX or photo.alpha is not None:
        return locate_object(path, settings).found
    # Small pictures, such as those of VON, have too little background around the object for segmentation.
    rgb, pad = photo.rgb, (SMALL_PADDING_PX,) * 4
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    ground = tuple(float(value) for value in np.median(border, axis=0))
    return find_object(cv2.copyMakeBorder(rgb, *pad, cv2.BORDER_CONSTANT, value=ground), None)


def _find_by_mask(path: Path, mask: Path) -> FoundObject:
    max_pixels = ImageSettings().max_pixels
    solid = decode_mask(mask, max_pixels=max_pixels)
    rgb = decode_photo(path, max_pixels=max_pixels).rgb
    if solid.shape != rgb.shape[:2]:
        raise Rejected("mask_mismatch", f"the mask is {solid.shape[::-1]}, the photo {rgb.shape[1::-1]} pixels")
    check_presence(solid, 1.0)
    return object_of_mask(rgb, solid)


def photo_of_pixels(
    name: str, rgba: npt.NDArray[np.uint8], size: int | None = None, origin: str = "alpha"
) -> CutPhoto:
    """A photo of prepared pixels, the object on white and framed, alpha = mask.

    Args:
        name: its name.
        rgba: (S, S, 4), at the photo's own resolution, at least the model's size.
        size: the model's image size; that of the pixels if None.
        origin: how the object was found.
    """
    outline = torch.from_numpy(rgba[None, ..., 3].astype(np.float32) / 255.0)
    small = torch.from_numpy(smaller_photo(Image.fromarray(rgba), size or len(rgba)).astype(np.float32))
    image, mask = (small[..., :3] / 127.5 - 1.0).permute(2, 0, 1), small[None, ..., 3] / 255.0
    return CutPhoto(name, image, mask, outline, origin)


_OF_MASK_FILES = {"mask_missing", "mask_mismatch"}
_ADVICE = "a photo of one whole object on a plain ground, or a PNG with a transparent one, works best"
