"""OFF files: exactly the declared vertices and faces, with line breaks anywhere."""

import time

import numpy as np
import pytest

from vondata.shapes.obj_stl import parse_off
from vondata.shapes.source_file import MeshFileError

CORNERS = b"0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n"


def test_polygons_colours_and_comments():
    text = b"COFF # a house\n# counts\n5 2 0\n" + CORNERS.replace(b"\n", b" 255 0 0 255\n")
    mesh = parse_off(text + b"\n4 0 1 2 3 0.5 0.5 0.5 # the floor\n\t3  0 1 4\nleft over\n")
    np.testing.assert_array_equal(mesh.vertices[2], [1, 1, 0])
    np.testing.assert_array_equal(mesh.corners, [0, 1, 2, 3, 0, 1, 4])
    np.testing.assert_array_equal(mesh.starts, [0, 4, 7])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends(end):
    mesh = parse_off((b"OFF5 1 0\n" + CORNERS + b"3 0 1 2").replace(b"\n", end))
    assert mesh.vertices.shape == (5, 3)
    np.testing.assert_array_equal(mesh.corners, [0, 1, 2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"OFF\n", "how many"),
        (b"OFF\n5\n" + CORNERS, "how many"),
        (b"OFF\n-5 1 0\n" + CORNERS, "how many"),
        (b"OFF\n6 0 0\n" + CORNERS, "6 vertices announced, 5 there"),
        (b"OFF\n5 2 0\n" + CORNERS + b"3 0 1 2\n", "2 faces announced, 1 there"),
        (b"OFF\n5 2 0\n" + CORNERS + b"3 0 1 2\n4 0 1 2\n", "face 2 announces 4 corners and names 3"),
        (b"OFF\n5 1 0\n" + CORNERS + b"999999999 0 1 2\n", "face 1 announces 999,999,999 corners and names 3"),
        (b"OFF\n5 1 0\n" + CORNERS + b"-1 0 1 2\n", "announces -1"),
        (b"OFF\n5 1 0\n" + CORNERS + b"3 0 1 5\n", "names vertex 5"),
        (b"OFF\n5 1 0\n" + CORNERS + b"3 0 1 -2\n", "names vertex -2"),
        (b"OFF\n5 1 0\n" + CORNERS + b"3 0 1 2\n# one more\n3 0 1 3\n", "5 vertices and 1 faces announced, and more"),
        (b"OFF\n4 1 0\n" + CORNERS + b"3 0 1 2\n", "announces 0 corners|and more"),
    ],
)
def test_what_is_announced_has_to_be_there(text, words):
    with pytest.raises(MeshFileError, match=words):
        parse_off(text)


@pytest.mark.parametrize(
    "text",
    [
        b"OFF 5 2 0 " + CORNERS.replace(b"\n", b" ") + b"4 0 1 2 3 3 0 1 4",
        b"OFF\n5\n2 0\n".replace(b"5\n", b"5 ") + CORNERS.replace(b" ", b"\n") + b"4\n0 1\n2 3\n3\n0\n1 4\n",
        b"OFF\n5 2 0\n0 0 0 1 0 0\n1 1 0 0 1 0\n0 0 1\n4 0 1 2 3 3 0 1 4\n",
    ],
    ids=["one line", "a word a line", "two positions a line"],
)
def test_lines_may_be_broken_anywhere(text):
    mesh = parse_off(text)
    np.testing.assert_array_equal(mesh.vertices, np.loadtxt(CORNERS.decode().splitlines()))
    np.testing.assert_array_equal(mesh.corners, [0, 1, 2, 3, 0, 1, 4])


@pytest.mark.parametrize("text", [b"OFF\na b\n", b"OFF\n1 0\n0 0\n", b"OFF\n1 1\n0 0 0\n3 0 0 x\n"])
def test_words_are_not_numbers(text):
    with pytest.raises((ValueError, OverflowError)):
        parse_off(text)


def test_time_and_memory_go_with_the_lines():
    count = 30_000
    rng = np.random.default_rng(0)
    positions = "\n".join(f"{x:.6f} {y:.6f} {z:.6f}" for x, y, z in rng.random((count, 3)))
    faces = "\n".join(f"3 {a} {b} {c}" for a, b, c in rng.integers(count, size=(2 * count, 3)))
    text = f"OFF\n{count} {2 * count} 0\n{positions}\n{faces}\n".encode() + b"\n" * 1_000_000
    parse_off(b"OFF\n5 1 0\n" + CORNERS + b"3 0 1 4\n")  # compiles it
    started = time.process_time()
    mesh = parse_off(text)
    assert time.process_time() - started < 5
    assert len(mesh.starts) == 2 * count + 1


def test_counts_in_the_wrong_order_are_not_read_as_they_stand():
    """With more faces than vertices, rows of faces would be taken for positions."""
    faces = b"".join(
        b"3 %d %d %d\n" % (a, b, c) for a, b, c in ((0, 1, 2), (0, 2, 3), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4))
    )
    assert len(parse_off(b"OFF\n5 6 0\n" + CORNERS + faces).starts) == 7
    with pytest.raises(MeshFileError, match="vertex 6 has other than as many values"):
        parse_off(b"OFF\n6 5 0\n" + CORNERS + faces)


def test_colours_and_comments_behind_every_vertex():
    rows = [line + b" 255 0 0 255 # red" for line in CORNERS.splitlines()]
    mesh = parse_off(b"COFF\n5 1 0\n" + b"\n".join(rows) + b"\n3 0 1 2\n")
    np.testing.assert_array_equal(mesh.vertices, np.loadtxt(CORNERS.decode().splitlines()))


def test_a_second_file_behind_the_first_is_refused():
    text = b"OFF\n5 1 0\n" + CORNERS + b"3 0 1 2\n"
    with pytest.raises(MeshFileError, match="more are there"):
        parse_off(text + text)
