import dataclasses
import io
import json
import struct
import zipfile

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vondata.frames import object_to_gltf
from vonmodel.config import ModelConfig
from vonmodel.mesh import (
    SurfaceMesh,
    TextureAtlas,
    cut_out_pixels,
    glb_bytes,
    mesh_bytes,
    mesh_statistics,
    surface_mesh,
    to_pixels,
    without_crumbs,
    write_glb,
    write_grey,
    write_image,
    write_mesh,
)
from vonmodel.representation import surface_level


def signpost(resolution=32):
    """A long block low at the back left and a small one up on the right: no symmetry at all."""
    volume = np.zeros((resolution,) * 3, dtype=np.float32)
    volume[4:12, 4:20, 2:8] = 1.0
    volume[20:26, 6:12, 20:28] = 1.0
    return volume


def loaded(path):
    mesh = trimesh.load(path, force="mesh")
    mesh.merge_vertices(merge_norm=True, merge_tex=True)
    return mesh


def test_mesh_lies_where_the_voxels_are():
    mesh = surface_mesh(signpost(), 0.5)
    parts = trimesh.Trimesh(mesh.vertices, mesh.faces).split()
    boxes = sorted(part.bounds.round(6).tolist() for part in parts)
    step = 2 / 31
    expected = [
        [[-1 + (low - 0.5) * step for low in (4, 4, 2)], [-1 + (high - 0.5) * step for high in (12, 20, 8)]],
        [[-1 + (low - 0.5) * step for low in (20, 6, 20)], [-1 + (high - 0.5) * step for high in (26, 12, 28)]],
    ]
    np.testing.assert_allclose(boxes, expected, atol=1e-6)


def test_glb_is_watertight_and_stands_upright_facing_the_viewer(tmp_path):
    write_glb(tmp_path / "shape.glb", surface_mesh(signpost(), 0.5))
    mesh = loaded(tmp_path / "shape.glb")
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0
    large, small = sorted(mesh.split(), key=lambda part: -part.volume)
    # Object frame (x right, y front, z up) to glTF (-x, z, y): up is y, front is +z, right is -x.
    assert small.centroid[1] > large.centroid[1]
    assert small.centroid[0] < large.centroid[0]
    assert np.ptp(large.bounds[:, 2]) == pytest.approx(16 * 2 / 31, abs=1e-5)


def test_object_to_gltf_is_a_rotation_with_up_to_y_and_front_to_z():
    up, front = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    np.testing.assert_array_equal(object_to_gltf(up), [0, 1, 0])
    np.testing.assert_array_equal(object_to_gltf(front), [0, 0, 1])
    assert np.linalg.det(object_to_gltf(np.eye(3))) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["noise", "bits", "levels", "almost flat", "solid"])
def test_any_volume_gives_a_closed_surface(tmp_path, kind):
    rng = np.random.default_rng(0)
    volume = {
        "noise": rng.random((12, 12, 12)),
        "bits": rng.integers(0, 2, (12, 12, 12)).astype(float),
        "levels": rng.integers(0, 5, (12, 12, 12)) / 4,
        "almost flat": 0.5 + 1e-6 * rng.normal(size=(12, 12, 12)),
        "solid": np.ones((12, 12, 12)),
    }[kind]
    write_glb(tmp_path / "shape.glb", surface_mesh(volume, 0.5))
    mesh = loaded(tmp_path / "shape.glb")
    assert mesh.is_watertight
    assert mesh.volume > 0


def test_an_empty_volume_has_no_faces():
    mesh = surface_mesh(np.full((8, 8, 8), 0.4), 0.5)
    assert mesh.vertices.shape == mesh.faces.shape == (0, 3)


def test_the_surface_of_a_smooth_volume_is_exact():
    position = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
    radius = np.linalg.norm(position, axis=0)
    mesh = surface_mesh(np.clip(0.5 + (0.7 - radius), 0, 1), 0.5)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.7, atol=1e-3)


def test_a_thin_sheet_in_a_coarse_distance_volume_has_no_holes():
    index = np.arange(24)
    sheet = np.abs((index[:, None, None] + index[None, :, None] * 0.37) - 15.3) / 23 + 0 * index
    mesh = surface_mesh(
        np.exp(-8 * sheet / np.hypot(1, 0.37)), surface_level(ModelConfig(resolution=24, representation="distance"))
    )
    parts = trimesh.Trimesh(mesh.vertices, mesh.faces).split()
    assert len(parts) == 1
    assert parts[0].euler_number == 2


def test_pngs_hold_the_nearest_levels(tmp_path):
    image = torch.tensor([-1.0, 0.0, 1.0, 1.5]).view(1, 1, 4).expand(3, 2, 4)
    write_image(tmp_path / "image.png", image)
    assert np.asarray(Image.open(tmp_path / "image.png"))[0].tolist() == [[0] * 3, [128] * 3, [255] * 3, [255] * 3]
    write_grey(tmp_path / "grey.png", torch.tensor([[0.0, 0.5, 1.0]]))
    grey = Image.open(tmp_path / "grey.png")
    assert grey.mode == "L"
    assert np.asarray(grey).tolist() == [[0, 128, 255]]


