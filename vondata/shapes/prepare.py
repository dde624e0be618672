"""Prepares one model: reads, cleans and voxelises it, computes its distance field, and returns its manifest row."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vondata.dataset.shape_file import PreparedShape, save_shape
from vondata.frames import axes_to_object, voxel_to_object
from vondata.shapes import binvox
from vondata.shapes.cleaning import Mesh, Topology, clean_mesh, find_fins, find_topology, has_outlier
from vondata.shapes.distance import Method, distance_field
from vondata.shapes.implicit import (
    closed_field,
    inside_voxels,
    occupancy_points,
    watertight_mesh,
    write_occupancy_points,
    write_ply,
)
from vondata.shapes.reading import detect_format, read_triangles
from vondata.shapes.solid import Solid, fill_solid
from vondata.shapes.source_file import Limits, read_bytes
from vondata.shapes.sources import distance_hash, mesh_folder_items, shapenet_items
from vondata.shapes.voxelize import surface_voxels, to_voxels
from vondata.types import Item, Rejected

__all__ = ["ShapeSettings", "mesh_folder_items", "prepare_shape", "shapenet_items", "warm_up"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

WATERTIGHT_FILE, POINTS_FILE = "watertight.ply", "points.npz"


@dataclass(frozen=True)
class ShapeSettings:
    """Settings that determine the result.

    Attributes:
        resolution: voxels along an edge, 32 to 256.
        distance: fast or exact, see `distance_field`.
        max_file_mb: larger files are rejected.
        max_faces: meshes with more triangles are rejected.
        drop_duplicates: reject shapes that equal that of another file.
        signed: also save which voxels lie inside.
        watertight: also write a closed mesh, `<id>/watertight.ply`.
        occupancy_points: number of points to write with their inside/outside labels, `<id>/points.npz`; 0 for none.
        method: version of the readers and of the solid; fixed, but part of the settings, so that shapes prepared by
            an earlier version are prepared again. Raised with every change of results.
    """

    resolution: int = 128
    distance: Method = "fast"
    max_file_mb: int = 512
    max_faces: int = 4_000_000
    drop_duplicates: bool = field(default=False, metadata={"planning": True})
    signed: bool = field(default=False, metadata={"optional": True})
    watertight: bool = field(default=False, metadata={"optional": True})
    occupancy_points: int = field(default=0, metadata={"optional": True})
    method: int = field(default=4, init=False)

    def __post_init__(self) -> None:
        if not 32 <= self.resolution <= 256:
            raise ValueError(f"the resolution must be between 32 and 256, not {self.resolution}")
        if not 0 <= self.occupancy_points <= 10_000_000:
            raise ValueError(f"there can be 0 to 10 million occupancy points, not {self.occupancy_points}")

    @property
    def limits(self) -> Limits:
        """Size limits of one file."""
        return Limits(file_mb=self.max_file_mb, faces=self.max_faces)


def prepare_shape(item: Item, settings: ShapeSettings, output: Path) -> dict[str, Any]:
    """Loads, cleans and voxelises one model, computes its distance field and saves the shape.

    Args:
        item: one of `shapenet_items` or `mesh_folder_items`.
        settings: of the preparation.
        output: the .npz to write.

    Returns:
        the values of the row's columns, see `manifests/columns.toml`.

    Raises:
        Rejected: the model cannot be used.
    """
    clock = _Clock()
    with clock.phase("load_s"):
        source = _load(item, settings.limits)
    with clock.phase("voxelize_s"):
        vertices = to_voxels(source.mesh.vertices, settings.resolution)
        surface = surface_voxels(vertices, source.mesh.faces, settings.resolution)
        if source.grid is None:
            solid = fill_solid(vertices, source.mesh.faces, source.topology, surface)
        else:
            solid, surface = _resample(source.grid, source.mesh, surface)
    with clock.phase("distance_s"):
        distance = distance_field(vertices, source.mesh.faces, settings.resolution, settings.distance)
        inside = None
        if settings.signed or settings.watertight or settings.occupancy_points:
            inside = inside_voxels(vertices, source.mesh.faces, surface, solid.occupancy)
    mesh = source.mesh
    kept = inside if settings.signed else None
    shape = PreparedShape(solid.occupancy, surface, distance, mesh.scale, mesh.centre, mesh.rotation, kept)
    found = {"up": item.fields["up"], "front": item.fields["front"], "distance_hash": distance_hash(distance)}
    if kept is not None:
        found["inside_voxels"] = int(np.count_nonzero(kept))
    shutil.rmtree(output.with_suffix(""), ignore_errors=True)  # files of an earlier run
    if inside is not None:
        with clock.phase("surface_s"):
            found |= _write_beside(item, settings, shape, np.where(inside, -distance, distance), mesh, output)
    with clock.phase("save_s"):
        save_shape(output, shape)
    return _row(source, solid, settings) | found | clock.seconds


def _write_beside(
    item: Item, settings: ShapeSettings, shape: PreparedShape, signed: Singles, mesh: Mesh, output: Path
) -> dict[str, Any]:
    """Writes the closed mesh and the occupancy points into the shape's folder; returns their columns."""
    folder = output.with_suffix("")
    if not (settings.watertight or settings.occupancy_points):
        return {}
    folder.mkdir(parents=True)
    field, found = closed_field(signed, shape.occupancy), dict[str, Any]()
    if settings.watertight:
        closed = watertight_mesh(field, mesh.vertices, mesh.faces)
        write_ply(folder / WATERTIGHT_FILE, closed.vertices, closed.faces)
        found |= {
            "watertight_faces": len(closed.faces),
            "watertight_mean_distance": closed.mean_distance,
            "watertight_max_distance": closed.max_distance,
            "watertight_covered": closed.covered,
        }
    if settings.occupancy_points:
        drawn = occupancy_points(
            field, settings.occupancy_points, shape.scale, shape.centre, shape.rotation, seed=item.id
        )
        write_occupancy_points(folder / POINTS_FILE, drawn)
        found["occupied_points"] = int(np.count_nonzero(drawn.occupancies))
    return found


