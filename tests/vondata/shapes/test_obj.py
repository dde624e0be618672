"""OBJ files: every way of writing a mesh that the format allows, and clear rejections of what it does not."""

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from vondata.shapes.obj_stl import parse_obj
from vondata.shapes.polygons import triangulate
from vondata.shapes.source_file import MeshFileError
from vondata.types import Rejected


def test_positions_and_faces():
    polygons = parse_obj(b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\nf 1 2 3\n")
    np.testing.assert_array_equal(polygons.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(polygons.corners, [0, 1, 2, 3, 0, 1, 2])
    np.testing.assert_array_equal(polygons.starts, [0, 4, 7])


@pytest.mark.parametrize(
    "text",
    [
        b"v 0 0 0\r\nv 1 0 0\r\nv 0 1 0\r\nf 1 2 3\r\n",
        b"  v\t0 0   0 1.0\nv 1 0 0 0.5 0.5 0.5\nv 0 1 0 # a corner\nf 1/1/1 2//3 3/4 # a face",
        b"v 0 0 0#a\nv 1 0 0.#b\nv 0 1.0 0#c\nf 1 2 3#d\n",
        b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\n",
        b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 \\\n  3\n",
        b"v 0 0 0 \\\n 1 1 1\nv 1 0 0 1 \\\n-.5 1\nv 0 1 0 \\\nf 1 2 3\n",
        b"v 0 0 0\nv 1 0 0\nv 0 \\\r\n 1 0\nf 1 2 3",
        b"v 0e5 -0 +0.0\nv 10E-1 .0 0.\nv 0 0.1e+1 0\nf 1 2 3\n",
        b"f 1 2 3\nv 0 0 0\nv 1 0 0\nv 0 1 0\n",
        b"V 0 0 0\nVT 0 0\nV 1 0 0\nV 0 1 0\nF 1 2 3\n",
        b"mtllib ../../secret.mtl\nusemtl x\ng v f\ns 1\nvn 0 0 1\nv 0 0 0\nv 1 0 0\nl 1 2\nv 0 1 0\nf 1 2 3\n",
    ],
    ids=[
        "crlf",
        "extras",
        "comments without a blank",
        "negative",
        "continued",
        "colours continued",
        "continued crlf",
        "exponents",
        "faces first",
        "capitals",
        "other lines",
    ],
)
def test_ways_to_write_a_triangle(text):
    polygons = parse_obj(text)
    np.testing.assert_array_equal(polygons.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(polygons.corners, [0, 1, 2])


@pytest.mark.parametrize("line", [b"surf 0 1 0 1 1 2 3", b" bzp 1 2 3", b"bsp 1 2 3"])
def test_free_form_surfaces_are_named(line):
    parse_obj(b"v 0 0 0\nsurface 1\nvp 0 0\ncstype bezier\ncurv 0 1 1 2\n")
    with pytest.raises(Rejected, match="free-form surface in line 2") as caught:
        parse_obj(b"v 0 0 0\n" + line + b"\n")
    assert caught.value.reason == "extension_unsupported"


def test_parts_in_other_files_are_named():
    with pytest.raises(Rejected, match="line 2 calls another file") as caught:
        parse_obj(b"v 0 0 0\ncall legs.obj\n")
    assert caught.value.reason == "outside_root"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=30))
def test_numbers_are_read_as_they_are(values):
    values = values[: len(values) // 3 * 3]
    text = "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in zip(*[iter(values)] * 3, strict=True))
    read = parse_obj(text.encode()).vertices.reshape(-1)
    np.testing.assert_allclose(read, values, rtol=1e-14, atol=1e-307)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-1000, max_value=1000))
def test_numbers_as_collections_print_them(value):
    assert parse_obj(f"v {value} 0 0\n".encode()).vertices[0, 0] == pytest.approx(float(value), rel=4e-16)


