"""Conversion of any colour space and bit depth to 8-bit sRGB: ICC profiles, gamma, 16-bit and float TIFF."""

from __future__ import annotations

import io
import logging
import re
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import cv2
import numpy as np
import numpy.typing as npt
import zstandard
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
# From sRGB's linear colours to XYZ at D50, the white of ICC profiles.
SRGB_TO_D50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
LINEAR_TO_SRGB_STEPS = 65535
BLOCK_ROWS = 64
MAX_NEGATIVE_SHARE = 0.001  # of signed integers
MIN_BRIGHTEST = 1 / 16  # of white

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


@dataclass(frozen=True, eq=False)
class _Conversion:
    """A conversion to sRGB in two steps, for codes of any precision.

    Attributes:
        curve: maps codes (..., 3) in [0, 1] to linear light.
        to_srgb: (3, 3) from linear light to that of sRGB.
    """

    curve: Callable[[Doubles], Doubles]
    to_srgb: Doubles

    def __call__(self, codes: Doubles) -> Bytes:
        """(..., 3) sRGB of codes (..., 3) in [0, 1]."""
        return _encoded(self.curve(np.clip(codes, 0.0, 1.0)) @ self.to_srgb.T)

    def image(self, image: Image.Image) -> Image.Image:
        """An 8-bit image in sRGB."""
        linear = self.curve(np.arange(256)[:, None].repeat(3, axis=1) / 255.0)[:, 0]
        pixels = np.asarray(image.convert("RGB"))
        result = np.empty_like(pixels)
        for row in range(0, len(pixels), BLOCK_ROWS):  # floating-point copies are eight times as large
            result[row : row + BLOCK_ROWS] = _encoded(linear[pixels[row : row + BLOCK_ROWS]] @ self.to_srgb.T)
        return Image.fromarray(result)


def _by_gamma(image: Image.Image, space: ColourSpace) -> tuple[Image.Image, ProfileUse | None]:
    conversion = _of_gamma(space)
    return (conversion.image(image), "converted") if isinstance(conversion, _Conversion) else (image, conversion)


def _of_gamma(space: ColourSpace) -> _Conversion | Literal["ignored"] | None:
    """The conversion by PNG's gAMA, cHRM and cICP, nclx, or Adobe RGB; None if no conversion is needed."""
    gamma = space.gamma if space.gamma > 0 else 1 / 2.2
    primaries = space.primaries or SRGB_PRIMARIES
    same_primaries = np.allclose(primaries, SRGB_PRIMARIES, atol=0.002)
    if SRGB_GAMMA[0] <= gamma <= SRGB_GAMMA[1] and same_primaries and space.gamma != photo_files.VIDEO_CURVE:
        return None
    if not 0.1 <= gamma <= 4.0:
        return "ignored"
    to_srgb = np.eye(3)
    if not same_primaries:
        try:
            white = _to_xyz(primaries).sum(axis=1)
            adapted = _to_xyz(SRGB_PRIMARIES).sum(axis=1) / white
            to_srgb = np.linalg.solve(_to_xyz(SRGB_PRIMARIES), adapted[:, None] * _to_xyz(primaries))
        except np.linalg.LinAlgError:
            return "ignored"
    if not np.isfinite(to_srgb).all() or np.abs(to_srgb).max() > 20:
        return "ignored"

    def curve(codes: Doubles) -> Doubles:
        match space.gamma:
            case 0.0:
                return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
            case photo_files.VIDEO_CURVE:
                return np.where(codes < 0.081, codes / 4.5, ((codes + 0.099) / 1.099) ** (1 / 0.45))
        return np.asarray(codes ** (1.0 / gamma))

    return _Conversion(curve, to_srgb)


