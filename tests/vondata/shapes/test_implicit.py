"""Sides, closed surfaces and occupancy points against closed forms and winding numbers, also of real meshes."""

import numpy as np
import pytest
import trimesh

from vondata.dataset.shape_file import ShapeFileError, load_inside, load_shape, load_signed_distance
from vondata.frames import axes_to_object, voxel_to_object
from vondata.shapes.cleaning import clean_mesh, find_topology
from vondata.shapes.distance import distance_field
from vondata.shapes.implicit import (
    THIN_VOXELS,
    closed_field,
    inside_voxels,
    isosurface,
    load_occupancy_points,
    watertight_mesh,
)
from vondata.shapes.polygons import TriangleSoup
from vondata.shapes.prepare import ShapeSettings, prepare_shape
from vondata.shapes.reading import read_triangles
from vondata.shapes.solid import fill_solid
from vondata.shapes.source_file import Limits, read_bytes
from vondata.shapes.voxelize import surface_voxels, to_voxels
from vondata.types import Item

CLOSED = {  # those of its chairs of which every edge has two faces
    "1d930a7c": 0.999,
    "654d258b": 0.999,
    "9a013198": 0.999,
    "c3a46930": 0.999,
    "c6c0e042": 0.999,
    "e2c087bc": 0.99,
    "eb9c7672": 0.99,
}


def winding_numbers(vertices, faces, points):
    """Generalised winding numbers by the solid angles of all triangles (Van Oosterom and Strackee)."""
    numbers = np.empty(len(points))
    for start in range(0, len(points), 200):
        a, b, c = (vertices[faces[:, k]] - points[start : start + 200, None] for k in range(3))
        la, lb, lc = (np.linalg.norm(each, axis=-1) for each in (a, b, c))
        top = (a * np.cross(b, c)).sum(-1)
        below = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
        numbers[start : start + 200] = np.arctan2(top, below).sum(1) / (2 * np.pi)
    return numbers


def solid_of(mesh, resolution):
    vertices = to_voxels(mesh.vertices, resolution)
    surface = surface_voxels(vertices, mesh.faces, resolution)
    occupancy = fill_solid(vertices, mesh.faces, find_topology(mesh.faces), surface).occupancy
    return vertices, surface, occupancy, inside_voxels(vertices, mesh.faces, surface, occupancy)


def closed_surface(mesh, resolution):
    vertices, _, occupancy, inside = solid_of(mesh, resolution)
    distance = distance_field(vertices, mesh.faces, resolution)
    field = closed_field(np.where(inside, -distance, distance), occupancy)
    return watertight_mesh(field, mesh.vertices, mesh.faces)


def cleaned(mesh, rotation=None):
    soup = TriangleSoup(np.asarray(mesh.vertices), np.asarray(mesh.faces), 0)
    return clean_mesh(soup, np.eye(3) if rotation is None else rotation)


def tilted(mesh):
    return mesh.apply_transform(trimesh.transformations.rotation_matrix(0.7, [1.0, 2.0, 0.5]))