@pytest.mark.parametrize("word", ["nan", "-NaN", "inf", "-inf", "1.#QNAN", "-1.#IND", "Infinity"])
def test_words_for_nan_and_infinity(word):
    assert np.isnan(parse_obj(f"v {word} 0 0\n".encode()).vertices[0, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"v 1 2\n", "line 1: a vertex without three numbers"),
        (b"v 1 2 3\nv 1 2 x3\n", "line 2: a vertex without three numbers"),
        (b"v 1 2 3e\n", "line 1"),
        (b"v 1 2 1.2.3\n", "line 1"),
        (b"v 1 2 3\nf 1 1 0\n", "line 2: a face with something that is not a vertex number"),
        (b"v 1 2 3\nf 1 a 1\n", "line 2"),
        (b"v 1 2 3\nf 1 1.5 1\n", "line 2"),
        (b"v 1 2 3\nf 1 \\ 1\n", "line 2"),
        (b"v 1 2 3\nf 1 1 1\n 1 1\n", "line 3: a number where a statement should begin"),
        (b"v 1 2\n3\n", "line 1"),
        (b"v 1 2 3\nf 1 1 1\n" + bytes(100) + b"\nf 1 1 1\n", "zeros at byte 16"),
        (b"v 1 2 3\n# a point\n\n-0.5 1 2\n", "line 4: a number where a statement should begin"),
        (b"v 1 2 3\n# a point\n\n-.5 1 2\n", "line 4: a number where a statement should begin"),
        (b"v 1 2 3\nf 1 1", "the file ends within a face"),
        (b"v 1 2 3\nf 1 1 2\n", "a face names vertex 2, and there are 1"),
        (b"v 1 2 3\nf 1 1 -2\n", "a face names vertex"),
        (b"v 1 2 3\nf 1 1 99999999999999999999\n", "a face names vertex"),
    ],
)
def test_contradictions_are_named(text, message):
    with pytest.raises(MeshFileError, match=message):
        parse_obj(text)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(noise):
    for text in (noise, b"v 0 0 0\nf 1 1 1\nv " + noise, b"v 0 0 0\nf 1" + noise):
        try:
            polygons = parse_obj(text)
        except (MeshFileError, Rejected):  # Rejected: `call`
            continue
        assert polygons.starts[-1] == len(polygons.corners)
        assert np.all((polygons.corners >= 0) & (polygons.corners < len(polygons.vertices)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of trimesh
def test_real_meshes_are_read_as_trimesh_reads_them(realdata):
    files = sorted(realdata.glob("ShapeNetCore.v2/*/*/models/*.obj"), key=lambda path: path.stat().st_size)
    for path in files[:8]:
        polygons = parse_obj(path.read_bytes())
        faces, broken = triangulate(polygons)
        peer = trimesh.load(path, process=False, maintain_order=True, force="mesh", skip_materials=True)
        area = trimesh.Trimesh(polygons.vertices, faces, process=False).area
        assert broken == 0
        assert len(faces) == len(peer.faces)
        assert area == pytest.approx(peer.area, rel=0.02)  # polygons that are not flat have several areas
        np.testing.assert_allclose(polygons.vertices.min(axis=0), peer.bounds[0], atol=1e-9)


@pytest.mark.parametrize(
    "line",
    [
        b"<html><body>502 Bad Gateway</body></html>",
        b"<<<<<<< HEAD",
        b"=======",
        b'{"error": "timeout"}',
        b"\x1a",
        b"\x01\x02",
    ],
)
def test_what_another_file_left_in_place_of_lines_is_no_statement(line):
    square = b"v 0 0 0\nv 1 0 0\nv 1 1 0\n" + line + b"\nf 1 2 3\n"
    with pytest.raises(MeshFileError, match="line 4: not a statement"):
        parse_obj(square)
    assert len(parse_obj(square.replace(line, b"# " + line)).starts) == 2
    assert len(parse_obj(square.replace(line, b"vendor_word 1 2")).starts) == 2
