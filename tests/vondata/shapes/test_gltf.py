"""glTF: the same two boxes, stored in every way the format and its extensions allow, come out the same."""

import base64
import json
import struct
import sys

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from vondata.shapes.reading import read_triangles
from vondata.shapes.source_file import Limits
from vondata.types import Rejected

LIMITS = Limits()
BOX = trimesh.creation.box((1, 2, 4))
CORNERS, FACES = np.asarray(BOX.vertices, dtype=np.float64), np.asarray(BOX.faces, dtype=np.uint16)
TURN = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))  # by 90 degrees about z: (x, y) becomes (-y, x)
TURNED = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
CODES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
WIDTHS = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Scene:
    """A glTF under construction."""

    def __init__(self):
        self.data, self.tree = b"", {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": [], "meshes": []}
        self.tree |= {"nodes": [], "scenes": [{"nodes": []}], "scene": 0}

    def view(self, content, **more):
        self.data += b"\0" * (-len(self.data) % 4)
        place = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        self.data += content
        self.tree["bufferViews"].append(place | more)
        return len(self.tree["bufferViews"]) - 1

    def accessor(self, values, **more):
        values = np.atleast_1d(values)
        rows = values.reshape(len(values), -1)
        entry = {"componentType": CODES[values.dtype.str[1:]], "count": len(rows), "type": WIDTHS[rows.shape[1]]}
        if "bufferView" not in more and "sparse" not in more:
            more["bufferView"] = self.view(values.tobytes())
        self.tree["accessors"].append(entry | more)
        return len(self.tree["accessors"]) - 1

    def mesh(self, positions, faces=FACES, **more):
        """A mesh of accessors, given or made."""
        positions = positions if isinstance(positions, int) else self.accessor(np.float32(positions))
        primitive = {"attributes": {"POSITION": positions} | more.pop("attributes", {})}
        if faces is not None:
            primitive["indices"] = faces if isinstance(faces, int) else self.accessor(faces.reshape(-1))
        self.tree["meshes"].append({"primitives": [primitive | more]})
        return len(self.tree["meshes"]) - 1

    def node(self, is_root=True, **entry):
        self.tree["nodes"].append(entry)
        number = len(self.tree["nodes"]) - 1
        if is_root:
            self.tree["scenes"][0]["nodes"].append(number)
        return number

    def requires(self, *names):
        self.tree |= {"extensionsRequired": list(names), "extensionsUsed": list(names)}

    def glb(self):
        self.tree["buffers"] = [{"byteLength": len(self.data)}] if self.data else []
        text = json.dumps(self.tree).encode()
        text += b" " * (-len(text) % 4)
        binary = self.data + b"\0" * (-len(self.data) % 4)
        chunks = (
            struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
        )
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def moved(*by):
    return CORNERS + np.array(by)


def read(scene, tmp_path, limits=LIMITS):
    content = scene.glb() if isinstance(scene, Scene) else scene
    return read_triangles(content, tmp_path / "a.glb", limits)


def triangles(soup):
    """Corners of all triangles, in an order that does not depend on the file's."""
    corners = np.round(soup.vertices[soup.faces], 3) + 0.0
    corners = np.array([sorted(map(tuple, triangle)) for triangle in corners])
    return np.array(sorted(map(tuple, corners.reshape(len(corners), -1))))


def assert_shows(soup, *parts):
    """That the soup is boxes whose corners are at these places."""
    expected = trimesh.util.concatenate([trimesh.Trimesh(part, FACES, process=False) for part in parts])
    wanted = triangles(type(soup)(np.asarray(expected.vertices), np.asarray(expected.faces)))
    np.testing.assert_allclose(triangles(soup), wanted, atol=2e-3)


def test_a_plain_box(tmp_path):
    scene = Scene()
    scene.node(mesh=scene.mesh(CORNERS))
    assert_shows(read(scene, tmp_path), CORNERS)


def sparse(scene, rows, values, **more):
    where = {"bufferView": scene.view(np.uint8(rows).tobytes()), "componentType": 5121}
    what = {"bufferView": scene.view(np.float32(values).tobytes())}
    return {"sparse": {"count": len(rows), "indices": where, "values": what}} | more


def as_integers(kind):
    """Positions as normalised whole numbers, and the scale that makes them the box again."""
    most = np.iinfo(kind).max
    low = 0 if kind[0] == "u" else -1
    unit = (CORNERS - CORNERS.min(axis=0)) / np.ptp(CORNERS, axis=0) * (1 - low) + low
    return np.rint(unit * most).astype(kind), np.ptp(CORNERS, axis=0) / (1 - low), low


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2"])
def test_normalised_whole_numbers(kind, tmp_path):
    values, scale, low = as_integers(kind)
    scene = Scene()
    scene.requires("KHR_mesh_quantization")
    move = CORNERS.min(axis=0) - low * scale
    mesh = scene.mesh(scene.accessor(values, normalized=True))
    scene.node(mesh=mesh, translation=move.tolist(), scale=scale.tolist())
    assert_shows(read(scene, tmp_path), CORNERS)


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2"])
def test_whole_numbers_as_they_are(kind, tmp_path):
    scene = Scene()
    values = np.rint((CORNERS + 2) * 10).astype(kind)
    mesh = scene.mesh(scene.accessor(values))
    scene.node(mesh=mesh, translation=[-2, -2, -2], scale=[0.1, 0.1, 0.1])
    assert_shows(read(scene, tmp_path), CORNERS)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
def test_indices_of_every_size(kind, tmp_path):
    scene = Scene()
    scene.node(mesh=scene.mesh(CORNERS, FACES.astype(kind)))
    assert_shows(read(scene, tmp_path), CORNERS)


def test_sparse_values_over_given_ones_and_over_zeros(tmp_path):
    scene = Scene()
    wrong = np.float32(CORNERS)
    wrong[[2, 5]] = 9
    view = scene.view(wrong.tobytes())
    scene.node(mesh=scene.mesh(scene.accessor(wrong, bufferView=view, **sparse(scene, [2, 5], CORNERS[[2, 5]]))))
    rows = list(range(8))
    scene.node(mesh=scene.mesh(scene.accessor(wrong, **sparse(scene, rows, CORNERS + 10))))
    assert_shows(read(scene, tmp_path), CORNERS, CORNERS + 10)


def test_strides_and_offsets(tmp_path):
    scene = Scene()
    rows = np.zeros((8, 20), dtype=np.uint8)
    rows[:, 4:16] = np.float32(CORNERS).view(np.uint8).reshape(8, 12)
    view = scene.view(rows.tobytes(), byteStride=20)
    scene.node(mesh=scene.mesh(scene.accessor(np.float32(CORNERS), bufferView=view, byteOffset=4)))
    assert_shows(read(scene, tmp_path), CORNERS)


def test_triangles_without_indices_strips_and_fans(tmp_path):
    scene = Scene()
    scene.node(mesh=scene.mesh(CORNERS[FACES].reshape(-1, 3), None))
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float)
    scene.node(mesh=scene.mesh(square[[0, 1, 3, 2]], None, mode=5), translation=[5, 0, 0])
    scene.node(mesh=scene.mesh(square, np.array([0, 1, 2, 3], dtype=np.uint8), mode=6), translation=[8, 0, 0])
    for mode in (0, 1, 2, 3):
        scene.node(mesh=scene.mesh(square, None, mode=mode))
    soup = read(scene, tmp_path)
    assert len(soup.faces) == 16
    a, b, c = (soup.vertices[soup.faces[12:, k]] for k in range(3))
    np.testing.assert_allclose(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2, 0.5)
    np.testing.assert_allclose([a[:2].min(), (a + b + c)[2:, 0].max() / 3], [0, 8 + 2 / 3])