def warm_up() -> None:
    """Compiles all kernels, or loads them from numba's cache."""
    from vondata.dataset.distance_codec import decode_distance, encode_distance
    from vondata.shapes.obj_stl import parse_obj
    from vondata.shapes.polygons import TriangleSoup, triangulate

    roof = (
        b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0.5 0.5 1\nf 1 2 5\nf 2 3 5\nf 3 4 5\nf 4 1 5\nf 1 2 3 4\nf 1 2 3\n"
    )
    polygons = parse_obj(roof)
    faces, _ = triangulate(polygons)
    mesh = clean_mesh(TriangleSoup(polygons.vertices, faces[:-2]), np.eye(3))
    vertices = to_voxels(mesh.vertices, 32)
    surface = surface_voxels(vertices, mesh.faces, 32)
    solid = fill_solid(vertices, mesh.faces, find_topology(mesh.faces), surface)
    inside_voxels(vertices, mesh.faces, surface, solid.occupancy)
    decode_distance(encode_distance(distance_field(vertices, mesh.faces, 32)), 32)


@dataclass(frozen=True, eq=False)
class _Source:
    """A model as a mesh in the object frame and, if it was read from voxels, as a voxel grid."""

    mesh: Mesh
    topology: Topology
    fin_faces: int
    grid: binvox.VoxelGrid | None = None


def _load(item: Item, limits: Limits) -> _Source:
    path = Path(item.inputs[0])
    rotation = axes_to_object(item.fields["up"], item.fields["front"])
    content = read_bytes(path, limits)
    grid = None
    if detect_format(content, path) == "binvox":
        grid = binvox.filled(binvox.read_binvox(path, limits))
        soup = binvox.isosurface(grid, limits)
    else:
        soup = read_triangles(content, path, limits)
    mesh = clean_mesh(soup, rotation)
    topology = find_topology(mesh.faces)
    fins = find_fins(topology)
    if not fins.any():
        return _Source(mesh, topology, 0, grid)
    mesh = mesh.without(fins)
    return _Source(mesh, find_topology(mesh.faces), int(np.count_nonzero(fins)), grid)


def _resample(grid: binvox.VoxelGrid, mesh: Mesh, touched: Bools) -> tuple[Solid, Bools]:
    """The voxels of a .binvox file on the requested grid, and those of them that its surface touches."""
    from scipy.ndimage import binary_erosion

    resolution = touched.shape[0]
    ticks: Floats = np.asarray(voxel_to_object(np.arange(resolution, dtype=np.float64), resolution), dtype=np.float64)
    centres = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)
    occupancy = binvox.sample_grid(grid, mesh.to_source(centres))
    surface = occupancy & (touched | ~binary_erosion(occupancy))  # also where a face lies beyond the last centres
    if not surface.any():
        raise Rejected("empty_mesh", "the voxels of the file are too few to fill one of the requested grid")
    return Solid(occupancy, int(np.count_nonzero(occupancy & ~surface)), 0), surface


def _row(source: _Source, solid: Solid, settings: ShapeSettings) -> dict[str, Any]:
    mesh = source.mesh
    return {
        "source_format": "mesh" if source.grid is None else "binvox",
        "faces": mesh.source_faces,
        "vertices": mesh.source_vertices,
        "degenerate_faces": mesh.degenerate_faces,
        "duplicate_faces": mesh.duplicate_faces,
        "fin_faces": source.fin_faces,
        "watertight": source.topology.watertight,
        "open_edges": source.topology.open_edges,
        "fill": float(np.count_nonzero(solid.occupancy)) / settings.resolution**3,
        "leak": solid.leak,
        "outlier": has_outlier(mesh),
        "area": float(mesh.areas().sum()),
        "enclosed_voxels": solid.enclosed_voxels,
        "leaked_voxels": solid.leaked_voxels,
        "scale": mesh.scale,
        "centre_x": mesh.centre[0],
        "centre_y": mesh.centre[1],
        "centre_z": mesh.centre[2],
        "resolution": settings.resolution,
    }


class _Clock:
    """Seconds of each phase, by column name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, column: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[column] = time.perf_counter() - start
