"""Photos in other colour spaces, by ICC profile, gamma, code points or EXIF, are converted to sRGB."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from tests.vondata.images.photo_bytes import (
    HEIGHT,
    WIDTH,
    chunk,
    decoded,
    picture,
    png_with,
    reason_of,
    with_exif,
    written,
)


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


def dark():
    """(HEIGHT, WIDTH, 3) all greys and colours of 0..255, for which a linear code of 8 bits has too few steps."""
    y, x = np.meshgrid(np.linspace(0, 1, HEIGHT), np.linspace(0, 1, WIDTH), indexing="ij")
    return np.stack([255 * x, 255 * y, 255 * x * y], axis=-1).round().astype(np.uint8)


def wide(rgb, primaries, gamma):
    """`encoded` in 16 bits."""
    code = rgb / 255.0
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    other = light @ np.array(SRGB) @ np.linalg.inv(np.array(primaries))
    return (65535.0 * np.clip(other, 0, 1) ** (1 / gamma) + 0.5).astype(np.uint16)


def wide_png(values, *chunks):
    """A PNG of 16 bits: grey, grey and opacity, RGB or RGBA."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (header, *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_linear_light_of_16_bits_is_converted_before_it_is_rounded(tmp_path, channels):
    expected = dark() if channels > 2 else dark()[..., :1].repeat(3, axis=2)
    values = wide(expected, SRGB, 1.0)[..., : 3 if channels > 2 else 1]
    if channels in (2, 4):
        values = np.dstack([values, np.full((HEIGHT, WIDTH), 40_000, np.uint16)])
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000))
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(matrix_profile(SRGB, 1.0)))
    for each in (gamma, profile):
        photo = decoded(written(tmp_path / "a.png", wide_png(values, each)))
        assert photo.profile_use == "converted"
        assert np.abs(photo.rgb.astype(int) - expected).max() <= 1
        assert photo.alpha is None or (photo.alpha == 156).all()


def test_a_grey_profile_of_16_bits(tmp_path):
    expected = dark()[..., :1].repeat(3, axis=2)
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(matrix_profile((), 1.0, b"GRAY")))
    photo = decoded(written(tmp_path / "a.png", wide_png(wide(expected, SRGB, 1.0)[..., :1], profile)))
    assert np.abs(photo.rgb.astype(int) - expected).max() <= 1
    rgb = wide_png(np.full((HEIGHT, WIDTH, 3), 30_000), profile)
    assert decoded(written(tmp_path / "b.png", rgb)).profile_use == "ignored"


@pytest.mark.parametrize(("primaries", "gamma"), [(ADOBE, 2.19921875), (P3, 1.0), (SRGB, 1.8)])
def test_profiles_of_16_bit_tiffs(tmp_path, primaries, gamma):
    extra = [(34675, 7, None, matrix_profile(primaries, gamma), True)]
    values = wide(picture(), primaries, gamma)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extratags=extra)
    photo = decoded(tmp_path / "a.tif")
    assert photo.profile_use == "converted"
    assert np.abs(photo.rgb.astype(int) - picture()).max() <= 2


def parametric(kind, *values):
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + struct.pack(f">{len(values)}i", *values)


def table(values):
    return b"curv\0\0\0\0" + struct.pack(f">I{len(values)}H", len(values), *values)


HALF_SRGB = [round(65536 * each) for each in (2.4, 2 / 1.055, 0.055 / 1.055, 2 / 12.92, 0.04045 / 2)]


def srgb_code(light):
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


CURVES = {
    "identity": (table([]), lambda light: light),
    "gamma": (parametric(0, 3 * 65536), lambda light: light ** (1 / 3)),
    "shifted": (parametric(1, 65536, 2 * 65536, -65536), lambda light: (light + 1) / 2),
    "raised": (parametric(2, 65536, 65536, 0, 0), lambda light: light),
    "half of sRGB's": (parametric(3, *HALF_SRGB), lambda light: srgb_code(light) / 2),
    "with offsets": (parametric(4, 65536, 65536, 0, 65536, 32768, 0, 0), lambda light: light),
    "table": (table([round(65535 * (each / 1023) ** 2) for each in range(1024)]), np.sqrt),
}


@pytest.mark.parametrize("name", list(CURVES))
def test_curves_of_profiles_of_16_bits(tmp_path, name):
    """Each is put in place of the curves of a profile, at its end; Little CMS reads the 8-bit twin."""
    tag, encode = CURVES[name]
    tag += bytes(-len(tag) % 4)
    profile = bytearray(matrix_profile(SRGB, 1.0) + tag)
    for number in range(struct.unpack_from(">I", profile, 128)[0]):
        place = 132 + 12 * number
        if profile[place + 1 : place + 4] == b"TRC":
            struct.pack_into(">II", profile, place + 4, len(profile) - len(tag), len(tag))
    struct.pack_into(">I", profile, 0, len(profile))
    code = dark() / 255.0
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    values = (65535 * encode(light) + 0.5).astype(np.uint16)
    chunks = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(profile)))
    photo = decoded(written(tmp_path / "a.png", wide_png(values, chunks)))
    assert np.abs(photo.rgb.astype(int) - dark()).max() <= 1
    eight = (values / 257 + 0.5).astype(np.uint8)
    twin = decoded(written(tmp_path / "b.png", png_with(eight, chunks)))
    bright = dark().min(axis=2) > 100
    assert np.abs(photo.rgb.astype(int) - twin.rgb)[bright].max() <= 3
