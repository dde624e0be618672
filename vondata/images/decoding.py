"""From a photo's bytes to upright 8-bit colours: every mode and format that people have, and no more than fits."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from vondata.types import Rejected, printable

Bytes = npt.NDArray[np.uint8]

# Only these decoders ever see a file: others run programs (PostScript) or read what no camera writes.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\x00", b"MM\x00*", b"BM")
ORIENTATION = 0x0112  # EXIF's tag
MAX_FILE_BYTES = 512 * 2**20
# What Pillow's decoders raise on bytes that contradict themselves.
DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError),
    *(AttributeError, AssertionError, NotImplementedError, RuntimeError, struct.error, zlib.error),
)


@dataclass(frozen=True, eq=False)
class DecodedPhoto:
    """A photo as it is meant to be seen: turned upright, 8 bits a channel.

    Attributes:
        rgb: (h, w, 3) sRGB; where the file is transparent, what lies under the transparency.
        alpha: (h, w) opacity, None for a photo without.
        full_size: width and height before `decode_photo` scaled it down.
    """

    rgb: Bytes
    alpha: Bytes | None
    full_size: tuple[int, int]


def decode_photo(path: Path, *, max_pixels: int, enough_px: int | None = None, upright: bool = True) -> DecodedPhoto:
    """Reads a photo; the first frame of one that moves.

    Args:
        path: the file, of any name; its bytes tell the format.
        max_pixels: more than this are not decoded.
        enough_px: a JPEG may come out smaller, with at least this many pixels on its longest side.
        upright: whether to follow the file's EXIF orientation.

    Raises:
        Rejected: format_unknown, file_corrupt, too_large or source_unreadable.
    """
    with _opened(path, max_pixels) as image:
        full_size = image.size
        if image.format in ("JPEG", "MPO") and enough_px is not None:
            scale = max(image.size) / enough_px
            image.draft(None, (int(image.width / scale), int(image.height / scale)))
        image.load()  # after which a TIFF is upright already
        if upright and image.getexif().get(ORIENTATION, 1) >= 5:  # lies on its side
            full_size = full_size[::-1]
    rgb, alpha = _channels(ImageOps.exif_transpose(image) if upright else image)
    return DecodedPhoto(rgb, alpha, full_size)


def decode_mask(path: Path, *, max_pixels: int) -> npt.NDArray[np.bool_]:
    """Reads a mask (h, w): white, or whatever is brighter than half, is the object.

    Raises:
        Rejected: as `decode_photo`.
    """
    with _opened(path, max_pixels) as image:
        image.load()
    if image.mode in ("1", "L", "P", "I;16", "I"):  # of a palette the numbers count, whatever their colours
        values = np.asarray(image).astype(np.int64)
    else:
        values = _channels(image)[0].max(axis=2).astype(np.int64)
    highest = int(values.max(initial=0))
    return np.asarray(values > (highest // 2 if highest > 1 else 0))


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """The file, its header read and found harmless. Inside the block one only decodes: errors become rejections."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, which nobody here reads
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            start = file.read(16)
            if file.seek(0, 2) > MAX_FILE_BYTES:
                raise Rejected("too_large", f"the file has {file.tell() / 2**20:,.0f} MB")
            file.seek(0)
            with _identified(file, start) as image:
                if image.width * image.height > max_pixels:
                    raise Rejected(
                        "too_large",
                        f"{image.width} x {image.height} pixels are more than the {max_pixels:,} allowed",
                    )
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Rejected("too_large", str(error)) from error
    except (PermissionError, IsADirectoryError, FileNotFoundError) as error:
        raise Rejected("source_unreadable", f"{printable(str(path))} cannot be read: {error.strerror}") from error
    except DECODER_ERRORS as error:
        raise Rejected("file_corrupt", _sentence(error)) from error


def _identified(file: BinaryIO, start: bytes) -> Image.Image:
    Image.init()  # registers the decoders, once
    try:
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        if not start:
            raise Rejected("file_corrupt", "the file is empty") from error
        if start.startswith(SIGNATURES):
            raise Rejected("file_corrupt", "the file begins like a photo and then makes no sense") from error
        raise Rejected("format_unknown", f"the file begins with {start[:8]!r}, as no known kind of photo") from error


def _channels(image: Image.Image) -> tuple[Bytes, Bytes | None]:
    """Colours (h, w, 3) and opacity (h, w) or None of an image of any mode."""
    if image.mode.startswith(("I", "F")):
        grey = _grey_of_numbers(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2), None
    if image.has_transparency_data:
        rgba = np.array(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])
    return np.array(image.convert("RGB")), None


def _grey_of_numbers(values: npt.NDArray[np.generic]) -> Bytes:
    """8-bit grey of 16-bit, 32-bit or floating-point brightness."""
    numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if values.dtype.kind == "f":
        full = 1.0 if numbers.max(initial=0.0) <= 1.0 else 255.0
    else:
        full = 65535.0 if numbers.max(initial=0.0) > 255 or values.dtype.itemsize == 2 else 255.0
    return np.clip(numbers / full * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)


def _sentence(error: Exception) -> str:
    text = printable(str(error)).strip() or type(error).__name__
    return text[0].lower() + text[1:] if text[:2].istitle() else text