def test_matrices_and_rotations_below_cameras_and_lights(tmp_path):
    scene = Scene()
    mesh = scene.mesh(CORNERS)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = TURNED, (10, 0, 0)
    first = scene.node(False, mesh=mesh, matrix=matrix.T.reshape(-1).tolist())
    second = scene.node(False, mesh=mesh, rotation=TURN, translation=[0, 10, 0], scale=[1, 1, 2])
    scene.tree["cameras"] = [{"type": "perspective", "perspective": {"yfov": 1, "znear": 0.1}}]
    scene.node(camera=0, children=[first, second], translation=[0, 0, 3])
    assert_shows(
        read(scene, tmp_path),
        CORNERS @ TURNED.T + (10, 0, 3),
        (CORNERS * (1, 1, 2)) @ TURNED.T + (0, 10, 3),
    )


def test_instances(tmp_path):
    scene = Scene()
    scene.requires("EXT_mesh_gpu_instancing")
    moves = np.float32([[0, 0, 0], [10, 0, 0]])
    turns = np.rint(np.array([(0, 0, 0, 1), TURN]) * 32767).astype("i2")
    extension = {"TRANSLATION": scene.accessor(moves), "ROTATION": scene.accessor(turns, normalized=True)}
    extension["SCALE"] = scene.accessor(np.float32([[1, 1, 1], [2, 1, 1]]))
    instancing = {"EXT_mesh_gpu_instancing": {"attributes": extension}}
    scene.node(mesh=scene.mesh(CORNERS), translation=[0, 5, 0], extensions=instancing)
    assert_shows(read(scene, tmp_path), moved(0, 5, 0), (CORNERS * (2, 1, 1)) @ TURNED.T + (10, 5, 0))


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_skins_put_vertices_where_their_joints_are(kind, tmp_path):
    """Half of the corners hang on each joint; what the mesh's own node says does not count."""
    scene = Scene()
    joints = np.zeros((8, 4), dtype=np.uint8)
    joints[4:, 0] = 1
    weights = np.zeros((8, 4))
    weights[:, 0] = 1
    stored = np.float32(weights) if kind == "f4" else (weights * np.iinfo(kind).max).astype(kind)
    skinned = {"JOINTS_0": scene.accessor(joints), "WEIGHTS_0": scene.accessor(stored, normalized=kind != "f4")}
    mesh = scene.mesh(CORNERS * 100, attributes=skinned)
    inverse = np.tile(np.diag([0.01, 0.01, 0.01, 1.0]), (2, 1, 1))
    inverse[1, 0, 3] = -7  # undone by where the second joint is
    matrices = scene.accessor(np.float32(inverse.transpose(0, 2, 1).reshape(2, 16)))
    first, second = scene.node(False, rotation=TURN), scene.node(False, rotation=TURN, translation=[0, 7, 0])
    scene.node(children=[first, second])
    scene.tree["skins"] = [{"joints": [first, second], "inverseBindMatrices": matrices}]
    scene.node(mesh=mesh, skin=0, translation=[99, 99, 99], scale=[3, 3, 3])
    assert_shows(read(scene, tmp_path), CORNERS @ TURNED.T)


