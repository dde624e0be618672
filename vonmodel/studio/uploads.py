"""Photos uploaded to the studio: segmentation, framing, texture codes, and reconstruction as a background job."""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from vondata.errors import VonError
from vondata.images.decoding import decode_mask, decode_photo
from vondata.images.masks import check_presence, regions
from vondata.images.object_mask import FoundObject, object_of_mask
from vondata.images.prepare import locate_object
from vondata.images.settings import ImageSettings
from vondata.types import Rejected
from vonmodel.inference.photo import CutPhoto, photo_of_object
from vonmodel.inference.session import ModelSession
from vonmodel.mesh import png_bytes, to_pixels
from vonmodel.reconstruction.reconstruct import CancelledError, Phase, Reconstruction, Reconstructor
from vonmodel.studio.scheduler import BackgroundTask, BusyError
from vonmodel.studio.view_request import ViewRequestError, encode_code, store_shape

logger = logging.getLogger(__name__)

MAX_PHOTO_BYTES = 20 * 2**20
MAX_PHOTO_PIXELS = 50_000_000
MAX_PHOTOS = 16
MAX_UPLOADS = 8
BOX_WORKING_PX = 640
BOX_ITERATIONS = 6
SIMILAR_SHAPES = 6
SIMILAR_AZIMUTHS = 8
# Colours of the pieces of a refused photo's mask, the largest first, half transparent.
PIECE_COLOURS = tuple((*rgb, 128) for rgb in ((240, 146, 106), (64, 140, 220), (120, 190, 90), (190, 100, 210)))
MIN_SIMILARITY = 0.6
"""IoU with the most similar silhouette of a few generated shapes, below which a photo may show another class."""
Pixels = npt.NDArray[np.uint8]


class UnknownPhotoError(VonError, KeyError):
    """A photo that was never uploaded, or too long ago."""

    http_status = 404

    def __str__(self) -> str:
        return "this photo is not here any more; drop it again"


@dataclass(frozen=True)
class Upload:
    """An upload: a photo, and optionally a mask or box of its object.

    Attributes:
        content: bytes of the photo's file, by which its format is recognised.
        mask: bytes of a mask's file of the same size, light on the object; None without.
        box: left, top, right, bottom around the object, as fractions of width and height; None without.
    """

    content: bytes
    mask: bytes | None = None
    box: tuple[float, float, float, float] | None = None

    @property
    def key(self) -> str:
        """Hash of the upload."""
        digest = hashlib.blake2b(self.content, digest_size=12)
        if self.mask is not None or self.box is not None:
            digest.update(b"|" + (self.mask or b"") + repr(self.box).encode())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class UploadedPhoto:
    """A segmented photo.

    Attributes:
        key: hash of the upload.
        rgba: (R, R, 4) its object at the model's image size, on white, alpha = mask.
        cut: the same for the encoders.
    """

    key: str
    rgba: Pixels
    cut: CutPhoto


class Uploads:
    """Counts the uploads in progress, whose bytes are held in memory."""

    def __init__(self, limit: int = MAX_UPLOADS) -> None:
        self._limit, self._running = limit, 0

    def begin(self) -> None:
        """Counts one more.

        Raises:
            BusyError: too many are in progress.
        """
        if self._running >= self._limit:
            raise BusyError(f"{self._running} photos are being uploaded already; try again in a moment")
        self._running += 1

    def end(self) -> None:
        """Counts one less."""
        self._running -= 1


class PhotoCache:
    """A least-recently-used cache of segmented photos."""

    def __init__(self) -> None:
        self._photos: OrderedDict[tuple[str, int], UploadedPhoto] = OrderedDict()

    def take(self, upload: Upload, size: int) -> UploadedPhoto:
        """Segments a photo.

        Args:
            upload: the photo, with a mask or box if the page gave one.
            size: image size of the model in pixels.

        Raises:
            Rejected: it is not a photo, too large, or no object is found in it.
        """
        key = (upload.key, size)
        if key not in self._photos:
            self._photos[key] = _segment(upload, size)
        self._photos.move_to_end(key)
        while len(self._photos) > MAX_PHOTOS:
            self._photos.popitem(last=False)
        return self._photos[key]

    def find(self, key: str, size: int) -> UploadedPhoto:
        """A photo by its key.

        Raises:
            UnknownPhotoError: it is not in the cache.
        """
        try:
            return self._photos[key, size]
        except KeyError as error:
            raise UnknownPhotoError(f"the photo {key!r} is no longer here: drop it on the page again") from error


