"""Conversion of any colour space and bit depth to 8-bit sRGB: ICC profiles, gamma, 16-bit and float TIFF."""

from __future__ import annotations

import io
import logging
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, TiffImagePlugin

from vondata.images import photo_files
from vondata.images.photo_files import ColourSpace
from vondata.types import Rejected

if TYPE_CHECKING:
    import tifffile


Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
ProfileUse = Literal["converted", "ignored"]

SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC's name of a colour space, Pillow's mode
SAME = 1  # of 255: a profile that changes no colour by more is sRGB
SRGB_GAMMA = (0.44, 0.47)  # PNG's gamma within these is sRGB's
SRGB_PRIMARIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of white, red, green and blue
LINEAR_TO_SRGB_STEPS = 4096
BLOCK_ROWS = 64

_lcms = threading.Lock()


def colours_to_srgb(image: Image.Image, space: ColourSpace) -> tuple[Image.Image, ProfileUse | None]:
    """An image in sRGB.

    Args:
        image: of any 8-bit mode without alpha.
        space: colour space that its file declares.

    Returns:
        The image in RGB if it was converted, else unchanged; and whether the declared colour space was converted, or
        ignored because it is damaged or of another colour model; None if no conversion was needed.

    Raises:
        Rejected: format_unknown: an encoding that is not supported.
    """
    if space.unread:
        raise Rejected("format_unknown", f"its colours are of {space.unread}, which is not read: save it in sRGB")
    if image.mode == "LAB":
        return _of_lab(image), "converted"
    if space.profile:
        return _by_profile(image, space.profile)
    if (space.gamma or space.primaries) and image.mode != "CMYK":
        return _by_gamma(image, space)
    return image, None


def _by_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, ProfileUse | None]:
    try:
        mode = _mode_of(profile)
        if mode == "RGB" and image.mode not in ("RGB", "CMYK"):
            image = image.convert("RGB")
        elif mode == "L" and image.mode == "1":
            image = image.convert("L")
        if mode != image.mode:
            return image, "ignored"
        with _lcms:
            transform = _transform(profile, mode)
            if transform is None:
                return image, None
            converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, "ignored"
    return (converted, "converted") if converted is not None else (image, "ignored")


def _of_lab(image: Image.Image) -> Image.Image:
    with _lcms:
        source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(source, target, "LAB", "RGB"))
    assert converted is not None  # not in place
    return converted


