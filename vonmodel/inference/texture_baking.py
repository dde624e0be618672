"""Texture baking: images that the texture network paints from all around a surface, as vertex colours or an atlas.

Views are painted independently and differ where they overlap: a point takes a robust mean of the views in which it is
visible, weighted towards frontal ones, with outliers weighted down. Pixels at silhouettes and depth edges mix two
surfaces and have little weight. Points that are visible in no view take the colour of their neighbours.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import ndimage, sparse
from torch import Tensor

from vondata.kernels import contracted_kernel, kernel
from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.inference.rendering import rays_across, render_opacity
from vonmodel.inference.sampling import Viewpoints
from vonmodel.inference.session import ModelSession, Shape
from vonmodel.mesh import SurfaceMesh, TextureAtlas, to_pixels
from vonmodel.projection import frame_positions

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

AZIMUTHS = 8
ELEVATIONS_DEG = (0.0, 30.0, 60.0)
BATCH = 8
"""Views that are painted at a time."""
EDGE_TRUST = 0.05
"""Relative weight of a pixel at a silhouette or depth edge."""
EDGE_DEPTH = 0.12
"""Depths within a pixel's neighbourhood that differ by more, in object units, belong to different surfaces."""
GREY = 186
_BEHIND = 0.04  # depth tolerance of the visibility test, in object units
_STRAIGHT = 4  # power of the cosine between normal and view in a view's weight
_DISAGREEMENT = 0.15  # difference from the mean colour, in [-1, 1], that halves the weight
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class PaintedViews:
    """Painted views of a mesh, s pixels along an edge.

    Attributes:
        images: (v, s, s, 3) colours in [-1, 1], also outside the object.
        trust: (v, s, s) weight of each pixel, in [0, 1].
        depths: (v, s, s) of the mesh along the optical axis at the pixels' centres; infinite outside it.
        silhouettes: (v, s, s) as painted, in [0, 1].
        rotations: (v, 3, 3) from the camera's frame to the object's.
        places: (v, 4) row = [0] + [1] z / depth and column = [2] + [3] y / depth, of points of the camera's frame.
        distance: of the cameras.
    """

    images: Singles
    trust: Singles
    depths: Singles
    silhouettes: Singles
    rotations: Floats
    places: Floats
    distance: float

    def rays(self, view: int) -> tuple[Floats, Floats]:
        """Origin (3,) and directions (s, s, 3) of the rays of a view's pixels, a unit of depth long."""
        size = self.images.shape[1]
        row, per_z, column, per_y = self.places[view]
        index = np.arange(size, dtype=np.float64)
        z, y = np.meshgrid((index - row) / per_z, (index - column) / per_y, indexing="ij")
        directions = np.stack([np.ones_like(y), y, z], axis=-1) @ self.rotations[view].T
        return self.rotations[view] @ np.array([-self.distance, 0.0, 0.0]), directions


def painted_mesh(session: ModelSession, shape: Shape, texture: Float[Tensor, " k"], mesh: SurfaceMesh) -> SurfaceMesh:
    """The mesh of a shape with the colours of a texture at its vertices.

    Args:
        session: the model.
        shape: the shape of the mesh.
        texture: the texture code.
        mesh: the surface, see `session.mesh`, at any level.
    """
    if not len(mesh.faces):
        return mesh
    return coloured(mesh, paint_views(session, shape, texture, mesh))


def coloured(mesh: SurfaceMesh, views: PaintedViews) -> SurfaceMesh:
    """The mesh with the colours of views at its vertices."""
    colours, weights = blend(mesh.vertices, mesh.normals(), views)
    filled = spread(colours, weights > 1e-6, mesh.faces)
    return dataclasses.replace(mesh, colours=to_pixels(torch.from_numpy(filled)))


def viewpoints_around() -> Viewpoints:
    """(v, 2) azimuths and elevations in radians from which a surface is painted."""
    azimuths = np.arange(AZIMUTHS) * 2.0 * np.pi / AZIMUTHS
    return np.array(list(itertools.product(azimuths, np.radians(ELEVATIONS_DEG))))


