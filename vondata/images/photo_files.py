"""Photo file formats: detection by content, EXIF orientation and colour space, JPEG and PNG without metadata.

Metadata never decides whether a photo can be read. The decoder gets only the pixel data of a JPEG or PNG; orientation
and colour space are read here, by parsers that ignore invalid entries. So neither wrong EXIF types nor a caption of
100 MB make a photo unreadable.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_PROFILE_BYTES = 16 * 2**20
MAX_TEXT_BYTES = 2**20  # of a text that may hold EXIF, decompressed
MAX_PROFILE_PARTS = 255
ORIENTATION = 0x0112  # EXIF's tag
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_END = b"\xff\xd9"

# Signatures at the beginning of files, and Pillow's names of the formats.
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (PNG_SIGNATURE, "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
    (b"\xff\x0a", "JXL"),
)
_BRANDS = {  # of ISO base media files: bytes 8 to 12
    b"avif": "AVIF",
    b"avis": "AVIF",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIF"),
    **dict.fromkeys((b"mif1", b"msf1", b"mif2"), "HEIF"),
}
_PORTABLE = re.compile(rb"P[1-6fYy][\s0-9#]")  # PBM, PGM, PPM and PFM of grey
# Signatures of unsupported pictures and documents; only for the message.
_STRANGERS = (
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (b"IIU\x00", "a camera's raw file"),
    (b"IIRO", "a camera's raw file"),
    (b"IIRS", "a camera's raw file"),
    (b"gimp xcf", "a GIMP picture"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"DDS ", "a DirectDraw texture"),
    (b"qoif", "a QOI picture"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<html", "a web page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "XML, such as an SVG drawing"),
    (b"version https://git-lfs", "a pointer of Git LFS, whose content is still to be fetched"),
    (b"P7\n", "a PAM picture"),
    (b"PF\n", "a PFM picture of colours"),
    (b"\x7fELF", "a program"),
    (b"{", "text"),
    (b"[", "text"),
)


def photo_format(start: bytes) -> str | None:
    """The format of a photo by its first 32 bytes, None if they are not of a photo.

    Formats without a signature (TGA) are not recognised.
    """
    for signature, name in _SIGNATURES:
        if start.startswith(signature):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp":
        return next((_BRANDS[brand] for brand in _brands(start) if brand in _BRANDS), None)
    return "PPM" if _PORTABLE.match(start) else None


def describe_bytes(start: bytes) -> str:
    """Describes a file that is not a supported photo, by its first 32 bytes."""
    if start[4:8] == b"ftyp":
        return "a camera's raw file" if start[8:11] == b"crx" else "a video or a picture of an unknown kind"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, name in _STRANGERS:
        if text.lower().startswith(signature.lower()):
            return name
    return f"a file that begins with {start[:8]!r}"


def _brands(start: bytes) -> Iterator[bytes]:
    """The major brand and the compatible ones; HEIF's structural brands come last, as they are the least specific."""
    found = [start[8:12], *(start[place : place + 4] for place in range(16, len(start) - 3, 4))]
    return iter(sorted(found, key=lambda brand: brand in (b"mif1", b"msf1", b"mif2")))


@dataclass(frozen=True)
class ColourSpace:
    """The colour space that a file declares; all empty for sRGB or no declaration.

    Attributes:
        profile: an ICC profile.
        gamma: exponent of the encoding (0.45455 for about sRGB), from PNG, or of Adobe RGB declared in EXIF; 0 for
            the curve of sRGB, `VIDEO_CURVE` for that of BT.709.
        primaries: x and y of white, red, green and blue, from the same.
        unread: an encoding that cannot be converted to sRGB; empty for others.
    """

    profile: bytes = b""
    gamma: float = 0.0
    primaries: tuple[float, ...] = ()
    unread: str = ""