def _mode_of(profile: bytes) -> str:
    """Pillow's mode for the colour model of a profile, "" for others.

    Raises:
        PyCMSError, OSError: the profile is damaged.
    """
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    return SPACES.get(opened.xcolor_space, "") if opened.device_class not in ("link", "abst", "nmcl") else ""


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform to sRGB, None if the profile is already sRGB.

    Raises:
        PyCMSError: the profile is damaged.
    """
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, target, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    if mode in ("RGB", "L"):
        probe = Image.fromarray(_probe(mode))
        answer = ImageCms.applyTransform(probe, transform)
        if answer is None:
            raise ImageCms.PyCMSError("the profile converts nothing")
        moved = np.asarray(answer).astype(int) - np.asarray(probe.convert("RGB"))
        if np.abs(moved).max() <= SAME:
            return None
    return transform


def _probe(mode: str) -> Bytes:
    """Test colours that distinguish profiles: every tenth of each channel's range, or every grey."""
    if mode == "L":
        return np.arange(256, dtype=np.uint8)[None]
    levels = np.linspace(0, 255, 11).astype(np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(11, -1, 3)


def _by_gamma(image: Image.Image, space: ColourSpace) -> tuple[Image.Image, ProfileUse | None]:
    """Converts from PNG's gAMA, cHRM and cICP, nclx, or Adobe RGB: the curve gives linear light of the primaries."""
    gamma = space.gamma if space.gamma > 0 else 1 / 2.2
    primaries = space.primaries or SRGB_PRIMARIES
    same_primaries = np.allclose(primaries, SRGB_PRIMARIES, atol=0.002)
    if SRGB_GAMMA[0] <= gamma <= SRGB_GAMMA[1] and same_primaries and space.gamma != photo_files.VIDEO_CURVE:
        return image, None
    if not 0.1 <= gamma <= 4.0:
        return image, "ignored"
    to_srgb = np.eye(3)
    if not same_primaries:
        try:
            white = _to_xyz(primaries).sum(axis=1)
            adapted = _to_xyz(SRGB_PRIMARIES).sum(axis=1) / white
            to_srgb = np.linalg.solve(_to_xyz(SRGB_PRIMARIES), adapted[:, None] * _to_xyz(primaries))
        except np.linalg.LinAlgError:
            return image, "ignored"
    if not np.isfinite(to_srgb).all() or np.abs(to_srgb).max() > 20:
        return image, "ignored"
    codes = np.arange(256) / 255.0
    match space.gamma:
        case 0.0:
            linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
        case photo_files.VIDEO_CURVE:
            linear = np.where(codes < 0.081, codes / 4.5, ((codes + 0.099) / 1.099) ** (1 / 0.45))
        case _:
            linear = codes ** (1.0 / gamma)
    encode = _srgb_table()
    pixels = np.asarray(image.convert("RGB"))
    result = np.empty_like(pixels)
    for row in range(0, len(pixels), BLOCK_ROWS):  # floating-point copies are eight times as large
        light = linear[pixels[row : row + BLOCK_ROWS]] @ to_srgb.T
        steps = np.clip(light * LINEAR_TO_SRGB_STEPS + 0.5, 0, LINEAR_TO_SRGB_STEPS)
        result[row : row + BLOCK_ROWS] = encode[steps.astype(np.int64)]
    return Image.fromarray(result), "converted"


def _srgb_table() -> Bytes:
    """(LINEAR_TO_SRGB_STEPS + 1,) sRGB's 8-bit code of linear light from 0 to 1."""
    light = np.linspace(0.0, 1.0, LINEAR_TO_SRGB_STEPS + 1)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(255.0 * code + 0.5, dtype=np.uint8)


def _to_xyz(primaries: tuple[float, ...]) -> Doubles:
    """(3, 3) from linear RGB to XYZ, for x and y of white, red, green and blue.

    Raises:
        LinAlgError: the primaries are linearly dependent.
    """
    points = np.array(primaries).reshape(4, 2)
    if (points[:, 1] <= 0).any():
        raise np.linalg.LinAlgError("a primary without brightness")
    xyz = np.stack([points[:, 0] / points[:, 1], np.ones(4), (1 - points.sum(axis=1)) / points[:, 1]])
    white, colours = xyz[:, 0], xyz[:, 1:]
    return np.asarray(colours * np.linalg.solve(colours, white))


MAX_BYTES_PER_PIXEL = 6  # of samples held in memory, for each pixel that is allowed
PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT = 262, 274, 339  # TIFF's tags
ICC_PROFILE = 34675
UNSIGNED, SIGNED = 1, 2  # SampleFormat
RAW, DEFLATE = (1,), (8, 32946)  # Compression
FLOAT_PREDICTOR = 3


@dataclass(frozen=True, eq=False)
class Samples:
    """Pixels of more than 8 bits.

    Attributes:
        values: (h, w, c) of one or three channels, and opacity where `has_alpha`.
        white_is_zero: whether the largest value is black.
        has_alpha: whether the last channel is opacity.
        premultiplied: whether colours are multiplied by opacity.
        key: the grey value that is transparent; None without one.
        bits: bits of an integer value, if fewer than its type has.
    """

    values: npt.NDArray[Any]
    white_is_zero: bool = False
    has_alpha: bool = False
    premultiplied: bool = False
    key: int | None = None
    bits: int | None = None

    def eight_bit(self) -> tuple[Bytes, Bytes | None]:
        """Colours (h, w, 1) or (h, w, 3), and opacity (h, w) or None."""
        height, width, channels = self.values.shape
        black, white = _range(self.values[..., : channels - self.has_alpha], self.bits)
        result = np.empty((height, width, channels), dtype=np.uint8)
        for row in range(0, height, BLOCK_ROWS):
            block = self.values[row : row + BLOCK_ROWS].astype(np.float64)
            shares = np.nan_to_num((block - black) / (white - black), nan=0.0, posinf=0.0, neginf=0.0)
            if self.white_is_zero:
                shares[..., : channels - self.has_alpha] = 1.0 - shares[..., : channels - self.has_alpha]
            if self.premultiplied:
                shares[..., :-1] /= np.maximum(shares[..., -1:], 1e-6)
            result[row : row + BLOCK_ROWS] = np.clip(255.0 * shares + 0.5, 0.0, 255.0)
        if self.has_alpha:
            return np.ascontiguousarray(result[..., :-1]), np.ascontiguousarray(result[..., -1])
        alpha = None if self.key is None else np.where(self.values[..., 0] == self.key, 0, 255).astype(np.uint8)
        return result, alpha


def _range(values: npt.NDArray[Any], stated_bits: int | None) -> tuple[float, float]:
    """The values of black and white."""
    if stated_bits is not None:
        return 0.0, 2.0**stated_bits - 1.0
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    if kind == "u" and bits <= 16:
        return 0.0, 2.0**bits - 1.0
    highest = float(np.max(values, where=np.isfinite(values), initial=0.0))
    if kind == "f":
        return 0.0, next((white for white in (1.0, 255.0, 65535.0) if highest <= white), highest)
    if kind == "i" and bits <= 16:
        return 0.0, 2.0 ** (bits - 1) - 1.0
    # Most 32-bit files use only the lower 8 or 16 bits.
    return 0.0, next((white for white in (255.0, 65535.0) if highest <= white), 2.0 ** (bits - (kind == "i")) - 1.0)


def has_wide_channels(image: Image.Image) -> bool:
    """Whether a TIFF opened by Pillow has several channels (grey, RGB, opacity) of more than 8 bits.

    Pillow would keep 8 bits of each, and misreads them if they are stored in planes.
    """
    tags = dict(image.tag_v2) if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = np.atleast_1d(tags.get(258, 1))
    return len(bits) > 1 and bool((bits > 8).any()) and tags.get(PHOTOMETRIC) in (0, 1, 2)


def samples_of_image(image: Image.Image, tags: Mapping[int, Any] | None = None) -> Samples:
    """The pixels of an image that Pillow reads in one of its modes of more than 8 bits.

    Args:
        image: of a mode that begins with I or F, or an 8-bit one with signed values.
        tags: of a TIFF.
    """
    values = np.asarray(image)
    tags = tags or {}
    (sample_format, *_) = np.atleast_1d(tags.get(SAMPLE_FORMAT, UNSIGNED)).tolist()
    if sample_format == SIGNED and values.dtype == np.uint8:
        values = values.view(np.int8)
    elif sample_format == SIGNED and tags.get(258) == (16,):
        values = values.astype(np.int16)
    elif tags and values.dtype == np.int32 and sample_format == UNSIGNED:
        values = values.view(np.uint32)
    key = image.info.get("transparency")
    return Samples(
        values[..., None] if values.ndim == 2 else values,
        white_is_zero=tags.get(PHOTOMETRIC) == 0,
        key=key if isinstance(key, int) else None,
        bits=12 if tags.get(258) == (12,) else None,
    )


def read_tiff_samples(file: BinaryIO, max_pixels: int) -> tuple[Samples, int, bytes]:
    """Reads a TIFF that Pillow does not support: planes, several channels of more than 8 bits, doubles, BigTIFF.

    Returns:
        the pixels, the orientation 1 to 8 and the colour profile or b"".

    Raises:
        Rejected: too_large, format_unknown or file_corrupt.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # errors are reported in the manifest row
    file.seek(0)
    try:
        opened = tifffile.TiffFile(file)
    except tifffile.TiffFileError as error:
        raise Rejected("file_corrupt", f"the file begins like TIFF, but the rest is invalid: {error}") from error
    with opened:
        page = opened.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        _check_page(page, max_pixels)
        values = _values(page, file)
        photometric = int(page.photometric or 0)
        is_grey_stack = photometric != 2 and values.ndim == 3 and values.shape[2] > 2
        if photometric not in (0, 1, 2) or values.ndim != 3 or is_grey_stack:
            raise Rejected("format_unknown", f"a TIFF with photometric {photometric} and {page.dtype} is not read")
        colours = 3 if photometric == 2 else 1
        extra = [int(each) for each in page.extrasamples]
        has_alpha = values.shape[2] > colours and bool(extra) and extra[0] in (1, 2)
        orientation = page.tags.valueof(ORIENTATION, 1)
        profile = page.tags.valueof(ICC_PROFILE, b"")
        return (
            Samples(values[..., : colours + has_alpha], photometric == 0, has_alpha, has_alpha and extra[0] == 1),
            orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
            profile if isinstance(profile, bytes) else b"",
        )


def _check_page(page: tifffile.TiffPage, max_pixels: int) -> None:
    """Checks the size of the page by its header."""
    width, height, channels = page.imagewidth, page.imagelength, page.samplesperpixel
    pixels = width * height * max(1, page.imagedepth)
    if pixels < 1 or page.dtype is None or page.imagedepth != 1:
        raise Rejected("file_corrupt", "the TIFF's header describes no picture")
    if page.dtype.kind not in "uif":
        raise Rejected("format_unknown", f"a TIFF of {page.dtype} is not read")
    if pixels > max_pixels or pixels * channels * page.dtype.itemsize > MAX_BYTES_PER_PIXEL * max_pixels:
        raise Rejected(
            "too_large",
            f"{width} x {height} pixels of {channels * page.dtype.itemsize} bytes are more than the "
            f"{MAX_BYTES_PER_PIXEL} x {max_pixels:,} bytes allowed",
        )


def _values(page: tifffile.TiffPage, file: BinaryIO) -> npt.NDArray[Any]:
    """(h, w, c) the page's samples."""
    compression, planar = int(page.compression), int(page.planarconfig or 1) == 2
    if compression in DEFLATE:
        _check_segments(page, file)
    if compression in RAW + DEFLATE and int(page.predictor) != FLOAT_PREDICTOR:
        values = _decoded(page)
        return np.moveaxis(values, 0, -1) if planar and values.ndim == 3 else values.reshape(*values.shape[:2], -1)
    if not planar:  # libtiff's other compressions, whose decoders are bounded themselves
        file.seek(0)
        found = read_by_opencv(file.read())
        if found is not None and found.shape[:2] == (page.imagelength, page.imagewidth):
            return found
    raise Rejected("format_unknown", f"a TIFF of this kind with compression {compression} is not read")


def read_by_opencv(data: bytes) -> npt.NDArray[Any] | None:
    """(h, w, 1, 3 or 4) the stored values of a picture: grey, RGB or RGBA; None if OpenCV cannot read it."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # over 2**20 pixels along an edge
        return None
    if found is None:
        return None
    found = found.reshape(*found.shape[:2], -1)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(found.shape[2])
    return None if order is None else np.asarray(found[..., order])


def _decoded(page: tifffile.TiffPage) -> npt.NDArray[Any]:
    try:
        return np.asarray(page.asarray(maxworkers=1))
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        if "imagecodecs" not in str(error):
            raise
        bits = page.bitspersample
        raise Rejected(
            "format_unknown", f"a TIFF of {bits} bits with predictor {int(page.predictor)} is not read"
        ) from error


def _check_segments(page: tifffile.TiffPage, file: BinaryIO) -> None:
    """Checks deflated strips and tiles against the size in the header, to catch decompression bombs."""
    assert page.dtype is not None
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    channels = 1 if int(page.planarconfig or 1) == 2 else page.samplesperpixel
    expected = min(height, max(page.imagelength, page.tilelength)) * width * channels * page.dtype.itemsize
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        try:
            inflated = zlib.decompressobj().decompress(file.read(length), expected + 1)
        except zlib.error as error:
            raise Rejected("file_corrupt", f"a strip cannot be inflated: {error}") from error
        if len(inflated) > expected:
            raise Rejected("file_corrupt", "a strip holds more than the header says")
