"""Memory is bounded by the limits, whatever a file declares: every reader in a process with a resource limit."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest

FACES, FILE_MB = 200_000, 64
ROOM_MB = 160  # for what a reader allocates: twice the largest file, and 96 bytes for each triangle of the limit

READ = """
import json, resource, sys
from pathlib import Path
import numpy as np
from vondata.shapes.reading import read_triangles
from vondata.shapes.source_file import Limits, read_bytes
from vondata.types import Rejected

room, file_mb, faces, small, *files = json.loads(sys.argv[1])
def read(path, limits):
    try:
        return len(read_triangles(read_bytes(Path(path), limits), Path(path), limits).faces)
    except Rejected as rejected:
        return rejected.reason
for path in small:  # compiles what there is to compile, and imports what is imported late
    assert read(path, Limits()) == 1, path
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
most = size * 1024 + room * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
print(json.dumps({Path(path).name: read(path, Limits(file_mb, faces)) for path in files}))
"""


def glb(accessors, **more):
    tree = {"asset": {"version": "2.0"}, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}], "bufferViews": []}
    tree["meshes"] = [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}]
    text = json.dumps(tree | {"accessors": accessors} | more).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text


def accessor(count, kind="VEC3", component=5126, **more):
    return {"count": count, "type": kind, "componentType": component} | more


PLY = b"ply\nformat %s 1.0\nelement vertex %d\nproperty float x\nproperty float y\nproperty float z\n"
PLY += b"element face %d\nproperty list uchar int vertex_indices\nend_header\n"
FACET = b"facet normal 0 0 0 outer loop vertex 0 0 0 vertex 1 0 0 vertex 0 1 0 endloop endfacet\n"
TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
SMALL = {
    "a.obj": TRIANGLE,
    "a.off": b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    "a.ply": PLY % (b"ascii", 3, 1) + b"0 0 0 1 0 0 0 1 0 3 0 1 2\n",
    "b.ply": PLY % (b"binary_little_endian", 3, 1)
    + np.float32([0, 0, 0, 1, 0, 0, 0, 1, 0]).tobytes()
    + struct.pack("<B3i", 3, 0, 1, 2),
    "a.stl": b"solid a\n" + FACET + b"endsolid a\n",
    "b.stl": bytes(80) + struct.pack("<I12fH", 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0),
    "square.obj": b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 2\nf 1 2\n",
}
HOSTILE = {
    "view.glb": (glb([accessor(599_999), accessor(3, "SCALAR", 5125)]), {"file_corrupt"}),
    "many.glb": (glb([accessor(10**9), accessor(3, "SCALAR", 5125)]), {"too_large"}),
    "indices.glb": (glb([accessor(3), accessor(599_999, "SCALAR", 5121)]), {"file_corrupt"}),
    "uri.gltf": (
        json.dumps({"asset": {"version": "2.0"}, "buffers": [{"byteLength": 10**12, "uri": "data:,a"}]}).encode(),
        {0},
    ),
    "deep.gltf": (b'{"a":' * 200_000, {"file_corrupt"}),
    "wide.gltf": (b'{"asset":{"version":"2.0"},"x":[' + b"{}," * 10_000_000 + b"{}]}", {"too_large"}),
    "text.ply": (PLY % (b"ascii", 10**9, 10**9), {"file_corrupt"}),
    "binary.ply": (PLY % (b"binary_big_endian", 10**12, 3), {"file_corrupt"}),
    "list.ply": (PLY % (b"binary_little_endian", 0, 1) + b"\xff" * 300, {"file_corrupt"}),
    "counts.off": (b"OFF\n999999999 999999999 0\n", {"file_corrupt"}),
    "face.off": (b"OFF\n1 1 0\n0 0 0\n999999999" + b" 0" * 100, {"file_corrupt"}),
    "vertices.obj": (b"v 0 0 0\n" * 2_000_000, {"too_large"}),
    "corners.obj": (TRIANGLE + b"f" + b" 1" * 10_000_000, {"too_large"}),
    "pairs.obj": (TRIANGLE + b"f 1\n" * 5_000_000, {"too_large"}),
    "facets.stl": (b"solid a\n" + FACET * 300_000, {"too_large"}),
    "count.stl": (bytes(80) + struct.pack("<I", 2**32 - 1), {"file_corrupt"}),
    "zeros.stl": (60 * 2**20, {"file_corrupt"}),
    "zeros.obj": (60 * 2**20, {"format_unknown"}),
    "terabyte.ply": (2**40, {"too_large"}),
}


@pytest.mark.slow
def test_no_file_makes_a_reader_allocate_more_than_its_limits(tmp_path):
    for name, content in (SMALL | {name: content for name, (content, _) in HOSTILE.items()}).items():
        with open(tmp_path / name, "wb") as file:
            if isinstance(content, int):
                file.truncate(content)
            else:
                file.write(content)
    small = [str(tmp_path / name) for name in SMALL]
    arguments = json.dumps([ROOM_MB, FILE_MB, FACES, small, *(str(tmp_path / name) for name in HOSTILE)])
    done = subprocess.run([sys.executable, "-c", READ, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: said for name, said in found.items() if said not in HOSTILE[name][1]} == {}
