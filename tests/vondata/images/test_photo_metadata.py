"""Metadata of photos: orientations are applied, and nothing else in it changes or refuses a photo."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from tests.vondata.images.photo_bytes import (
    HEIGHT,
    WIDTH,
    chunk,
    decoded,
    picture,
    png_with,
    with_exif,
    written,
)
from vondata.images.photo_files import (
    ADOBE_RGB,
    ColourSpace,
    exif_colours,
    exif_orientation,
)

EXIF_KINDS = {"short": 3, "long": 4, "byte": 1, "text": 2, "signed": 9, "double": 12, "unknown": 99}


def exif_block(order, kind, value, count=1, extra=b""):
    """An EXIF block whose orientation is of any type, beside pointers that lead nowhere."""
    sign = {"<": b"II*\0", ">": b"MM\0*"}[order]
    field = {1: "B3x", 2: "4s", 3: "H2x", 4: "I", 9: "i"}.get(kind, "I")
    packed = struct.pack(order + field, str(value).encode() if kind == 2 else value)
    entries = [struct.pack(f"{order}HHI", 0x0112, kind, count) + packed]
    entries.append(struct.pack(f"{order}HHII", 0x011A, 2, 4, 0x61626300))  # the resolution in words
    entries.append(struct.pack(f"{order}HHII", 0x8769, 4, 1, 60_000))  # a directory beyond the end
    entries.append(struct.pack(f"{order}HHII", 0x8825, 3, 1, 8))  # one that is this directory itself
    return sign + struct.pack(f"{order}I", 8) + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + extra


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", list(EXIF_KINDS))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG"])
def test_exif_of_wrong_types_stops_no_photo(tmp_path, order, kind, format_name):
    block = exif_block(order, EXIF_KINDS[kind], 6)
    photo = decoded(written(tmp_path / "a", with_exif(format_name, block)))
    turned = kind in ("short", "long", "byte", "text", "signed")
    expected = np.rot90(picture(), 3) if turned else picture()
    assert np.abs(photo.rgb.astype(int) - expected).max() <= 8
    assert photo.full_size == ((HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT))


@settings(max_examples=200)
@given(block=st.binary(max_size=80).map(lambda rest: b"MM\0*\0\0\0\x08" + rest) | st.binary(max_size=200))
def test_any_exif_gives_an_orientation(block):
    assert 0 <= exif_orientation(block) <= 8
    assert exif_colours(block) in (ColourSpace(), ADOBE_RGB)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientations_that_there_are_not_leave_the_photo_as_it_is(tmp_path, value):
    for name in ("JPEG", "PNG"):
        photo = decoded(written(tmp_path / "a", with_exif(name, exif_block("<", 3, value))))
        assert photo.full_size == (WIDTH, HEIGHT)
    image, exif = Image.fromarray(picture()), Image.Exif()
    exif[0x0112] = value
    image.save(tmp_path / "a.tif", exif=exif)
    np.testing.assert_array_equal(decoded(tmp_path / "a.tif").rgb, picture())


def test_metadata_of_any_size_refuses_no_pixels(tmp_path):
    huge = zlib.compress(bytes(80 << 20))
    texts = [
        chunk(b"zTXt", b"Comment\0\0" + huge),
        chunk(b"iTXt", b"XML\0\1\0\0\0" + huge),
        chunk(b"tEXt", b"a" * 9_000_000),
    ]
    profile = chunk(b"iCCP", b"a\0\0" + huge)
    damaged = bytearray(chunk(b"tEXt", b"Comment\0words"))
    damaged[-1] ^= 0xFF  # its checksum
    strange = chunk(b"vnDr", bytes(1000))
    for extra in ([each] for each in (*texts, profile, bytes(damaged), strange)):
        photo = decoded(written(tmp_path / "a.png", png_with(picture(), *extra)))
        np.testing.assert_array_equal(photo.rgb, picture())
    memory = io.BytesIO()
    Image.fromarray(picture()).save(memory, "JPEG", quality=98)
    content = memory.getvalue()
    segment = b"\xff\xed" + struct.pack(">H", 65_000) + bytes(64_998)
    photo = decoded(written(tmp_path / "a.jpg", content[:2] + 200 * segment + content[2:]))
    assert np.abs(photo.rgb.astype(int) - picture()).max() <= 8


def test_orientation_in_xmp_and_in_texts_of_png(tmp_path):
    information = PngImagePlugin.PngInfo()
    information.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="3"/>')
    Image.fromarray(picture()).save(tmp_path / "a.png", pnginfo=information)
    np.testing.assert_array_equal(decoded(tmp_path / "a.png").rgb, picture()[::-1, ::-1])
    digits = (b"Exif\0\0" + exif_block(">", 3, 3)).hex()
    information = PngImagePlugin.PngInfo()
    information.add_text("Raw profile type exif", f"\nexif\n{len(digits) // 2}\n{digits}\n", zip=True)
    Image.fromarray(picture()).save(tmp_path / "a.png", pnginfo=information)
    np.testing.assert_array_equal(decoded(tmp_path / "a.png").rgb, picture()[::-1, ::-1])
