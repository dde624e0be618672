"""JPEGs that end early, lack their end marker, are damaged, or are of a kind without a decoder."""

import io
import struct
import time

import numpy as np
import pytest
from PIL import Image

from tests.vondata.images.photo_bytes import (
    decoded,
    reason_of,
    written,
)
from vondata.images.decoding import decode_photo
from vondata.images.photo_files import (
    jpeg_pixels,
)
from vondata.types import Rejected


@pytest.mark.parametrize(("kind", "bits", "words"), [(0xF7, 8, "JPEG-LS"), (0xC1, 12, "JPEG of 12 bits")])
def test_kinds_of_jpeg_without_a_decoder_are_named(tmp_path, kind, bits, words):
    frame = struct.pack(">BBHBHHB3B", 0xFF, kind, 11, bits, 8, 8, 1, 1, 0x11, 0)
    content = b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(20) + b"\xff\xd9"
    reason, detail = reason_of(written(tmp_path / "a.jpg", content))
    assert (reason, words in detail) == ("format_unknown", True)


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


def test_a_large_jpeg_is_decoded_small_where_that_is_enough(tmp_path):
    Image.new("RGB", (4000, 3000), (10, 20, 30)).save(tmp_path / "a.jpg")
    photo = decode_photo(tmp_path / "a.jpg", max_pixels=1_000_000, enough_px=500)
    assert photo.full_size == (4000, 3000)
    assert photo.rgb.shape == (375, 500, 3)
    Image.new("RGB", (4000, 3000)).save(tmp_path / "b.jpg", progressive=True)  # all scans are held at full size
    with pytest.raises(Rejected, match="too_large"):
        decode_photo(tmp_path / "b.jpg", max_pixels=1_000_000, enough_px=500)


def noisy():
    return np.random.default_rng(0).integers(0, 256, (160, 120, 3)).astype(np.uint8)


def scan_of(content):
    """Where the entropy-coded data of a JPEG begin."""
    return content.index(b"\xff\xda") + 2 + struct.unpack_from(">H", content, content.index(b"\xff\xda") + 2)[0]


OPTIONS = [
    *({"subsampling": each} for each in (0, 1, 2)),
    *({"restart_marker_blocks": each, "subsampling": 2} for each in (1, 5)),
    {"optimize": True},
    {"progressive": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(160, 120), (1, 1), (17, 33), (8, 200)])
def test_whole_jpegs_of_every_layout_are_read(tmp_path, options, mode, size):
    Image.fromarray(noisy()).resize(size).convert(mode).save(tmp_path / "a.jpg", **options)
    content = (tmp_path / "a.jpg").read_bytes()
    for padding in (b"", b"\xff\xff", bytes(20)):
        assert decoded(written(tmp_path / "b.jpg", content[:-2] + padding + b"\xff\xd9")).full_size == size


@pytest.mark.parametrize("options", OPTIONS[:-1], ids=str)
def test_bytes_damaged_within_a_jpeg_are_noticed(tmp_path, options):
    content = jpeg(noisy(), **options)
    start, rng, refused = scan_of(content), np.random.default_rng(1), 0
    for number in range(30):
        damaged = bytearray(content)
        place = start + number * (len(content) - start - 300) // 30
        damaged[place : place + 200] = rng.integers(0, 255, 200, dtype=np.uint8).tobytes()
        try:
            decoded(written(tmp_path / "a.jpg", bytes(damaged)))
        except Rejected as verdict:
            refused += verdict.reason == "file_corrupt"
    assert refused >= 27


def test_lost_and_exchanged_restart_intervals_are_noticed(tmp_path):
    content = jpeg(noisy(), restart_marker_rows=1)
    marks = [
        place for place in range(len(content) - 1) if content[place] == 0xFF and 0xD0 <= content[place + 1] < 0xD8
    ]
    first, second, third = marks[3:6]
    lost = content[:first] + content[second:]
    exchanged = content[:first] + content[second:third] + content[first:second] + content[third:]
    for damaged in (lost, exchanged):
        reason, detail = reason_of(written(tmp_path / "a.jpg", damaged))
        assert (reason, "damaged" in detail) == ("file_corrupt", True)


def test_a_jpeg_that_is_higher_than_it_says_is_refused(tmp_path):
    content = bytearray(jpeg(noisy()))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 2] = struct.pack(">H", 80)
    reason, detail = reason_of(written(tmp_path / "a.jpg", bytes(content)))
    assert (reason, "left over" in detail) == ("file_corrupt", True)


def test_a_progressive_jpeg_without_its_last_scans_is_refused(tmp_path):
    content = jpeg(noisy(), progressive=True)
    scans = [place for place in range(len(content)) if content[place : place + 2] == b"\xff\xda"]
    for count in (1, 3, len(scans) - 1):
        reason, detail = reason_of(written(tmp_path / "a.jpg", content[: scans[count]] + b"\xff\xd9"))
        assert (reason, "scans" in detail) == ("file_corrupt", True)


def test_a_frame_of_a_film_without_huffman_tables_is_read(tmp_path):
    content = jpeg(noisy())
    whole = decoded(written(tmp_path / "a.jpg", content)).rgb
    while (place := content.find(b"\xff\xc4")) >= 0:  # the standard ones, which decoders know
        content = content[:place] + content[place + 2 + struct.unpack_from(">H", content, place + 2)[0] :]
    np.testing.assert_array_equal(decoded(written(tmp_path / "b.jpg", content)).rgb, whole)
