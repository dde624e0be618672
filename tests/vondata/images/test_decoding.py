import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vondata.images.decoding import decode_mask, decode_photo
from vondata.types import Rejected

LIMIT = 10_000_000


def _gradient(height=24, width=36):
    """A picture whose corners all differ, so that every turn and mirror shows."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([x * 7 % 256, y * 10 % 256, 255 - x * 7 % 256], axis=-1).astype(np.uint8)


def _save(path, image, **options):
    image.save(path, **options)
    return decode_photo(path, max_pixels=LIMIT)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
        ("a.ppm", {}),
        ("a.tga", {}),
    ],
)
def test_lossless_formats_come_back_as_they_were(tmp_path, name, options):
    photo = _save(tmp_path / name, Image.fromarray(_gradient()), **options)
    np.testing.assert_array_equal(photo.rgb, _gradient())
    assert photo.alpha is None
    assert photo.full_size == (36, 24)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "HSV"])
def test_every_colour_mode_shows_the_same_picture(tmp_path, mode):
    grey = np.where(np.indices((24, 36)).sum(axis=0) % 36 < 18, 40, 200).astype(np.uint8)
    base = Image.fromarray(grey)
    suffix = ".tif" if mode in ("CMYK", "YCbCr", "I", "F") else ".png"
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode in ("I", "F"):
        image = Image.fromarray(grey.astype(np.int32 if mode == "I" else np.float32))
    elif mode == "P":
        image = base.convert("RGB").quantize(16)
    elif mode == "HSV":
        image = base.convert("RGB")
    else:
        image = base.convert("RGB").convert(mode)
    photo = _save(tmp_path / f"a{suffix}", image)
    expected = np.where(grey > 100, 255, 0) if mode == "1" else grey
    if mode != "1":  # dithered there
        assert np.abs(photo.rgb.astype(int) - expected[..., None]).max() <= 4
    assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))


def test_sixteen_bit_colour_keeps_its_brightness(tmp_path):
    values = _gradient().astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    cv2.imwrite(str(tmp_path / "a.tif"), values[..., ::-1])
    for name in ("a.png", "a.tif"):
        rgb = decode_photo(tmp_path / name, max_pixels=LIMIT).rgb
        assert np.abs(rgb.astype(int) - _gradient()).max() <= 1


def test_floats_between_0_and_1_and_missing_numbers_are_read(tmp_path):
    values = np.linspace(0, 1, 36 * 24, dtype=np.float32).reshape(24, 36)
    values[0, 0] = np.nan
    photo = _save(tmp_path / "a.tif", Image.fromarray(values))
    assert photo.rgb[0, 0].tolist() == [0, 0, 0]
    assert photo.rgb[-1, -1].tolist() == [255, 255, 255]


def test_palette_with_transparency_has_alpha(tmp_path):
    image = Image.fromarray(np.tile(np.arange(2, dtype=np.uint8), (10, 10)), "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    photo = _save(tmp_path / "a.png", image, transparency=0)
    assert set(np.unique(photo.alpha)) == {0, 255}
    assert photo.rgb[0, 1].tolist() == [0, 255, 0]


def test_transparent_colour_of_rgb_has_alpha(tmp_path):
    rgb = _gradient()
    rgb[:5] = (1, 2, 3)
    photo = _save(tmp_path / "a.png", Image.fromarray(rgb), transparency=(1, 2, 3))
    assert (photo.alpha[:5] == 0).all()
    assert (photo.alpha[5:] == 255).all()


def test_first_frame_of_a_moving_picture(tmp_path):
    frames = [Image.fromarray(np.full((20, 30, 3), value, dtype=np.uint8)) for value in (200, 50)]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100)
        rgb = decode_photo(tmp_path / name, max_pixels=LIMIT).rgb
        assert rgb.shape == (20, 30, 3)
        assert abs(int(rgb[0, 0, 0]) - 200) <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_come_out_upright(tmp_path, orientation):
    upright = Image.fromarray(_gradient())
    # How the camera held it: the inverse of what a viewer has to do.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif"):
        stored.save(tmp_path / name, exif=exif)
        photo = decode_photo(tmp_path / name, max_pixels=LIMIT)
        np.testing.assert_array_equal(photo.rgb, _gradient())
        assert photo.full_size == (36, 24)
    as_stored = decode_photo(tmp_path / "a.png", max_pixels=LIMIT, upright=False)
    assert as_stored.rgb.shape[:2] == stored.size[::-1]


def test_a_large_jpeg_is_read_small(tmp_path):
    big = cv2.resize(_gradient(), (3000, 2000), interpolation=cv2.INTER_LINEAR)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(big).save(tmp_path / "a.jpg", exif=exif)
    photo = decode_photo(tmp_path / "a.jpg", max_pixels=LIMIT, enough_px=700)
    assert photo.full_size == (2000, 3000)
    assert 700 <= max(photo.rgb.shape) < 1500
    assert photo.rgb.shape[0] > photo.rgb.shape[1]


def _reason(path, limit=LIMIT):
    with pytest.raises(Rejected) as caught:
        decode_photo(path, max_pixels=limit)
    return caught.value.reason


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    # A header of 100,000 x 100,000 pixels without data.
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 10) + b"IDAT")
    assert _reason(path) == "too_large"
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    assert _reason(tmp_path / "a.png", limit=19_999) == "too_large"
    decode_photo(tmp_path / "a.png", max_pixels=20_000)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.gif", "a.bmp"])
def test_truncated_files_are_corrupt(tmp_path, name):
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    for length in (0, 3, len(data) // 2):
        path.write_bytes(data[:length])
        assert _reason(path) in ("file_corrupt", "format_unknown")
    assert _reason(path) == "file_corrupt"


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF", b"<svg/>", b"\0" * 64])
def test_other_files_are_unknown_whatever_their_name(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert _reason(path) == "format_unknown"


def test_the_name_does_not_decide_the_format(tmp_path):
    Image.fromarray(_gradient()).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(decode_photo(tmp_path / "a.jpg", max_pixels=LIMIT).rgb, _gradient())


def test_folders_and_missing_files_are_unreadable(tmp_path):
    assert _reason(tmp_path) == "source_unreadable"
    assert _reason(tmp_path / "missing.jpg") == "source_unreadable"


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_flipped_bytes_give_a_picture_or_a_reason(tmp_path_factory, kind, changes):
    memory = io.BytesIO()
    Image.fromarray(_gradient()).save(memory, kind)
    data = bytearray(memory.getvalue())
    for place, value in changes:
        data[int(place * len(data))] = value
    path = tmp_path_factory.mktemp("flipped") / "a"
    path.write_bytes(data)
    outcome = _reason_or_shape(path)
    assert outcome in ("file_corrupt", "format_unknown", "too_large") or outcome[2:] == (3,)


def _reason_or_shape(path):
    try:
        return decode_photo(path, max_pixels=LIMIT).rgb.shape
    except Rejected as verdict:
        return verdict.reason


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_every_mode(tmp_path, mode):
    truth = np.zeros((20, 30), dtype=bool)
    truth[4:15, 6:20] = True
    grey = Image.fromarray(np.where(truth, 255, 0).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.where(truth, 65535, 0).astype(np.uint16))
    elif mode == "P":
        image = Image.fromarray(truth.astype(np.uint8), "P")  # numbers of objects, as segmentation data has them
        image.putpalette([0, 0, 0, 128, 0, 0])
    else:
        image = grey.convert(mode)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(decode_mask(tmp_path / "mask.png", max_pixels=LIMIT), truth)


def test_an_empty_mask_is_empty(tmp_path):
    Image.new("L", (5, 4)).save(tmp_path / "mask.png")
    assert not decode_mask(tmp_path / "mask.png", max_pixels=LIMIT).any()
