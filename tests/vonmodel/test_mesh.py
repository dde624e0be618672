import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from vondata.frames import object_to_gltf
from vonmodel.config import ModelConfig
from vonmodel.mesh import surface_mesh, to_pixels, write_glb, write_grey, write_image
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
