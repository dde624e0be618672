"""Mesh files: format detection by content, scene graphs, limits, no files outside the folder."""

import json
import os

import numpy as np
import pytest
import trimesh

from vondata.shapes.reading import detect_format, read_triangles
from vondata.shapes.source_file import Limits, read_bytes
from vondata.types import Rejected

LIMITS = Limits()


def written(mesh, form, **options):
    data = mesh.export(file_type=form, **options)
    return data.encode() if isinstance(data, str) else data


def box():
    return trimesh.creation.box((1, 2, 3))


FORMS = {
    "obj": lambda: written(box(), "obj"),
    "off": lambda: written(box(), "off"),
    "ply": lambda: written(box(), "ply"),
    "ply text": lambda: written(box(), "ply", encoding="ascii"),
    "stl": lambda: written(box(), "stl"),
    "stl text": lambda: written(box(), "stl_ascii"),
    "glb": lambda: written(trimesh.Scene([box()]), "glb"),
}


@pytest.mark.parametrize("name", FORMS)
def test_formats_are_detected_by_content(name, tmp_path):
    content = FORMS[name]()
    assert detect_format(content, tmp_path / "mesh.txt") == name.split()[0]
    soup = read_triangles(content, tmp_path / "mesh.txt", LIMITS)
    assert len(soup.faces) == 12
    np.testing.assert_allclose(soup.vertices.min(axis=0), [-0.5, -1, -1.5])
    np.testing.assert_allclose(soup.vertices.max(axis=0), [0.5, 1, 1.5])


def test_off_headers_as_modelnet_writes_them(tmp_path):
    soup = read_triangles(b"OFF3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", tmp_path / "a.off", LIMITS)
    np.testing.assert_array_equal(soup.faces, [[0, 1, 2]])


def scene():
    """Two boxes, the second used twice, each with a transform; and a line, which is no surface."""
    one, two = trimesh.creation.box((1, 1, 1)), trimesh.creation.box((2, 2, 2))
    whole = trimesh.Scene()
    whole.add_geometry(one, geom_name="one", transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    turned = trimesh.transformations.rotation_matrix(np.pi / 4, [0, 0, 1])
    whole.add_geometry(two, geom_name="two", node_name="first", transform=turned)
    whole.graph.update("second", geometry="two", matrix=trimesh.transformations.translation_matrix([0, 0, 10]))
    return whole


def test_scenes_are_put_together(tmp_path):
    soup = read_triangles(written(scene(), "glb"), tmp_path / "a.glb", LIMITS)
    assert len(soup.faces) == 36
    np.testing.assert_allclose(soup.vertices.max(axis=0), [5.5, np.sqrt(2), 11], atol=1e-6)
    np.testing.assert_allclose(soup.vertices.min(axis=0), [-np.sqrt(2), -np.sqrt(2), -1], atol=1e-6)


def write_gltf(folder):
    for name, content in scene().export(file_type="gltf").items():
        (folder / name).write_bytes(content)
    return folder / "model.gltf"


def test_gltf_reads_the_buffers_beside_it(tmp_path):
    path = write_gltf(tmp_path)
    assert len(read_triangles(path.read_bytes(), path, LIMITS).faces) == 36


@pytest.mark.parametrize(
    "uri",
    ["../secret.bin", "/etc/passwd", "%2e%2e/secret.bin", "file:///etc/passwd", "http://localhost/x", "link.bin"],
)
def test_gltf_reads_nothing_elsewhere(tmp_path, uri):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 100_000)
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write_gltf(inside)
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    tree = json.loads(path.read_bytes())
    tree["buffers"][0]["uri"] = uri
    with pytest.raises(Rejected) as caught:
        read_triangles(json.dumps(tree).encode(), path, LIMITS)
    assert caught.value.reason == "outside_root"
    assert uri in caught.value.detail


def test_materials_are_never_opened(tmp_path, monkeypatch):
    """An OBJ with a material that must not be opened: only the mesh itself may be."""
    content = b"mtllib ../../etc/trap.mtl\nusemtl trap\nmtllib /etc/passwd\n" + FORMS["obj"]()
    monkeypatch.setattr("builtins.open", None)
    assert len(read_triangles(content, tmp_path / "a.obj", LIMITS).faces) == 12


