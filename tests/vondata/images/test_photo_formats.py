"""Photos as cameras, scanners and web shops write them: converted to 8-bit sRGB, or rejected with a reason."""

import io
import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from tests.harness import TIMEOUT_S
from vondata.images.decoding import decode_mask, decode_photo
from vondata.images.photo_files import (
    ADOBE_RGB,
    ColourSpace,
    exif_colours,
    exif_orientation,
    jpeg_pixels,
    jxl_header,
    photo_format,
)
from vondata.types import Rejected

LIMIT = 10_000_000
HEIGHT, WIDTH = 48, 64


def picture():
    """Smooth colours in 0..255 whose corners all differ."""
    y, x = np.meshgrid(np.linspace(0, 1, HEIGHT), np.linspace(0, 1, WIDTH), indexing="ij")
    return np.stack([220 * x, 200 * y, 230 - 180 * x * y], axis=-1).round().astype(np.uint8)


def decoded(path, **options):
    return decode_photo(path, max_pixels=LIMIT, **options)


def written(path, content):
    path.write_bytes(content)
    return path


def reason_of(path, **options):
    with pytest.raises(Rejected) as caught:
        decoded(path, **options)
    return caught.value.reason, caught.value.detail


# --- colour spaces


def matrix_profile(primaries, gamma, kind=b"RGB "):
    """An ICC profile (version 2) of primaries in x, y and one gamma; of grey without primaries."""

    def s15(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(values):
        return b"XYZ \0\0\0\0" + b"".join(s15(value) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    d50 = (0.9642, 1.0, 0.8249)
    tags = {b"wtpt": xyz(d50), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)
    if primaries:
        tags |= {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    else:
        tags[b"kTRC"] = curve
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, unpadded in tags.items():
        content = unpadded + bytes(-len(unpadded) % 4)
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02200000, b"mntr", kind, b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(28) + b"".join(s15(value) for value in d50)
    return (header + bytes(128 - len(header)) + table + body)[:size]


# Columns of linear RGB to XYZ at D50, from the definitions of the colour spaces.
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def encoded(rgb, primaries, gamma):
    """sRGB colours as codes of another colour space; all of them lie inside of it."""
    code = rgb / 255.0
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    other = light @ np.array(SRGB) @ np.linalg.inv(np.array(primaries))
    return (255.0 * np.clip(other, 0, 1) ** (1 / gamma) + 0.5).astype(np.uint8)


@pytest.mark.parametrize(("primaries", "gamma"), [(ADOBE, 2.19921875), (P3, 2.2), (SRGB, 1.0), (SRGB, 1.8)])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_colour_profiles_are_converted_to_srgb(tmp_path, name, primaries, gamma):
    options = {"a.webp": {"lossless": True}, "a.jpg": {"quality": 100, "subsampling": 0}}.get(name, {})
    image = Image.fromarray(encoded(picture(), primaries, gamma))
    image.save(tmp_path / name, icc_profile=matrix_profile(primaries, gamma), **options)
    photo = decoded(tmp_path / name)
    assert photo.profile_use == "converted"
    bright = picture().min(axis=2) > 40  # a linear code has few steps among the dark colours
    away = np.abs(photo.rgb.astype(int) - picture())[bright]
    assert away.max() <= (12 if name == "a.jpg" else 5)  # rounding of JPEG's chroma grows in saturated colours
    assert np.quantile(away, 0.98) <= 5


def test_a_profile_of_srgb_changes_no_pixel(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture()).save(tmp_path / "a.png", icc_profile=profile)
    photo = decoded(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.rgb, picture())
    assert photo.profile_use is None


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P"])
def test_profiles_of_grey_transparent_and_palette_pictures(tmp_path, mode):
    grey = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    light = ((grey / 255 + 0.055) / 1.055) ** 2.4
    code = (255 * light ** (1 / 1.4) + 0.5).astype(np.uint8)
    is_grey = mode in ("L", "LA")
    profile = matrix_profile((), 1.4, b"GRAY") if is_grey else matrix_profile(SRGB, 1.4)
    image = Image.fromarray(code) if is_grey else Image.fromarray(code).convert("RGB")
    if mode == "P":
        image = image.quantize(256, kmeans=1, dither=Image.Dither.NONE)
    image = image.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(np.where(grey > 100, 255, 60).astype(np.uint8)))
    image.save(tmp_path / "a.png", icc_profile=profile)
    photo = decoded(tmp_path / "a.png")
    assert photo.profile_use == "converted"
    assert np.abs(photo.rgb.astype(int) - grey[..., None])[grey > 40].max() <= 4
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(photo.alpha, np.where(grey > 100, 255, 60))


@pytest.mark.parametrize(
    "profile",
    [b"not a profile", matrix_profile(ADOBE, 2.2)[:200], matrix_profile((), 2.2, b"GRAY"), bytes(500)],
    ids=["words", "cut", "of another colour space", "zeros"],
)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_an_invalid_profile_is_ignored_and_recorded(tmp_path, name, profile):
    Image.fromarray(picture()).save(
        tmp_path / name, icc_profile=profile, **({"quality": 98} if "jpg" in name else {})
    )
    photo = decoded(tmp_path / name)
    assert photo.profile_use == "ignored"
    assert np.abs(photo.rgb.astype(int) - picture()).max() <= 8


def test_cmyk_with_and_without_a_profile_of_rgb_is_read(tmp_path):
    image = Image.fromarray(picture()).convert("CMYK")
    for profile, use in ((b"", None), (matrix_profile(ADOBE, 2.2), "ignored")):
        image.save(tmp_path / "a.jpg", quality=98, icc_profile=profile)
        photo = decoded(tmp_path / "a.jpg")
        assert photo.profile_use == use
        assert np.abs(photo.rgb.astype(int) - picture()).max() <= 12


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(rgb, *chunks):
    """A PNG with chunks between header and pixels."""
    memory = io.BytesIO()
    Image.fromarray(rgb).save(memory, "PNG")
    content = memory.getvalue()
    return content[:33] + b"".join(chunks) + content[33:]


def test_gamma_and_primaries_of_png(tmp_path):
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000))
    linear = encoded(picture(), SRGB, 1.0)
    photo = decoded(written(tmp_path / "a.png", png_with(linear, gamma)))
    assert photo.profile_use == "converted"
    assert np.abs(photo.rgb.astype(int) - picture())[picture().min(axis=2) > 60].max() <= 4
    adobe = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    primaries = chunk(b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in adobe)))
    gamma = chunk(b"gAMA", struct.pack(">I", 45_455))
    photo = decoded(written(tmp_path / "b.png", png_with(encoded(picture(), ADOBE, 2.2), primaries, gamma)))
    assert np.abs(photo.rgb.astype(int) - picture())[picture().min(axis=2) > 30].max() <= 4
    usual = png_with(picture(), gamma)
    assert decoded(written(tmp_path / "c.png", usual)).profile_use is None
    for wrong in (bytes(4), b"\xff" * 4, b"\1"):
        photo = decoded(written(tmp_path / "d.png", png_with(picture(), chunk(b"gAMA", wrong))))
        np.testing.assert_array_equal(photo.rgb, picture())