@dataclass(frozen=True)
class PhotoTexture:
    """The response to an uploaded photo.

    Attributes:
        photo: its key in the cache.
        texture: its texture code as written in a link.
        picture: its segmented object at the model's image size, a PNG as data URL.
        mask_origin: how the object was found.
        warning: a sentence if the object does not look like one of the model's class; "" otherwise.
    """

    photo: str
    texture: str
    picture: str
    mask_origin: str
    warning: str


def read_texture(session: ModelSession, photos: PhotoCache, upload: Upload) -> PhotoTexture:
    """Segments a photo and encodes its texture; errors as `PhotoCache.take`."""
    photo = photos.take(upload, session.config.image_size)
    texture = session.encode_texture(photo.cut.image)
    warning = _class_warning(session, photo.cut)
    return PhotoTexture(photo.key, encode_code(texture), _data_url(photo.rgba), photo.cut.origin, warning)


def similarity(session: ModelSession, photo: CutPhoto) -> float:
    """The highest IoU of the photo's mask with the silhouettes of a few generated shapes, seen from all around."""
    shapes = session.shapes(range(SIMILAR_SHAPES))
    elevation = float(np.median(session.viewpoints(32, 0)[:, 1]))
    around = np.linspace(0.0, 2.0 * np.pi, SIMILAR_AZIMUTHS, endpoint=False)
    viewpoints = np.array([(azimuth, elevation) for _ in shapes for azimuth in around])
    repeated = [shape for shape in shapes for _ in around]
    silhouettes = session.sketches(repeated, viewpoints).silhouette[:, 0].cpu() > 0.5
    mask = photo.mask[0] > 0.5
    both, either = (silhouettes & mask).sum((1, 2)), (silhouettes | mask).sum((1, 2))
    return float((both / either.clamp(min=1)).max())


def parse_box(text: str) -> tuple[float, float, float, float] | None:
    """A box of four fractions, comma-separated; None if the text is empty.

    Raises:
        ViewRequestError: it is not four fractions in [0, 1] in the order left, top, right, bottom.
    """
    if not text:
        return None
    try:
        left, top, right, bottom = (float(each) for each in text[:100].split(","))
    except ValueError as error:
        raise ViewRequestError(f"box={text[:40]} is not four numbers: left,top,right,bottom") from error
    if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
        raise ViewRequestError(f"box={text[:40]} is not a box inside the photo, in fractions of its width and height")
    return left, top, right, bottom


def _class_warning(session: ModelSession, photo: CutPhoto) -> str:
    found = similarity(session, photo)
    if found >= MIN_SIMILARITY:
        return ""
    return (
        f"This may not be a {session.source.class_name}: its outline overlaps by {found:.0%} at most with those that "
        "the model makes. What follows may make little sense."
    )


def _segment(upload: Upload, size: int) -> UploadedPhoto:
    with tempfile.TemporaryDirectory(prefix="von-studio-") as folder:
        file = Path(folder) / "photo"
        file.write_bytes(upload.content)
        if upload.mask is not None:
            (Path(folder) / "mask").write_bytes(upload.mask)
            found = _object_of_mask_file(file, Path(folder) / "mask")
        elif upload.box is not None:
            found = _object_in_box(file, upload.box)
        else:
            found = locate_object(file, ImageSettings(size=size, max_pixels=MAX_PHOTO_PIXELS)).found
    cut = photo_of_object("photo", found, size)
    rgba = to_pixels(torch.cat([cut.image, 2.0 * cut.mask - 1.0])).transpose(1, 2, 0)
    return UploadedPhoto(upload.key, rgba, cut)


def pieces_picture(mask: npt.NDArray[np.bool_]) -> str | None:
    """A mask (h, w) as a data URL to overlay on its photo, each piece in its own colour; None for an empty one."""
    pieces = regions(mask, connectivity=8)
    if not mask.any():
        return None
    order = np.argsort(-pieces.areas, kind="stable")  # the largest first; label 0 is the background, with area 0
    colours = np.zeros((len(order), 4), dtype=np.uint8)
    colours[order[:-1]] = np.resize(np.array(PIECE_COLOURS, dtype=np.uint8), (len(order) - 1, 4))
    return _data_url(colours[pieces.labels])