def paint_views(
    session: ModelSession,
    shape: Shape,
    texture: Float[Tensor, " k"],
    mesh: SurfaceMesh,
    viewpoints: Viewpoints | None = None,
) -> PaintedViews:
    """Paints a shape from viewpoints all around.

    Args:
        session: the model.
        shape: the shape to paint.
        texture: the texture code.
        mesh: its surface, for depths and visibility.
        viewpoints: (v, 2) in radians; `viewpoints_around` if None.
    """
    viewpoints = viewpoints_around() if viewpoints is None else viewpoints
    model, config = session.source.model, session.config
    rays, size = rays_across(config, shape.volume.shape[-1]), config.image_size
    images, silhouettes, rotations, places = [], [], [], []
    with torch.no_grad():
        opacity = model.opacity(shape.volume[None])
        for angles in torch.split(torch.from_numpy(viewpoints).to(session.device, torch.float32), BATCH):
            count = len(angles)
            seen = render_opacity(
                config, opacity.expand(count, -1, -1, -1, -1), angles, camera=model.camera, image_size=rays
            )
            turned = viewpoint_rotation(angles[:, 0], angles[:, 1])
            framed = model.frame(seen, turned, camera=model.camera, depth_range="item")
            # Not composed on white: at the silhouette's edge that would whiten the object.
            painted = model.colours(framed, texture[None].to(session.device).expand(count, -1))
            images.append(painted.float().cpu().permute(0, 2, 3, 1))
            silhouettes.append(framed.silhouette[:, 0].float().cpu())
            rotations.append(turned.double().cpu())
            frames = frame_positions(seen.silhouette, exact=config.exact_framing)
            places.append(_places([each.double().cpu().numpy() for each in frames], model.camera, rays, size))
    found = PaintedViews(
        images=np.ascontiguousarray(torch.cat(images).numpy()),
        trust=np.empty(0, dtype=np.float32),
        depths=np.empty(0, dtype=np.float32),
        silhouettes=torch.cat(silhouettes).numpy(),
        rotations=torch.cat(rotations).numpy(),
        places=np.concatenate(places),
        distance=model.camera.distance,
    )
    depths = _depths(mesh, found)
    return dataclasses.replace(found, depths=depths, trust=_trust(found.silhouettes, depths))


def _places(frames: list[Floats], camera: Camera, rays: int, size: int) -> Floats:
    """The affine maps from rays' positions to pixels of framed images: `PaintedViews.places` (v, 4)."""
    per_unit = (rays - 1) / (2.0 * camera.half_width)
    parts = []
    for ends in frames:  # rows, then columns; each pixel of the image is the mean of some rays
        scale = (rays - 1) / np.maximum(ends[:, -1] - ends[:, 0], 1e-9) * size / rays
        first = (camera.half_width * per_unit - ends[:, 0]) * scale + 0.5 * size / rays - 0.5
        parts += [first, -per_unit * scale]
    return np.stack(parts, axis=1)


def _depths(mesh: SurfaceMesh, views: PaintedViews) -> Singles:
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    vertices, faces = mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32)
    scene.add_triangles(o3d.core.Tensor.from_numpy(vertices), o3d.core.Tensor.from_numpy(faces))
    depths = np.empty(views.images.shape[:3], dtype=np.float32)
    for view in range(len(depths)):
        start, directions = views.rays(view)
        rays = np.concatenate([np.broadcast_to(start, directions.shape), directions], axis=-1)
        depths[view] = scene.cast_rays(o3d.core.Tensor.from_numpy(rays.astype(np.float32)))["t_hit"].numpy()
    return depths


def _trust(silhouettes: Singles, depths: Singles) -> Singles:
    solid = ndimage.grey_erosion(silhouettes, size=(1, 3, 3), mode="nearest")
    known = np.where(np.isfinite(depths), depths, 1e3)
    nearest, farthest = (each(known, size=(1, 3, 3)) for each in (ndimage.minimum_filter, ndimage.maximum_filter))
    inner = solid**2 * (farthest - nearest < EDGE_DEPTH)
    return np.asarray(silhouettes**2 * (EDGE_TRUST + (1.0 - EDGE_TRUST) * inner), dtype=np.float32)