def in_p3():
    """The picture's colours in Display P3, whose curve is that of sRGB."""
    code = picture() / 255.0
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ np.array(SRGB) @ np.linalg.inv(np.array(P3)), 0, 1)
    return (255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) + 0.5).astype(
        np.uint8
    )


def test_code_points_of_png_come_before_its_other_statements(tmp_path):
    def read(rgb, *codes, before=b""):
        return decoded(written(tmp_path / "a.png", png_with(rgb, before, chunk(b"cICP", bytes(codes)))))

    photo = read(in_p3(), 12, 13, 0, 1)
    assert photo.profile_use == "converted"
    assert np.abs(photo.rgb.astype(int) - picture())[picture().min(axis=2) > 30].max() <= 2
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000))
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(matrix_profile(P3, 2.2)))
    for before in (gamma, profile):
        np.testing.assert_array_equal(read(picture(), 1, 13, 0, 1, before=before).rgb, picture())
    code = encoded(picture(), SRGB, 1.0) / 255.0  # linear light
    video = np.where(code < 0.018, 4.5 * code, 1.099 * code**0.45 - 0.099)
    bright = picture().min(axis=2) > 60
    found = read((255 * video + 0.5).astype(np.uint8), 1, 1, 0, 1).rgb
    assert np.abs(found.astype(int) - picture())[bright].max() <= 4
    for codes, words in (((9, 16, 0, 1), "PQ"), ((9, 18, 0, 1), "HLG"), ((1, 13, 0, 0), "narrow range")):
        reason, detail = reason_of(written(tmp_path / "b.png", png_with(picture(), chunk(b"cICP", bytes(codes)))))
        assert reason == "format_unknown"
        assert words in detail


