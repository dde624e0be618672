import json
from pathlib import Path

import numpy as np
import open3d
import pytest
from PIL import Image

from vondata.demo.collection import make_object
from vondata.demo.write import write_model
from vondata.frames import object_to_shapenet, shapenet_to_object

CHAIR = "03001627"


@pytest.fixture(params=[("chair", 2), ("chair", 14), ("car", 1)], ids=["office", "double", "car"])
def written(request, tmp_path):
    item = make_object(*request.param, seed=0)
    return item, write_model(item, tmp_path)


def read_faces(path: Path) -> np.ndarray:
    """(f, 3, 3) the triangles of an OBJ file, read by hand."""
    lines = [line.split() for line in path.read_text().splitlines()]
    vertices = np.array([line[1:] for line in lines if line[:1] == ["v"]], dtype=float)
    return vertices[[[int(corner.split("/")[0]) - 1 for corner in line[1:]] for line in lines if line[:1] == ["f"]]]


def test_files_lie_as_in_shapenet(written, tmp_path):
    item, path = written
    assert path == tmp_path / item.id / "models" / "model_normalized.obj"
    assert path.with_suffix(".mtl").is_file()
    textures = [line.split()[1] for line in path.with_suffix(".mtl").read_text().splitlines() if "map_Kd" in line]
    assert len(textures) == sum(material.texture is not None for material in item.materials.values())
    for texture in textures:
        assert texture.startswith("../images/texture")
        with Image.open(path.parent / texture) as image:
            assert image.size == (128, 128)


def test_the_file_holds_the_object_in_shapenets_frame(written):
    item, path = written
    faces = read_faces(path)
    expected = np.concatenate([object_to_shapenet(part.vertices)[part.faces] for part in item.parts])
    np.testing.assert_allclose(faces, expected, atol=1e-6)
    low, high = faces.reshape(-1, 3).min(axis=0), faces.reshape(-1, 3).max(axis=0)
    np.testing.assert_allclose(low, -high, atol=2e-6)
    assert np.linalg.norm(high - low) == pytest.approx(1.0, abs=1e-5)


def test_other_readers_find_faces_and_textures(written):
    item, path = written
    mesh = open3d.io.read_triangle_mesh(str(path))
    assert len(mesh.triangles) == len(item.normals)
    assert mesh.has_triangle_uvs()
    assert sum(not texture.is_empty() for texture in mesh.textures) == sum(
        material.texture is not None for material in item.materials.values()
    )


def test_normals_and_texture_coordinates_are_valid(written):
    _, path = written
    rows = [line.split() for line in path.read_text().splitlines()]
    normals = np.array([row[1:] for row in rows if row[:1] == ["vn"]], dtype=float)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=2e-3)
    counts = [sum(row[:1] == [key] for row in rows) for key in ("v", "vt", "vn")]
    index = np.array([[corner.split("/") for corner in row[1:]] for row in rows if row[:1] == ["f"]], dtype=int)
    assert index.min() == 1
    np.testing.assert_array_equal(index.reshape(-1, 3).max(axis=0), counts)


def test_writing_again_gives_the_same_bytes(written, tmp_path):
    item, path = written
    again = write_model(item, tmp_path / "again")
    files = [each for each in path.parents[1].rglob("*") if each.is_file()]
    assert len(files) >= 3
    for one in files:
        assert (again.parents[1] / one.relative_to(path.parents[1])).read_bytes() == one.read_bytes()


def backs(root: Path) -> list[float]:
    """Where the top of each chair lies between front (1) and back (-1), in the object frame."""
    places = []
    for path in sorted(root.glob("*/models/model_normalized.obj")):
        points = shapenet_to_object(read_faces_or_quads(path))
        top = points[points[:, 2] > points[:, 2].max() - 0.05]
        places.append(top[:, 1].mean() / points[:, 1].max())
    return places


def read_faces_or_quads(path: Path) -> np.ndarray:
    lines = [line.split() for line in path.read_text(errors="replace").splitlines()]
    return np.array([line[1:4] for line in lines if line[:1] == ["v"]], dtype=float)


def test_chairs_face_the_same_way_as_real_ones(demo, realdata):
    assert max(backs(demo / "ShapeNetCore.v2" / CHAIR)) < -0.3
    real = np.array(backs(realdata / "ShapeNetCore.v2" / CHAIR))
    assert np.mean(real < 0) > 0.9  # stools have no back


def test_ids_are_those_of_the_annotations(demo):
    entries = json.loads((demo / "pix3d" / "pix3d.json").read_text())
    assert {(demo / "pix3d" / entry["model"]).resolve() for entry in entries} <= {
        path.resolve() for path in demo.glob("ShapeNetCore.v2/*/*/models/model_normalized.obj")
    }