# Loops are not type-checked: the tests' run-time checker would wrap functions that numba compiles.


def blend(points: Floats, normals: Floats, views: PaintedViews) -> tuple[Floats, Floats]:
    """The colours of points, blended from the views in which they are visible.

    Args:
        points: (n, 3) on the surface, in the object frame.
        normals: (n, 3) of the surface there.
        views: the painted views.

    Returns:
        (n, 3) colours in [-1, 1] and (n,) their total weight; 0 if visible in no view.
    """
    colours, weights = np.zeros((len(points), 3)), np.zeros(len(points))
    depths = np.where(np.isfinite(views.depths), views.depths, np.float32(1e3))
    frames = views.rotations, views.places, views.distance
    maps = views.images, views.trust, depths
    _blend(np.ascontiguousarray(points), np.ascontiguousarray(normals), frames, maps, colours, weights)
    return colours, weights


@contracted_kernel
@no_type_check
def _blend(
    points: Floats,
    normals: Floats,
    frames: tuple[Floats, Floats, float],
    maps: tuple[Singles, Singles, Singles],
    colours: Floats,
    weights: Floats,
) -> None:
    rotations, places, distance = frames
    images, trust, depths = maps
    size, count = images.shape[1], images.shape[0]
    seen, given = np.empty((count, 3)), np.empty(count)
    for n in range(points.shape[0]):
        found, total = 0, 0.0
        for v in range(count):
            turn = rotations[v]
            x = turn[0, 0] * points[n, 0] + turn[1, 0] * points[n, 1] + turn[2, 0] * points[n, 2]
            y = turn[0, 1] * points[n, 0] + turn[1, 1] * points[n, 1] + turn[2, 1] * points[n, 2]
            z = turn[0, 2] * points[n, 0] + turn[1, 2] * points[n, 1] + turn[2, 2] * points[n, 2]
            depth, cosine, length = x + distance, 0.0, 0.0
            for axis in range(3):
                towards = -distance * turn[axis, 0] - points[n, axis]
                cosine += normals[n, axis] * towards
                length += towards * towards
            cosine /= np.sqrt(length)
            if cosine <= 0.0:
                continue
            row, column = places[v, 0] + places[v, 1] * z / depth, places[v, 2] + places[v, 3] * y / depth
            if row < 0.0 or column < 0.0 or row > size - 1 or column > size - 1:
                continue
            i, j = min(int(row), size - 2), min(int(column), size - 2)
            behind = max(depths[v, i, j], depths[v, i + 1, j], depths[v, i, j + 1], depths[v, i + 1, j + 1])
            if depth > behind + _BEHIND:
                continue
            s, t = row - i, column - j
            a, b, c, d = (1.0 - s) * (1.0 - t), (1.0 - s) * t, s * (1.0 - t), s * t
            weight = a * trust[v, i, j] + b * trust[v, i, j + 1] + c * trust[v, i + 1, j] + d * trust[v, i + 1, j + 1]
            weight *= cosine**_STRAIGHT
            if weight <= 0.0:
                continue
            for channel in range(3):
                seen[found, channel] = (
                    a * images[v, i, j, channel]
                    + b * images[v, i, j + 1, channel]
                    + c * images[v, i + 1, j, channel]
                    + d * images[v, i + 1, j + 1, channel]
                )
                colours[n, channel] += weight * seen[found, channel]
            given[found] = weight
            total += weight
            found += 1
        weights[n] = total
        if total <= 0.0:
            continue
        for channel in range(3):
            colours[n, channel] /= total
        for _ in range(_ROUNDS if found > 2 else 0):
            _reweigh(seen[:found], given[:found], colours[n])


