"""TIFFs of any depth, layout and compression: read as their 8-bit twins, or rejected with a reason."""

import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import zstandard
from PIL import Image

from tests.harness import TIMEOUT_S
from tests.vondata.images.photo_bytes import (
    HEIGHT,
    WIDTH,
    decoded,
    packed,
    picture,
    reason_of,
    written,
)

SCALES = {"u1": 1.0, "u2": 257.0, "u4": 16843009.0, "i2": 32767 / 255, "f2": 1 / 255, "f4": 1 / 255, "f8": 1 / 255}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", list(SCALES))
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colour_tiffs_are_their_8_bit_twins(tmp_path, order, depth, planes, compression):
    values = (picture() * SCALES[depth]).astype(order + depth)
    values = np.ascontiguousarray(values.transpose(2, 0, 1)) if planes == "separate" else values
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="rgb", planarconfig=planes, byteorder=order, compression=compression
    )
    assert np.abs(decoded(tmp_path / "a.tif").rgb.astype(int) - picture()).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", list(SCALES))
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_tiffs_are_their_8_bit_twins(tmp_path, order, depth, photometric):
    grey = picture()[..., 0].copy()
    grey[0, 0] = 255  # the range of floating-point numbers is inferred from the largest one
    values = (grey * SCALES[depth]).astype(order + depth)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric, byteorder=order)
    expected = 255 - grey.astype(int) if photometric == "miniswhite" else grey.astype(int)
    assert np.abs(decoded(tmp_path / "a.tif").rgb - expected[..., None]).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_other_tiffs(tmp_path, order):
    path, rgb = tmp_path / "a.tif", picture()
    bits = rgb[..., 0] > 100
    for photometric, white in (("minisblack", bits), ("miniswhite", ~bits)):
        tifffile.imwrite(path, bits, photometric=photometric, byteorder=order)
        np.testing.assert_array_equal(decoded(path).rgb[..., 0], 255 * white)
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, rgb[..., 0], photometric="palette", colormap=257 * colours, byteorder=order)
    np.testing.assert_array_equal(decoded(path).rgb, colours[:, rgb[..., 0]].transpose(1, 2, 0))
    for options in ({"tile": (16, 16)}, {"bigtiff": True}, {"compression": "zlib", "predictor": True}):
        tifffile.imwrite(path, (rgb * 257.0).astype(f"{order}u2"), photometric="rgb", byteorder=order, **options)
        assert np.abs(decoded(path).rgb.astype(int) - rgb).max() <= 1
    tifffile.imwrite(path, np.dstack([255 - rgb, 0 * rgb[..., :1]]), photometric="separated", byteorder=order)
    assert np.abs(decoded(path).rgb.astype(int) - rgb).max() <= 1


@pytest.mark.parametrize("depth", ["u1", "u2", "f4"])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_opacity_of_tiffs_is_kept_and_colours_are_not_darkened_by_it(tmp_path, depth, kind):
    alpha = np.full((HEIGHT, WIDTH), 255.0)
    alpha[:, :20] = 128.0
    rgb = picture() * (alpha[..., None] / 255 if kind == "assocalpha" else 1.0)
    values = np.dstack([rgb, alpha]) * SCALES[depth]
    values = values.astype(depth) if depth == "f4" else values.round().astype(depth)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=[kind])
    photo = decoded(tmp_path / "a.tif")
    assert np.abs(photo.rgb.astype(int) - picture()).max() <= 2
    assert np.abs(photo.alpha - alpha).max() <= 1


def test_compressed_numbers_as_image_editors_write_them(tmp_path):
    values = (picture() / 255).astype(np.float32)
    for compression, predictor in ((5, 1), (8, 3)):
        options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
        cv2.imwrite(str(tmp_path / "a.tif"), values[..., ::-1], options)
        assert np.abs(decoded(tmp_path / "a.tif").rgb.astype(int) - picture()).max() <= 1