def _of_profile(profile: bytes, is_grey: bool) -> _Conversion | None:
    """The conversion by an ICC profile of curves and primaries; None for tables, a damaged one, and for sRGB's."""
    try:
        tags = _profile_tags(profile)
        if profile[12:16] not in (b"mntr", b"scnr", b"spac") or b"A2B0" in tags:
            return None
        if profile[16:20] == b"GRAY" and is_grey:
            tone = _tone_curve(tags[b"kTRC"])
            conversion = _Conversion(tone, np.eye(3))
        elif profile[16:20] == b"RGB ":
            tones = [_tone_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
            columns = [_profile_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
            to_srgb = np.linalg.solve(SRGB_TO_D50, np.array(columns).T)
            conversion = _Conversion(
                lambda codes: np.stack([tone(codes[..., each]) for each, tone in enumerate(tones)], axis=-1), to_srgb
            )
        else:
            return None
        probe = _probe("RGB")
        moved = conversion(probe / 255.0).astype(int) - probe
    except (KeyError, struct.error, ValueError, OverflowError):
        return None
    return conversion if np.abs(moved).max() > SAME else None


def _profile_tags(profile: bytes) -> dict[bytes, bytes]:
    """The content of an ICC profile by tag.

    Raises:
        struct.error: the profile ends early.
    """
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * number) for number in range(count))
    return {name: profile[start : start + length] for name, start, length in entries}


def _profile_xyz(tag: bytes) -> tuple[float, float, float]:
    """X, Y and Z of a tag of an ICC profile.

    Raises:
        struct.error: the tag ends early.
    """
    x, y, z = struct.unpack_from(">3i", tag, 8)
    return x / 65536, y / 65536, z / 65536


def _tone_curve(tag: bytes) -> Callable[[Doubles], Doubles]:
    """The curve of an ICC profile's tag, from codes in [0, 1] to linear light.

    Raises:
        struct.error, ValueError: the tag is not a curve.
    """
    if tag[:4] == b"para":
        return _parametric(struct.unpack_from(">H", tag, 8)[0], tag)
    if tag[:4] != b"curv":
        raise ValueError(f"a curve of the kind {tag[:4]!r}")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return lambda codes: codes
    values = np.array(struct.unpack_from(f">{count}H", tag, 12))
    if count == 1:
        return lambda codes: np.asarray(codes ** (values[0] / 256.0))
    return lambda codes: np.interp(codes, np.linspace(0.0, 1.0, count), values / 65535.0)


_PARAMETERS = {0: "g", 1: "gab", 2: "gabc", 3: "gabcd", 4: "gabcdef"}  # of ICC's parametric curves, by type


def _parametric(kind: int, tag: bytes) -> Callable[[Doubles], Doubles]:
    names = _PARAMETERS.get(kind, "")
    stated = struct.unpack_from(f">{len(names)}i", tag, 12)
    if not names:
        raise ValueError(f"a parametric curve of type {kind}")
    found = {"a": 1.0, "b": 0.0, "c": 0.0, "e": 0.0, "f": 0.0}
    found |= {name: value / 65536 for name, value in zip(names, stated, strict=True)}
    if kind == 2:
        found |= {"e": found["c"], "f": found["c"], "c": 0.0}
    start = found.get("d", -found["b"] / found["a"] if found["a"] else 0.0)

    def curve(codes: Doubles) -> Doubles:
        powers = np.maximum(found["a"] * codes + found["b"], 0.0) ** found["g"] + found["e"]
        return np.where(codes >= start, powers, found["c"] * codes + found["f"])

    return curve


def _encoded(light: Doubles) -> Bytes:
    """The 8-bit codes of sRGB for linear light; beyond 0 and 1 they are clipped."""
    steps = np.clip(light * LINEAR_TO_SRGB_STEPS + 0.5, 0, LINEAR_TO_SRGB_STEPS)
    return _srgb_table()[steps.astype(np.int64)]


@cache
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