FORMS = {
    "ball": lambda: trimesh.creation.icosphere(4),
    "torus": lambda: trimesh.creation.torus(1.0, 0.3),
    "cone": lambda: tilted(trimesh.creation.cone(1.0, 2.0)),
    "plate of a third of a voxel": lambda: tilted(trimesh.creation.box((1.0, 0.8, 0.005))),
    "hollow": lambda: trimesh.util.concatenate(
        [trimesh.creation.icosphere(3), trimesh.creation.icosphere(3, radius=0.5)]
    ),
    "overlapping": lambda: trimesh.util.concatenate(
        [trimesh.creation.box(), trimesh.creation.box().apply_translation([0.41, 0.32, 0.23])]
    ),
    "doubled": lambda: trimesh.Trimesh(
        np.concatenate([tilted(trimesh.creation.box()).vertices] * 2),
        np.concatenate([trimesh.creation.box().faces, trimesh.creation.box().faces[:, ::-1] + 8]),
        process=False,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_centre_lies_on_the_side_that_winding_numbers_say(name):
    mesh, resolution = cleaned(FORMS[name]()), 64
    vertices, surface, occupancy, inside = solid_of(mesh, resolution)
    voxels = np.random.default_rng(0).permutation(np.argwhere(surface))[:1000]
    truth = np.abs(winding_numbers(vertices, mesh.faces, voxels.astype(float))) > 0.5
    if name == "hollow":  # an inner wall encloses nothing that could be reached
        truth |= np.linalg.norm(voxel_to_object(voxels, resolution), axis=1) < 0.6
    assert (inside[tuple(voxels.T)] == truth).mean() >= 0.999
    assert np.array_equal(inside[~surface], occupancy[~surface])


@pytest.mark.parametrize("model", CLOSED)
def test_real_closed_meshes_agree_with_winding_numbers(realdata, model):
    (path,) = realdata.glob(f"ShapeNetCore.v2/*/{model}*/models/model_normalized.obj")
    mesh = clean_mesh(read_triangles(read_bytes(path, Limits()), path, Limits()), axes_to_object("y", "-z"))
    vertices, surface, _, inside = solid_of(mesh, 128)
    rng = np.random.default_rng(1)
    for voxels, least in ((rng.integers(0, 128, (500, 3)), 0.999), (np.argwhere(surface), CLOSED[model])):
        some = rng.permutation(voxels)[:500]
        truth = np.abs(winding_numbers(vertices, mesh.faces, some.astype(float))) > 0.5
        assert (inside[tuple(some.T)] == truth).mean() >= least


def test_a_solid_with_a_hole_keeps_its_inner_wall_inside():
    box = trimesh.creation.box((1.0, 1.0, 1.0)).subdivide().subdivide().subdivide().subdivide()
    kept = ~((np.abs(box.triangles_center[:, :2]).max(axis=1) < 0.1) & (box.triangles_center[:, 2] > 0.49))
    mesh = cleaned(trimesh.Trimesh(box.vertices, box.faces[kept], process=False))
    _, surface, _, inside = solid_of(mesh, 64)
    position = voxel_to_object(np.argwhere(surface), 64)
    half = np.abs(mesh.vertices).max()
    away = (np.abs(position) - half).max(axis=1)
    clear = (np.abs(away) > 1e-9) & (np.linalg.norm(position - [0.0, 0.0, half], axis=1) > 0.35)
    assert (inside[surface] == (away < 0))[clear].all()


def test_the_closed_mesh_is_a_manifold_at_the_surface():
    mesh = cleaned(trimesh.creation.icosphere(4))
    closed = closed_surface(mesh, 64)
    made = trimesh.Trimesh(closed.vertices, closed.faces, process=False)
    assert made.is_watertight
    assert made.is_winding_consistent
    assert made.euler_number == 2
    assert made.volume == pytest.approx(4 / 3 * np.pi, rel=0.01)
    assert closed.mean_distance < 0.05 * 2 / 63
    assert closed.max_distance < 0.2 * 2 / 63
    assert closed.covered == 1.0


def test_an_open_sheet_becomes_a_closed_plate_around_it():
    side = np.linspace(-1.0, 1.0, 9)
    grid = np.stack(np.meshgrid(side, side, [0.0], indexing="ij"), axis=-1).reshape(-1, 3)
    first = np.array([9 * i + j for i in range(8) for j in range(8)])[:, None]
    faces = np.concatenate([first + np.array(each) for each in ([0, 9, 1], [9, 10, 1])])
    mesh = cleaned(tilted(trimesh.Trimesh(grid, faces, process=False)))
    closed = closed_surface(mesh, 64)
    made = trimesh.Trimesh(closed.vertices, closed.faces, process=False)
    assert made.is_watertight
    assert (made.body_count, made.euler_number) == (1, 2)
    assert closed.max_distance < 1.5 * THIN_VOXELS * 2 / 63
    assert closed.covered > 0.99


def test_an_isosurface_that_meets_the_border_is_closed():
    vertices, faces = isosurface(np.ones((8, 8, 8)), 0.5, outside=0.0)
    assert trimesh.Trimesh(vertices, faces, process=False).is_watertight
    assert isosurface(np.zeros((8, 8, 8)), 0.5, outside=0.0)[1].shape == (0, 3)


def prepared(tmp_path, settings, name="a"):
    mesh = trimesh.creation.box((2.0, 1.0, 1.0)).apply_translation([10.0, 20.0, 30.0])
    mesh.export(tmp_path / "a.obj", digits=9)
    fields = {"up": "y", "front": "-z"}
    source = str(tmp_path / "a.obj")
    item = Item(id="a", class_name="chair", source=source, inputs=(source,), fields=fields)
    return prepare_shape(item, settings, tmp_path / f"{name}.npz")


def test_the_sign_is_saved_and_read_again(tmp_path):
    row = prepared(tmp_path, ShapeSettings(resolution=48, signed=True))
    shape, signed = load_shape(tmp_path / "a.npz"), load_signed_distance(tmp_path / "a.npz")
    assert row["inside_voxels"] == shape.inside.sum() == (signed < 0).sum()
    np.testing.assert_array_equal(np.abs(signed), shape.distance)
    centres = np.stack(np.meshgrid(*[voxel_to_object(np.arange(48), 48)] * 3, indexing="ij"), axis=-1)
    away = np.abs(shape.to_source(centres) - [10.0, 20.0, 30.0]) - [1.0, 0.5, 0.5]
    clear = np.abs(away.max(axis=-1)) > 1e-6
    assert np.array_equal((signed < 0)[clear], (away.max(axis=-1) < 0)[clear])


def test_without_a_sign_the_file_is_as_before_and_says_so(tmp_path):
    prepared(tmp_path, ShapeSettings(resolution=48))
    assert load_inside(tmp_path / "a.npz") is None
    assert not (tmp_path / "a").exists()
    with pytest.raises(ShapeFileError, match="no sign"):
        load_signed_distance(tmp_path / "a.npz")


def test_occupancy_points_lie_where_the_source_is(tmp_path):
    row = prepared(tmp_path, ShapeSettings(resolution=64, occupancy_points=5000))
    drawn = load_occupancy_points(tmp_path / "a" / "points.npz")
    assert drawn.points.shape == (5000, 3)
    assert np.abs(drawn.points).max() <= 0.5
    in_source = drawn.points * drawn.scale + drawn.loc
    away = np.max(np.abs(in_source - [10.0, 20.0, 30.0]) - [1.0, 0.5, 0.5], axis=1)
    clear = np.abs(away) > 0.2 * drawn.scale / 63
    assert np.array_equal(drawn.occupancies[clear], away[clear] < 0)
    assert row["occupied_points"] == drawn.occupancies.sum()
    with np.load(tmp_path / "a" / "points.npz") as file:
        assert set(file) == {"points", "occupancies", "loc", "scale"}
        assert file["occupancies"].dtype == np.uint8
        assert len(file["occupancies"]) == 625
    first = (tmp_path / "a" / "points.npz").read_bytes()
    prepared(tmp_path, ShapeSettings(resolution=64, occupancy_points=5000))
    assert (tmp_path / "a" / "points.npz").read_bytes() == first


def test_a_watertight_mesh_stands_beside_the_shape_and_goes_with_its_setting(tmp_path):
    row = prepared(tmp_path, ShapeSettings(resolution=64, watertight=True))
    mesh = trimesh.load(tmp_path / "a" / "watertight.ply", process=False)
    assert mesh.is_watertight
    assert len(mesh.faces) == row["watertight_faces"]
    assert 0 <= row["watertight_mean_distance"] < 0.1 * 2 / 63
    assert row["watertight_max_distance"] < 2 / 63
    assert row["watertight_covered"] == 1.0
    prepared(tmp_path, ShapeSettings(resolution=64))
    assert not (tmp_path / "a").exists()