@pytest.mark.parametrize("name", ["AVIF", "HEIF"])
def test_code_points_of_avif_and_heic(tmp_path, name):
    if name == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(in_p3()).save(tmp_path / "a", name, quality=100)
    content = (tmp_path / "a").read_bytes()
    place = content.index(b"colrnclx") + 8

    def coded(primaries, transfer):
        codes = struct.pack(">HH", primaries, transfer)
        return written(tmp_path / "b", content[:place] + codes + content[place + 4 :])

    plain, photo = decoded(coded(1, 13)), decoded(coded(12, 13))
    assert (plain.profile_use, photo.profile_use) == (None, "converted")
    np.testing.assert_array_equal(decoded(coded(1, 1)).rgb, plain.rgb)
    moved = np.abs(plain.rgb.astype(int) - picture()).mean()
    assert np.abs(photo.rgb.astype(int) - picture()).mean() < 0.7 * moved
    reason, detail = reason_of(coded(9, 16))
    assert (reason, "PQ" in detail) == ("format_unknown", True)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_2000_of_16_bits(tmp_path, channels):
    rgb = picture()
    rgb[:8] = 255  # became black
    values = rgb[..., ::-1][..., :channels].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.jp2"), values, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    expected = rgb if channels == 3 else rgb[..., 2:].repeat(3, axis=2)
    assert np.abs(decoded(tmp_path / "a.jp2").rgb.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("kind", "bits", "words"), [(0xF7, 8, "JPEG-LS"), (0xC1, 12, "JPEG of 12 bits")])
def test_kinds_of_jpeg_without_a_decoder_are_named(tmp_path, kind, bits, words):
    frame = struct.pack(">BBHBHHB3B", 0xFF, kind, 11, bits, 8, 8, 1, 1, 0x11, 0)
    content = b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(20) + b"\xff\xd9"
    reason, detail = reason_of(written(tmp_path / "a.jpg", content))
    assert (reason, words in detail) == ("format_unknown", True)


def test_a_profile_in_jpeg_2000(tmp_path):
    memory = io.BytesIO()
    Image.fromarray(encoded(picture(), P3, 2.2)).save(memory, "JPEG2000", irreversible=False)
    content, profile = memory.getvalue(), matrix_profile(P3, 2.2)
    colour, header = content.index(b"colr") - 4, content.index(b"jp2h") - 4
    (length,), (all_,) = struct.unpack_from(">I", content, colour), struct.unpack_from(">I", content, header)
    box = struct.pack(">I4s3B", 11 + len(profile), b"colr", 2, 0, 0) + profile
    start = content[:header] + struct.pack(">I", all_ + len(box) - length) + content[header + 4 : colour]
    photo = decoded(written(tmp_path / "a.jp2", start + box + content[colour + length :]))
    assert photo.profile_use == "converted"
    assert np.abs(photo.rgb.astype(int) - picture())[picture().min(axis=2) > 30].max() <= 4


# --- 16 bits, floating point, and the kinds of TIFF

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


def packed(values, bits):
    """Whole numbers in so many bits each."""
    return np.packbits((values.reshape(-1, 1) >> np.arange(bits)[::-1]) & 1).tobytes()


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