def samples_to_srgb(samples: Samples, space: ColourSpace) -> tuple[Image.Image, Bytes | None, ProfileUse | None]:
    """Pixels of more than 8 bits in sRGB of 8 bits, converted before they are rounded where the profile allows it.

    Returns:
        the image, opacity (h, w) or None, and the use of the colour space as of `colours_to_srgb`.

    Raises:
        Rejected: format_unknown: an encoding that is not supported.
    """
    is_grey = samples.values.shape[2] - samples.has_alpha == 1
    conversion = _of_profile(space.profile, is_grey) if space.profile else _of_gamma(space)
    if isinstance(conversion, _Conversion) and not space.unread:
        colours, alpha = samples.eight_bit(conversion)
        return Image.fromarray(colours), alpha, "converted"
    colours, alpha = samples.eight_bit()
    image = Image.fromarray(colours[..., 0] if colours.shape[2] == 1 else colours)
    image, use = colours_to_srgb(image, space)
    return image, alpha, use


MAX_BYTES_PER_PIXEL = 6  # of samples held in memory, for each pixel that is allowed
PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT = 262, 274, 339  # TIFF's tags
ICC_PROFILE = 34675
UNSIGNED, SIGNED = 1, 2  # SampleFormat
RAW, DEFLATE, ZSTD = (1,), (8, 32946), 50000  # Compression
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

    def eight_bit(self, encode: Callable[[Doubles], Bytes] | None = None) -> tuple[Bytes, Bytes | None]:
        """Colours (h, w, 1) or (h, w, 3), and opacity (h, w) or None.

        Args:
            encode: maps colours (..., 3) in [0, 1] to 8 bits; None rounds them.
        """
        height, width, channels = self.values.shape
        colours = channels - self.has_alpha
        black, white = _range(self.values[..., :colours], self.bits)
        if not self.has_alpha and self.key is None and self.bits is None:
            _check_brightness(self.values, white)
        result = np.empty((height, width, (colours if encode is None else 3) + self.has_alpha), dtype=np.uint8)
        for row in range(0, height, BLOCK_ROWS):
            block = self.values[row : row + BLOCK_ROWS].astype(np.float64)
            shares = np.nan_to_num((block - black) / (white - black), nan=0.0, posinf=0.0, neginf=0.0)
            if self.white_is_zero:
                shares[..., :colours] = 1.0 - shares[..., :colours]
            if self.premultiplied:
                shares[..., :-1] /= np.maximum(shares[..., -1:], 1e-6)
            rounded = np.clip(255.0 * shares + 0.5, 0.0, 255.0).astype(np.uint8)
            if encode is not None:
                rgb = shares[..., :colours] if colours == 3 else shares[..., :1].repeat(3, axis=-1)
                rounded = np.concatenate([encode(rgb), rounded[..., colours:]], axis=-1)
            result[row : row + BLOCK_ROWS] = rounded
        if self.has_alpha:
            return np.ascontiguousarray(result[..., :-1]), np.ascontiguousarray(result[..., -1])
        alpha = None if self.key is None else np.where(self.values[..., 0] == self.key, 0, 255).astype(np.uint8)
        return result, alpha


def _check_brightness(values: npt.NDArray[Any], white: float) -> None:
    """Checks that the values use more than a small part of their range, unlike 12 bits stored in 16.

    Raises:
        Rejected: format_unknown: they do not.
    """
    highest = float(np.max(values, where=np.isfinite(values), initial=0.0))
    if 0.0 < highest <= white * MIN_BRIGHTEST:
        raise Rejected(
            "format_unknown",
            f"the brightest value is {highest:g} where white is {white:g}, as in a picture of fewer bits or of light "
            "without a scale: stretch its values to the whole range",
        )


def _range(values: npt.NDArray[Any], stated_bits: int | None) -> tuple[float, float]:
    """The values of black and white.

    Raises:
        Rejected: format_unknown: integers below zero, which may stand for anything.
    """
    if values.dtype.kind == "i" and np.count_nonzero(values < 0) > MAX_NEGATIVE_SHARE * values.size:
        raise Rejected("format_unknown", "values below zero, whose black is not known: save the picture in 16 bits")
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
    file.seek(0)
    data = file.read()
    count = page.samplesperpixel if planar else 1
    alone = planar or compression == ZSTD
    planes = [_plane_alone(page, data, number, count) for number in range(count)] if alone else [data]
    found = [read_by_opencv(each) for each in planes]  # by libtiff, whose decoders are bounded themselves
    whole = [each for each in found if each is not None and each.shape[:2] == (page.imagelength, page.imagewidth)]
    if len(whole) == len(planes):
        return np.concatenate(whole, axis=2)
    raise Rejected("format_unknown", f"a TIFF of this kind with compression {compression} is not read")


