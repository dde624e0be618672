"""Implicit shapes: inside/outside of voxel centres, signed distance, watertight mesh, occupancy points.

The solid of a shape holds every voxel that its surface touches, so it does not say on which side of the surface the
centre of such a voxel lies. Sides are therefore propagated from the other voxels, whose sides are known: two
neighbouring centres lie on the same side if no triangle crosses the line between them.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vondata.frames import object_to_voxel, voxel_to_object
from vondata.io.files import atomic_path
from vondata.kernels import kernel
from vondata.shapes import voxelize as bits
from vondata.shapes.solid import AXES, BODY_DIAGONALS, FACE_DIAGONALS, find_crossings

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_UNKNOWN, _OUTSIDE, _INSIDE = 0, 1, 2
_CLEARANCE = 1e-3
THIN_VOXELS = 0.5 * math.sqrt(3.0)
"""Half the minimum thickness, in voxels, of closed surfaces and occupancy points: a thinner part would have holes
wherever it falls between the points of the grid."""
_DISTANCE_SAMPLES = 10_000


def inside_voxels(vertices: Floats, faces: Integers, surface: Bools, occupancy: Bools) -> Bools:
    """Voxels whose centre lies inside the solid.

    A surface voxel lies on the side of the neighbours that no triangle separates it from, first of 6, then of 26;
    where all are separated, in crevices and parts thinner than a voxel, the parity of crossings along the axes
    decides.

    Args:
        vertices: (v, 3) in voxels.
        faces: (f, 3) vertex numbers.
        surface: (N, N, N) voxels that the surface touches.
        occupancy: (N, N, N) the solid: the surface voxels and what they enclose, see `solid.fill_solid`.
    """
    size = len(surface)
    sides = np.where(occupancy, _INSIDE, _OUTSIDE).astype(np.int8)
    sides[surface] = _UNKNOWN
    voxels = np.argwhere(surface)
    for directions in (AXES, (*AXES, *FACE_DIAGONALS, *BODY_DIAGONALS)):
        crossed = np.stack([find_crossings(vertices, faces, each, size, parity=False) for each in directions])
        _spread_sides(voxels, np.array(directions), crossed, sides)
        if not (sides[surface] == _UNKNOWN).any():
            break
    inside = sides == _INSIDE
    left = sides == _UNKNOWN
    if left.any():
        votes = np.zeros(np.count_nonzero(left), dtype=np.int64)
        for axis, direction in enumerate(AXES):
            odd = bits.unpack(find_crossings(vertices, faces, direction, size), size)
            votes += np.logical_xor.accumulate(odd, axis=axis)[left]
        inside[left] = votes >= 2
    return np.asarray(inside)


@kernel
def _spread_sides(voxels: Integers, steps: Integers, crossed: Words, sides: npt.NDArray[np.int8]) -> None:
    """Assigns unknown voxels the majority side of the neighbours that no triangle separates them from, in rounds."""
    size = sides.shape[0]
    found = np.zeros(voxels.shape[0], np.int8)
    changed = True
    while changed:
        changed = False
        for row in range(voxels.shape[0]):
            x, y, z = voxels[row]
            if sides[x, y, z] != _UNKNOWN:
                continue
            balance = 0
            for number in range(steps.shape[0]):
                for way in (-1, 1):
                    i, j, k = x + way * steps[number, 0], y + way * steps[number, 1], z + way * steps[number, 2]
                    if min(i, j, k) < 0 or max(i, j, k) >= size:
                        continue
                    # The crossing between two voxels is stored at the later one.
                    u, v, w = (x, y, z) if way < 0 else (i, j, k)
                    if crossed[number, u, v, w >> 6] >> np.uint64(w & 63) & np.uint64(1):
                        continue
                    if sides[i, j, k] != _UNKNOWN:
                        balance += 1 if sides[i, j, k] == _INSIDE else -1
            if balance != 0:
                found[row] = _INSIDE if balance > 0 else _OUTSIDE
                changed = True
        for row in range(voxels.shape[0]):
            if found[row] != _UNKNOWN:
                sides[voxels[row, 0], voxels[row, 1], voxels[row, 2]] = found[row]
                found[row] = _UNKNOWN


_SWEEPS = 3  # maximum thickness, in voxels, of the layer that is solid only because the surface touches it
_RISES = 0.7  # minimum squared slope, of 1, at which a distance counts as rising towards a neighbour


def signed_distance(occupancy: Bools, distance: Singles) -> Singles:
    """Signed distance to the solid's surface in cube edges, negative inside; sides are inferred from the distance.

    A voxel is also occupied where the surface merely touches its cell. Such a voxel lies outside if the distance
    rises at unit slope towards neighbours that lie outside; from inside, the distance first falls towards the
    surface. A surface without an inside (a sheet, a leaking shell) has no negative values.

    Args:
        occupancy: (N, N, N) the solid and its surface.
        distance: (N, N, N) unsigned distance to the surface in cube edges.
    """
    step = 1.0 / (len(occupancy) - 1)
    outside, far = np.pad(~occupancy, 1, constant_values=True), np.pad(distance, 1, mode="edge")
    inner = (slice(1, -1),) * 3
    for _ in range(_SWEEPS):
        slope = sum(np.square(_rise(outside, far, axis)) for axis in range(3))
        outside[inner] |= slope > _RISES * step * step
    return np.where(outside[inner], distance, -distance)


def _rise(outside: Bools, distance: Singles, axis: int) -> Singles:
    """The increase of the distance towards the outside neighbour along an axis; both arrays have a border."""
    inner = (slice(1, -1),) * 3
    here, rise = distance[inner], np.zeros_like(distance[inner])
    for start in (0, 2):
        there = (*inner[:axis], slice(start, start + here.shape[axis]), *inner[axis + 1 :])
        rise = np.maximum(rise, np.where(outside[there], distance[there] - here, 0.0))
    return rise


def at_least_as_thick(signed: Singles, occupancy: Bools, half: float) -> Singles:
    """Signed distance to the solid with its thin parts thickened and all others unchanged.

    Args:
        signed: (N, N, N) signed distance in cube edges.
        occupancy: (N, N, N) the solid and its surface.
        half: minimum distance between the middle of a part and its surface, in cube edges.
    """
    if not occupancy.any():
        return signed
    reach = math.ceil(half * (len(signed) - 1)) + 1
    depth = ndimage.maximum_filter(-signed, size=2 * reach + 1, mode="nearest").clip(0.0, half)
    nearest = ndimage.distance_transform_edt(~occupancy, return_distances=False, return_indices=True)
    return np.asarray(signed - (np.float32(half) - depth[tuple(nearest)]), dtype=np.float32)


def closed_field(signed: Singles, occupancy: Bools) -> Singles:
    """The signed distance whose zero level is the closed surface: parts too thin for the grid are thickened."""
    return at_least_as_thick(signed, occupancy, THIN_VOXELS / (len(signed) - 1))


def isosurface(volume: npt.NDArray[np.floating], level: float, outside: float) -> tuple[Floats, Integers]:
    """The level set of a volume as a mesh, closed also at the border of the grid.

    Every vertex lies on an edge of the grid and every edge has two faces, so the surface is a manifold.

    Args:
        volume: (N, N, N) [x, y, z] in the object frame, higher inside.
        level: value at the surface.
        outside: value beyond the grid, below the level.

    Returns:
        (v, 3) vertices in the object frame and (f, 3) faces, counterclockwise seen from outside; none if the volume
        nowhere exceeds the level.
    """
    import open3d as o3d

    padded = np.pad(np.asarray(volume, dtype=np.float32), 1, constant_values=outside)
    # A value equal to the level would put a vertex on a grid point, where several triangles degenerate.
    offset = padded - np.float32(level)
    clear = np.float32(_CLEARANCE * abs(level - outside) * 2.0)
    padded = np.where(np.abs(offset) < clear, level + np.copysign(clear, offset), padded).astype(np.float32)
    if padded.max() <= level:
        return np.empty((0, 3)), np.empty((0, 3), dtype=np.int64)
    mesh = o3d.t.geometry.TriangleMesh.create_isosurfaces(o3d.core.Tensor.from_numpy(padded), [level])
    # open3d's vertices are (k, j, i). Reversed they are indices; that mirrors the mesh, so faces are reversed, too.
    index = mesh.vertex.positions.numpy()[:, ::-1].astype(np.float64) - 1.0
    faces = mesh.triangle.indices.numpy()[:, ::-1].astype(np.int64)
    return np.asarray(voxel_to_object(index, len(volume)), dtype=np.float64), faces


@dataclass(frozen=True, eq=False)
class WatertightMesh:
    """A closed manifold around a shape, and its distance to the source mesh.

    Attributes:
        vertices: (v, 3) in the object frame.
        faces: (f, 3) vertex numbers, counterclockwise seen from outside.
        mean_distance: of points on it to the surface of the source, in object units.
        max_distance: of the farthest of them.
        covered: share of the source's area that lies inside it or within a voxel of it, in [0, 1].
    """

    vertices: Floats
    faces: Integers
    mean_distance: float
    max_distance: float
    covered: float


def watertight_mesh(field: Singles, vertices: Floats, faces: Integers) -> WatertightMesh:
    """The closed surface of a signed distance field, compared with the source mesh.

    Args:
        field: (N, N, N) from `closed_field`.
        vertices: (v, 3) of the source, in the object frame.
        faces: (f, 3) of the source.
    """
    closed, triangles = isosurface(-field, 0.0, -1.0 / (len(field) - 1))
    rng = np.random.default_rng(0)
    away = _distances(vertices, faces, sample_surface(closed, triangles, _DISTANCE_SAMPLES, rng))
    covered = sample_field(field, sample_surface(vertices, faces, _DISTANCE_SAMPLES, rng)) < 1.0 / (len(field) - 1)
    return WatertightMesh(closed, triangles, float(away.mean()), float(away.max()), float(covered.mean()))


def sample_field(field: Singles, points: Floats) -> Singles:
    """A field (N, N, N) at points (n, 3) of the object frame, by trilinear interpolation."""
    index = object_to_voxel(points, len(field))
    return np.asarray(ndimage.map_coordinates(field, index.T, order=1, mode="nearest"), dtype=np.float32)


def sample_surface(vertices: Floats, faces: Integers, count: int, rng: np.random.Generator) -> Floats:
    """(count, 3) points sampled uniformly by area on a surface."""
    corners = vertices[faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chosen = corners[rng.choice(len(faces), count, p=areas / areas.sum())]
    weights = rng.dirichlet((1.0, 1.0, 1.0), count)
    return np.asarray(np.einsum("nk,nkd->nd", weights, chosen))


def _distances(vertices: Floats, faces: Integers, points: Floats) -> Singles:
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(
        o3d.core.Tensor.from_numpy(vertices.astype(np.float32)), o3d.core.Tensor.from_numpy(faces.astype(np.uint32))
    )
    return np.asarray(
        scene.compute_distance(o3d.core.Tensor.from_numpy(points.astype(np.float32)), nthreads=1).numpy()
    )


def write_ply(path: Path, vertices: Floats, faces: Integers) -> None:
    """Writes a mesh as binary PLY, atomically."""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    with atomic_path(path) as temporary:
        temporary.write_bytes(header.encode() + vertices.astype("<f4").tobytes() + rows.tobytes())


@dataclass(frozen=True, eq=False)
class OccupancyPoints:
    """Points of a shape's cube and whether they lie inside, in the convention of Occupancy Networks.

    A point p of the file is p * scale + loc in the coordinates of the source.

    Attributes:
        points: (n, 3) float32, uniform in [-0.5, 0.5]^3, along the axes of the source.
        occupancies: (n,) True inside.
        loc: (3,) the middle of the source's bounding box.
        scale: edge of the cube, in source units.
    """

    points: Singles
    occupancies: Bools
    loc: Floats
    scale: float


def occupancy_points(
    field: Singles, count: int, scale: float, centre: tuple[float, float, float], rotation: Floats, seed: str
) -> OccupancyPoints:
    """Samples points and whether they lie inside the closed surface.

    Args:
        field: (N, N, N) from `closed_field`.
        count: number of points.
        scale: object units per source unit.
        centre: of the source's bounding box, in source coordinates.
        rotation: (3, 3) from source axes to object axes.
        seed: a text; equal texts give equal points.
    """
    rng = np.random.default_rng(np.frombuffer(hashlib.blake2b(seed.encode()).digest(), np.uint32))
    points = (rng.random((count, 3)) - 0.5).astype(np.float32)
    inside = sample_field(field, 2.0 * points.astype(np.float64) @ rotation.T) < 0.0
    return OccupancyPoints(points, np.asarray(inside), np.array(centre), 2.0 / scale)


def write_occupancy_points(path: Path, drawn: OccupancyPoints) -> None:
    """Writes points as the .npz that Occupancy Networks read: points, occupancies (bits), loc, scale; atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            points=drawn.points,
            occupancies=np.packbits(drawn.occupancies),
            loc=drawn.loc.astype(np.float32),
            scale=np.float32(drawn.scale),
        )


def load_occupancy_points(path: Path) -> OccupancyPoints:
    """Reads a file of `write_occupancy_points`."""
    with np.load(path, allow_pickle=False) as file:
        points = np.asarray(file["points"], dtype=np.float32)
        inside = np.unpackbits(file["occupancies"], count=len(points)).astype(np.bool_)
        return OccupancyPoints(points, inside, file["loc"].astype(np.float64), float(file["scale"]))