def test_morph_targets_count_with_their_default_weights(tmp_path):
    scene = Scene()
    delta = np.float32(np.ones((8, 3)))
    zeros = scene.accessor(delta, **sparse(scene, list(range(8)), 4 * delta))
    mesh = scene.mesh(CORNERS, targets=[{"POSITION": scene.accessor(delta)}, {"POSITION": zeros}])
    scene.tree["meshes"][mesh]["weights"] = [1.0, 0.5]
    scene.node(mesh=mesh)
    scene.node(mesh=mesh, weights=[0, 5])
    assert_shows(read(scene, tmp_path), CORNERS + 3, CORNERS + 20)


def test_what_the_scene_does_not_show_is_left_out(tmp_path):
    scene = Scene()
    mesh = scene.mesh(CORNERS)
    scene.node(mesh=mesh)
    scene.node(False, mesh=mesh, translation=[50, 0, 0])
    scene.node(mesh=mesh, translation=[60, 0, 0], extensions={"KHR_node_visibility": {"visible": False}})
    assert_shows(read(scene, tmp_path), CORNERS)


def test_a_scene_that_shows_none_of_its_meshes_says_so(tmp_path):
    scene = Scene()
    scene.mesh(CORNERS)
    found = rejected(scene, tmp_path)
    assert (found.reason, "shows no triangles" in found.detail) == ("empty_mesh", True)


def test_data_in_the_uri_and_json_with_a_mark(tmp_path):
    scene = Scene()
    scene.node(mesh=scene.mesh(CORNERS))
    uri = "data:application/octet-stream;base64," + base64.b64encode(scene.data).decode()
    scene.tree["buffers"] = [{"byteLength": len(scene.data), "uri": uri}]
    text = json.dumps(scene.tree)
    for content in (text.encode("utf-8-sig"), text.encode("utf-16")):
        assert_shows(read(content, tmp_path), CORNERS)