@contracted_kernel
@no_type_check
def _reweigh(seen: Floats, given: Floats, mean: Floats) -> None:
    """One step of a robust mean: weights colours down by their distance from the current mean."""
    red, green, blue, total = 0.0, 0.0, 0.0, 0.0
    for k in range(given.size):
        away = (seen[k, 0] - mean[0]) ** 2 + (seen[k, 1] - mean[1]) ** 2 + (seen[k, 2] - mean[2]) ** 2
        weight = given[k] / (1.0 + away / _DISAGREEMENT**2)
        red, green, blue = red + weight * seen[k, 0], green + weight * seen[k, 1], blue + weight * seen[k, 2]
        total += weight
    mean[0], mean[1], mean[2] = red / total, green / total, blue / total


def camera_places(
    points: Floats, rotation: Floats, camera: Camera, image_size: int
) -> tuple[npt.NDArray[np.float64], Floats]:
    """Projects points (v, 3) of the object frame: (2, v) row and column in pixels, and their depth (v,)."""
    turned = points @ rotation  # p_camera = rotation^T p_object
    depth = turned[:, 0] + camera.distance
    per_unit = (image_size - 1) / (2.0 * camera.half_width)
    row = (camera.half_width - turned[:, 2] / depth) * per_unit
    column = (camera.half_width - turned[:, 1] / depth) * per_unit
    return np.stack([row, column]), depth


