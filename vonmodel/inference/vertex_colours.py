"""Colours for a mesh: the images that the texture network paints from around it, brought back to the vertices.

Each view is painted by itself, so views differ a little where they overlap: a vertex takes the mean of those that see
it, the ones that look straight at it before others. What nobody sees takes the colour of its neighbours.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import sparse
from scipy.ndimage import map_coordinates
from torch import Tensor

from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.inference.rendering import rays_across, render_volume
from vonmodel.inference.sampling import Viewpoints
from vonmodel.inference.session import ModelSession, Shape
from vonmodel.mesh import SurfaceMesh, to_pixels
from vonmodel.projection import frame_positions

Floats = npt.NDArray[np.float64]

AZIMUTHS = 8
ELEVATIONS_DEG = (0.0, 30.0, 60.0)
TOLERANCE_VOXELS = 2.5
"""How far behind the depth that is seen a vertex still counts as seen."""
STRAIGHT = 3
"""Power of the cosine between normal and view that weighs a view."""
GREY = 186


def painted_mesh(session: ModelSession, shape: Shape, texture: Float[Tensor, " k"], mesh: SurfaceMesh) -> SurfaceMesh:
    """The mesh of a shape with the colours of a texture at its vertices.

    Args:
        session: the model.
        shape: what the mesh is the surface of.
        texture: the texture code.
        mesh: as `session.mesh` makes it, at any level.
    """
    if not len(mesh.faces):
        return mesh
    colours, weights = np.zeros((len(mesh.vertices), 3)), np.zeros(len(mesh.vertices))
    normals = mesh.normals()
    views = np.array(
        list(itertools.product(np.arange(AZIMUTHS) * 2.0 * np.pi / AZIMUTHS, np.radians(ELEVATIONS_DEG)))
    )
    for view in np.split(views, len(views)):
        seen, weight = _look(session, shape, texture, view, mesh.vertices, normals)
        colours += weight[:, None] * seen
        weights += weight
    known = weights > 1e-6
    colours[known] /= weights[known, None]
    filled = spread(colours, known, mesh.faces)
    return dataclasses.replace(mesh, colours=to_pixels(torch.from_numpy(filled)))


def _look(
    session: ModelSession, shape: Shape, texture: Tensor, viewpoint: Viewpoints, vertices: Floats, normals: Floats
) -> tuple[Floats, Floats]:
    """The colours (v, 3) in [-1, 1] that one view gives to the vertices, and how much each is to be trusted (v,)."""
    model, config, camera = session.source.model, session.config, session.source.model.camera
    angles = torch.from_numpy(viewpoint).to(session.device, torch.float32)
    rays = rays_across(config, shape.volume.shape[-1])
    with torch.no_grad():
        seen = render_volume(model, shape.volume[None], angles, image_size=rays)
        rotations = viewpoint_rotation(angles[:, 0], angles[:, 1])
        framed = model.frame(seen, rotations, camera=camera, depth_range="item")
        # Not composed on white: at the silhouette's edge that would whiten the object.
        image = model.colours(framed, texture[None].to(session.device))
        rows, columns = (
            each[0].cpu().double().numpy() for each in frame_positions(seen.silhouette, exact=config.exact_framing)
        )
    rotation = rotations[0].cpu().double().numpy()
    places, depth = camera_places(vertices, rotation, camera, rays)
    places = np.stack(
        [
            # The middle of a pixel of the image lies between those of the rays that it is the mean of.
            ((places[axis] - ends[0]) / max(ends[-1] - ends[0], 1e-9) * (rays - 1) + 0.5) * config.image_size / rays
            - 0.5
            for axis, ends in enumerate((rows, columns))
        ]
    )
    silhouette, nearest = (
        map_coordinates(part[0, 0].cpu().double().numpy(), places, order=1, mode="constant", cval=beyond)
        for part, beyond in (
            (framed.silhouette, 0.0),
            (framed.depth + camera.distance - Camera().distance, camera.far),
        )
    )
    colours = np.stack(
        [map_coordinates(channel, places, order=1, mode="nearest") for channel in image[0].cpu().double().numpy()],
        axis=-1,
    )
    towards = rotation @ np.array([-camera.distance, 0.0, 0.0]) - vertices
    cosine = (normals * towards).sum(-1) / np.linalg.norm(towards, axis=-1)
    visible = depth <= nearest + TOLERANCE_VOXELS * 2.0 / (config.resolution - 1)
    return colours, np.where(visible, np.clip(cosine, 0.0, 1.0) ** STRAIGHT * silhouette**2, 0.0)


def camera_places(
    points: Floats, rotation: Floats, camera: Camera, image_size: int
) -> tuple[npt.NDArray[np.float64], Floats]:
    """Where points (v, 3) of the object frame appear: (2, v) row and column in pixels, and their depth (v,)."""
    turned = points @ rotation  # p_camera = rotation^T p_object
    depth = turned[:, 0] + camera.distance
    per_unit = (image_size - 1) / (2.0 * camera.half_width)
    row = (camera.half_width - turned[:, 2] / depth) * per_unit
    column = (camera.half_width - turned[:, 1] / depth) * per_unit
    return np.stack([row, column]), depth


def spread(values: Floats, known: npt.NDArray[np.bool_], faces: npt.NDArray[np.int64]) -> Floats:
    """Fills values (v, 3) of unknown vertices from their neighbours, ring by ring; grey where no piece is known."""
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