def _plane_alone(page: tifffile.TiffPage, data: bytes, number: int, planes: int) -> bytes:
    """A TIFF of one of a page's planes, which OpenCV would mix up; zstd, which it cannot read, becomes deflate."""
    count, channels, compression = (
        len(page.dataoffsets) // planes,
        page.samplesperpixel // planes,
        int(page.compression),
    )
    own = slice(count * number, count * (number + 1))
    parts = [data[at : at + size] for at, size in zip(page.dataoffsets[own], page.databytecounts[own], strict=True)]
    if compression == ZSTD:
        compression, room = DEFLATE[0], _segment_bytes(page)
        parts = [zlib.compress(_from_zstd(each, room), 1) for each in parts]
    tags = {256: page.imagewidth, 257: page.imagelength, 258: page.bitspersample, 259: compression}
    tags |= {
        PHOTOMETRIC: 2 if channels > 2 else 1,
        277: channels,
        317: int(page.predictor),
        SAMPLE_FORMAT: int(page.sampleformat or UNSIGNED),
    }
    tags |= {322: page.tilewidth, 323: page.tilelength} if page.is_tiled else {278: page.rowsperstrip}
    places, sizes = (324, 325) if page.is_tiled else (273, 279)
    order = page.parent.byteorder
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    starts = np.cumsum([start + (8 * count if count > 1 else 0), *map(len, parts)])[:-1].tolist()
    lists = struct.pack(f"{order}{2 * count}I", *starts, *map(len, parts)) if count > 1 else b""
    tags |= {places: start, sizes: start + 4 * count} if count > 1 else {places: starts[0], sizes: len(parts[0])}
    rows = (
        struct.pack(f"{order}HHII", tag, 4, count if tag in (places, sizes) else 1, tags[tag]) for tag in sorted(tags)
    )
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return b"".join((header, *rows, bytes(4), lists, *parts))


def _from_zstd(packed: bytes, limit: int) -> bytes:
    """At most this many bytes of what is packed."""
    try:
        return zstandard.ZstdDecompressor().stream_reader(packed).read(limit)
    except zstandard.ZstdError as error:
        raise Rejected("file_corrupt", f"a strip cannot be unpacked: {error}") from error


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
    expected = _segment_bytes(page)
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        try:
            inflated = zlib.decompressobj().decompress(file.read(length), expected + 1)
        except zlib.error as error:
            raise Rejected("file_corrupt", f"a strip cannot be inflated: {error}") from error
        if len(inflated) > expected:
            raise Rejected("file_corrupt", "a strip holds more than the header says")


def _segment_bytes(page: tifffile.TiffPage) -> int:
    """The size of a strip or tile by the header."""
    assert page.dtype is not None
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    channels = 1 if int(page.planarconfig or 1) == 2 else page.samplesperpixel
    return int(min(height, max(page.imagelength, page.tilelength)) * width * channels * page.dtype.itemsize)


_PORTABLE_HEADER = re.compile(
    rb"P([56])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,5})(?=\s)"
)


def portable_pixels(data: bytes) -> bytes:
    """A PGM or PPM whose header ends with one byte, as decoders expect, where a text transfer made two of it.

    Raises:
        ValueError: a second picture follows the first.
    """
    header = _PORTABLE_HEADER.match(data)
    if header is None:
        return data
    kind, width, height, highest = (int(each) for each in header.groups())
    size, end = width * height * (3 if kind == 6 else 1) * (2 if highest > 255 else 1), header.end()
    if data[end : end + 2] == b"\r\n" and len(data) == end + 2 + size:
        return data[:end] + data[end + 1 :]
    if _PORTABLE_HEADER.match(data, end + 1 + size):
        raise ValueError("the file holds several pictures: save the photo as a file of its own")
    return data