def spread(values: Floats, known: npt.NDArray[np.bool_], faces: npt.NDArray[np.int64]) -> Floats:
    """Fills values (v, 3) of unknown vertices from their neighbours, ring by ring; grey on pieces without any."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = len(values)
    ones = np.ones(len(pairs))
    neighbours = sparse.csr_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    neighbours = neighbours.maximum(neighbours.T)
    result, reached = np.where(known[:, None], values, 0.0), known.copy()
    while True:
        around = neighbours @ reached.astype(np.float64)
        ring = ~reached & (around > 0)
        if not ring.any():
            break
        result[ring] = (neighbours @ (result * reached[:, None]))[ring] / around[ring, None]
        reached |= ring
    result[~reached] = GREY / 127.5 - 1.0
    return result


TEXELS_PER_PIXEL = 8
"""Texels along an edge of a texture, for each pixel along an edge of the painted views."""
MIN_TEXTURE_PX, MAX_TEXTURE_PX = 256, 4096
_TRUSTED = 0.2
"""Total view weight of a texel above which the vertex colours are not mixed in."""
_PADDING_TEXELS = 4  # between charts, of an atlas of about 1024
MAX_BLOCK_FACES = 2500  # that are unwrapped together


def textured_mesh(
    session: ModelSession, shape: Shape, texture: Float[Tensor, " k"], mesh: SurfaceMesh, size: int | None = None
) -> SurfaceMesh:
    """The mesh of a shape with a texture image, and with vertex colours for formats without images.

    Args:
        session: the model.
        shape: the shape of the mesh.
        texture: the texture code.
        mesh: the surface, see `session.mesh`, at any level.
        size: texels along an edge of the image; if None, from the model's image size.
    """
    if not len(mesh.faces):
        return mesh
    if size is None:
        size = max(MIN_TEXTURE_PX, min(MAX_TEXTURE_PX, TEXELS_PER_PIXEL * session.config.image_size))
    return bake(mesh, paint_views(session, shape, texture, mesh), size)


def bake(mesh: SurfaceMesh, views: PaintedViews, size: int) -> SurfaceMesh:
    """The mesh with the colours of views, as a texture image and at its vertices."""
    mesh = coloured(mesh, views)
    assert mesh.colours is not None
    source, faces, uvs = unwrap(mesh)
    face_of, weights = rasterise(uvs, faces, size)
    covered = face_of >= 0
    corners, shares = mesh.faces[face_of[covered]], weights[covered][:, :, None]
    points = (mesh.vertices[corners] * shares).sum(axis=1)
    normals = (mesh.normals()[corners] * shares).sum(axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    colours, trust = blend(points, normals, views)
    known = np.minimum(trust / _TRUSTED, 1.0)[:, None]
    around = ((mesh.colours[corners] / 127.5 - 1.0) * shares).sum(axis=1)
    image = np.zeros((size, size, 3))
    image[covered] = known * colours + (1.0 - known) * around
    # Texels between the charts take the nearest colour, against bleeding when the texture is filtered.
    nearest = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    pixels = to_pixels(torch.from_numpy(image[tuple(nearest)]))
    return dataclasses.replace(mesh, atlas=TextureAtlas(source, faces, uvs, pixels))


def unwrap(mesh: SurfaceMesh) -> tuple[Integers, Integers, npt.NDArray[np.float32]]:
    """Cuts a surface into charts and packs them into a square.

    Returns:
        `source`, `faces` and `uvs` of a `TextureAtlas`.
    """
    import xatlas

    atlas, blocks, normals = xatlas.Atlas(), _blocks(mesh), mesh.normals().astype(np.float32)
    for rows in blocks:
        vertices, corners = np.unique(mesh.faces[rows], return_inverse=True)
        corners = corners.reshape(-1, 3).astype(np.uint32)
        atlas.add_mesh(mesh.vertices[vertices].astype(np.float32), corners, normals[vertices])
    packing = xatlas.PackOptions()
    packing.padding, packing.bilinear = _PADDING_TEXELS, True
    atlas.generate(xatlas.ChartOptions(), packing)
    sources, uvs = list[Integers](), list[npt.NDArray[np.float32]]()
    faces, begin = np.empty_like(mesh.faces), 0
    for number, rows in enumerate(blocks):
        kept, corners, places = atlas[number]
        sources.append(np.unique(mesh.faces[rows])[kept])
        faces[rows] = corners.astype(np.int64) + begin
        uvs.append(places)
        begin += len(kept)
    return np.concatenate(sources), faces, np.ascontiguousarray(np.concatenate(uvs), dtype=np.float32)


def _blocks(mesh: SurfaceMesh) -> list[Integers]:
    """Blocks of neighbouring faces, split at the median along the longest side until none has too many.

    The time to unwrap a surface grows faster than its number of faces.
    """
    middles = mesh.vertices[mesh.faces].mean(axis=1)
    pending, blocks = [np.arange(len(mesh.faces))], list[Integers]()
    while pending:
        rows = pending.pop()
        if len(rows) <= MAX_BLOCK_FACES:
            blocks.append(rows)
            continue
        axis = int(np.ptp(middles[rows], axis=0).argmax())
        order = rows[np.argsort(middles[rows, axis], kind="stable")]
        pending += [order[len(order) // 2 :], order[: len(order) // 2]]
    return blocks


def rasterise(uvs: npt.NDArray[np.float32], faces: Integers, size: int) -> tuple[Integers, Floats]:
    """The face at the centre of every texel, and the position in it.

    Args:
        uvs: (n, 2) column and row in [0, 1].
        faces: (f, 3) rows of `uvs`.
        size: texels along an edge.

    Returns:
        (s, s) faces, -1 outside the charts, and (s, s, 3) barycentric weights of their corners.
    """
    face_of, weights = np.full((size, size), -1, dtype=np.int64), np.zeros((size, size, 3))
    _rasterise(uvs.astype(np.float64) * size - 0.5, faces, face_of, weights)
    return face_of, weights


@kernel
@no_type_check
def _rasterise(places: Floats, faces: Integers, face_of: Integers, weights: Floats) -> None:
    size = face_of.shape[0]
    for face in range(faces.shape[0]):
        a, b, c = places[faces[face, 0]], places[faces[face, 1]], places[faces[face, 2]]
        doubled = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if doubled == 0.0:
            continue
        left, right = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        top, bottom = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        for row in range(max(int(np.ceil(top)), 0), min(int(np.floor(bottom)), size - 1) + 1):
            for column in range(max(int(np.ceil(left)), 0), min(int(np.floor(right)), size - 1) + 1):
                second = ((column - a[0]) * (c[1] - a[1]) - (row - a[1]) * (c[0] - a[0])) / doubled
                third = ((b[0] - a[0]) * (row - a[1]) - (b[1] - a[1]) * (column - a[0])) / doubled
                if second >= 0.0 and third >= 0.0 and second + third <= 1.0:
                    face_of[row, column] = face
                    weights[row, column, 0] = 1.0 - second - third
                    weights[row, column, 1], weights[row, column, 2] = second, third
