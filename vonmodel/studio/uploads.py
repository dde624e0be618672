"""Photos uploaded to the studio: cut out, framed, and reconstructed while the page watches."""

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

import numpy as np
import numpy.typing as npt
import torch

from vondata.errors import VonError
from vondata.images.prepare import locate_object
from vondata.images.settings import ImageSettings
from vonmodel.inference.photo import CutPhoto, photo_of_object
from vonmodel.inference.session import ModelSession
from vonmodel.mesh import to_pixels
from vonmodel.reconstruction.reconstruct import CancelledError, Phase, Reconstruction, Reconstructor
from vonmodel.studio.pictures import to_png
from vonmodel.studio.scheduler import BusyError, Task
from vonmodel.studio.view_request import keep_carved, spell_code

MOST_PHOTO_BYTES = 20 * 2**20
MOST_PHOTO_PIXELS = 50_000_000
PHOTOS_KEPT = 16
UPLOADS_AT_ONCE = 8
Pixels = npt.NDArray[np.uint8]


class UnknownPhotoError(VonError, KeyError):
    """A photo that was never brought here, or too long ago."""

    http_status = 404

    def __str__(self) -> str:
        return "this photo is not here any more; drop it again"


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo that was brought.

    Attributes:
        key: hash of its bytes.
        rgba: (R, R, 4) its object at the model's image size, on white, alpha = mask.
        cut: the same for the encoders.
    """

    key: str
    rgba: Pixels
    cut: CutPhoto


class Uploads:
    """Counts the photos that are on their way in, whose bytes are held in memory."""

    def __init__(self, most: int = UPLOADS_AT_ONCE) -> None:
        self._most, self._coming = most, 0

    def begin(self) -> None:
        """Lets one more in.

        Raises:
            BusyError: too many are coming already.
        """
        if self._coming >= self._most:
            raise BusyError(f"{self._coming} photos are coming in already; try again in a moment")
        self._coming += 1

    def end(self) -> None:
        """One has come, or has stopped coming."""
        self._coming -= 1


class PhotoTray:
    """Keeps the photos that were brought last."""

    def __init__(self) -> None:
        self._photos: OrderedDict[tuple[str, int], Photo] = OrderedDict()

    def take(self, content: bytes, size: int) -> Photo:
        """Finds the object of a photo.

        Args:
            content: the file's bytes; they tell its format.
            size: of the picture in pixels.

        Raises:
            Rejected: it is no photo, too large, or no object is found in it.
        """
        key = hashlib.blake2b(content, digest_size=12).hexdigest()
        if (key, size) not in self._photos:
            self._photos[key, size] = _read_photo(content, key, size)
        self._photos.move_to_end((key, size))
        while len(self._photos) > PHOTOS_KEPT:
            self._photos.popitem(last=False)
        return self._photos[key, size]

    def find(self, key: str, size: int) -> Photo:
        """A photo by its key.

        Raises:
            UnknownPhotoError: it is not here.
        """
        try:
            return self._photos[key, size]
        except KeyError as error:
            raise UnknownPhotoError(f"the photo {key!r} is no longer here: drop it on the page again") from error


@dataclass(frozen=True)
class ReadPhoto:
    """What a photo says.

    Attributes:
        photo: its key on the tray.
        texture: its texture's code as it stands in a link.
        picture: its object as the model sees it, a PNG as data URL.
        mask_origin: how the object was found.
    """

    photo: str
    texture: str
    picture: str
    mask_origin: str


def read_texture(session: ModelSession, tray: PhotoTray, content: bytes) -> ReadPhoto:
    """Reads the texture of a photo; errors as `PhotoTray.take`."""
    photo = tray.take(content, session.config.image_size)
    texture = session.encode_texture(photo.cut.image)
    picture = base64.b64encode(to_png(photo.rgba)).decode("ascii")
    return ReadPhoto(photo.key, spell_code(texture), f"data:image/png;base64,{picture}", photo.cut.origin)


def _read_photo(content: bytes, key: str, size: int) -> Photo:
    settings = ImageSettings(size=size, max_pixels=MOST_PHOTO_PIXELS)
    with tempfile.TemporaryDirectory(prefix="von-studio-") as folder:
        file = Path(folder) / "photo"
        file.write_bytes(content)
        located = locate_object(file, settings)
    cut = photo_of_object("photo", located.found, size)
    rgba = to_pixels(torch.cat([cut.image, 2.0 * cut.mask - 1.0])).transpose(1, 2, 0)
    return Photo(key, rgba, cut)


logger = logging.getLogger(__name__)

# From which to which share of the whole each phase goes, and what it is in words.
PHASES: Mapping[Phase, tuple[float, float, str]] = {
    "search": (0.0, 0.2, "looking for shapes like it"),
    "fit": (0.2, 0.8, "fitting shape and viewpoint"),
    "carve": (0.8, 0.9, "carving the shape"),
    "texture": (0.9, 1.0, "fitting the texture"),
}


def reconstruct(reconstructor: Reconstructor, photo: Photo, task: Task, let_pass: Callable[[], None]) -> None:
    """Reconstructs a photo, telling the task how it goes.

    Args:
        reconstructor: of the model.
        photo: at the model's image size.
        task: told of progress and result; says when to stop.
        let_pass: called between steps.
    """

    def progress(phase: Phase, done: int, total: int) -> None:
        start, end, doing = PHASES[phase]
        task.progress(start + (end - start) * done / max(1, total), doing)
        let_pass()

    task.progress(PHASES["search"][0], PHASES["search"][2])
    try:
        found = reconstructor.reconstruct(photo.cut, progress, task.cancelled)
    except CancelledError:
        task.stopped()
    else:
        task.succeed(_as_link(reconstructor.session.source.run, found))


def _as_link(run: Path, found: Reconstruction) -> dict[str, Any]:
    """The values of a link that shows it, and how well the silhouettes overlap."""
    if found.shape.code is None:
        raise ValueError("a reconstruction is a shape with a code")
    shape, overlap = spell_code(found.shape.code), found.code_overlap
    try:
        shape, overlap = str(keep_carved(run, found.shape, found.shape.code)), found.overlap
    except OSError as error:
        logger.warning("%s cannot keep carved shapes, links hold their codes: %s", run, error)
    return {
        "shape": shape,
        "texture": spell_code(found.texture),
        "azimuth": f"{math.degrees(found.azimuth):.1f}",
        "elevation": f"{math.degrees(found.elevation):.1f}",
        "overlap": overlap,
    }