def test_a_tiff_that_is_too_wide_for_its_decoder_is_refused(tmp_path):
    row = np.full((1, 2**20 + 1, 3), 30000, np.uint16)
    cv2.imwrite(str(tmp_path / "a.tif"), row, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert reason_of(tmp_path / "a.tif")[0] == "format_unknown"


def bare_tiff(strip, bits, photometric, compression=1):
    """A TIFF of one strip of any bytes."""
    tags = {256: WIDTH, 257: HEIGHT, 258: bits, 259: compression, 262: photometric, 277: 1, 278: HEIGHT}
    tags |= {273: 8 + 2 + 12 * 9 + 4, 279: len(strip)}
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + rows + bytes(4) + strip


def test_tiffs_of_odd_depths_and_compressions_are_read_or_named(tmp_path):
    grey = picture()[..., 0].astype(np.int64)
    twelve = packed(grey * 4095 // 255, 12)
    photo = decoded(written(tmp_path / "a.tif", bare_tiff(twelve, 12, 1)))
    assert np.abs(photo.rgb - grey[..., None]).max() <= 1
    memory = io.BytesIO()
    Image.fromarray(picture()).save(memory, "WEBP")
    webp = bare_tiff(memory.getvalue(), 8, 1, compression=50001)
    for content in (bare_tiff(twelve, 12, 0), bare_tiff(packed(grey * 4, 10), 10, 1), webp):
        assert reason_of(written(tmp_path / "a.tif", content))[0] == "format_unknown"
    tifffile.imwrite(tmp_path / "a.tif", grey.astype(np.complex64), photometric="minisblack")
    assert reason_of(tmp_path / "a.tif") == ("format_unknown", "a TIFF of complex64 is not read")


def pages(path, *written_pages, **options):
    """A TIFF of several pages, each its pixels and its NewSubfileType."""
    with tifffile.TiffWriter(path, **options) as tiff:
        for values, kind in written_pages:
            colours = "rgb" if values.ndim == 3 else "minisblack"
            tiff.write(np.ascontiguousarray(values), photometric=colours, subfiletype=kind, metadata=None)
    return path


@pytest.mark.parametrize("depth", ["u1", "u2"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}], ids=str)
def test_previews_and_masks_beside_the_picture_of_a_tiff_are_passed_over(tmp_path, depth, options):
    values = (picture() * SCALES[depth]).astype(depth)
    small, mask = values[::4, ::4], values[..., 0] > 0
    for number, beside in enumerate(
        [
            [(small, 1), (values, 0)],
            [(values, 0), (small, 1), (values[::8, ::8], 1)],
            [(small, 0), (values, 0), (values[::2, ::2], 0)],  # without a note that they are reduced
            [(mask, 4), (values, 0)],
            [(values, 1)],
            [(values, 2)],  # a page of a document of one page
        ]
    ):
        path = pages(tmp_path / f"{number}.tif", *beside, **options)
        assert np.abs(decoded(path).rgb.astype(int) - picture()).max() <= 1


def test_a_compressed_picture_behind_a_mask_of_its_size(tmp_path):
    """Of 16 bits and LZW: a decoder that only knows the first page reads it."""
    values = picture().astype(np.uint16) * 257
    done, data = cv2.imencode(".tif", values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    content = bytearray(data.tobytes())
    start = len(content)
    content += bare_tiff(bytes(WIDTH * HEIGHT), 8, 1)[8:]  # a black mask, whose directory points to the picture's
    entries = struct.unpack_from("<H", content, start)[0]
    for number in range(entries):
        place = start + 2 + 12 * number
        if struct.unpack_from("<H", content, place)[0] == 273:
            struct.pack_into("<I", content, place + 8, start + 2 + 12 * entries + 4)
        if struct.unpack_from("<H", content, place)[0] == 277:  # in place of the samples per pixel, which are 1
            struct.pack_into("<HHII", content, place, 254, 4, 1, 4)
    struct.pack_into("<I", content, start + 2 + 12 * entries, struct.unpack_from("<I", content, 4)[0])
    struct.pack_into("<I", content, 4, start)
    assert done
    assert np.abs(decoded(written(tmp_path / "a.tif", bytes(content))).rgb.astype(int) - picture()).max() <= 1


@pytest.mark.parametrize("depth", ["u1", "u2"])
def test_a_tiff_of_several_pictures_is_refused_with_their_number(tmp_path, depth):
    stack = np.random.default_rng(0).integers(0, 200, (5, HEIGHT, WIDTH)).astype(depth)
    for options in ({}, {"imagej": True}, {"imagej": True, "truncate": True}, {"volumetric": True}, {"ome": True}):
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
        reason, detail = reason_of(tmp_path / "a.tif")
        assert reason == "format_unknown"
        assert "5 pages or planes" in detail
    values = picture()
    for beside in ([(values, 0), (255 - values, 0)], [(values, 2)] * 2, [(values, 0), (values[:, ::4], 0)]):
        assert "2 pages" in reason_of(pages(tmp_path / "a.tif", *beside))[1]


def test_directories_of_a_tiff_in_a_circle_end(tmp_path):
    content = bytearray(bare_tiff(bytes(WIDTH * HEIGHT), 8, 1))
    struct.pack_into("<I", content, 8 + 2 + 12 * 9, 8)
    assert decoded(written(tmp_path / "a.tif", bytes(content))).full_size == (WIDTH, HEIGHT)


def test_a_cameras_raw_file_is_not_its_preview(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.dng") as tiff:
        tiff.write(picture()[::4, ::4].copy(), photometric="rgb", subfiletype=1, subifds=1)
        tiff.write(picture()[..., 0].astype(np.uint16), photometric="cfa")
    reason, detail = reason_of(tmp_path / "a.dng")
    assert (reason, "raw file" in detail) == ("format_unknown", True)


def test_a_palette_of_8_bits_where_tiff_wants_16(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", picture()[..., 0], photometric="palette", colormap=colours)
    np.testing.assert_array_equal(decoded(tmp_path / "a.tif").rgb, colours[:, picture()[..., 0]].transpose(1, 2, 0))


def _float_bomb(path):
    tifffile.imwrite(path, np.zeros((9000, 9000, 3), np.float32), photometric="rgb", compression="zlib")


def _strip_bomb(path):
    """A small double picture whose only strip inflates to a gigabyte."""
    tifffile.imwrite(path, np.zeros((8, 8), np.float64), compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count_tag = page.dataoffsets[0], page.tags["StripByteCounts"]
        place, code = count_tag.valueoffset, {3: "<H", 4: "<I"}[int(count_tag.dtype)]
        start = page.tags["StripOffsets"]
    content, bomb = bytearray(path.read_bytes()), zlib.compress(bytes(1 << 30), 9)
    struct.pack_into({3: "<H", 4: "<I"}[int(start.dtype)], content, start.valueoffset, len(content))
    content[place : place + 4] = struct.pack("<I", len(bomb)) if code == "<I" else content[place : place + 4]
    del offset
    path.write_bytes(bytes(content) + bomb)


@pytest.mark.parametrize("make", [_float_bomb, _strip_bomb])
def test_memory_is_bounded_before_it_is_allocated(tmp_path, make):
    make(tmp_path / "a.tif")
    assert (tmp_path / "a.tif").stat().st_size < 3_000_000
    script = (
        "import resource, sys; from pathlib import Path; from vondata.images.decoding import decode_photo\n"
        "from vondata.types import Rejected\n"
        "import tifffile, cv2\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 700_000_000,) * 2)\n"
        "try: print(decode_photo(Path(sys.argv[1]), max_pixels=100_000_000).rgb.shape)\n"
        "except Rejected as verdict: print(verdict.reason)\n"
        "print(next(row.split()[1] for row in open('/proc/self/status') if row.startswith('VmHWM')))\n"
    )
    command = [sys.executable, "-c", script, tmp_path / "a.tif"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    reason, peak_kb = done.stdout.split()
    assert reason in ("too_large", "file_corrupt")
    assert int(peak_kb) < 1_200_000


def test_a_tiff_whose_strips_lie_nowhere_is_refused(tmp_path):
    path = written(tmp_path / "a.tif", bare_tiff(bytes(WIDTH * HEIGHT), 8, 1))
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<HHI", 273, 4, 1))
    struct.pack_into("<I", content, place + 8, 0)
    assert reason_of(written(tmp_path / "a.tif", bytes(content)))[0] == "file_corrupt"


@pytest.mark.parametrize("depth", ["i1", "i2"])
def test_values_below_zero_are_refused(tmp_path, depth):
    lowest = np.iinfo(depth).min
    values = (picture().astype(np.int64) * (257 if depth == "i2" else 1) + lowest).astype(depth)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    reason, detail = reason_of(tmp_path / "a.tif")
    assert (reason, "below zero" in detail) == ("format_unknown", True)


def planar(values, compression, order, more):
    """A TIFF in planes of one compression, whose strips an encoder of grey pictures has made."""
    count, height, width = values.shape
    strips = []
    for plane in values:
        written_as = 1 if compression == 50000 else compression
        done, data = cv2.imencode(".tif", plane, [cv2.IMWRITE_TIFF_COMPRESSION, written_as, *more])
        assert done
        with tifffile.TiffFile(io.BytesIO(data.tobytes())) as file:
            page = file.pages[0]
            rows, predictor = page.rowsperstrip, int(page.predictor)
            for at, size in zip(page.dataoffsets, page.databytecounts, strict=True):
                strip = data.tobytes()[at : at + size]
                strips.append(zstandard.compress(strip) if compression == 50000 else strip)
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: compression, 262: 2, 277: count, 278: rows}
    tags |= {284: 2, 317: predictor, 339: 3 if values.dtype.kind == "f" else 1}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    starts = np.cumsum([start + 8 * len(strips), *map(len, strips)])[:-1].tolist()
    tags |= {273: start, 279: start + 4 * len(strips)}
    entries = (
        struct.pack(f"{order}HHII", tag, 4, len(strips) if tag in (273, 279) else 1, tags[tag])
        for tag in sorted(tags)
    )
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, len(tags))
    lists = struct.pack(f"{order}{2 * len(strips)}I", *starts, *map(len, strips))
    return b"".join((header, *entries, bytes(4), lists, *strips))


@pytest.mark.parametrize("depth", ["u1", "u2", "f4"])
@pytest.mark.parametrize("compression", [5, 32773, 50000], ids=["LZW", "PackBits", "ZSTD"])
@pytest.mark.parametrize("more", [(), (cv2.IMWRITE_TIFF_ROWSPERSTRIP, HEIGHT)], ids=["strips", "one strip"])
def test_compressed_planes_are_read(tmp_path, depth, compression, more):
    values = (picture() * SCALES[depth]).astype(depth).transpose(2, 0, 1)
    content = planar(np.ascontiguousarray(values), compression, "<", more)
    assert np.abs(decoded(written(tmp_path / "a.tif", content)).rgb.astype(int) - picture()).max() <= 1


@pytest.mark.parametrize("channels", [3, 4])
def test_zstd_of_16_bits_is_read(tmp_path, channels):
    values = np.dstack([picture(), np.full((HEIGHT, WIDTH), 200, np.uint8)])[..., :channels].astype(np.uint16) * 257
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"] if channels == 4 else None}
    tifffile.imwrite(tmp_path / "a.tif", values, rowsperstrip=HEIGHT, metadata=None, **options)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        (at,), (size,) = page.dataoffsets, page.databytecounts
        fields = {tag.code: (tag.valueoffset, tag.dtype.value) for tag in page.tags.values()}
    packed_strip = zstandard.compress(bytes(content[at : at + size]))
    for code, value in ((259, 50000), (273, len(content)), (279, len(packed_strip))):
        place, kind = fields[code]
        struct.pack_into({3: "<H", 4: "<I"}[kind], content, place, value)
    photo = decoded(written(tmp_path / "b.tif", bytes(content) + packed_strip))
    assert np.abs(photo.rgb.astype(int) - picture()).max() <= 1
    assert channels == 3 or (photo.alpha == 200).all()
    content += packed_strip
    middle = len(content) - len(packed_strip) // 2
    content[middle:] = bytes(len(content) - middle)
    assert reason_of(written(tmp_path / "c.tif", bytes(content)))[0] in ("file_corrupt", "format_unknown")


@pytest.mark.parametrize(("depth", "scale"), [("u2", 16.0), ("u2", 1.0), ("f4", 0.05), ("i2", 8.0)])
def test_values_of_a_small_part_of_the_range_are_refused(tmp_path, depth, scale):
    """As 12 bits in 16 are, and light without a scale: the photo would come out black."""
    tifffile.imwrite(tmp_path / "a.tif", (picture() * scale).astype(depth), photometric="rgb")
    reason, detail = reason_of(tmp_path / "a.tif")
    assert (reason, "brightest value" in detail) == ("format_unknown", True)


def test_a_black_picture_and_a_dark_cut_out_of_16_bits_are_read(tmp_path):
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", black, photometric="rgb")
    assert (decoded(tmp_path / "a.tif").rgb == 0).all()
    cut_out = np.dstack([black + 2570, np.full((HEIGHT, WIDTH), 65535, np.uint16)])
    tifffile.imwrite(tmp_path / "b.tif", cut_out, photometric="rgb", extrasamples=["unassalpha"])
    assert (decoded(tmp_path / "b.tif").rgb == 10).all()
