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
    picture,
    reason_of,
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


def png_of(rows, bits=8, colour=2, interlaced=0, extra=b""):
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, interlaced)
    parts = chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rows_of(values):
    return b"".join(b"\0" + row.tobytes() for row in values)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@pytest.mark.parametrize("interlaced", [0, 1])
def test_compressed_data_that_end_before_the_last_row_are_noticed(tmp_path, interlaced):
    """Decoders fill the rest with black."""
    parts = [picture()[top::down, left::across] for left, top, across, down in ADAM7] if interlaced else [picture()]
    rows = b"".join(map(rows_of, parts))
    np.testing.assert_array_equal(
        decoded(written(tmp_path / "a.png", png_of(rows, interlaced=interlaced))).rgb, picture()
    )
    for share in (0.5, 0.99):
        reason, _ = reason_of(
            written(tmp_path / "a.png", png_of(rows[: int(share * len(rows))], interlaced=interlaced))
        )
        assert reason == "file_corrupt"


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(
    ("bits", "colour"), [(1, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (16, 6), (2, 3)]
)
def test_black_and_transparent_rows_are_no_missing_ones(tmp_path, bits, colour, interlaced):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    parts = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(HEIGHT - top) // down), -(-(WIDTH - left) // across)) for left, top, across, down in parts]
    rows = b"".join(height * (b"\0" + bytes(-(-width * channels * bits // 8))) for height, width in sizes)
    palette = chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    photo = decoded(written(tmp_path / "a.png", png_of(rows, bits, colour, interlaced, palette)))
    assert (photo.rgb == 0).all()


def test_colours_beyond_the_palette_are_noticed(tmp_path):
    values = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 20
    for count in (20, 19):
        palette = chunk(b"PLTE", bytes(range(3 * count)))
        path = written(tmp_path / "a.png", png_of(rows_of(values.astype(np.uint8)), colour=3, extra=palette))
        if count == 20:
            np.testing.assert_array_equal(decoded(path).rgb[..., 0], 3 * values)
        else:
            assert reason_of(path) == ("file_corrupt", "a pixel has a colour beyond the 19 of the palette")
