"""Text of mesh files: every encoding, mark and line end gives the same plain lines, in every text format."""

import numpy as np
import pytest
import trimesh

from vondata.shapes.reading import read_triangles
from vondata.shapes.source_file import Limits
from vondata.shapes.text import plain_text

TEXT = "# a mesh, made by caf\u00e9 number 10\nv 0 0 0\n\nv 1 2 3 # x\n"
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_plain_lines(encoding, end):
    behind = "\0\0\x1a\0".encode("utf-8" if encoding == "utf-8-sig" else encoding.removesuffix("-sig"))
    text = plain_text(
        TEXT.replace("\n", end).encode(encoding) + (b"" if encoding in ("utf-16", "utf-32") else behind)
    )
    expected = TEXT.encode("latin-1" if encoding == "latin-1" else "utf-8")
    assert text.rstrip() == expected.rstrip()


def test_marks_within_are_dropped():
    assert plain_text("\ufeffa\n\ufeffb".encode()) == b"a\nb"


def test_utf16_by_its_marks_in_both_orders():
    for encoding in ("utf-16-le", "utf-16-be"):
        assert plain_text("\ufeffv 1".encode(encoding)) == b"v 1"


BOX = trimesh.creation.box((1, 2, 3))
FORMATS = {
    "obj": BOX.export(file_type="obj"),
    "off": BOX.export(file_type="off"),
    "ply": BOX.export(file_type="ply", encoding="ascii").decode(),
    "stl": BOX.export(file_type="stl_ascii"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_text_format_in_every_encoding(form, encoding, end, tmp_path):
    content = FORMATS[form].replace("\r\n", "\n").replace("\n", end).encode(encoding)
    soup = read_triangles(content, tmp_path / "a.mesh", Limits())
    assert len(soup.faces) == 12
    np.testing.assert_allclose(np.ptp(soup.vertices, axis=0), [1, 2, 3])


@pytest.mark.parametrize("form", ["obj", "off"])
def test_comments_before_everything(form, tmp_path):
    content = b"# made by a script\n\n   # that says so twice\n" * 500 + FORMATS[form].encode()
    assert len(read_triangles(content, tmp_path / "a.mesh", Limits()).faces) == 12