@pytest.mark.parametrize("depth", ["u1", "u2"])
def test_previews_before_the_picture_of_a_tiff_are_passed_over(tmp_path, depth):
    values = (picture() * SCALES[depth]).astype(depth)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(values[::4, ::4].copy(), photometric="rgb", subfiletype=1)
        tiff.write(values, photometric="rgb")
        tiff.write(255 - values, photometric="rgb")
    assert np.abs(decoded(tmp_path / "a.tif").rgb.astype(int) - picture()).max() <= 1
    tifffile.imwrite(tmp_path / "b.tif", values, photometric="rgb", subfiletype=1)
    assert np.abs(decoded(tmp_path / "b.tif").rgb.astype(int) - picture()).max() <= 1


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


# --- metadata

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


def with_exif(kind, block, values=None):
    memory = io.BytesIO()
    image = Image.fromarray(picture() if values is None else values)
    image.save(memory, kind, **({"quality": 98} if kind == "JPEG" else {}))
    content = memory.getvalue()
    if kind == "PNG":
        return content[:33] + chunk(b"eXIf", block) + content[33:]
    body = b"Exif\0\0" + block
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]


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


def colour_block(order, code, index):
    """An EXIF block with a colour space, and with the index of interoperability that cameras put beside it."""

    def directory(*entries):
        return struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)

    def entry(tag, kind, value):
        packed = value if isinstance(value, bytes) else struct.pack(order + {3: "H2x", 4: "I"}[kind], value)
        return struct.pack(f"{order}HHI", tag, kind, len(value) if isinstance(value, bytes) else 1) + packed

    first = directory(entry(0x8769, 4, 26))
    second = directory(entry(0xA001, 3, code), entry(0xA005, 4, 56))
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return header + first + second + directory(entry(1, 2, index))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("code", "index", "is_adobe"),
    [
        (65535, b"R03\0", True),
        (2, b"R98\0", True),
        (65535, b"R98\0", False),
        (1, b"R03\0", False),
        (65535, b"THM\0", False),
    ],
)
def test_adobe_rgb_as_cameras_note_it_without_a_profile(tmp_path, order, code, index, is_adobe):
    values = encoded(picture(), ADOBE, 2.19921875) if is_adobe else picture()
    block = colour_block(order, code, index)
    photo = decoded(written(tmp_path / "a.jpg", with_exif("JPEG", block, values)))
    assert photo.profile_use == ("converted" if is_adobe else None)
    away = np.abs(photo.rgb.astype(int) - picture())
    bright = picture().min(axis=2) > 40
    assert np.quantile(away[bright], 0.95) <= 5


def test_a_profile_says_more_than_the_exif_block(tmp_path):
    memory = io.BytesIO()
    options = {"icc_profile": matrix_profile(SRGB, 1.0), "quality": 100, "subsampling": 0}
    block = b"Exif\0\0" + colour_block("<", 65535, b"R03\0")
    Image.fromarray(encoded(picture(), SRGB, 1.0)).save(memory, "JPEG", exif=block, **options)
    photo = decoded(written(tmp_path / "a.jpg", memory.getvalue()))
    bright = picture().min(axis=2) > 60
    assert np.quantile(np.abs(photo.rgb.astype(int) - picture())[bright], 0.95) <= 5


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


# --- files that end early


def jpeg(rgb, **options):
    memory = io.BytesIO()
    Image.fromarray(rgb).save(memory, "JPEG", quality=90, **options)
    return memory.getvalue()


def busy(height=160, width=120):
    return np.random.default_rng(3).integers(0, 256, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)


def framed(height=160, width=120):
    """A block on white, so that the last rows are plain."""
    rgb = np.full((height, width, 3), 255, np.uint8)
    rgb[40:100, 30:90] = (200, 60, 40)
    return rgb