SRGB, VIDEO_CURVE = ColourSpace(), -1.0
ADOBE_RGB = ColourSpace(b"", 256 / 563, (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06))

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
# By the code points of ITU-T H.273, which PNG (cICP), AVIF and HEIC (nclx) use; those of sRGB are left out.
_CICP_PRIMARIES = {
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    22: (*_D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}
_CICP_GAMMAS = {4: 1 / 2.2, 5: 1 / 2.8, 8: 1.0}
_CICP_VIDEO, SRGB_CURVE = (1, 6, 14, 15), 13
_CICP_HDR = {16: "PQ", 18: "HLG"}


def cicp_colours(primaries: int, transfer: int, is_full_range: bool = True) -> ColourSpace:
    """The colours that code points of ITU-T H.273 stand for."""
    if transfer in _CICP_HDR:
        return ColourSpace(unread=f"high dynamic range ({_CICP_HDR[transfer]})")
    if not is_full_range:
        return ColourSpace(unread="narrow range, as films have it")
    gamma = VIDEO_CURVE if transfer in _CICP_VIDEO else _CICP_GAMMAS.get(transfer, 0.0)
    return ColourSpace(b"", gamma, _CICP_PRIMARIES.get(primaries, ()))


def jpeg2000_bits(start: bytes) -> int:
    """Bits per colour of a JPEG 2000, by the start of the file; 0 if that does not say."""
    place = start.find(b"\xff\x4f\xff\x51")
    return (start[place + 42] & 0x7F) + 1 if 0 <= place < len(start) - 42 else 0


_NCLX = re.compile(rb"colrnclx(.{2})(.{2})", re.DOTALL)


def container_colours(start: bytes) -> ColourSpace:
    """What boxes at the start of an AVIF, HEIC or JPEG 2000 say of its colours, which their decoders leave out."""
    if found := _NCLX.search(start):
        primaries, transfer = (int.from_bytes(each, "big") for each in found.groups())
        # Programs note the curve of films for pictures of sRGB, and browsers show them so.
        return cicp_colours(primaries, SRGB_CURVE if transfer in _CICP_VIDEO else transfer)
    place = start.find(b"colr\x02")  # JPEG 2000: a profile
    if place < 4:
        return SRGB
    end = place - 4 + struct.unpack_from(">I", start, place - 4)[0]
    return ColourSpace(start[place + 7 : end]) if place + 7 < end <= len(start) else SRGB


@dataclass(frozen=True, eq=False)
class PixelData:
    """A file without the metadata around its pixels.

    Attributes:
        parts: byte ranges; concatenated they are the file.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        colours: colour space of the file.
        has_end: whether a JPEG has its end marker; True for other formats.
        progressive: whether a JPEG has several scans, which are held in memory together.
        unread: the kind of a JPEG that decoders do not support; empty for others.
    """

    parts: tuple[memoryview, ...]
    orientation: int = 1
    colours: ColourSpace = SRGB
    has_end: bool = True
    progressive: bool = False
    unread: str = ""

    def opened(self, tail: bytes | None = None) -> io.BufferedReader:
        """The bytes as a file.

        Args:
            tail: replaces a JPEG's end marker; None leaves the file as it is.
        """
        parts = self.parts
        if tail is not None:
            last = bytes(parts[-1][:-2] if self.has_end else parts[-1])
            parts = (*parts[:-1], memoryview(last)[: _without_padding(last, len(last))], memoryview(tail))
        return io.BufferedReader(_Joined(parts))


class _Joined(io.RawIOBase):
    """Concatenated byte ranges as a file, without copying them."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._size = sum(len(part) for part in self._parts)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        done = 0
        start = self._place
        for part in self._parts:
            if done == len(target):
                break
            if start < len(part):
                stretch = part[start : start + len(target) - done]
                target[done : done + len(stretch)] = stretch
                done += len(stretch)
                start = 0
            else:
                start -= len(part)
        self._place += done
        return done


_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))  # markers of a header

_NO_PADDING = re.compile(rb"[^\xff]")


def jpeg_pixels(data: bytes) -> PixelData:
    """A JPEG without its metadata; the unchanged file if its structure is invalid."""
    view = memoryview(data)
    kept, exif, xmp, profile = [view[:2]], b"", b"", dict[int, bytes]()
    place, progressive, unread = 2, False, ""
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return PixelData((view,))
        kind = data[place + 1]
        if kind == 0xFF:  # padding
            after = _NO_PADDING.search(data, place)
            place = after.start() - 1 if after else len(data)
            continue
        length = struct.unpack_from(">H", data, place + 2)[0]
        if length < 2:
            return PixelData((view,))
        content, end = view[place + 4 : place + 2 + length], place + 2 + length
        if kind in (0xE0, 0xEE) or not (0xE0 <= kind <= 0xEF or kind == 0xFE):  # of APPn JFIF and Adobe; no comments
            kept.append(view[place:end])
        elif kind == 0xE1 and bytes(content[:6]) == b"Exif\0\0":
            exif = exif or bytes(content[6:])
        elif kind == 0xE1 and bytes(content[:28]) == b"http://ns.adobe.com/xap/1.0/":
            xmp = xmp or bytes(content[29:])
        elif kind == 0xE2 and bytes(content[:12]) == b"ICC_PROFILE\0" and len(content) > 14:
            profile.setdefault(content[12], bytes(content[14:]))
        progressive = progressive or kind in (0xC2, 0xC6, 0xCA, 0xCE)
        if kind == 0xF7:
            unread = "JPEG-LS"
        elif kind in _FRAMES and len(content) and content[0] > 8:
            unread = f"JPEG of {content[0]} bits per colour"
        place = end
        if kind == 0xDA:
            stop, has_end = _end_of_scans(data, place)
            icc = b"".join(profile[number] for number in sorted(profile))
            return PixelData(
                (*kept, view[place:stop]),
                exif_orientation(exif) or _xmp_orientation(xmp) or 1,
                ColourSpace(icc if len(icc) <= MAX_PROFILE_BYTES else b"") if icc else exif_colours(exif),
                has_end,
                progressive,
                unread,
            )
    return PixelData((view,))


_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within a scan: no escaped byte, no restart, no padding


_PADDING_BLOCK = 65536  # bytes of padding that are removed at once
_BETWEEN_SCANS = (0xC4, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0))  # tables, scans, comments


def _end_of_scans(data: bytes, place: int) -> tuple[int, bool]:
    """The end of a JPEG's first picture, whose first scan begins at `place`, and whether it has an end marker.

    A marker that no scan may contain, as where a disk lost a block, ends the picture: decoders go no further.
    """
    while (found := _MARKER.search(data, place)) is not None:
        if data[found.start() + 1] == 0xD9:
            return found.end(), True
        if data[found.start() + 1] not in _BETWEEN_SCANS:
            return _without_padding(data, found.start()), False
        if found.end() + 2 > len(data):
            break
        place = found.end() + max(2, struct.unpack_from(">H", data, found.end())[0])
    return _without_padding(data, len(data)), False


def _without_padding(data: bytes, end: int) -> int:
    """The end of the data before bytes 0xFF, which would make a marker of whatever follows."""
    while end > 0 and data[end - 1] == 0xFF:
        block = data[max(0, end - _PADDING_BLOCK) : end]
        end -= len(block) - len(block.rstrip(b"\xff"))
    return end


# Chunks with pixel data. Animation chunks are dropped: the default picture remains.
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def png_pixels(data: bytes) -> PixelData:
    """A PNG without its metadata; a damaged remainder is kept for the decoder."""
    view = memoryview(data)
    kept, found = [view[:8]], dict[bytes, memoryview]()
    place = 8
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if kind in _PIXEL_CHUNKS or end > len(data) or not kind.isalpha():
            kept.append(view[place:end])
        elif kind in (b"eXIf", b"cICP", b"iCCP", b"gAMA", b"cHRM", b"sRGB"):
            found.setdefault(kind, view[place + 8 : end - 4])
        elif kind in (b"zTXt", b"tEXt", b"iTXt"):
            name = bytes(view[place + 8 : place + 32]).partition(b"\0")[0]
            found.setdefault(kind + name, view[place + 8 : end - 4])
        place = end
        if kind == b"IEND":
            break
    else:
        kept.append(view[place:])
    return PixelData(tuple(kept), _png_orientation(found), _png_colours(found))


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png_lacks_rows(pixels: PixelData) -> bool:
    """Whether the compressed data of a PNG that its decoder accepts end before its last row."""
    header = next(bytes(part) for part in pixels.parts if bytes(part[4:8]) == b"IHDR")
    width, height, bits, colour, *_, interlaced = struct.unpack_from(">IIBBBBB", header, 8)
    wanted = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        wanted += rows * (1 + -(-columns * bits * _PNG_CHANNELS[colour] // 8)) if columns > 0 and rows > 0 else 0
    inflater = zlib.decompressobj()
    for part in pixels.parts:
        packed = bytes(part[8:-4]) if bytes(part[4:8]) == b"IDAT" else b""
        while packed and wanted > 0:
            wanted -= len(inflater.decompress(packed, 2**20))
            packed = inflater.unconsumed_tail
    return wanted > 0


def _png_orientation(found: dict[bytes, memoryview]) -> int:
    exif = bytes(found.get(b"eXIf", b"")[:65536])
    if not exif:  # as ImageMagick writes it: hexadecimal digits in a text
        raw = _inflated(bytes(found.get(b"zTXtRaw profile type exif", b"")).partition(b"\0")[2][1:], MAX_TEXT_BYTES)
        raw = raw or bytes(found.get(b"tEXtRaw profile type exif", b"")).partition(b"\0")[2]
        digits = b"".join(raw[:MAX_TEXT_BYTES].split()[2:])
        if re.fullmatch(rb"[0-9a-fA-F]*", digits) and len(digits) % 2 == 0:
            exif = bytes.fromhex(digits.decode("ascii")).removeprefix(b"Exif\0\0")
    xmp = bytes(found.get(b"iTXtXML:com.adobe.xmp", b"")[:MAX_TEXT_BYTES])
    return exif_orientation(exif) or _xmp_orientation(xmp) or 1


def _png_colours(found: dict[bytes, memoryview]) -> ColourSpace:
    """CICP before iCCP before sRGB before gAMA and cHRM, as the PNG specification ranks them."""
    if len(codes := bytes(found.get(b"cICP", b""))) == 4:
        return cicp_colours(codes[0], codes[1], codes[3] == 1)
    if b"iCCP" in found:
        packed = bytes(found[b"iCCP"]).partition(b"\0")[2][1:]
        return ColourSpace(_inflated(packed, MAX_PROFILE_BYTES) or b"damaged")
    if b"sRGB" in found:
        return ColourSpace()
    gamma, primaries = bytes(found.get(b"gAMA", b"")), bytes(found.get(b"cHRM", b""))
    return ColourSpace(
        b"",
        struct.unpack(">I", gamma)[0] / 100_000 if len(gamma) == 4 else 0.0,
        tuple(value / 100_000 for value in struct.unpack(">8I", primaries)) if len(primaries) == 32 else (),
    )


def _inflated(packed: bytes, limit: int) -> bytes:
    """Decompressed bytes; empty if they are damaged or more than `limit`."""
    try:
        content = zlib.decompressobj().decompress(packed, limit + 1)
    except zlib.error:
        return b""
    return content if len(content) <= limit else b""


_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8}  # bytes of a value by EXIF's type
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q"}


def exif_orientation(block: bytes) -> int:
    """The orientation 1 to 8 in an EXIF block, of any numeric type; 0 without one."""
    order = _byte_order(block)
    for tag, kind, value in _directory(block, order, _first_directory(block, order)):
        if tag == ORIENTATION:
            if kind == 2:
                return int(value[:1]) if value[:1] in b"12345678" and value[:1] else 0
            stated = struct.unpack_from(order + _CODES[kind], value)[0] if _SIZES.get(kind, 8) <= 4 else 0
            return stated if 1 <= stated <= 8 else 0
    return 0


_EXIF_DIRECTORY, _COLOUR_SPACE, _INTEROPERABILITY = 0x8769, 0xA001, 0xA005  # EXIF's tags
_SRGB_CODE, _ADOBE_RGB_CODE = 1, 2  # of the colour space; for Adobe RGB cameras write 65535 and the index below
_INDEX, _ADOBE_RGB_INDEX = 1, b"R03"


def exif_colours(block: bytes) -> ColourSpace:
    """The colour space in an EXIF block: Adobe RGB, for which cameras write no ICC profile, or sRGB."""
    order = _byte_order(block)
    pointers = _numbers(block, order, _first_directory(block, order))
    within = _numbers(block, order, pointers.get(_EXIF_DIRECTORY, len(block)))
    code = within.get(_COLOUR_SPACE, 0)
    code = code >> 16 if order == ">" else code & 0xFFFF  # two bytes at the start of the four
    if code == _ADOBE_RGB_CODE:
        return ADOBE_RGB
    if code == _SRGB_CODE:
        return SRGB
    for tag, _, value in _directory(block, order, within.get(_INTEROPERABILITY, len(block))):
        if tag == _INDEX:
            return ADOBE_RGB if value[:3] == _ADOBE_RGB_INDEX else SRGB
    return SRGB


def _byte_order(block: bytes) -> str:
    """The byte order of an EXIF block for `struct`; "" if the block is not EXIF."""
    return {b"II": "<", b"MM": ">"}.get(block[:2], "") if len(block) >= 8 else ""


def _first_directory(block: bytes, order: str) -> int:
    return int(struct.unpack_from(f"{order}I", block, 4)[0]) if order else len(block)


def _numbers(block: bytes, order: str, start: int) -> dict[int, int]:
    """The four value bytes of each entry as one number, by tag; the first entry of a tag is used."""
    found = dict[int, int]()
    for tag, _, value in _directory(block, order, start):
        found.setdefault(tag, struct.unpack(f"{order}I", value)[0])
    return found


def _directory(block: bytes, order: str, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Tag, type and the four bytes of the value of each entry of an EXIF directory, as far as the block goes."""
    if start + 2 > len(block):
        return
    for number in range(struct.unpack_from(f"{order}H", block, start)[0]):
        place = start + 2 + 12 * number
        if place + 12 > len(block):
            return
        tag, kind = struct.unpack_from(f"{order}HH", block, place)
        yield tag, kind, block[place + 8 : place + 12]


_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([1-8])\s*[\"'<]")


def _xmp_orientation(packet: bytes) -> int:
    found = _XMP_ORIENTATION.search(packet)
    return int(found[1]) if found else 0


MAX_TIFF_ENTRIES = 2**20  # of all directories together
_TIFF_TAGS = {254: "kind", 255: "old_kind", 256: "width", 257: "height", 32997: "depth"}
_DESCRIPTION, _SUB_PICTURES = 270, 330
_NO_FULL_PICTURE = 1 | 4  # bits of `kind`: a reduced picture, a mask
_REDUCED = 2  # of `old_kind`
_IMAGEJ_PLANES = re.compile(rb"\AImageJ=.*?^images=(\d{1,9})$", re.DOTALL | re.MULTILINE)
_SMALLER = 0.9  # at most this share of the largest page's width is a preview's


@dataclass(frozen=True)
class TiffPage:
    """One page of a TIFF, from its directory.

    Attributes:
        start: offset of the directory in the file.
        size: width and height.
        is_full: whether it does not say that it is a reduced picture or a mask.
        has_sub_pictures: whether it has further pictures below it, as a camera's raw file does.
        planes: pictures behind one another in the page, 1 unless it is a volume.
    """

    start: int
    size: tuple[int, int]
    is_full: bool
    has_sub_pictures: bool = False
    planes: int = 1


def photo_page(pages: Sequence[TiffPage]) -> TiffPage | None:
    """The page of a TIFF that is the photo: the full one, not its previews and masks; None where several could be."""
    full = [page for page in pages if page.is_full] or list(pages[:1])
    largest = max(full, key=lambda page: page.size[0] * page.size[1])
    others = [page for page in full if page is not largest and not _is_preview(page, largest)]
    return largest if not others and largest.planes == 1 else None


def _is_preview(page: TiffPage, of: TiffPage) -> bool:
    """Whether a page is a smaller one in the same proportions."""
    (width, height), (full_width, full_height) = page.size, of.size
    away = abs(width * full_height - height * full_width)
    return width <= _SMALLER * full_width and away <= 1.5 * max(full_width, full_height)


def tiff_pages(data: bytes) -> list[TiffPage]:
    """The pages of a TIFF or BigTIFF, as far as their directories can be read."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    is_big = data[2:4] in (b"+\0", b"\0+")
    word, place = ("Q", 8) if is_big else ("I", 4)
    pages, left = dict[int, TiffPage](), MAX_TIFF_ENTRIES
    try:
        (start,) = struct.unpack_from(order + word, data, place)
        while start and start not in pages and left > 0:
            page, place = _tiff_page(data, start, order, is_big)
            pages[start] = page
            left -= max(1, (place - start) // 12)
            (start,) = struct.unpack_from(order + word, data, place)
    except struct.error:  # the file ends early
        pass
    return list(pages.values())


def _tiff_page(data: bytes, start: int, order: str, is_big: bool) -> tuple[TiffPage, int]:
    """The page of a directory, and where the offset of the next directory is stored.

    Raises:
        struct.error: the file ends before the directory does.
    """
    count_code, entry, word = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    (count,) = struct.unpack_from(order + count_code, data, start)
    first = start + struct.calcsize(count_code)
    found, has_sub_pictures, planes = dict[str, int](), False, 1
    for place in range(first, min(first + entry * count, len(data)), entry):
        tag, kind, length = struct.unpack_from(f"{order}HH{word}", data, place)
        value = place + (12 if is_big else 8)
        has_sub_pictures = has_sub_pictures or tag == _SUB_PICTURES
        if tag in _TIFF_TAGS and length >= 1 and kind in (1, 3, 4, 16):
            found.setdefault(_TIFF_TAGS[tag], struct.unpack_from(order + _CODES[kind], data, value)[0])
        elif tag == _DESCRIPTION and length > 16:
            (at,) = struct.unpack_from(order + word, data, value)
            stated = _IMAGEJ_PLANES.match(data[at : at + min(length, 4096)])
            planes = int(stated[1]) if stated else 1
    is_full = not found.get("kind", 0) & _NO_FULL_PICTURE and found.get("old_kind") != _REDUCED
    size = found.get("width", 0), found.get("height", 0)
    page = TiffPage(start, size, is_full, has_sub_pictures, max(planes, found.get("depth", 1)))
    return page, first + entry * count


def tiff_from_page(data: bytes, page: TiffPage) -> bytes:
    """The file with this page as its first."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    code, place = (f"{order}Q", 8) if data[2:4] in (b"+\0", b"\0+") else (f"{order}I", 4)
    start = struct.pack(code, page.start)
    return (
        data
        if data[place : place + len(start)] == start
        else b"".join((data[:place], start, data[place + len(start) :]))
    )


_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # of width to height


def jxl_header(data: bytes) -> tuple[int, int, int]:
    """Width, height and orientation (1 to 8) of a JPEG XL from its header; its decoder has no size limit.

    Raises:
        ValueError: the header ends early or holds no picture.
    """
    start = data[:65536]
    place = start.find(b"\xff\x0a") if start.startswith(b"\xff\x0a") else _jxl_codestream(start)
    if place < 0 or place + 12 > len(data):
        raise ValueError("the JPEG XL holds no picture")
    bits = int.from_bytes(data[place + 2 : place + 12], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    is_small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        width = side()
    else:
        across, down = _JXL_RATIOS[ratio - 1]
        width = height * across // down
    is_default = take(1)
    orientation = take(3) + 1 if not is_default and take(1) else 1
    return width, height, orientation


def _jxl_codestream(start: bytes) -> int:
    """The offset of the codestream in a JPEG XL container; -1 without one."""
    for kind, skip in ((b"jxlc", 4), (b"jxlp", 8)):  # a partial codestream begins with its index
        if (found := start.find(kind)) >= 0:
            return found + skip
    return -1
