"""Photo decoding to upright 8-bit sRGB: all common formats and pixel types, in bounded memory.

Memory: three times the file (of 512 MB at most) and 6 bytes for every pixel that `max_pixels` allows. Sizes are read
from the header and checked before anything is allocated. A JPEG of one scan is decoded at a half, a quarter or an
eighth of its size if that is enough; the limit then applies to the decoded size.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, TiffImagePlugin, UnidentifiedImageError

from vondata.images.photo_files import (
    JPEG_END,
    ORIENTATION,
    SRGB,
    ColourSpace,
    PixelData,
    container_colours,
    describe_bytes,
    jpeg2000_bits,
    jpeg_pixels,
    jxl_header,
    photo_format,
    photo_page,
    png_lacks_rows,
    png_pixels,
    tiff_from_page,
    tiff_pages,
)
from vondata.images.pixels import (
    MAX_BYTES_PER_PIXEL,
    ProfileUse,
    Samples,
    colours_to_srgb,
    has_wide_channels,
    portable_pixels,
    read_by_opencv,
    read_tiff_samples,
    samples_of_image,
    samples_to_srgb,
)
from vondata.kernels import kernel
from vondata.types import Rejected, printable

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int32]

# Only these decoders are used: others run programs (PostScript) or read formats that no camera writes.
DECODERS: dict[str | None, tuple[str, ...]] = {
    **{name: (name,) for name in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF", "HEIF", "JXL", "JPEG2000", "PPM")},
    "BMP": ("BMP", "DIB"),
    None: ("TGA", "DIB"),  # without a signature
}
EXTRA_FORMATS = {"HEIF": "HEIC (HEIF)", "JXL": "JPEG XL", "AVIF": "AVIF"}  # decoders that may not be installed
BOXED_FORMATS = ("AVIF", "HEIF", "JPEG2000")
MAX_BOX_BYTES = 2**20  # bytes of a file that are searched for its colour space
UNRELIABLE_ALPHA = ("BMP", "DIB", "TGA")  # the fourth byte of a pixel is often unused
START_BYTES = 64
MAX_FILE_BYTES = 512 * 2**20
COMPRESSION, COLOUR_MAP = 259, 320  # TIFF's tags
WEBP_IN_TIFF = 50001
REDUCIBLE = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr")
# Random entropy-coded data: appended to a truncated JPEG, it changes every part that the file does not determine.
_WHOLE, _DAMAGED, _SHORT = range(3)  # verdicts on the data of a JPEG's scan
_SIXTEEN_ZEROS = 0xF0  # a symbol of its codes
NOISE = bytes(np.random.default_rng(1).integers(0, 255, 4096, dtype=np.uint8))
# What decoders raise on inconsistent bytes.
DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError),
    *(AttributeError, AssertionError, NotImplementedError, RuntimeError, struct.error, zlib.error),
)

_pillow = threading.Lock()


@dataclass(frozen=True, eq=False)
class DecodedPhoto:
    """A decoded photo: upright, 8 bits per channel.

    Attributes:
        rgb: (h, w, 3) sRGB; in transparent regions, the stored colours.
        alpha: (h, w) opacity, None for a photo without.
        full_size: width and height before `decode_photo` scaled it down.
        profile_use: whether the file's own colour space was converted to sRGB, or ignored because it is damaged or of
            another colour model; None if it is sRGB.
        missing: share of the picture that an incomplete file lacks, 0 to 1; `rgb` ends where the file does.
        orientation: EXIF orientation of the file, 1 to 8.
    """

    rgb: Bytes
    alpha: Bytes | None
    full_size: tuple[int, int]
    profile_use: ProfileUse | None = None
    missing: float = 0.0
    orientation: int = 1


@dataclass(frozen=True, eq=False)
class _Raster:
    """A decoded file before rotation and colour conversion.

    Attributes:
        image: its pixels in one of Pillow's 8-bit modes; None if they have more than 8 bits.
        samples: its pixels if they have more than 8 bits.
        full_size: width and height as stored.
        orientation: EXIF orientation, 1 to 8.
        colours: colour space of the file.
        missing: share of the rows that an incomplete file lacks.
    """

    image: Image.Image | None
    samples: Samples | None
    full_size: tuple[int, int]
    orientation: int = 1
    colours: ColourSpace = SRGB
    missing: float = 0.0


def decode_photo(
    path: Path,
    *,
    max_pixels: int,
    enough_px: int | None = None,
    upright: bool = True,
    keep_incomplete: bool = False,
) -> DecodedPhoto:
    """Reads a photo; of an animation, the first frame.

    Args:
        path: the file, of any name; its format is recognised by its bytes.
        max_pixels: photos with more pixels are not decoded.
        enough_px: the photo may be scaled down to at least this many pixels on its longest side.
        upright: whether to apply the file's EXIF orientation.
        keep_incomplete: accept a truncated JPEG, as far as it goes.

    Raises:
        Rejected: format_unknown, file_corrupt, too_large or source_unreadable.
    """
    with _rejecting(path), _opened(path) as file:
        raster = _read(file, max_pixels, enough_px, keep_incomplete)
        rgb, alpha, profile_use = _channels(raster, enough_px)
    full_size = raster.full_size
    if upright:
        rgb = turned(rgb, raster.orientation)
        alpha = None if alpha is None else turned(alpha, raster.orientation)
        full_size = full_size[::-1] if raster.orientation >= 5 else full_size
    return DecodedPhoto(rgb, alpha, full_size, profile_use, raster.missing, raster.orientation)


def decode_mask(path: Path, *, max_pixels: int) -> Bools:
    """Reads a mask (h, w) as stored, without applying its orientation; raises as `decode_photo`.

    The object is the opaque part if the mask has transparency, else the pixels brighter than half of the brightest
    one, whatever values stand for black and white. `prepare_image` recognises other masks by the object's box.
    """
    return decode_label_mask(path, max_pixels=max_pixels)[0]


def decode_label_mask(path: Path, *, max_pixels: int) -> tuple[Bools, npt.NDArray[np.generic]]:
    """The same mask, and the stored values (h, w), equal where opacity, colour or palette index are."""
    with _rejecting(path), _opened(path) as file:
        raster = _read(file, max_pixels, None, False)
        image, samples = raster.image, raster.samples
        if samples is not None and not samples.has_alpha and samples.key is None:
            labels = values = samples.values.max(axis=2)
            values = values.max() - values if samples.white_is_zero else values
        else:
            rgb, alpha, _ = _channels(replace(raster, colours=SRGB), None)
            if alpha is not None and (alpha >= 128).any() and (alpha < 128).any():
                return alpha >= 128, alpha
            rgb = rgb if image is None else np.asarray(image.convert("RGB"))
            is_palette = image is not None and image.mode == "P"
            labels = np.asarray(image) if is_palette else rgb @ np.array([65536, 256, 1])
            values = rgb.max(axis=2)
            values = labels if is_palette and np.ptp(values) == 0 else values  # one colour alone: use the indices
    highest = values.max(initial=0)
    return np.asarray(values > (highest / 2 if highest > 1 else 0)), labels


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a regular file; a pipe does not block."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise Rejected("source_unreadable", f"{printable(str(path))} is not a regular file")
        if state.st_size > MAX_FILE_BYTES:
            raise Rejected("too_large", f"the file has {state.st_size / 2**20:,.0f} MB")
        yield file


@contextmanager
def _rejecting(path: Path) -> Iterator[None]:
    """Converts errors of decoders to rejections."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, which is not used here
            yield
    except (PermissionError, IsADirectoryError, FileNotFoundError) as error:
        raise Rejected("source_unreadable", f"{printable(str(path))} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise Rejected("too_large", "its pixels do not fit into memory") from error
    except DECODER_ERRORS as error:
        raise Rejected("file_corrupt", _describe(error)) from error


def _read(file: BinaryIO, max_pixels: int, enough_px: int | None, keep_incomplete: bool) -> _Raster:
    start = file.read(START_BYTES)
    file.seek(0)
    form = photo_format(start)
    if not start:
        raise Rejected("file_corrupt", "the file is empty")
    turned_by_decoder = 1
    match form:
        case "JPEG":
            return _read_jpeg(jpeg_pixels(file.read()), max_pixels, enough_px, keep_incomplete)
        case "PNG":
            return _read_png(file.read(), max_pixels)
        case "TIFF":
            return _read_tiff(_photo_of_tiff(file.read()), max_pixels)
        case "PPM":
            file = io.BytesIO(portable_pixels(file.read()))
        case "JXL":
            width, height, turned_by_decoder = jxl_header(file.read())
            _check_size(width, height, max_pixels)
            file.seek(0)
    image = _identified(file, form, start)
    _check_size(*image.size, max_pixels)
    image.load()
    colours, boxes = _colour_space(image), b""
    if form in BOXED_FORMATS:
        file.seek(0)
        boxes = file.read(MAX_BOX_BYTES)
        colours = colours if colours.profile else container_colours(boxes)
    is_upright = turned_by_decoder > 1 and not getattr(image, "jpeg", False)  # a restored JPEG is not turned
    orientation = 1 if is_upright else _orientation(image)
    if image.mode.startswith(("I", "F")):
        return _Raster(None, samples_of_image(image), image.size, orientation, colours)
    if form == "JPEG2000" and (bits := jpeg2000_bits(boxes)) > 8:  # whose brightest values Pillow makes black
        file.seek(0)
        samples = replace(_wide_samples(file.read(), image.size, max_pixels), bits=bits)
        return _Raster(None, samples, image.size, orientation, colours)
    return _Raster(image, None, image.size, orientation, colours)


def _identified(file: BinaryIO, form: str | None, start: bytes) -> Image.Image:
    """Opens the image and reads its header."""
    add_decoder(form)
    decoders = tuple(name for name in DECODERS[form] if name in Image.OPEN)
    if form in EXTRA_FORMATS and not decoders:
        raise Rejected(
            "format_unknown",
            f"the file is {EXTRA_FORMATS[form]}, which an extra reads: pip install 'visual-object-networks[photos]'",
        )
    image = _header_read(file, decoders)
    if image is None and form is None:
        raise Rejected("format_unknown", f"it is {describe_bytes(start)}, which is not a supported photo format")
    if image is None:
        name = EXTRA_FORMATS.get(form or "", form)
        raise Rejected("file_corrupt", f"the file begins like {name}, but the rest is invalid")
    return image


def _header_read(file: BinaryIO, decoders: tuple[str, ...]) -> Image.Image | None:
    with _pillow:  # Pillow's own pixel limit may be lower than ours, and is global to the process
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=decoders)
        except UnidentifiedImageError:
            return None
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def add_decoder(form: str | None) -> None:
    """Registers Pillow's own decoders, and the one of an extra if the format needs it and it is installed."""
    Image.init()
    try:
        if form == "HEIF" and form not in Image.OPEN:
            import pillow_heif

            pillow_heif.register_heif_opener()
        elif form == "JXL" and form not in Image.OPEN:
            import pillow_jxl  # noqa: F401 - registers itself
    except ImportError:
        pass


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise Rejected("too_large", f"{width} x {height} pixels are more than the {max_pixels:,} allowed")


