"""PLY files: text and both binaries, every property type, polygons and strips, and declared counts."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.shapes.ply import parse_ply
from vondata.shapes.polygons import cut_polygons
from vondata.shapes.source_file import Limits, MeshFileError
from vondata.types import Rejected

LIMITS = Limits()
TRIANGLE = ["element vertex 3", *(f"property float {each}" for each in "xyz"), "element face 1"]
LISTED = [*TRIANGLE, "property list uchar int vertex_indices"]
ROWS = b"0 0 0\n1 0 0\n0 1 0\n"
POINTS = [(0, 0, 0), (4, 0, 0), (4, 4, 0), (0, 4, 0), (2, 1, 0)]
FACES = [(0, 1, 2), (0, 1, 2, 3), (0, 1, 4)]
CODES = {"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d"}
CODES |= {"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q"}
CODES |= {"float32": "f", "float64": "d", "uint64": "Q"}
FORMS = ("ascii", "binary_little_endian", "binary_big_endian")


def header(form, lines, end="\n"):
    return end.join(
        ["ply", f"format {form} 1.0", "comment by hand", "obj_info none", *lines, "end_header", ""]
    ).encode()


def packed(form, codes, *values):
    if form == "ascii":
        return (" ".join(str(each) for each in values) + "\n").encode()
    return struct.pack((">" if "big" in form else "<") + codes, *values)


def written(form, *, axis="float", corner="int", count="uchar", end="\n"):
    """The polygons with a colour before the positions, and a flag before and a list behind the corners."""
    lines = [f"element vertex {len(POINTS)}", "property uchar red", *(f"property {axis} {each}" for each in "xyz")]
    lines += [f"element face {len(FACES)}", "property short flags", f"property list {count} {corner} vertex_indices"]
    lines += ["property list uchar float weights"]
    body = b"".join(packed(form, "B" + 3 * CODES[axis], 7, *point) for point in POINTS)
    for face in FACES:
        body += packed(form, "h", -1) + packed(form, CODES[count], len(face))
        body += packed(form, len(face) * CODES[corner], *face) + packed(form, "B2f", 2, 0.5, 0.25)
    return header(form, lines, end) + (body.replace(b"\n", end.encode()) if form == "ascii" else body)


def assert_is_the_scene(polygons):
    np.testing.assert_array_equal(polygons.vertices, POINTS)
    assert [tuple(part) for part in np.split(polygons.corners, polygons.starts[1:-1])] == FACES


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_form_and_line_end(form, end):
    assert_is_the_scene(parse_ply(written(form, end=end), LIMITS))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", sorted(CODES))
def test_every_type(form, kind):
    is_whole = CODES[kind] not in "fd"
    counts = kind if is_whole else "uchar"
    assert_is_the_scene(parse_ply(written(form, axis=kind, corner=kind, count=counts), LIMITS))


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3), st.sampled_from(FORMS))
def test_negative_numbers(values, form):
    lines = ["element vertex 1", *(f"property int {each}" for each in "xyz")]
    np.testing.assert_array_equal(
        parse_ply(header(form, lines) + packed(form, "3i", *values), LIMITS).vertices, [values]
    )


@pytest.mark.parametrize("first", [10, 13, 32])
def test_a_first_byte_that_looks_like_a_line_end(first):
    lines = ["element vertex 1", "property uchar x", "property uchar y", "property uchar z"]
    for end in ("\n", "\r\n", "\r"):
        polygons = parse_ply(header("binary_little_endian", lines, end) + bytes([first, 2, 3]), LIMITS)
        np.testing.assert_array_equal(polygons.vertices, [[first, 2, 3]])


def test_text_wraps_where_it_likes_and_faces_may_come_first():
    lines = ["element face 1", "property list uchar int vertex_index", "element edge 1", "property int a"]
    lines += ["element vertex 3", "property double z", "property double y", "property double x"]
    text = header("ascii", lines) + b"3 0\n1\n\n 2 9 0 0 0 0\n0 1 0\n1 0\n\n"
    polygons = parse_ply(text, LIMITS)
    np.testing.assert_array_equal(polygons.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(polygons.corners, [0, 1, 2])


def test_text_with_more_in_a_row_than_the_header_says():
    text = header("ascii", LISTED) + b"0 0 0 255\n1 0 0 255 7\n0 1 0\n3 0 1 2 9 1 1\n"
    polygons = parse_ply(text, LIMITS)
    np.testing.assert_array_equal(polygons.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(polygons.corners, [0, 1, 2])


def test_faces_under_any_name():
    lines = ["element vertex 3", *(f"property float {each}" for each in "xyz"), "element face 1"]
    lines += ["property list uchar int vertex_indices", "element polygon 1", "property list uchar int vertex_index"]
    lines += ["element range_grid 1", "property list uchar int vertex_indices"]
    polygons = parse_ply(header("ascii", lines) + ROWS + b"3 0 1 2\n3 2 1 0\n1 2\n", LIMITS)
    np.testing.assert_array_equal(polygons.corners, [0, 1, 2, 2, 1, 0])


def test_comments_broken_over_lines_of_the_header():
    text = header("ascii", ["comment made by", "some program", "", *LISTED]) + ROWS + b"3 0 1 2\n"
    assert len(parse_ply(b"\n" + text, LIMITS).vertices) == 3


@pytest.mark.parametrize("form", FORMS)
def test_strips(form):
    lines = ["element vertex 6", *(f"property float {each}" for each in "xyz")]
    lines += ["element tristrips 1", "property list int int vertex_indices"]
    strip = (0, 1, 2, 3, -1, 3, 4, 5)
    body = b"".join(packed(form, "3f", i, i * i, 1) for i in range(6)) + packed(form, "9i", len(strip), *strip)
    polygons = parse_ply(header(form, lines) + body, LIMITS)
    np.testing.assert_array_equal(polygons.corners.reshape(-1, 3), [[0, 1, 2], [1, 2, 3], [3, 4, 5]])


def test_concave_polygons_keep_their_area():
    lines = ["element vertex 6", *(f"property float {each}" for each in "xyz")]
    lines += ["element face 1", "property list uchar int vertex_indices"]
    corner = [(0, 0), (2, 0), (2, 2), (1.9, 2), (1.9, 0.1), (0, 0.1)]  # an L, begun where a fan would leave it
    order = [3, 4, 5, 0, 1, 2]
    body = b"".join(packed("ascii", "", x, y, 0) for x, y in corner) + packed("ascii", "", 6, *order)
    soup = cut_polygons(parse_ply(header("ascii", lines) + body, LIMITS), LIMITS)
    a, b, c = (soup.vertices[soup.faces[:, k]] for k in range(3))
    assert np.abs(np.cross(b - a, c - a)[:, 2]).sum() / 2 == pytest.approx(2 * 0.1 + 1.9 * 0.1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header("ascii", LISTED) + ROWS[:-6], "3 x vertex announced, 12 bytes left"),
        (header("ascii", LISTED) + ROWS[:-2] + b"3 0 1 2\n", "after the last announced row"),
        (header("ascii", LISTED) + ROWS + b"3 0 1\n", "1 x face announced, 0 there"),
        (header("ascii", LISTED) + ROWS + b"3 0 1 2\n3 0 1 2\n", "after the last announced row"),
        (header("ascii", LISTED) + ROWS + b"3 0 1 3\n", "names vertex 3"),
        (header("ascii", LISTED) + ROWS + b"3 0 1 -1\n", "names vertex -1"),
        (header("ascii", LISTED) + ROWS + b"3 0 1 1.5\n", "names vertex -2"),
        (header("ascii", LISTED) + ROWS + b"-3 0 1 2\n", "impossible length"),
        (header("ascii", LISTED) + ROWS + b"3 0 x 2\n", "face 1: a value that is not a number"),
        (header("ascii", TRIANGLE) + ROWS, "face without a list"),
        (header("ascii", ["element vertex 1", "property float x"]) + b"1\n", "without x, y and z"),
        (header("ascii", ["element vertex 1", "property quad x"]) + b"1\n", "type 'quad'"),
        (header("ascii", ["element vertex many"]), "line 5 of the header"),
        (header("ascii", ["property float x"]), "line 5 of the header"),
        (header("ascii", LISTED).replace(b"format ascii 1.0\n", b""), "text or binary"),
        (header("ascii", LISTED)[:-6], "does not end"),
        (header("binary_little_endian", LISTED) + bytes(36), "1 x face announced, 0 bytes left"),
        (header("binary_little_endian", LISTED) + bytes(36) + b"\x03\0\0\0\0", "1 x face announced, 0 there"),
        (header("binary_little_endian", ["element vertex 99999999999", "property float x"]), "announced"),
    ],
)
def test_what_is_announced_has_to_be_there(content, words):
    with pytest.raises(MeshFileError, match=words):
        parse_ply(content, LIMITS)


@pytest.mark.parametrize("form", FORMS)
def test_limits(form):
    with pytest.raises(Rejected) as caught:
        parse_ply(written(form), Limits(faces=2))
    assert caught.value.reason == "too_large"


@given(st.data())
def test_no_bytes_break_the_parser(data):
    content = bytearray(written(data.draw(st.sampled_from(FORMS))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        polygons = parse_ply(bytes(content[: data.draw(st.integers(0, len(content)))]), LIMITS)
    except (MeshFileError, ValueError, Rejected):
        return
    polygons.check_corners()
    assert polygons.starts[-1] == len(polygons.corners)


@pytest.mark.parametrize("form", FORMS)
def test_more_faces_than_announced(form):
    content = written(form).replace(b"element face 3", b"element face 2")
    with pytest.raises(
        MeshFileError, match="the last announced row" if form == "ascii" else "2 x face announced, 3 there"
    ):
        parse_ply(content, LIMITS)


@pytest.mark.parametrize("trailing", [b"\n", bytes(64), b"made by a program", b"\xff" * 64])
@pytest.mark.parametrize("form", FORMS[1:])
def test_bytes_behind_a_binary_that_are_no_faces(form, trailing):
    assert_is_the_scene(parse_ply(written(form) + trailing, LIMITS))
