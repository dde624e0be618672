"""Ray casting of a mesh: hit points with normals and albedo, shadow rays, and ambient occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import open3d
from scipy import ndimage

from vondata.render.mesh import Flags, Floats, Material, RenderMesh, Singles, linear_colour

GRID = 40
GRID_REACH = 0.62
AWAY = 1e-3


@dataclass(frozen=True, eq=False)
class Hits:
    """Hit points of rays; all arrays list only the rays with a hit.

    Attributes:
        rays: (n,) indices of those rays.
        points: (n, 3) hit points.
        normals: (n, 3) shading normals, towards the viewer.
        albedo: (n, 3) linear colour.
        gloss: (n,) see Material.
        occluder: (n,) whether the occluder in front of the object is hit.
    """

    rays: npt.NDArray[np.int64]
    points: Singles
    normals: Singles
    albedo: Singles
    gloss: Singles
    occluder: Flags


class Caster:
    """A mesh prepared for ray casting; model frame (y up, front -z)."""

    def __init__(self, mesh: RenderMesh, threads: int = 1) -> None:
        self._threads = threads
        self._faces = np.asarray(mesh.corners, dtype=np.float64)
        # Attributes of a face's three corners: normal, texture coordinates and colour.
        known = [mesh.normals, mesh.uvs] + ([] if mesh.colours is None else [mesh.colours])
        self._corners = np.concatenate(known, axis=-1).astype(np.float32)
        self._material = mesh.material
        self._textures = _Textures(mesh.materials)
        self._gloss = np.array([each.gloss for each in mesh.materials], dtype=np.float32)
        self._in_front = np.zeros(len(self._faces), dtype=bool) if mesh.in_front is None else mesh.in_front
        self._occupied = _blurred_surface(self._faces)
        self.radius = float(np.linalg.norm(self._faces, axis=-1).max())
        self._scene = _scene(self._faces)

    @property
    def vertices(self) -> Floats:
        """(v, 3) corners of the object's faces."""
        return np.asarray(self._faces[~self._in_front].reshape(-1, 3))

    @property
    def everything(self) -> Floats:
        """(v, 3) corners of all faces, including the occluder's."""
        return self._faces.reshape(-1, 3)

    def cast(self, origin: Floats, directions: Singles) -> Hits:
        """Casts rays from one point along (n, 3) unit directions."""
        found = self._scene.cast_rays(_rays(origin, directions), nthreads=self._threads)
        distance = found["t_hit"].numpy()
        rays = np.flatnonzero(np.isfinite(distance))
        face = found["primitive_ids"].numpy()[rays].astype(np.int64)
        second, third = found["primitive_uvs"].numpy()[rays].T
        corners = self._corners[face]
        blended = (
            (1.0 - second - third)[:, None] * corners[:, 0]
            + second[:, None] * corners[:, 1]
            + third[:, None] * corners[:, 2]
        )
        towards = directions[rays]
        normals = blended[:, :3]
        away = np.einsum("ij,ij->i", normals, towards) > 0.0
        normals *= (np.where(away, -1.0, 1.0) / np.maximum(np.linalg.norm(normals, axis=1), 1e-12))[:, None]
        material = self._material[face]
        albedo = self._textures.look_up(material, blended[:, 3:5])
        if blended.shape[1] > 5:
            albedo = albedo * blended[:, 5:]
        return Hits(
            rays,
            origin.astype(np.float32) + distance[rays, None] * towards,
            normals,
            albedo,
            self._gloss[material],
            self._in_front[face],
        )

    def lit(self, points: Singles, normals: Singles, towards: Singles) -> Flags:
        """Whether nothing is between points and a light in directions (n, 3)."""
        rays = _rays(points + np.float32(AWAY) * normals, towards)
        return np.asarray(~self._scene.test_occlusions(rays, nthreads=self._threads).numpy())

    def openness(self, points: Singles, normals: Singles) -> Singles:
        """Approximate ambient occlusion factor, about 1 on open surfaces and less in corners."""
        position = (points + np.float32(0.08) * normals + GRID_REACH) * (GRID / (2.0 * GRID_REACH)) - 0.5
        darkness = ndimage.map_coordinates(self._occupied, position.T, order=1, mode="constant")
        return np.asarray(np.clip(1.12 - 1.5 * darkness, 0.25, 1.0))


class _Textures:
    """The linear colours of all materials in one flat array, texture after texture."""

    def __init__(self, materials: Sequence[Material]) -> None:
        textures = [_linear_texture(each) for each in materials]
        self._heights, self._widths = (np.array([each.shape[axis] for each in textures]) for axis in (0, 1))
        sizes = self._heights * self._widths
        self._starts = np.cumsum(sizes) - sizes
        self._texels = np.concatenate([each.reshape(-1, 3) for each in textures])

    def look_up(self, material: npt.NDArray[np.int64], uvs: Singles) -> Singles:
        """(n, 3) colours of the texels at coordinates (n, 2); textures repeat."""
        width, height = self._widths[material], self._heights[material]
        column = np.floor(uvs[:, 0] * width).astype(np.int64) % width
        row = np.floor(uvs[:, 1] * height).astype(np.int64) % height
        return np.asarray(self._texels[self._starts[material] + row * width + column])


def _linear_texture(material: Material) -> Singles:
    pixels = np.array([[material.colour]]) if material.texture is None else material.texture[..., :3] / 255.0
    return linear_colour(pixels).astype(np.float32)


def _blurred_surface(faces: Floats) -> Singles:
    """(GRID,)*3 density of surface nearby: a blurred occupancy grid of points sampled on the surface."""
    areas = np.linalg.norm(np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0]), axis=1)
    rng = np.random.default_rng(0)
    chosen = np.searchsorted(np.cumsum(areas) / areas.sum(), rng.random(30_000)).clip(max=len(faces) - 1)
    first, second = np.sqrt(rng.random(len(chosen))), rng.random(len(chosen))
    weights = np.stack([1.0 - first, first * (1.0 - second), first * second], axis=1)
    points = (faces[chosen] * weights[:, :, None]).sum(axis=1)
    edges = np.linspace(-GRID_REACH, GRID_REACH, GRID + 1)
    counts, _ = np.histogramdd(points, bins=(edges, edges, edges))
    return np.asarray(ndimage.gaussian_filter((counts > 0).astype(np.float32), 1.6, mode="constant"))


def _scene(faces: Floats) -> open3d.t.geometry.RaycastingScene:
    scene = open3d.t.geometry.RaycastingScene()
    vertices = faces.reshape(-1, 3).astype(np.float32)
    triangles = np.arange(len(vertices), dtype=np.uint32).reshape(-1, 3)
    scene.add_triangles(open3d.core.Tensor.from_numpy(vertices), open3d.core.Tensor.from_numpy(triangles))
    return scene


def _rays(origins: Floats | Singles, directions: Singles) -> open3d.core.Tensor:
    rays = np.empty((len(directions), 6), dtype=np.float32)
    rays[:, :3], rays[:, 3:] = origins, directions
    return open3d.core.Tensor.from_numpy(rays)