@pytest.mark.parametrize("rgb", [busy(), framed()], ids=["busy", "framed"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
def test_a_jpeg_without_its_end_mark_is_whole(tmp_path, rgb, options):
    content = jpeg(rgb, **options)
    whole = decoded(written(tmp_path / "a.jpg", content)).rgb
    for tail in (b"", b"\n", b"<html>added by a proxy</html>"):
        photo = decoded(written(tmp_path / "b.jpg", content[:-2] + tail))
        np.testing.assert_array_equal(photo.rgb, whole)
        assert photo.missing == 0.0


@pytest.mark.parametrize("rgb", [busy(), framed()], ids=["busy", "framed"])
@pytest.mark.parametrize("tail", [b"", b"\xff\xd9"], ids=["cut", "with an end mark"])
def test_a_jpeg_that_is_cut_is_refused_or_taken_as_far_as_it_goes(tmp_path, rgb, tail):
    content = jpeg(rgb)
    whole = decoded(written(tmp_path / "a.jpg", content)).rgb
    start = content.index(b"\xff\xda") + 14
    for share in (0.3, 0.6, 0.9):
        path = written(tmp_path / "b.jpg", content[: start + round(share * (len(content) - start))] + tail)
        reason, detail = reason_of(path)
        assert reason == "file_corrupt"
        assert "ends early" in detail
        photo = decoded(path, keep_incomplete=True)
        height = len(photo.rgb)
        np.testing.assert_array_equal(photo.rgb, whole[:height])
        assert photo.full_size == (120, height)
        assert photo.missing == pytest.approx(1 - height / 160)
        assert height >= 160 * share - 60


def test_a_jpeg_with_a_lost_block_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (160, 120, 3)).astype(np.uint8)
    content = bytearray(jpeg(noise))
    middle = len(content) // 2
    content[middle : middle + 1000] = b"\xff" * 999 + b"\x5a"  # as erased memory reads, and a marker of no scan
    reason, detail = reason_of(written(tmp_path / "a.jpg", bytes(content)))
    assert (reason, "is damaged" in detail) == ("file_corrupt", True)


def test_padding_of_a_jpeg_is_not_walked_byte_by_byte():
    content, padding = jpeg(framed()), b"\xff" * 2**23
    start = time.process_time()
    assert jpeg_pixels(content[:-2] + padding).parts[-1][-1] != 0xFF
    assert jpeg_pixels(content[:2] + padding + content[2:]).has_end
    assert time.process_time() - start < 1


# --- other formats


@pytest.mark.parametrize("name", ["AVIF", "HEIF", "JXL"])
def test_formats_of_the_extra_are_read(tmp_path, name):
    library = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}.get(name)
    if library:
        module = pytest.importorskip(library)
        if name == "HEIF":
            module.register_heif_opener()
    Image.fromarray(picture()).save(tmp_path / "a.jpg", name, quality=95)
    content = (tmp_path / "a.jpg").read_bytes()
    assert photo_format(content[:64]) == name
    photo = decoded(tmp_path / "a.jpg")
    assert np.abs(photo.rgb.astype(int) - picture()).mean() < 4
    with pytest.raises(Rejected, match="too_large"):
        decode_photo(tmp_path / "a.jpg", max_pixels=HEIGHT * WIDTH - 1)
    if name == "JXL":
        assert jxl_header(content) == (WIDTH, HEIGHT, 1)


def test_a_jpeg_xl_that_its_decoder_turns_is_not_turned_again(tmp_path, monkeypatch):
    pytest.importorskip("pillow_jxl")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture()[::-1, ::-1].copy()).save(tmp_path / "a.jxl", lossless=True, exif=exif.tobytes())
    np.testing.assert_array_equal(decoded(tmp_path / "a.jxl").rgb, picture())
    monkeypatch.setattr("vondata.images.decoding.jxl_header", lambda data: (WIDTH, HEIGHT, 3))
    np.testing.assert_array_equal(decoded(tmp_path / "a.jxl").rgb, picture()[::-1, ::-1])
    for orientation in range(1, 9):  # sizes of 8 * (side + 1), not all default, extra fields
        bits = 1 | 1 << 1 | 1 << 6 | 0 << 9 | 1 << 10 | (orientation - 1) << 11
        assert jxl_header(b"\xff\x0a" + bits.to_bytes(10, "little")) == (16, 16, orientation)