def _read_jpeg(pixels: PixelData, max_pixels: int, enough_px: int | None, keep_incomplete: bool) -> _Raster:
    def opened(tail: bytes | None = None) -> Image.Image:
        image = _identified(pixels.opened(tail), "JPEG", b"")
        if enough_px is not None:
            scale = max(image.size) / enough_px
            image.draft(None, (max(1, int(image.width / scale)), max(1, int(image.height / scale))))
        return image

    if pixels.unread:
        raise Rejected("format_unknown", f"{pixels.unread} is not a supported photo format")
    image = _identified(pixels.opened(), "JPEG", b"")
    full_size = image.size
    if not pixels.progressive:  # a progressive JPEG is held in memory at full size
        image = opened()
    _check_size(*image.size, max_pixels)
    image = opened()
    try:
        image.load()
        is_certain = pixels.has_end and not _ends_flat(image)
    except OSError:
        if pixels.has_end:
            raise
        is_certain = False
    rows = image.height
    if not is_certain:
        image = opened(JPEG_END)
        image.load()
        rows = _certain_rows(image, opened(NOISE + JPEG_END))
    if rows < image.height:
        share = rows / image.height
        if not keep_incomplete or rows < 1:
            raise Rejected("file_corrupt", f"the file ends early or is damaged, after {100 * share:.0f} % of it")
        full_size = full_size[0], max(1, round(share * full_size[1]))
        image = Image.fromarray(np.asarray(image)[:rows], image.mode)
        return _Raster(image, None, full_size, pixels.orientation, pixels.colours, 1.0 - share)
    find_damage = _missing_scans if pixels.progressive else _damage_of_scans
    if pixels.has_end and (damage := find_damage(pixels.opened().read())):
        raise Rejected("file_corrupt", damage)
    return _Raster(image, None, full_size, pixels.orientation, pixels.colours)