def test_every_pixel_survives_the_way_to_the_model_and_back():
    pixels = torch.arange(256)
    assert np.array_equal(to_pixels(pixels / 127.5 - 1.0), np.arange(256))


@given(st.integers(0, 2**32 - 1))
def test_a_cut_out_laid_on_white_is_the_image_again(seed):
    rng = torch.Generator().manual_seed(seed)
    silhouette, colours = torch.rand(1, 6, 6, generator=rng).round(decimals=1), torch.rand(3, 6, 6, generator=rng)
    on_white = silhouette * (2.0 * colours - 1.0) + (1.0 - silhouette)
    for image in (on_white, 2.0 * colours - 1.0):  # the second is not on white: its opacity is raised
        rgba = cut_out_pixels(image, silhouette).astype(float)
        opacity = rgba[..., 3:] / 255.0
        laid = rgba[..., :3] * opacity + 255.0 * (1.0 - opacity)
        assert np.abs(laid - to_pixels(image).transpose(1, 2, 0)).max() <= 1.0
        assert (rgba[..., 3] >= np.floor(255.0 * silhouette[0].numpy())).all()


def test_statistics_of_two_boxes():
    volume = np.zeros((24, 24, 24))
    volume[2:10, 2:10, 2:10] = volume[14:18, 14:18, 14:18] = 1.0
    found = mesh_statistics(surface_mesh(volume, 0.5))
    voxel = 2.0 / 23
    assert found["parts"] == 2
    assert found["volume"] == pytest.approx((8**3 + 4**3) * voxel**3, rel=0.1)
    assert found["largest_part"] == pytest.approx(0.8, abs=0.02)
    empty = mesh_statistics(SurfaceMesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int64)))
    assert empty == {"vertices": 0, "faces": 0, "area": 0.0, "volume": 0.0, "parts": 0, "largest_part": 0.0}


def box_mesh(volume):
    return surface_mesh(np.asarray(volume, dtype=np.float32), 0.5)


def test_crumbs_and_small_hollows_are_dropped_and_pieces_of_a_size_are_kept():
    volume = np.zeros((32, 32, 32))
    volume[4:24, 4:24, 4:24] = 1.0
    clean = box_mesh(volume)
    volume[10, 10, 10] = 0.0  # a hollow of one voxel
    volume[28, 28, 28] = 1.0  # a crumb of one voxel
    assert mesh_statistics(box_mesh(volume))["parts"] == 3
    kept = without_crumbs(box_mesh(volume))
    assert mesh_statistics(kept) == mesh_statistics(clean)
    assert trimesh.Trimesh(kept.vertices, kept.faces, process=False).is_watertight
    volume[27:30, 4:8, 4:8] = 1.0  # 48 of 8000 voxels
    assert mesh_statistics(without_crumbs(box_mesh(volume)))["parts"] == 2
    assert without_crumbs(clean) is clean


def test_dropping_crumbs_keeps_each_vertex_its_colour():
    volume = np.zeros((32, 32, 32))
    volume[4:24, 4:24, 4:24] = volume[28, 28, 28] = volume[1, 1, 1] = 1.0
    mesh = box_mesh(volume)
    colours = np.round(np.clip(mesh.vertices + 1.0, 0.0, 2.0) * 127).astype(np.uint8)
    kept = without_crumbs(dataclasses.replace(mesh, colours=colours))
    assert len(kept.vertices) < len(mesh.vertices)
    np.testing.assert_array_equal(kept.colours, np.round((kept.vertices + 1.0) * 127).astype(np.uint8))


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "stl"])
def test_every_format_holds_the_same_surface(tmp_path, suffix):
    volume = np.zeros((12, 12, 12))
    volume[2:10, 3:9, 4:8] = 1.0
    mesh = surface_mesh(volume, 0.5)
    write_mesh(tmp_path / f"shape.{suffix}", mesh, {"von": {"run": "here"}})
    read = trimesh.load(tmp_path / f"shape.{suffix}", force="mesh")
    assert len(read.faces) == len(mesh.faces)
    np.testing.assert_allclose(read.volume, trimesh.Trimesh(mesh.vertices, mesh.faces).volume, rtol=1e-5)
    extent = np.ptp(object_to_gltf(mesh.vertices), axis=0)
    np.testing.assert_allclose(read.bounds[1] - read.bounds[0], extent, atol=1e-5)


