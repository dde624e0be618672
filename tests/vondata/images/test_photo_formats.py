"""Other photo formats and masks: recognised by content, read in any size, or named in the rejection."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.vondata.images.photo_bytes import (
    HEIGHT,
    LIMIT,
    WIDTH,
    decoded,
    picture,
    reason_of,
    written,
)
from vondata.images.decoding import decode_mask, decode_photo
from vondata.images.photo_files import (
    jxl_header,
    photo_format,
)
from vondata.types import Rejected


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_2000_of_16_bits(tmp_path, channels):
    rgb = picture()
    rgb[:8] = 255  # became black
    values = rgb[..., ::-1][..., :channels].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.jp2"), values, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    expected = rgb if channels == 3 else rgb[..., 2:].repeat(3, axis=2)
    assert np.abs(decoded(tmp_path / "a.jp2").rgb.astype(int) - expected).max() <= 1


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


def solid():
    truth = np.zeros((40, 30), dtype=bool)
    truth[5:30, 8:20] = True
    return truth


@pytest.mark.parametrize(("kind", "highest"), [("P6", 255), ("P6", 1023), ("P5", 255), ("P5", 100)])
def test_line_ends_of_portable_pictures(tmp_path, kind, highest):
    values = (picture() if kind == "P6" else picture()[..., 0]).astype(np.int64) * highest // 255
    body = values.astype(np.uint8 if highest < 256 else ">u2").tobytes()
    header = f"{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{highest}\n".encode()
    expected = decoded(written(tmp_path / "a.ppm", header + body)).rgb
    assert np.abs(expected.astype(int) - (picture() if kind == "P6" else picture()[..., :1])).max() <= 3
    converted = decoded(written(tmp_path / "b.ppm", header.replace(b"\n", b"\r\n") + body)).rgb
    np.testing.assert_array_equal(converted, expected)
    reason, detail = reason_of(written(tmp_path / "c.ppm", 2 * (header + body)))
    assert (reason, "several pictures" in detail) == ("file_corrupt", True)


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


def test_masks_of_16_bits_with_opacity_and_of_black_objects(tmp_path):
    truth = solid()
    alpha = np.where(truth, 65535, 0).astype(np.uint16)
    rgba = np.dstack([np.full((*truth.shape, 3), 9000, np.uint16), alpha])
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    opaque = np.dstack([alpha, alpha, alpha, np.full_like(alpha, 65535)])
    tifffile.imwrite(tmp_path / "b.tif", opaque, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "c.tif", 65535 - alpha, photometric="miniswhite")
    for name in ("a.tif", "b.tif", "c.tif"):
        np.testing.assert_array_equal(decode_mask(tmp_path / name, max_pixels=LIMIT), truth)


def test_a_bitmap_whose_fourth_byte_is_zero_is_opaque(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    done, data = cv2.imencode(".bmp", pixels)
    assert done
    (tmp_path / "a.bmp").write_bytes(data.tobytes())
    photo = decode_photo(tmp_path / "a.bmp", max_pixels=1000)
    assert photo.alpha is None
    np.testing.assert_array_equal(photo.rgb, pixels[..., 2::-1])
