"""Transparent colours of PNG in any number of bits."""

import struct
import zlib

import numpy as np
import pytest

from tests.vondata.images.photo_bytes import (
    HEIGHT,
    WIDTH,
    chunk,
    decoded,
    packed,
    written,
)


@pytest.mark.parametrize("colour", [0, 2])
def test_the_transparent_colour_of_16_bit_png(tmp_path, colour):
    channels = 1 if colour == 0 else 3
    values = np.full((HEIGHT, WIDTH, channels), 0x9A00, dtype=">u2")
    values[:10] = 0x1234
    values[20:30] = 0x12FF  # nearly the transparent colour
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(">H", 0x1234) * channels)
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    photo = decoded(written(tmp_path / "a.png", content))
    assert (photo.alpha[:10] == 0).all()
    assert (photo.alpha[10:] == 255).all()
    assert np.abs(photo.rgb[30:].astype(int) - 0x9A).max() <= 1
    assert np.abs(photo.rgb[20:30].astype(int) - 0x12).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_grey_of_few_bits(tmp_path, bits):
    white = 2**bits - 1
    values = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    values[:10], values[10:20] = white, white - 1
    rows = b"".join(b"\0" + packed(row, bits) for row in values)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, 0, 0, 0, 0))
    content += chunk(b"tRNS", struct.pack(">H", white)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    photo = decoded(written(tmp_path / "a.png", content))
    assert (photo.alpha[:10] == 0).all()
    assert (photo.alpha[10:] == 255).all()
    assert (photo.rgb[10:20] == 255 * (white - 1) // white).all()
