import struct

import cv2
import numpy as np
import pytest

from vonmodel.reports.mp4_comment import is_mp4, read_comment, write_comment
from vonmodel.reports.video import write_film


def box(kind, *content):
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    write_film(path, np.stack([np.full((32, 32, 3), 60 * index, dtype=np.uint8) for index in range(4)]))
    return path


def frames_of(path):
    film, found = cv2.VideoCapture(str(path)), []
    while (answer := film.read())[0]:
        found.append(answer[1])
    return np.stack(found)


def test_a_comment_comes_back_and_the_film_stays(film):
    before = frames_of(film)
    write_comment(film, "chaise longue ⌂", "VON 1.2")
    assert read_comment(film) == "chaise longue ⌂"
    assert is_mp4(film.read_bytes()[:8])
    assert (frames_of(film) == before).all()


def test_a_second_comment_replaces_the_first(film):
    write_comment(film, "first", "VON 1.2")
    size = film.stat().st_size
    write_comment(film, "other", "VON 1.2")
    assert read_comment(film) == "other"
    assert film.stat().st_size == size
    assert b"first" not in film.read_bytes()


def test_a_table_before_the_pictures_moves_to_the_end(tmp_path):
    # Other encoders use this layout; the offsets of the pictures, which the table holds, must not change.
    film, pictures = tmp_path / "film.mp4", box(b"mdat", b"pictures")
    start = box(b"ftyp", b"isom0000") + box(b"moov", box(b"trak", b"table"), box(b"udta", b"old"))
    film.write_bytes(start + pictures)
    write_comment(film, "said", "VON 1.2")
    found = film.read_bytes()
    assert found[len(start) :].startswith(pictures)
    assert b"table" in found[len(start) + len(pictures) :]
    assert found[len(box(b"ftyp", b"isom0000")) + 4 :][:4] == b"free"
    assert read_comment(film) == "said"


def test_sizes_of_64_bits_and_up_to_the_end_are_read(tmp_path):
    said = box(b"\xa9cmt", box(b"data", struct.pack(">II", 1, 0), b"said"))
    moov = box(b"udta", box(b"meta", bytes(4), box(b"ilst", said)))
    film = tmp_path / "film.mp4"
    film.write_bytes(
        box(b"ftyp") + struct.pack(">I4sQ", 1, b"mdat", 19) + b"abc" + struct.pack(">I4s", 0, b"moov") + moov
    )
    assert read_comment(film) == "said"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        box(b"ftyp"),
        box(b"ftyp") + struct.pack(">I4s", 7, b"moov"),
        box(b"ftyp") + struct.pack(">I4s", 2**31, b"moov"),
        box(b"ftyp") + struct.pack(">I4sQ", 1, b"moov", 2**60),
        box(b"moov", box(b"udta", b"\0\0")),
        box(
            b"moov",
            box(b"udta", box(b"meta", bytes(4), box(b"ilst", box(b"\xa9cmt", box(b"data", bytes(8), b"\xff\xfe"))))),
        ),
    ],
)
def test_damaged_files_have_no_comment(tmp_path, content):
    film = tmp_path / "film.mp4"
    film.write_bytes(content)
    assert read_comment(film) is None


@pytest.mark.parametrize("content", [b"", box(b"ftyp") + box(b"mdat", b"pictures")])
def test_what_is_no_film_gets_no_comment(tmp_path, content):
    film = tmp_path / "film.mp4"
    film.write_bytes(content)
    with pytest.raises(ValueError, match="moov"):
        write_comment(film, "said", "VON 1.2")
    assert film.read_bytes() == content