def _data_url(pixels: Pixels) -> str:
    return f"data:image/png;base64,{base64.b64encode(png_bytes(pixels)).decode('ascii')}"


def _object_of_mask_file(photo: Path, mask: Path) -> FoundObject:
    solid = decode_mask(mask, max_pixels=MAX_PHOTO_PIXELS)
    rgb = decode_photo(photo, max_pixels=MAX_PHOTO_PIXELS).rgb
    if solid.shape != rgb.shape[:2]:
        raise Rejected("mask_mismatch", f"the mask is {solid.shape[::-1]}, the photo {rgb.shape[1::-1]} pixels")
    check_presence(solid, 1.0)
    return object_of_mask(rgb, solid)


def _object_in_box(file: Path, box: tuple[float, float, float, float]) -> FoundObject:
    """The object inside a box, by GrabCut; everything outside the box is background."""
    rgb = decode_photo(file, max_pixels=MAX_PHOTO_PIXELS, enough_px=BOX_WORKING_PX).rgb
    scale = min(1.0, BOX_WORKING_PX / max(rgb.shape[:2]))
    if scale < 1.0:
        rgb = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = rgb.shape[:2]
    edges = np.round(np.multiply(box, (width, height, width, height))).astype(int)
    left, top, right, bottom = (int(edge) for edge in edges)
    labels = np.full((height, width), cv2.GC_BGD, dtype=np.uint8)
    labels[top:bottom, left:right] = cv2.GC_PR_FGD
    if right - left < 8 or bottom - top < 8:
        raise Rejected("mask_empty", "the box has fewer than 8 pixels; draw it around the whole object")
    if (labels == cv2.GC_PR_FGD).all():
        labels[[0, -1], :], labels[:, [0, -1]] = cv2.GC_BGD, cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(np.ascontiguousarray(rgb[..., ::-1]), labels, None, *models, BOX_ITERATIONS, cv2.GC_INIT_WITH_MASK)
    mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    check_presence(mask, 1.0 / scale)
    return object_of_mask(rgb, mask)


# The fraction of the whole at which each phase begins and ends, and its description.
PHASES: Mapping[Phase, tuple[float, float, str]] = {
    "train": (0.0, 0.5, "learning to read photos, once for this checkpoint"),
    "search": (0.5, 0.5, "searching similar shapes"),
    "fit": (0.5, 0.8, "fitting shape and viewpoint"),
    "carve": (0.8, 0.9, "carving the shape"),
    "texture": (0.9, 1.0, "fitting the texture"),
}


def reconstruct(
    reconstructor: Reconstructor, photo: UploadedPhoto, task: BackgroundTask, on_step: Callable[[], None]
) -> None:
    """Reconstructs a photo and records progress and result in its task.

    Args:
        reconstructor: of the model.
        photo: at the model's image size.
        task: receives progress and result, and may be cancelled.
        on_step: called between steps.
    """

    def progress(phase: Phase, done: int, total: int) -> None:
        start, end, doing = PHASES[phase]
        task.progress(start + (end - start) * done / max(1, total), doing)
        on_step()

    task.progress(0.0, PHASES["fit"][2])
    try:
        found = reconstructor.reconstruct(photo.cut, progress, task.cancelled)
    except CancelledError:
        task.stopped()
    else:
        task.succeed(_link_values(reconstructor.session.source.run, found))


def _link_values(run: Path, found: Reconstruction) -> dict[str, Any]:
    """The values of a link to the reconstruction, and the overlap of the silhouettes."""
    if found.shape.code is None:
        raise ValueError("a reconstruction is a shape with a code")
    shape, overlap = encode_code(found.shape.code), found.code_overlap
    try:
        shape, overlap = str(store_shape(run, found.shape, found.shape.code)), found.overlap
    except OSError as error:
        logger.warning("%s cannot store carved shapes, links hold their codes: %s", run, error)
    return {
        "shape": shape,
        "texture": encode_code(found.texture),
        "azimuth": f"{math.degrees(found.azimuth):.1f}",
        "elevation": f"{math.degrees(found.elevation):.1f}",
        "overlap": overlap,
    }