def _damage_of_scans(data: bytes) -> str:
    """What is wrong with the entropy-coded data of a JPEG of sequential scans; "" if nothing is found.

    Decoders go on behind a damaged byte with whatever the bits happen to mean, so that a damaged picture looks whole
    to them. The codes are read without being decoded: behind damage they are invalid, end early, or leave bytes over.
    """
    lookup, components = np.zeros((8, 65536), dtype=np.int32), dict[int, tuple[int, int]]()
    width = height = interval = 0
    for kind, content, end in _segments(data):
        if kind == 0xC4:
            _add_huffman_tables(content, lookup)
        elif kind in (0xC0, 0xC1):
            height, width = struct.unpack_from(">HH", content, 1)
            components = {content[at]: divmod(content[at + 1], 16) for at in range(6, 6 + 3 * content[5], 3)}
        elif kind == 0xDD:
            (interval,) = struct.unpack_from(">H", content)
        elif kind == 0xDA and components:  # without them: of another kind, such as arithmetic coding
            blocks, units = _scan_layout(content, components, (width, height))
            if not lookup[blocks].any(axis=2).all():  # without tables of its own, as a frame of a film
                return ""
            verdict, unit, place = _walk_scan(np.frombuffer(data, np.uint8), end, lookup, blocks, units, interval)
            if verdict != _WHOLE:
                words = "end early" if verdict == _SHORT else "are damaged"
                return f"its data {words}, after {100 * unit / units:.0f} % of it"
            marker = _SEGMENT.search(data, place)
            rest = data[place : marker.start() if marker else len(data)]
            if rest.strip(b"\0\xff"):
                return f"{len(rest):,} bytes are left over where its picture is complete: it is damaged before"
    return ""