BROKEN = {
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "format_unknown"),
    "text": (b"hello world\n" * 10, "format_unknown"),
    "zip": (b"PK\x03\x04" + bytes(100), "format_unknown"),
    "zeros": (bytes(50), "format_unknown"),
    "obj index": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "file_corrupt"),
    "obj zeros": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n" + bytes(50) + b"\nf 1 3 2\n", "file_corrupt"),
    "obj number": (b"v 0 0 0\nv 1 zero 0\n", "file_corrupt"),
    "off cut": (b"OFF\n8 12 0\n0 0 0\n1 0 0\n", "file_corrupt"),
    "off index": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "file_corrupt"),
    "off many": (b"OFF\n999999999 12 0\n0 0 0\n", "file_corrupt"),
    "ply cut": (FORMS["ply"]()[:-60], "file_corrupt"),
    "ply header": (b"ply\nformat ascii 1.0\nelement vertex 3\n", "file_corrupt"),
    "ply many": (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n",
        "file_corrupt",
    ),
    "glb cut": (FORMS["glb"]()[:-100], "file_corrupt"),
    "glb header": (b"glTF\x02\0\0\0\xff\xff\xff\xff\xff\xff\xff\xffJSON{}", "file_corrupt"),
    "glb version": (b"glTF\x01\0\0\0" + bytes(20), "file_corrupt"),
    "gltf json": (b'{"asset": {"version": "2.0"', "file_corrupt"),
    "gltf deep": (b'{"a":' * 50_000, "file_corrupt"),
    "gltf many": (
        json.dumps({"asset": {"version": "2.0"}, "accessors": [{"count": 10**12, "type": "VEC3"}]}).encode(),
        "too_large",
    ),
    "gltf types": (json.dumps({"asset": {"version": "2.0"}, "accessors": {"count": 3}}).encode(), "file_corrupt"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_rejected_with_a_detail(name, tmp_path):
    content, reason = BROKEN[name]
    with pytest.raises(Rejected) as caught:
        read_triangles(content, tmp_path / "a.mesh", LIMITS)
    assert caught.value.reason == reason
    assert caught.value.detail


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "Git LFS"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip"),
        (b"\n<!DOCTYPE HTML><html>", "a web page"),
        (b"Kaydara FBX Binary  \0", "an FBX file"),
        (b"<?xml version='1.0'?><COLLADA>", "COLLADA"),
    ],
)
@pytest.mark.parametrize("name", ["a.obj", "a.stl"])
def test_what_lies_in_place_of_a_mesh_is_named(content, words, name, tmp_path):
    with pytest.raises(Rejected, match=words) as caught:
        read_triangles(content.ljust(200), tmp_path / name, LIMITS)
    assert caught.value.reason == "format_unknown"


def test_a_truncated_binary_stl_is_recognised_by_its_name(tmp_path):
    with pytest.raises(Rejected) as caught:
        read_triangles(FORMS["stl"]()[:-30], tmp_path / "a.stl", LIMITS)
    assert caught.value.reason == "file_corrupt"
    assert "12 triangles announced" in caught.value.detail


@pytest.mark.parametrize("name", FORMS)
def test_more_than_the_limit_is_too_large(name, tmp_path):
    with pytest.raises(Rejected) as caught:
        read_triangles(FORMS[name](), tmp_path / "a.mesh", Limits(faces=11))
    assert caught.value.reason == "too_large"


def test_copies_in_a_scene_count(tmp_path):
    with pytest.raises(Rejected) as caught:
        read_triangles(written(scene(), "glb"), tmp_path / "a.glb", Limits(faces=30))
    assert caught.value.reason == "too_large"


def test_files_are_read_or_rejected(tmp_path):
    path = tmp_path / "a.obj"
    path.write_bytes(b"v 0 0 0\n")
    assert read_bytes(path, LIMITS) == b"v 0 0 0\n"
    path.write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with open(tmp_path / "big", "wb") as big:
        big.truncate(3 * 2**20)
    for name, reason in {
        "a.obj": "file_corrupt",
        "none": "source_missing",
        ".": "source_unreadable",
        "pipe": "source_unreadable",
        "loop": "source_unreadable",
        "big": "too_large",
    }.items():
        with pytest.raises(Rejected) as caught:
            read_bytes(tmp_path / name, Limits(file_mb=2))
        assert caught.value.reason == reason, name


def test_zeros_behind_a_small_text_do_not_hide_it(tmp_path):
    content = FORMS["obj"]() + bytes(500)
    assert detect_format(content, tmp_path / "mesh.txt") == "obj"
    assert len(read_triangles(content, tmp_path / "mesh.txt", LIMITS).faces) == 12


def ball():
    """Large enough that a sector lies within its vertices, and one within its faces."""
    return trimesh.creation.icosphere(subdivisions=4)


@pytest.mark.parametrize("form", ["stl", "ply", "glb"])
@pytest.mark.parametrize(("start", "end"), [(8192, 8704), (4096, 8192), (36864, None)], ids=["sector", "page", "end"])
def test_blocks_of_zeros_that_a_disk_lost_are_no_vertices(tmp_path, form, start, end):
    content = written(trimesh.Scene([ball()]) if form == "glb" else ball(), form)
    assert len(read_triangles(content, tmp_path / "a", LIMITS).faces) == 5120
    end = end or len(content)
    damaged = content[:start] + bytes(end - start) + content[end:]
    with pytest.raises(Rejected, match=r"zeros at byte|there") as caught:
        read_triangles(damaged, tmp_path / "a", LIMITS)
    assert caught.value.reason == "file_corrupt"


@pytest.mark.parametrize("form", ["stl", "ply", "glb"])
def test_zeros_that_are_data_are_read(tmp_path, form):
    """A part shrunk to a point, and a fan around the origin whose centre is stored for each of its triangles."""
    vertices = np.concatenate([ball().vertices + 2, np.zeros((200, 3))])
    faces = np.concatenate([ball().faces, len(vertices) - 200 + np.arange(198).reshape(-1, 3)])
    fan = np.stack([len(vertices) - 200 + np.arange(100), np.arange(100), np.arange(1, 101)], axis=1)
    mesh = trimesh.Trimesh(vertices, np.concatenate([faces, fan]), process=False)
    content = written(trimesh.Scene([mesh]) if form == "glb" else mesh, form)
    assert len(read_triangles(content, tmp_path / "a", LIMITS).faces) == 5120 + 66 + 100
