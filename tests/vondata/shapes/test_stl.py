"""STL files: all solids of a text, however they end, and binaries with surrounding bytes."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.shapes.obj_stl import parse_stl_binary, parse_stl_text
from vondata.shapes.reading import read_triangles
from vondata.shapes.source_file import Limits, MeshFileError
from vondata.types import Rejected

LIMITS = Limits()
FACET = "facet normal 0 0 1\n outer loop\n  vertex 0 0 {z}\n  vertex 1 0 {z}\n  vertex 0 1 {z}\n endloop\nendfacet\n"


def facets(count, first=0):
    return "".join(FACET.format(z=first + number) for number in range(count))


@pytest.mark.parametrize(
    "text",
    [
        f"solid a\n{facets(1)}endsolid a\nsolid b\n{facets(2, 1)}endsolid b\n",
        f"solid a\n{facets(1)}end solid a\nsolid\n{facets(2, 1)}end solid\n",
        f"solid a\n{facets(1)}solid b\n{facets(2, 1)}",
        f"solid facet normal vertex\n{facets(3)}endsolid facet normal vertex outer loop\n",
        f"solid endsolid\n{facets(3)}endsolid solid\n",
        f"SOLID A\n{facets(3).upper()}ENDSOLID A\n",
        f"solid a\n{facets(3).replace('endfacet', 'end facet').replace('endloop', 'end loop')}endsolid",
        f"solid a\n{facets(3)}endsolid a".replace("\n", "\r"),
        f"\ufeffsolid a\n{facets(3)}endsolid a".replace("\n", "\r\n"),
        f"solid a\n{facets(3).replace('l 0 0 1', 'l nan nan -nan(ind)')}endsolid a",
        f"solid a\n{facets(3).replace(chr(10), ' ').replace('1 0', '1' + chr(10) + '0')}\nendsolid a",
        f"solid a {facets(3)}endsolid a".replace("\n", " "),
        facets(3),
        f"solid a {facets(1)}endsolid a solid b {facets(2, 1)}endsolid b".replace("\n", " "),
        f"# exported\nsolid \u00e4\u00f6\n\n{facets(3)}",
    ],
    ids=[
        "two solids",
        "end solid",
        "ends missing",
        "keywords as name",
        "endsolid as name",
        "capitals",
        "end facet",
        "returns",
        "mark and crlf",
        "normals that are none",
        "wrapped",
        "one line",
        "no solid",
        "two solids on one line",
        "comment and accents",
    ],
)
def test_ways_to_write_three_triangles(text, tmp_path):
    for content in (text.encode(), text.encode("utf-16")):
        soup = read_triangles(content, tmp_path / "a.stl", LIMITS)
        assert len(soup.faces) == 3
        np.testing.assert_array_equal(np.unique(soup.vertices[:, 2]), [0, 1, 2])


def test_a_facet_of_four_vertices_is_a_polygon(tmp_path):
    text = f"solid a\n{facets(1).replace('  vertex 0 1 0', '  vertex 1 1 0 vertex 0 1 0')}"
    assert len(read_triangles(text.encode(), tmp_path / "a.stl", LIMITS).faces) == 2


def test_a_solid_without_facets_has_no_triangles(tmp_path):
    assert len(read_triangles(b"solid a\nendsolid a\n", tmp_path / "a.stl", LIMITS).faces) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"solid a\n{facets(2)[:-5]}", "an unexpected word"),
        (f"solid a\n{facets(2)[:-10]}", "a facet without end"),
        (f"solid a\n{facets(2)[:-20]}", "a facet without end"),
        (f"solid a\n{facets(1)[:-9]}endsolid a\n", "line 8: a facet without end"),
        (f"solid a\n{facets(1)[:-9]}{facets(1)}", "line 8: a facet without end"),
        (f"solid a\n{facets(1).replace('1 0 0', '1 0')}", "a vertex without three numbers"),
        (f"solid a\nvertex 0 0 0\n{facets(1)}", "line 2: an unexpected word"),
        (f"solid a\n{facets(1)}12\n", "an unexpected word"),
        (f"solid a\n{facets(1)}{facets(1).replace('  vertex 0 1 0', '')}", "facet 2 has 2 vertices"),
        (f"solid a\n{facets(2).replace('endfacet', '', 1).replace('facet', 'outer', 1)}", "an unexpected word"),
        (f"solid a\n{facets(1).replace('outer loop', 'vertex 5 5 5 vertex 6 6 6')}", "facet 1 has 5 vertices"),
    ],
)
def test_truncated_files_are_rejected(text, words):
    with pytest.raises(MeshFileError, match=words):
        parse_stl_text(text.encode(), LIMITS)


def binary(count, header=b"", announced=None):
    rows = b"".join(struct.pack("<12fH", 0, 0, 0, 0, 0, k, 1, 0, k, 0, 1, k, 0) for k in range(count))
    return header.ljust(80, b"\0") + struct.pack("<I", count if announced is None else announced) + rows


@pytest.mark.parametrize("header", [b"", b"solid made by", b"solid facet normal 0 0 1\nfacet"])
@pytest.mark.parametrize("trailing", [b"", b"\0", b"made by a program\n" * 20])
def test_binaries_with_anything_around_them(header, trailing, tmp_path):
    soup = read_triangles(binary(3, header) + trailing, tmp_path / "a.stl", LIMITS)
    assert len(soup.faces) == 3
    np.testing.assert_array_equal(np.unique(soup.vertices[:, 2]), [0, 1, 2])


def test_binaries_put_together_are_all_read(tmp_path):
    soup = read_triangles(binary(3) + binary(2, b"solid b") + binary(1) + b"made by", tmp_path / "a.stl", LIMITS)
    assert len(soup.faces) == 6
    with pytest.raises(Rejected, match="6 vertices"):
        parse_stl_binary(binary(1) + binary(1), Limits(faces=1))


def test_more_triangles_than_announced(tmp_path):
    with pytest.raises(Rejected, match="3 triangles announced, 5 there") as caught:
        read_triangles(binary(5, announced=3), tmp_path / "a.stl", LIMITS)
    assert caught.value.reason == "file_corrupt"
    rows = np.frombuffer(binary(5), np.uint8)[84:].reshape(5, 50)[[0, 4, 1, 2, 3]]
    rows[:, :12] = np.frombuffer(np.float32([3, 4, 5]).tobytes(), np.uint8)  # normals of no unit length
    with pytest.raises(Rejected, match="3 triangles announced, 5 there"):
        read_triangles(binary(0, announced=3) + rows.tobytes(), tmp_path / "a.stl", LIMITS)
    for filling in (bytes(100), b"\xff" * 100):  # whole rows, but no triangles
        assert len(read_triangles(binary(3) + filling, tmp_path / "a.stl", LIMITS).faces) == 3


@pytest.mark.parametrize(
    "content",
    [
        binary(3)[:-1],
        binary(3, b"solid a")[:-60],
        binary(3, announced=4),
        binary(3, announced=0),
        binary(3, announced=2**32 - 1),
        bytes(10_000),
    ],
)
def test_binaries_that_are_cut_or_lie(content, tmp_path):
    with pytest.raises(Rejected) as caught:
        read_triangles(content, tmp_path / "a.stl", LIMITS)
    assert caught.value.reason == "file_corrupt"
    assert "announced, bytes for" in caught.value.detail


def test_limits():
    for content, parse in ((binary(3), parse_stl_binary), (f"solid\n{facets(3)}".encode(), parse_stl_text)):
        with pytest.raises(Rejected) as caught:
            parse(content, Limits(faces=2))
        assert caught.value.reason == "too_large"


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_break_the_parser(noise, at):
    text = f"solid a\n{facets(3)}endsolid".encode()
    for content in (noise, text[:at] + noise + text[at:], text[: at + 1]):
        try:
            polygons = parse_stl_text(content, LIMITS)
        except MeshFileError:
            continue
        assert polygons.starts[-1] == len(polygons.vertices)


@pytest.mark.parametrize("place", [84, 1000, 190_001])
@pytest.mark.parametrize("change", ["lost", "added", "two lost"])
def test_a_byte_lost_or_added_leaves_no_triangles(place, change):
    corners = np.random.default_rng(0).normal(size=(5000, 3, 3)).astype("<f4")
    count, rows = len(corners), np.zeros((len(corners), 50), np.uint8)
    rows[:, 12:48] = corners.reshape(count, -1).view(np.uint8)
    content = bytes(80) + struct.pack("<I", count) + rows.tobytes()
    assert len(parse_stl_binary(content, LIMITS).vertices) == 3 * count
    skip = {"lost": 1, "added": 0, "two lost": 2}[change]
    damaged = content[:place] + b"\x41" * (change == "added") + content[place + skip :]
    damaged = damaged.ljust(len(content), b"\0")[: len(content)]
    with pytest.raises(MeshFileError, match="impossible coordinates"):
        parse_stl_binary(damaged, LIMITS)