def _missing_scans(data: bytes) -> str:
    """Says so if a progressive JPEG lacks bits of its brightness, the first component; "" otherwise."""
    missing_bits, first = np.ones(64, dtype=np.int32), -1
    for kind, content, _ in _segments(data):
        if kind == 0xC2:
            first = content[6]
        elif kind == 0xDA and first in content[1 : 1 + 2 * content[0] : 2]:
            low, high, bits = content[1 + 2 * content[0] : 4 + 2 * content[0]]
            missing_bits[low : high + 1] = bits & 15
    return "the scans of its details are missing" if first >= 0 and missing_bits.any() else ""


_SEGMENT = re.compile(rb"\xff[^\x00\xff\xd0-\xd8]")  # a marker with a length, or the end


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, content and end of each segment of a JPEG, without its entropy-coded data."""
    place = 0
    while (found := _SEGMENT.search(data, place)) is not None and found.end() + 2 <= len(data):
        kind = data[found.start() + 1]
        if kind == 0xD9:
            return
        place = found.end() + max(2, struct.unpack_from(">H", data, found.end())[0])
        yield kind, data[found.end() + 2 : place], place


def _add_huffman_tables(content: bytes, lookup: Numbers) -> None:
    """Enters the tables of a DHT segment: `lookup[class * 4 + number, next 16 bits]` is length << 8 | symbol."""
    place = 0
    while place + 17 <= len(content):
        row = lookup[4 * (content[place] >> 4 & 1) + (content[place] & 3)]
        counts, place = content[place + 1 : place + 17], place + 17
        row[:] = 0
        first = 0
        for length, count in enumerate(counts, start=1):
            for symbol in content[place : place + count]:
                after = first + (1 << (16 - length))
                row[first:after] = length << 8 | symbol
                first = after
            place += count


def _scan_layout(
    content: bytes, components: Mapping[int, tuple[int, int]], size: tuple[int, int]
) -> tuple[Numbers, int]:
    """(blocks, 2) the rows in the lookup table of each block's first and other codes, and the number of units."""
    named = {content[at]: content[at + 1] for at in range(1, 1 + 2 * content[0], 2)}
    across, down = (max(each[axis] for each in components.values()) for axis in (0, 1))
    width, height = size
    if len(named) == 1:  # blocks row by row
        (own_across, own_down) = components[next(iter(named))]
        width, height = -(-width * own_across // across), -(-height * own_down // down)
        across = down = 1
        counts = dict.fromkeys(named, 1)
    else:
        counts = {name: components[name][0] * components[name][1] for name in named}
    blocks = [(tables >> 4 & 3, 4 + (tables & 3)) for name, tables in named.items() for _ in range(counts[name])]
    return np.array(blocks, dtype=np.int32).reshape(-1, 2), -(-width // (8 * across)) * -(-height // (8 * down))


@kernel
def _walk_scan(
    data: Bytes, at: int, lookup: Numbers, blocks: Numbers, units: int, interval: int
) -> tuple[int, int, int]:
    """Reads the codes of a scan; returns a verdict, the number of whole units, and the offset of the next byte."""
    bits, held, missing = np.uint64(0), 0, 0  # read but not used, of which some are behind the last byte
    for unit in range(units):
        if interval > 0 and unit > 0 and unit % interval == 0:
            end = at if held - missing >= 8 else _behind_restart(data, at, unit // interval - 1)
            if end == at:
                return _DAMAGED, unit, at
            at, bits, held, missing = end, np.uint64(0), 0, 0
        for block in range(blocks.shape[0]):
            index = 0
            while index < 64:
                while held < 32:  # a code of 16 bits and a value of 15
                    byte, end = _coded_byte(data, at)
                    missing += 8 if end == at else 0
                    bits, held, at = (bits << np.uint64(8)) | byte, held + 8, end
                row = blocks[block, 1 if index else 0]
                entry = lookup[row, (bits >> np.uint64(held - 16)) & np.uint64(0xFFFF)]
                length, symbol = entry >> 8, entry & 255
                held -= length + (symbol & 15)
                if held < missing:
                    return _SHORT, unit, at
                is_end = index > 0 and symbol & 15 == 0 and symbol != _SIXTEEN_ZEROS
                run = 0 if index == 0 else symbol >> 4
                if length == 0 or (index == 0 and symbol > 15) or (index + run > 63 and not is_end):
                    return _DAMAGED, unit, at
                index = 64 if is_end else index + run + 1
    return _WHOLE, units, at - max(held - missing, 0) // 8


@kernel
def _coded_byte(data: Bytes, at: int) -> tuple[np.uint64, int]:
    """The next byte of a scan and the offset behind it; 0 and the same offset at a marker and at the end."""
    if at >= data.size or (data[at] == 0xFF and (at + 1 >= data.size or data[at + 1] != 0)):
        return np.uint64(0), at
    return np.uint64(data[at]), at + 2 if data[at] == 0xFF else at + 1


@kernel
def _behind_restart(data: Bytes, at: int, number: int) -> int:
    """The offset behind a restart marker of this number; the same offset if there is another or none."""
    start = at
    while start + 1 < data.size and data[start] == 0xFF and data[start + 1] == 0xFF:
        start += 1
    if start + 1 >= data.size or data[start] != 0xFF or data[start + 1] != 0xD0 + number % 8:
        return at
    return start + 2


def _ends_flat(image: Image.Image) -> bool:
    """Whether the last row may be a decoder's filling for missing data: few pixels differ from their neighbours."""
    last = np.asarray(image.crop((0, image.height - 1, image.width, image.height))).reshape(image.width, -1)
    return bool((last[1:] == last[:-1]).all(axis=1).mean() > 0.8) if image.width > 1 else True


def _certain_rows(image: Image.Image, probe: Image.Image) -> int:
    """The number of rows of a JPEG that do not change when other data follow the file's last byte."""
    try:
        probe.load()
    except OSError:
        return 0
    changed = ImageChops.difference(image, probe).getbbox()
    return image.height if changed is None else max(0, changed[1] - 2)  # chroma is interpolated across two rows


def _read_png(data: bytes, max_pixels: int) -> _Raster:
    if data[12:16] == b"CgBI":
        raise Rejected("format_unknown", "a PNG in the form that Apple's programs give it (CgBI) is not read")
    pixels = png_pixels(data)
    image = _identified(pixels.opened(), "PNG", b"")
    _check_size(*image.size, max_pixels)
    colours = len(image.palette.palette) // 3 if image.palette else 256
    image.load()
    last = np.asarray(image)[-2:]
    if not last.reshape(len(last), -1).any(axis=1).all() and png_lacks_rows(pixels):
        raise Rejected("file_corrupt", "its compressed data end before its last row")
    if image.mode == "P" and int(np.asarray(image).max()) >= colours:
        raise Rejected("file_corrupt", f"a pixel has a colour beyond the {colours} of the palette")
    stated = pixels.orientation, pixels.colours
    if image.mode.startswith("I"):
        return _Raster(None, samples_of_image(image), image.size, *stated)
    key, bits = image.info.get("transparency"), data[24]
    fits = 8 * image.width * image.height <= MAX_BYTES_PER_PIXEL * max_pixels
    is_wide = isinstance(key, tuple) or (pixels.colours != SRGB and fits)
    if bits == 16 and is_wide:  # of which Pillow keeps eight: too few for a transparent or a linear colour
        wide = _wide_samples(pixels.opened().read(), image.size, max_pixels)
        return _Raster(None, wide, image.size, *stated)
    if isinstance(key, int) and image.mode == "L" and bits in (2, 4):  # which Pillow expands to eight
        image.info["transparency"] = key * 255 // (2**bits - 1)
    return _Raster(image, None, image.size, *stated)


def _wide_samples(data: bytes, size: tuple[int, int], max_pixels: int) -> Samples:
    """The pixels of a PNG or JPEG 2000 with over 8 bits per colour, a transparent colour of PNG as opacity."""
    if 8 * size[0] * size[1] > MAX_BYTES_PER_PIXEL * max_pixels:
        raise Rejected("too_large", f"{size[0]} x {size[1]} pixels of 8 bytes are more than allowed")
    found = read_by_opencv(data)
    if found is None or found.shape[:2] != size[::-1] or found.shape[2] == 1:
        raise Rejected("format_unknown", "a picture with over 8 bits per colour in channels of this kind is not read")
    return Samples(found, has_alpha=found.shape[2] == 4)


def _read_tiff(file: BinaryIO, max_pixels: int) -> _Raster:
    Image.init()
    image = _header_read(file, DECODERS["TIFF"])
    if image is None or has_wide_channels(image):
        samples, orientation, profile = read_tiff_samples(file, max_pixels)
        size = samples.values.shape[1], samples.values.shape[0]
        return _Raster(None, samples, size, orientation, ColourSpace(profile))
    _check_size(*image.size, max_pixels)
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    tags, colours = dict(image.tag_v2), _colour_space(image)
    if np.asarray(tags.get(273, tags.get(324, 8))).min() < 8:  # offsets of strips or tiles, within the header
        raise Rejected("file_corrupt", "the TIFF lacks a part of its picture")
    orientation = tags.get(ORIENTATION, 1)
    orientation = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    image.getexif = Image.Exif  # type: ignore[method-assign]  # `load` neither rotates it nor fails on odd EXIF
    try:
        image.load()
    except OSError as error:
        if tags.get(COMPRESSION) != WEBP_IN_TIFF:
            raise
        raise Rejected("format_unknown", "a TIFF with compression 50001 (WebP) is not read") from error
    if image.mode == "P" and 0 < max(tags.get(COLOUR_MAP, (0,))) < 256:  # 8-bit values where TIFF wants 16 bits
        image.putpalette(bytes(tags[COLOUR_MAP]), "RGB;L")
    if orientation >= 5:  # Pillow has already swapped width and height; the copy has those of the pixels
        image = image.copy()
    size = image.size
    if image.mode.startswith(("I", "F")) or 2 in np.atleast_1d(tags.get(339, 1)):  # SampleFormat: signed integers
        return _Raster(None, samples_of_image(image, tags), size, orientation, colours)
    return _Raster(image, None, size, orientation, colours)


def _photo_of_tiff(data: bytes) -> BinaryIO:
    """A TIFF that begins with the page of the photo, behind no preview of it and no mask.

    Raises:
        Rejected: format_unknown: there are previews alone, as in a camera's raw file, or several pictures.
    """
    pages = tiff_pages(data)
    if not pages:
        return io.BytesIO(data)
    if pages[0].has_sub_pictures and not any(page.is_full for page in pages):
        raise Rejected(
            "format_unknown", "a TIFF that shows a preview alone, as a camera's raw file does, is not read"
        )
    page = photo_page(pages)
    if page is None:
        count = max(len(pages), *(each.planes for each in pages))
        raise Rejected(
            "format_unknown",
            f"a TIFF of {count} pages or planes, of which any may be the photo: save that one as a file of its own",
        )
    return io.BytesIO(tiff_from_page(data, page))


def _colour_space(image: Image.Image) -> ColourSpace:
    profile = image.info.get("icc_profile")
    return ColourSpace(profile if isinstance(profile, bytes) else b"")


def _orientation(image: Image.Image) -> int:
    try:
        stated = image.getexif().get(ORIENTATION, 1)
    except DECODER_ERRORS:
        return 1
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1


def _channels(raster: _Raster, enough_px: int | None) -> tuple[Bytes, Bytes | None, ProfileUse | None]:
    """Colours (h, w, 3) in sRGB, opacity (h, w) or None, and how the file's colour space was used."""
    image, alpha = raster.image, None
    if image is None:
        assert raster.samples is not None
        image, alpha, profile_use = samples_to_srgb(raster.samples, raster.colours)
        return np.array(image.convert("RGB")), alpha, profile_use
    if image.format in UNRELIABLE_ALPHA and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        image = image.convert("RGB")  # the fourth byte is unused and zero everywhere
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
    factor = 1 if enough_px is None else max(image.size) // enough_px
    if factor > 1 and image.mode in REDUCIBLE:
        image = image.reduce(factor)
    if image.mode in ("LA", "RGBA"):
        alpha = np.array(image.getchannel("A"))
        image = image.getchannel("L") if image.mode == "LA" else image.convert("RGB")
    image, profile_use = colours_to_srgb(image, raster.colours)
    return np.array(image.convert("RGB")), alpha, profile_use


_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}


def turned(pixels: Bytes, orientation: int) -> Bytes:
    """Pixels (h, w) or (h, w, c) with an EXIF orientation applied."""
    quarters, mirrored = _TURNS.get(orientation, (0, False))
    result = np.rot90(pixels, quarters)
    return np.ascontiguousarray(result[:, ::-1] if mirrored else result)


def _describe(error: Exception) -> str:
    text = printable(str(error)).strip() or type(error).__name__
    return text[0].lower() + text[1:] if text[:2].istitle() else text