def draco(scene, positions=CORNERS):
    import DracoPy

    data = DracoPy.encode(np.float64(positions), FACES.astype(np.uint32), quantization_bits=16)
    id = DracoPy.decode(data).get_attribute_by_type(0)["unique_id"]
    extension = {"bufferView": scene.view(data), "attributes": {"POSITION": id}}
    empty = {"bufferView": None}
    faces, places = scene.accessor(FACES.reshape(-1), **empty), scene.accessor(np.float32(positions), **empty)
    for entry in scene.tree["accessors"][-2:]:
        del entry["bufferView"]
    scene.requires("KHR_draco_mesh_compression")
    return scene.mesh(places, faces, extensions={"KHR_draco_mesh_compression": extension})


def test_draco(tmp_path):
    scene = Scene()
    scene.node(mesh=draco(scene))
    scene.node(mesh=scene.mesh(CORNERS), translation=[0, 0, 10])
    assert_shows(read(scene, tmp_path), CORNERS, moved(0, 0, 10))


def meshopt(scene, content, count, stride, mode, **more):
    extension = {"buffer": 0, "byteOffset": len(scene.data), "byteLength": len(content), "count": count}
    extension |= {"byteStride": stride, "mode": mode} | more
    scene.data += content + b"\0" * (-len(content) % 4)
    place = {"buffer": 1, "byteLength": count * stride, "extensions": {"EXT_meshopt_compression": extension}}
    scene.tree["bufferViews"].append(place)
    return len(scene.tree["bufferViews"]) - 1


@pytest.mark.parametrize("name", ["NONE", "EXPONENTIAL"])
def test_meshopt(name, tmp_path):
    import almeshopt

    almeshopt.set_vertex_encoder_version(0)
    scene = Scene()
    values = np.float32(CORNERS)
    stored = values if name == "NONE" else ((-8 << 24) | (np.int64(CORNERS * 256) & 0xFFFFFF)).astype(np.uint32)
    packed = bytes(almeshopt.encode_vertex_buffer(np.ascontiguousarray(stored.view(np.float32)), version=0))
    places = meshopt(scene, packed, 8, 12, "ATTRIBUTES", **({} if name == "NONE" else {"filter": name}))
    packed = bytes(almeshopt.encode_index_buffer(FACES.reshape(-1).astype(np.uint32), 8))
    faces = meshopt(scene, packed, 36, 2, "TRIANGLES")
    corners = scene.accessor(FACES.reshape(-1), bufferView=faces)
    scene.node(mesh=scene.mesh(scene.accessor(values, bufferView=places), corners))
    scene.requires("EXT_meshopt_compression")
    assert_shows(read(scene, tmp_path), CORNERS)


def rejected(scene, tmp_path, limits=LIMITS):
    with pytest.raises(Rejected) as caught:
        read(scene, tmp_path, limits)
    return caught.value


def test_what_is_required_and_unknown_is_named_first(tmp_path):
    scene = Scene()
    scene.node(mesh=scene.mesh(CORNERS))
    scene.requires("KHR_materials_unlit", "KHR_texture_transform")
    assert_shows(read(scene, tmp_path), CORNERS)
    scene.requires("KHR_materials_unlit", "FB_new_geometry", "ACME_other")
    scene.tree["nodes"] = "broken as well"
    found = rejected(scene, tmp_path)
    assert found.reason == "extension_unsupported"
    assert found.detail == "the asset requires ACME_other, FB_new_geometry"


@pytest.mark.parametrize("package", ["DracoPy", "almeshopt"])
def test_without_a_decoder_the_extension_is_named(package, tmp_path, monkeypatch):
    scene = Scene()
    if package == "DracoPy":
        scene.node(mesh=draco(scene))
    else:
        view = meshopt(scene, bytes(64), 8, 12, "ATTRIBUTES")
        scene.node(mesh=scene.mesh(scene.accessor(np.float32(CORNERS), bufferView=view)))
    scene.node(mesh=scene.mesh(CORNERS))
    monkeypatch.setitem(sys.modules, package, None)
    found = rejected(scene, tmp_path)
    assert found.reason == "extension_unsupported"
    assert package in found.detail
    assert "compression" in found.detail


