"""Broken meshes through the real command: each is a row with the right reason, without side effects.

The command runs in a process of its own that records every file it opens.
"""

import base64
import gzip
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import trimesh

from vondata.dataset.manifest import read_manifest

SECONDS = 60.0  # for one item on a busy machine; the engine's own limit is 600
MEGABYTES = 1500
# Acceptable reasons for a file whose bytes were changed at random; any other is a bug.
HONEST = {
    None,
    "file_corrupt",
    "format_unknown",
    "empty_mesh",
    "not_finite",
    "flat_mesh",
    "too_large",
    "outside_root",
    "extension_unsupported",
    "binvox_not_cubic",
    "duplicate",
}

WATCHED = """
import json, sys
opened = set()
def note(event, arguments):
    if event in ("open", "os.listdir", "os.remove", "os.rename", "socket.connect", "subprocess.Popen", "os.system"):
        opened.add(f"{event} {arguments[0]!r}")
from voncli.main import main
log = sys.argv.pop(1)
sys.addaudithook(note)
try:
    main()
finally:
    touched = sorted(opened)
    # Not getrusage: its peak takes in the process that started this one.
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    open(log, "w").write(json.dumps({"opened": touched, "megabytes": int(peak) / 1024}))
"""

BOX = trimesh.creation.box((1, 2, 3)).subdivide()
TEXT = BOX.export(file_type="obj").encode()


def exported(form, **options):
    data = BOX.export(file_type=form, **options)
    return data if isinstance(data, bytes) else data.encode()


def ply(counts, body=b"", properties="property float x\nproperty float y\nproperty float z\n"):
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {counts[0]}\n{properties}"
    return f"{header}element face {counts[1]}\nproperty list uchar int vertex_indices\nend_header\n".encode() + body


def glb(content, binary=b"", announced=None):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, announced or 12 + len(chunks)) + chunks