def test_a_glb_says_what_made_it():
    volume = np.zeros((8, 8, 8))
    volume[2:6, 2:6, 2:6] = 1.0
    content = glb_bytes(surface_mesh(volume, 0.5), "chair", {"von": {"run": "here"}})
    document = json.loads(content[20 : 20 + struct.unpack("<I", content[12:16])[0]])
    assert document["asset"]["extras"] == {"von": {"run": "here"}}
    assert (document["nodes"][0]["name"], document["meshes"][0]["name"]) == ("chair", "chair")


def textured():
    box = trimesh.creation.box((1.0, 0.8, 0.6))
    mesh = SurfaceMesh(np.asarray(box.vertices), np.asarray(box.faces).astype(np.int64))
    # Every face its own triangle of a grid of 4 x 3 squares.
    place = np.array([[index % 4, index // 4] for index in range(12)])[:, None] + [[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]]
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:32, :, 0], image[32:, :, 2] = 250, 250
    faces = np.arange(36).reshape(12, 3)
    atlas = TextureAtlas(mesh.faces.reshape(-1), faces, (place.reshape(-1, 2) / [4, 3]).astype(np.float32), image)
    return dataclasses.replace(mesh, atlas=atlas)


def colour_of_faces(image, uvs):
    """(f, 3) the image at the middles of faces, uvs from its upper left corner."""
    pixels = np.asarray(image)
    middle = (uvs.mean(axis=1) * len(pixels)).astype(int)
    return pixels[middle[:, 1], middle[:, 0]].astype(int)


@pytest.mark.parametrize("suffix", ["glb", "obj"])
def test_a_texture_lies_where_it_did(tmp_path, suffix):
    mesh = textured()
    write_mesh(tmp_path / f"shape.{suffix}", mesh)
    (read,) = trimesh.load_scene(tmp_path / f"shape.{suffix}", process=False).geometry.values()
    np.testing.assert_allclose(read.vertices[read.faces], object_to_gltf(mesh.vertices)[mesh.faces], atol=1e-5)
    uvs = read.visual.uv[read.faces] * [1.0, -1.0] + [0.0, 1.0]  # trimesh has them from the lower left corner
    np.testing.assert_allclose(uvs, mesh.atlas.uvs[mesh.atlas.faces], atol=1e-5)
    material = read.visual.material
    image = material.baseColorTexture if suffix == "glb" else material.image
    away = colour_of_faces(image, uvs) - colour_of_faces(mesh.atlas.image, uvs)
    assert np.abs(away).max() < 12  # JPEG


def test_a_glb_with_a_texture_says_what_its_bytes_are():
    content = glb_bytes(textured())
    length = struct.unpack("<I", content[12:16])[0]
    document = json.loads(content[20 : 20 + length])
    assert len(content) == struct.unpack("<I", content[8:12])[0]
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    start = 28 + length + view["byteOffset"]
    picture = Image.open(io.BytesIO(content[start : start + view["byteLength"]]))
    assert (picture.format, picture.size) == ("JPEG", (64, 64))
    surface = document["materials"][0]["pbrMetallicRoughness"]
    assert surface["baseColorTexture"] == {"index": 0}
    assert surface["metallicFactor"] == 0.0
    assert set(document["meshes"][0]["primitives"][0]["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}


@pytest.mark.parametrize("up", ["y", "z"])
def test_a_usdz_is_a_stored_zip_whose_files_begin_at_multiples_of_64_bytes(up):
    content = mesh_bytes(textured(), "usdz", up=up, name="chair")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == ["chair.usda", "textures/base_colour.jpg"]
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            sizes = struct.unpack("<HH", content[entry.header_offset + 26 : entry.header_offset + 30])
            start = entry.header_offset + 30 + sum(sizes)
            assert start % 64 == 0
            assert content[start : start + entry.file_size] == archive.read(entry)
        scene = archive.read("chair.usda").decode()
    assert scene.startswith("#usda 1.0\n")
    assert f'upAxis = "{up.upper()}"' in scene
    assert scene.count("{") == scene.count("}")


@pytest.mark.parametrize("kind", ["textured", "coloured", "plain"])
def test_usd_reads_the_package(tmp_path, kind):
    usd = pytest.importorskip("pxr.Usd", reason="needs usd-core")
    from pxr import UsdGeom, UsdShade, UsdValidation

    mesh = textured()
    if kind != "textured":
        colours = np.full((8, 3), 128, dtype=np.uint8) if kind == "coloured" else None
        mesh = dataclasses.replace(mesh, atlas=None, colours=colours)
    write_mesh(tmp_path / "shape.usdz", mesh)
    stage = usd.Stage.Open(str(tmp_path / "shape.usdz"))
    (surface,) = (UsdGeom.Mesh(each) for each in stage.Traverse() if each.IsA(UsdGeom.Mesh))
    np.testing.assert_allclose(surface.GetPointsAttr().Get(), object_to_gltf(mesh.vertices), atol=1e-5)
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    material, _ = UsdShade.MaterialBindingAPI(surface).ComputeBoundMaterial()
    assert material
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [each.GetErrorAsString() for each in found] == []
