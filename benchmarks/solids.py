"""Ground-truth solids of closed meshes by ray parity, and solids of broken meshes by VON and other libraries."""

from __future__ import annotations

import os
from collections.abc import Callable

import mesh2sdf
import numpy as np
import numpy.typing as npt
import open3d as o3d
import trimesh

from vondata.shapes.cleaning import clean_mesh, find_fins, find_topology
from vondata.shapes.polygons import TriangleSoup
from vondata.shapes.solid import Solid, fill_solid
from vondata.shapes.voxelize import surface_voxels

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Fill = Callable[[Floats, Integers, int], Bools]

_SHIFT = (3.1e-4, 1.7e-4)  # offset of the lines from voxel centres, so that none runs along an edge


def true_solid(vertices: Floats, faces: Integers, parts: Integers, resolution: int) -> tuple[Bools, int]:
    """The union of closed parts, each filled by the majority of the crossing parities along the three axes.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers.
        parts: (f,) the closed part that a face belongs to.
        resolution: N.

    Returns:
        (N, N, N) voxels whose centre is inside, and the number of voxels on which the three axes disagree.
    """
    solid = np.zeros((resolution,) * 3, dtype=np.bool_)
    doubtful = np.zeros_like(solid)
    for part in np.unique(parts):
        scene = _scene(vertices, faces[parts == part])
        votes = sum(_parity(scene, axis, resolution).astype(np.int64) for axis in range(3))
        solid |= votes >= 2
        doubtful |= (votes == 1) | (votes == 2)
    return solid, int(np.count_nonzero(doubtful))


def _parity(scene: o3d.t.geometry.RaycastingScene, axis: int, resolution: int) -> Bools:
    """(N, N, N) whether the line through a voxel along an axis has crossed the scene an odd number of times."""
    u, v = (axis + 1) % 3, (axis + 2) % 3
    rays = np.zeros((resolution, resolution, 6), dtype=np.float32)
    rays[..., u] = (np.arange(resolution) + _SHIFT[0])[:, None]
    rays[..., v] = np.arange(resolution) + _SHIFT[1]
    rays[..., axis], rays[..., 3 + axis] = -2.0, 1.0
    hits = scene.list_intersections(o3d.core.Tensor.from_numpy(rays.reshape(-1, 6)), nthreads=1)
    entered = np.ceil(hits["t_hit"].numpy() - 2.0).astype(np.int64)  # the first voxel after the crossing
    crossed = np.zeros((resolution**2, resolution + 1), dtype=np.int64)
    np.add.at(crossed, (hits["ray_ids"].numpy(), np.clip(entered, 0, resolution)), 1)
    parity = (crossed.cumsum(axis=1)[:, :resolution] % 2).astype(np.bool_)
    return np.moveaxis(parity.reshape((resolution,) * 3), (0, 1, 2), (u, v, axis))


def von(vertices: Floats, faces: Integers, resolution: int) -> Bools:
    """VON's solid of a triangle soup: cleaning, removal of fins, surface, solid."""
    return von_solid(vertices, faces, resolution)[0].occupancy


def von_solid(vertices: Floats, faces: Integers, resolution: int) -> tuple[Solid, Bools]:
    """The same with its counts, and the (N, N, N) surface voxels."""
    mesh = clean_mesh(TriangleSoup(vertices, faces), np.eye(3))
    mesh = mesh.without(find_fins(find_topology(mesh.faces)))
    positions = mesh.to_source(mesh.vertices)  # cleaning scales to the unit sphere, which damage may have widened
    surface = surface_voxels(positions, mesh.faces, resolution)
    return fill_solid(positions, mesh.faces, find_topology(mesh.faces), surface), surface


def by_trimesh(method: str) -> Fill:
    """Surface voxels by subdivision, filled by one of trimesh's methods: holes or orthographic."""

    def fill(vertices: Floats, faces: Integers, resolution: int) -> Bools:
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        cells = mesh.voxelized(pitch=1.0).fill(method=method).points
        return _marked(np.rint(cells).astype(np.int64), resolution)

    return fill


def by_open3d(vertices: Floats, faces: Integers, resolution: int) -> Bools:
    """Parity of open3d's ray casting scene, the majority of three rays a voxel."""
    ticks = np.arange(resolution, dtype=np.float32)
    points = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)
    inside = _scene(vertices, faces).compute_occupancy(o3d.core.Tensor.from_numpy(points), nthreads=1, nsamples=3)
    return np.asarray(inside.numpy() > 0.5, dtype=np.bool_)


def by_mesh2sdf(vertices: Floats, faces: Integers, resolution: int) -> Bools:
    """The voxels at least a level inside mesh2sdf's outer isosurface, its treatment of open meshes."""
    level = 2.0 / resolution
    signed = quiet_mesh2sdf(vertices * level - 1.0, faces, resolution, fix=True, level=level)
    return np.asarray(signed <= -level, dtype=np.bool_)


def quiet_mesh2sdf(vertices: Floats, faces: Integers, resolution: int, **options: float) -> npt.NDArray[np.floating]:
    """mesh2sdf's field of a mesh, voxel i of n at 2 i / n - 1, without the output of its core."""
    out, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        return np.asarray(mesh2sdf.compute(vertices, faces, resolution, **options))
    finally:
        os.dup2(out, 1)
        os.close(out)
        os.close(null)


def _marked(cells: Integers, resolution: int) -> Bools:
    grid = np.zeros((resolution,) * 3, dtype=np.bool_)
    cells = cells[((cells >= 0) & (cells < resolution)).all(axis=1)]
    grid[tuple(cells.T)] = True
    return grid


def _scene(vertices: Floats, faces: Integers) -> o3d.t.geometry.RaycastingScene:
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(
        o3d.core.Tensor.from_numpy(vertices.astype(np.float32)), o3d.core.Tensor.from_numpy(faces.astype(np.uint32))
    )
    return scene


def sky_seen(vertices: Floats, faces: Integers, voxels: Integers, directions: int) -> Floats:
    """(n,) the fraction of upward directions in which the ray from a voxel's centre is unoccluded.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers.
        voxels: (n, 3) indices.
        directions: number of directions, evenly distributed over the upper hemisphere.
    """
    scene = _scene(vertices, faces)
    height = (np.arange(directions) + 0.5) / directions
    turn = np.arange(directions) * np.pi * (3.0 - np.sqrt(5.0))
    flat = np.sqrt(1.0 - height**2)
    rays = np.empty((len(voxels), 6), dtype=np.float32)
    rays[:, :3] = voxels
    free = np.zeros(len(voxels))
    for way in np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1):
        rays[:, 3:] = way
        free += ~scene.test_occlusions(o3d.core.Tensor.from_numpy(rays), nthreads=1).numpy()
    return np.asarray(free / directions)