def scene(**changed):
    """A glTF of one triangle, with some of its parts changed."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32).tobytes()
    parts = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36}],
    }
    return glb(parts | changed, positions)


def gltf(uri):
    parts = json.loads(scene()[20:].split(b"\x24\0\0\0BIN")[0].rstrip(b" \0"))
    return json.dumps(parts | {"buffers": [{"byteLength": 36, "uri": uri}]}).encode()


def stl(count, triangles=b""):
    return b"\0" * 80 + struct.pack("<I", count) + triangles


def binvox(dim="8 8 8", runs=b"\x01\xff\x01\xff\x01\x02", head="translate 0 0 0\nscale 1\n"):
    return f"#binvox 1\ndim {dim}\n{head}data\n".encode() + runs


LIES, LINE = {"file_corrupt"}, b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n"
NAN_FACE = np.full(12, np.nan, dtype="<f4").tobytes() + b"\0\0"
TRICKS = "mtllib ../secret.mtl\nmtllib {secret}\nmtllib file://{secret}\nmtllib http://127.0.0.1:9/a.mtl\nusemtl a\n"

CASES = {
    "empty.obj": (b"", LIES),
    "noise.obj": (np.random.default_rng(0).bytes(5000), {"format_unknown"}),
    "points.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", {"empty_mesh"}),
    "line.obj": (LINE, {"flat_mesh", "empty_mesh"}),
    "nan.obj": (TEXT.replace(b"v 0.5", b"v nan", 1), {"not_finite"}),
    "infinite.obj": (TEXT.replace(b"v 0.5", b"v 1e999", 1), {"not_finite"}),
    "huge-numbers.obj": (TEXT.replace(b"v 0.5", b"v 1e308"), {None, "not_finite", "flat_mesh", "empty_mesh"}),
    "digits.obj": (TEXT.replace(b"v 0.5", b"v 0." + b"5" * 1_000_000, 1), {None}),
    "beyond.obj": (TEXT + b"f 1 2 99999\n", LIES),
    "before.obj": (TEXT + b"f 1 2 -99999\n", LIES),
    "overflow.obj": (TEXT + b"f 1 2 99999999999999999999999\n", LIES),
    "polygon.obj": (TEXT + b"f" + b" 1 2 3" * 100_000 + b"\n", {None}),
    "zip.obj": (b"PK\x03\x04" + bytes(26) + b"a.obj" + bytes(9000), {"format_unknown"}),
    "gzip.obj": (gzip.compress(b"v 0 0 0\n" * 1_000_000), {"format_unknown"}),
    "materials.obj": (b"TRICKS", {None}),
    "counts.off": (b"OFF\n999999999 999999999 0\n0 0 0\n", {"file_corrupt", "too_large"}),
    "negative.off": (b"OFF\n-3 -1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", LIES),
    "corners.off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n999999999 0 1 2\n", LIES),
    "words.off": (b"OFF\nthree one none\n", LIES),
    "counts.ply": (ply((2**31, 2**31)), {"file_corrupt", "too_large"}),
    "negative.ply": (ply((-5, 1)), LIES),
    "endless.ply": (b"ply\nformat ascii 1.0\nelement vertex 3\n" + b"comment x\n" * 100_000, LIES),
    "cut.ply": (exported("ply")[:-40], LIES),
    "type.ply": (ply((3, 1), b"\0" * 60, "property quaternion x\n"), LIES),
    "list.ply": (ply((3, 1), b"\0" * 36 + b"\xff" * 5), LIES | {"empty_mesh"}),
    "cut.stl": (exported("stl")[:-10], LIES),
    "count.stl": (stl(2**32 - 1, b"\0" * 50), LIES),
    "none.stl": (stl(0), {"empty_mesh", "file_corrupt"}),
    "nan.stl": (stl(1, NAN_FACE), {"not_finite"}),
    "words.stl": (b"solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0\n", LIES | {"empty_mesh"}),
    "announced.glb": (scene()[:8] + struct.pack("<I", 2**31) + scene()[12:], LIES),
    "cut.glb": (scene()[:-20], LIES),
    "deep.glb": (glb(b"[" * 200_000), LIES),
    "text.glb": (glb(b"not json"), LIES),
    "list.glb": (glb([1, 2]), LIES),
    "accessor.glb": (scene(accessors=[{"componentType": 5126, "count": 2**40, "type": "VEC3"}]), {"too_large"}),
    "view.glb": (scene(bufferViews=[{"buffer": 0, "byteOffset": 2**40, "byteLength": 36}]), LIES),
    "ring.glb": (scene(nodes=[{"mesh": 0, "children": [1]}, {"children": [0]}]), LIES | {None}),
    "self.glb": (scene(nodes=[{"mesh": 0, "children": [0]}]), LIES | {None}),
    "copies.glb": (scene(nodes=[{"mesh": 0}] * 5000, scenes=[{"nodes": list(range(5000))}]), {None, "flat_mesh"}),
    "matrix.glb": (scene(nodes=[{"mesh": 0, "matrix": [float("nan")] * 16}]), LIES | {"not_finite"}),
    "no-scene.glb": (scene(scenes=[], nodes=[], scene=5), LIES | {"empty_mesh"}),
    "up.gltf": (gltf("../secret.mtl"), {"outside_root"}),
    "encoded.gltf": (gltf("%2e%2e/secret.mtl"), {"outside_root"}),
    "absolute.gltf": (b"ABSOLUTE", {"outside_root"}),
    "web.gltf": (gltf("http://127.0.0.1:9/a.bin"), {"outside_root"}),
    "missing.gltf": (gltf("missing.bin"), {"source_missing", "file_corrupt"}),
    "device.gltf": (gltf("/dev/zero"), {"outside_root"}),
    "inline.gltf": (gltf("data:;base64," + base64.b64encode(bytes(36)).decode()), {"flat_mesh", "empty_mesh"}),
    "stl-inside.obj": (exported("stl"), {None, "duplicate"}),
    "ply-inside.glb": (exported("ply"), {None, "duplicate"}),
}
GRIDS = {
    "dims.binvox": (binvox("999999 999999 999999"), {"too_large"}),
    "bomb.binvox": (binvox("1024 1024 1024", b"\x01\xff" * (2**30 // 255) + b"\x01\x40"), {"too_large"}),
    "flat.binvox": (binvox("8 8 4"), {"binvox_not_cubic"}),
    "words.binvox": (binvox("a b c"), LIES),
    "zero.binvox": (binvox("0 0 0"), {"too_large", "file_corrupt"}),
    "cut.binvox": (binvox(runs=b"\x01\xff\x01"), LIES),
    "scale.binvox": (binvox(head="translate 0 0 0\nscale -1\n"), LIES),
    "nan.binvox": (binvox(head="translate nan 0 0\nscale 1\n"), LIES),
    "none.binvox": (binvox(runs=b"\x00\xff\x00\xff\x00\x02"), {"empty_mesh"}),
    "endless.binvox": (b"#binvox 1\n" + b"# words\n" * 200_000, LIES),
}


def prepare(folder, *options):
    """Runs the command on `folder/meshes`; the rows by file name and what was opened."""
    log = folder / "opened.json"
    arguments = ["prepare", "meshes", "--root", "meshes", "--class", "chair", "--resolution", "32", "--workers", "0"]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(log), *arguments, "--no-report", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_manifest(folder / "data", "chair", "shapes")
    assert (rows["seconds"].fillna(0) < SECONDS).all()
    seen = json.loads(log.read_text())
    assert seen["megabytes"] < MEGABYTES
    found = {os.path.basename(row["source"]): row for row in rows.to_dict("records")}
    return found, seen["opened"]


def check(rows, cases):
    """Every case has a row with the right reason, or is prepared."""
    said = {name: rows[name]["reason"] if isinstance(rows[name]["reason"], str) else None for name in cases}
    assert {name: said[name] for name, (_, allowed) in cases.items() if said[name] not in allowed} == {}
    for name, reason in said.items():
        if reason is not None:
            assert rows[name]["detail"], name


def write(folder, cases):
    """The files of the cases in `folder/meshes`, and files beside it that must not be opened."""
    meshes, secret = folder / "meshes", folder / "secret.mtl"
    meshes.mkdir()
    secret.write_bytes(bytes(36))
    special = {b"TRICKS": TRICKS.format(secret=secret).encode() + TEXT, b"ABSOLUTE": gltf(str(secret))}
    for name, (content, _) in cases.items():
        (meshes / name).write_bytes(special.get(content, content))
    return meshes


def test_bad_meshes_are_rows_with_the_right_reason(tmp_path):
    meshes = write(tmp_path, CASES)
    (meshes / "folder.obj").mkdir()
    os.mkfifo(meshes / "pipe.obj")
    (meshes / "loop.obj").symlink_to("loop.obj")
    (meshes / "round").symlink_to(".", target_is_directory=True)
    (meshes / "nothing.obj").symlink_to("gone.obj")
    (meshes / "elsewhere.obj").symlink_to(tmp_path / "secret.mtl")
    (meshes / "zero.obj").symlink_to("/dev/zero")
    with open(os.fsencode(meshes) + b"/caf\xe9\xff.obj", "wb") as file:
        file.write(TEXT + b"# another one\n")
    before = sorted(os.listdir(tmp_path))
    rows, opened = prepare(tmp_path)
    check(rows, CASES)
    links = {"folder.obj": "source_unreadable", "pipe.obj": "source_unreadable", "loop.obj": "source_missing"}
    links |= {"nothing.obj": "source_missing", "elsewhere.obj": "outside_root", "zero.obj": "outside_root"}
    links |= {"round": "linked_folder"}
    check(rows, {name: (b"", {reason}) for name, reason in links.items()})
    assert len(rows) == len(CASES) + len(links) + 1
    assert sum(row["status"] == "prepared" for name, row in rows.items() if name.startswith("caf")) == 1
    touched = [line for line in opened if "secret.mtl" in line or "/dev/zero" in line or "socket.connect" in line]
    assert touched == []
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "data", "opened.json"])


def test_bad_grids_are_rows_with_the_right_reason(tmp_path):
    write(tmp_path, GRIDS)
    rows, _ = prepare(tmp_path, "--binvox")
    check(rows, GRIDS)
    assert len(rows) == len(GRIDS)


def mutated(content, rng):
    """One of the ways in which files break."""
    data, at = bytearray(content), int(rng.integers(len(content)))
    way = rng.integers(7)
    if way == 0:
        return bytes(data[:at])
    if way == 1:
        for place in rng.integers(len(data), size=int(rng.integers(1, 20))):
            data[place] ^= 1 << int(rng.integers(8))
    elif way == 2:
        data[at : at + int(rng.integers(1, 200))] = b""
    elif way == 3:
        data[at:at] = rng.bytes(int(rng.integers(1, 200)))
    elif way == 4:
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    elif way == 5:
        data[at : at + 4] = b"\xff\xff\xff\xff"
    else:
        word = [b"nan", b"-1", b"99999999999", b"1e400", b"2147483648"][int(rng.integers(5))]
        digits = [place for place in range(len(data)) if data[place : place + 1].isdigit()]
        place = digits[int(rng.integers(min(len(digits), 40)))]
        data[place : place + 1] = word
    return bytes(data)


def random_cases(count, names):
    """This many files, each a mutated copy of a good one."""
    good = {
        "obj": TEXT,
        "off": exported("off"),
        "ply": exported("ply"),
        "stl": exported("stl"),
        "glb": exported("glb"),
    }
    good |= {
        "ply-ascii": exported("ply", encoding="ascii"),
        "stl-ascii": exported("stl_ascii"),
        "gltf": gltf("a.bin"),
    }
    good["binvox"] = binvox()
    rng = np.random.default_rng(20)
    kinds = [names[number % len(names)] for number in range(count)]
    return {f"{number}.{kind.split('-')[0]}": (mutated(good[kind], rng), HONEST) for number, kind in enumerate(kinds)}


@pytest.mark.slow
def test_three_hundred_mutated_files_are_rows(tmp_path):
    grids = random_cases(40, ["binvox"])
    cases = random_cases(260, ["obj", "off", "ply", "stl", "glb", "ply-ascii", "stl-ascii", "gltf"])
    (write(tmp_path, grids | cases) / "a.bin").write_bytes(bytes(36))
    rows, opened = prepare(tmp_path)
    check(rows, {name: (b"", allowed | {"source_missing"}) for name, (_, allowed) in cases.items()})
    assert len(rows) == len(cases)
    assert [line for line in opened if "secret.mtl" in line or "socket.connect" in line] == []
    rows, _ = prepare(tmp_path, "--binvox")
    check(rows, grids)