def test_damaged_compression_names_its_extension(tmp_path):
    scene = Scene()
    mesh = draco(scene)
    view = scene.tree["meshes"][mesh]["primitives"][0]["extensions"]["KHR_draco_mesh_compression"]["bufferView"]
    scene.tree["bufferViews"][view]["byteLength"] = 40
    scene.node(mesh=mesh)
    found = rejected(scene, tmp_path)
    assert found.reason == "file_corrupt"
    assert "KHR_draco_mesh_compression" in found.detail


def changed(**parts):
    scene = Scene()
    scene.node(mesh=scene.mesh(CORNERS))
    for path, value in parts.items():
        *way, last = path.split("__")
        place = scene.tree
        for step in way:
            place = place[int(step) if step.isdecimal() else step]
        if value is None:
            del place[last]
        else:
            place[int(last) if last.isdecimal() else last] = value
    return scene


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"accessors__0__count": 9}, "elements end at byte"),
        ({"accessors__0__count": -1}, "where a count"),
        ({"accessors__0__count": True}, "where a count"),
        ({"accessors__0__type": "VEC2"}, "is a VEC2"),
        ({"accessors__0__componentType": 5130}, "5130"),
        ({"accessors__0__bufferView": None, "accessors__0__count": 10_000}, "10,000 elements without data"),
        ({"bufferViews__0__byteLength": 10**6}, "a view ends at byte"),
        ({"bufferViews__0__byteStride": 10**6}, "elements end at byte"),
        ({"meshes__0__primitives__0__mode": 7}, "a primitive of mode 7"),
        ({"meshes__0__primitives__0__attributes__POSITION": None}, "without positions"),
        ({"meshes__0__primitives__0__indices": 7}, "accessors 7 of 2"),
        ({"nodes__0__mesh": -1}, "where a count"),
        ({"nodes__0__mesh": 1}, "meshes 1 of 1"),
        ({"nodes__0__children": [0]}, "a descendant of itself"),
        ({"scene": 3}, "scenes 3 of 1"),
        ({"asset__version": "1.0"}, "glTF version 1.0"),
        ({"accessors__0__count": 7}, "a face names vertex 7"),
        ({"accessors__1__count": 35}, "35 corners, which is not a multiple of three"),
    ],
)
def test_contradictions_are_named(parts, words, tmp_path):
    found = rejected(changed(**parts), tmp_path)
    assert found.reason == "file_corrupt"
    assert words in found.detail


def test_an_asset_for_later_readers_is_refused_and_one_for_these_is_read(tmp_path):
    found = rejected(changed(asset__version="2.1", asset__minVersion="2.1"), tmp_path)
    assert (found.reason, "glTF 2.1" in found.detail) == ("format_unknown", True)
    expected = read(changed(), tmp_path).faces
    np.testing.assert_array_equal(
        read(changed(asset__version="2.1", asset__minVersion="2.0"), tmp_path).faces, expected
    )


def test_instances_count_before_they_are_made(tmp_path):
    scene = Scene()
    moves = scene.accessor(np.zeros((2000, 3), dtype=np.float32))
    scene.node(
        mesh=scene.mesh(CORNERS), extensions={"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": moves}}}
    )
    assert rejected(scene, tmp_path, Limits(faces=20_000)).reason == "too_large"
    assert len(read(scene, tmp_path, Limits(faces=24_000)).faces) == 24_000


@given(data=st.data())
def test_no_bytes_break_the_reader(data, tmp_path_factory):
    content = bytearray(changed().glb())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        soup = read(bytes(content), tmp_path_factory.getbasetemp())
    except Rejected:
        return
    assert soup.faces.size == 0 or 0 <= soup.faces.min() <= soup.faces.max() < len(soup.vertices)


def test_a_part_that_only_an_unknown_extension_holds_is_named(tmp_path):
    scene = Scene()
    scene.node(mesh=scene.mesh(CORNERS))
    scene.tree["accessors"].append({"componentType": 5126, "count": 8, "type": "VEC3"})
    scene.node(mesh=scene.mesh(len(scene.tree["accessors"]) - 1, extensions={"ACME_packed": {}}))
    with pytest.raises(Rejected, match="a part of the model is in ACME_packed") as caught:
        read(scene, tmp_path)
    assert caught.value.reason == "extension_unsupported"
