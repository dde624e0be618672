"""Casts rays at an object: where they hit, what is there, and how open or shadowed a point is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import open3d
from scipy import ndimage

from vondata.demo.collection import DemoObject
from vondata.demo.mesh import Flags, Floats, Singles
from vondata.demo.textures import TEXTURE_SIZE, Material, linear_colour
from vondata.frames import object_to_shapenet

GRID = 40
GRID_REACH = 0.62
AWAY = 1e-3


@dataclass(frozen=True, eq=False)
class Hits:
    """What rays met; all arrays list only the rays that met something.

    Attributes:
        rays: (n,) indices of those rays.
        points: (n, 3) where.
        normals: (n, 3) shading normals, towards the viewer.
        albedo: (n, 3) linear colour.
        gloss: (n,) see Material.
        occluder: (n,) whether it is the thing in front of the object.
    """

    rays: npt.NDArray[np.int64]
    points: Singles
    normals: Singles
    albedo: Singles
    gloss: Singles
    occluder: Flags


OCCLUDER = "occluder"


class Caster:
    """An object ready for rays; model frame (y up, front -z).

    Parts of the material OCCLUDER are something else that stands in front of the object.
    """

    def __init__(self, item: DemoObject, threads: int = 1) -> None:
        self._threads = threads
        names = list(item.materials)
        self._faces = np.concatenate([object_to_shapenet(part.vertices)[part.faces] for part in item.parts])
        normals = object_to_shapenet(item.normals)
        uvs = np.concatenate([part.uvs / item.materials[part.material].tile_m for part in item.parts])
        # Everything known of a face's three corners: normal and texture coordinates.
        self._corners = np.concatenate([normals, uvs * TEXTURE_SIZE], axis=-1).astype(np.float32)
        self._material = np.concatenate([np.full(len(part.faces), names.index(part.material)) for part in item.parts])
        self._textures = np.stack([_linear_texture(item.materials[name]) for name in names])
        self._gloss = np.array([item.materials[name].gloss for name in names], dtype=np.float32)
        self._in_front = self._material == (names.index(OCCLUDER) if OCCLUDER in names else -1)
        self._occupied = _blurred_surface(self._faces)
        self.radius = float(np.linalg.norm(self._faces, axis=-1).max())
        self._scene = _scene(self._faces)

    @property
    def vertices(self) -> Floats:
        """(v, 3) corners of the object's faces."""
        return np.asarray(self._faces[~self._in_front].reshape(-1, 3))

    @property
    def everything(self) -> Floats:
        """(v, 3) corners of all faces, also of what stands in front."""
        return self._faces.reshape(-1, 3)

    def cast(self, origin: Floats, directions: Singles) -> Hits:
        """Follows rays from one point along (n, 3) unit directions."""
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
        texel = np.floor(blended[:, 3:]).astype(np.int64) % TEXTURE_SIZE
        material = self._material[face]
        return Hits(
            rays,
            origin.astype(np.float32) + distance[rays, None] * towards,
            normals,
            self._textures[material, texel[:, 1], texel[:, 0]],
            self._gloss[material],
            self._in_front[face],
        )

    def lit(self, points: Singles, normals: Singles, towards: Singles) -> Flags:
        """Whether nothing stands between points and a light in directions (n, 3)."""
        rays = _rays(points + np.float32(AWAY) * normals, towards)
        return np.asarray(~self._scene.test_occlusions(rays, nthreads=self._threads).numpy())

    def openness(self, points: Singles, normals: Singles) -> Singles:
        """How much of the surroundings a point sees, about 1 on open surfaces and less in corners."""
        position = (points + np.float32(0.08) * normals + GRID_REACH) * (GRID / (2.0 * GRID_REACH)) - 0.5
        darkness = ndimage.map_coordinates(self._occupied, position.T, order=1, mode="constant")
        return np.asarray(np.clip(1.12 - 1.5 * darkness, 0.25, 1.0))


def _linear_texture(material: Material) -> Singles:
    pixels = np.asarray(material.colour) if material.texture is None else material.texture / 255.0
    return np.broadcast_to(linear_colour(pixels), (TEXTURE_SIZE, TEXTURE_SIZE, 3)).astype(np.float32)


def _blurred_surface(faces: Floats) -> Singles:
    """(GRID,)*3 how much surface lies near: a blurred grid of the cells that points of the surface fall into."""
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