@pytest.mark.parametrize(
    ("start", "name"), [(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"), (b"\xff\x0a\xfa\x7f", "JPEG XL")]
)
def test_formats_without_a_decoder_are_named(tmp_path, monkeypatch, start, name):
    monkeypatch.setattr("vondata.images.decoding.add_decoder", lambda form: None)
    monkeypatch.setattr(
        Image, "OPEN", {key: value for key, value in Image.OPEN.items() if key not in ("HEIF", "JXL")}
    )
    reason, detail = reason_of(written(tmp_path / "a", start + bytes(40)))
    assert reason == "format_unknown"
    assert name in detail
    assert "visual-object-networks[photos]" in detail


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"<?xml version='1.0'?><svg", "SVG"),
        (b"P7\nWIDTH 2\n", "PAM"),
        (b"PF\n2 2\n-1.0\n", "PFM"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI", "CgBI"),
        (b"8BPS", "Photoshop"),
        (b"%PDF-1.4", "PDF"),
        (b"\0\0\0\x18ftypcrx ", "raw"),
        (b"<!doctype html>", "web page"),
    ],
)
def test_files_of_other_kinds_are_described(tmp_path, start, name):
    reason, detail = reason_of(written(tmp_path / "a.jpg", start + bytes(60)))
    assert reason == "format_unknown"
    assert name in detail


# --- sizes


@pytest.mark.parametrize("size", [(2000, 1), (1, 2000), (5000, 2), (1, 1)])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_extreme_shapes_are_read(tmp_path, size, name):
    Image.new("RGB", size, (200, 30, 40)).save(tmp_path / name)
    photo = decoded(tmp_path / name, enough_px=100)
    assert photo.full_size == size
    assert min(photo.rgb.shape[:2]) >= 1


def test_the_limit_of_pixels_is_the_given_one(tmp_path):
    """Pillow's own limit, 89 megapixels, is not used."""
    Image.new("L", (10_000, 9_000)).save(tmp_path / "a.png")
    assert decode_photo(tmp_path / "a.png", max_pixels=90_000_000, enough_px=500).full_size == (10_000, 9_000)
    with pytest.raises(Rejected, match="89,999,999 allowed"):
        decode_photo(tmp_path / "a.png", max_pixels=89_999_999)


def test_a_large_jpeg_is_decoded_small_where_that_is_enough(tmp_path):
    Image.new("RGB", (4000, 3000), (10, 20, 30)).save(tmp_path / "a.jpg")
    photo = decode_photo(tmp_path / "a.jpg", max_pixels=1_000_000, enough_px=500)
    assert photo.full_size == (4000, 3000)
    assert photo.rgb.shape == (375, 500, 3)
    Image.new("RGB", (4000, 3000)).save(tmp_path / "b.jpg", progressive=True)  # all scans are held at full size
    with pytest.raises(Rejected, match="too_large"):
        decode_photo(tmp_path / "b.jpg", max_pixels=1_000_000, enough_px=500)


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


# --- masks


def solid():
    truth = np.zeros((40, 30), dtype=bool)
    truth[5:30, 8:20] = True
    return truth


@pytest.mark.parametrize("inner", [(255, 255, 255), (90, 60, 30), (0, 0, 0)])
def test_the_alpha_of_a_cut_out_is_the_mask(tmp_path, inner):
    truth = solid()
    rgba = np.zeros((*truth.shape, 4), np.uint8)
    rgba[truth] = (*inner, 255)
    rgba[~truth] = (255, 255, 255, 0)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_mask(tmp_path / "a.png", max_pixels=LIMIT), truth)


def test_palettes_count_by_their_colours(tmp_path):
    truth = solid()
    for numbers, palette in (
        (~truth, [255, 255, 255, 0, 0, 0]),  # number 0 is white
        (truth, [0, 0, 0, 128, 0, 0]),  # as PASCAL VOC draws its first class
        (truth, [7, 7, 7, 7, 7, 7]),  # colours without meaning
    ):
        image = Image.fromarray(numbers.astype(np.uint8), "P")
        image.putpalette(palette)
        image.save(tmp_path / "a.png")
        np.testing.assert_array_equal(decode_mask(tmp_path / "a.png", max_pixels=LIMIT), truth)


def test_a_bitmap_whose_fourth_byte_is_zero_is_opaque(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    done, data = cv2.imencode(".bmp", pixels)
    assert done
    (tmp_path / "a.bmp").write_bytes(data.tobytes())
    photo = decode_photo(tmp_path / "a.bmp", max_pixels=1000)
    assert photo.alpha is None
    np.testing.assert_array_equal(photo.rgb, pixels[..., 2::-1])
