"""2.5D sketches (silhouette and depth), and surface maps of framed sketches: position and normal of every pixel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from vonmodel.geometry import Camera

SURFACE_THRESHOLD = 0.9


class Sketch(NamedTuple):
    """A 2.5D sketch before framing.

    Attributes:
        silhouette: (n, 1, R, R) probability in [0, 1] that the ray stops in the object.
        depth: (n, 1, R, R) expected depth along the optical axis in object units, larger is farther; the camera's
            `far` for a ray that misses the object.
    """

    silhouette: Float[Tensor, "n 1 R R"]
    depth: Float[Tensor, "n 1 R R"]


class FramedSketch(NamedTuple):
    """A 2.5D sketch with the object centred and filling the square.

    Attributes:
        silhouette: (n, 1, R, R) probability in [0, 1]; 0 outside the object.
        depth: (n, 1, R, R) depth; the camera's `far` outside the object.
        normalized_depth: (n, 1, R, R) in [-1, 1]: nearest point 1, background -1.
    """

    silhouette: Float[Tensor, "n 1 R R"]
    depth: Float[Tensor, "n 1 R R"]
    normalized_depth: Float[Tensor, "n 1 R R"]


def distance_to_opacity(
    volumes: Float[Tensor, "*n N N N"], threshold: float = SURFACE_THRESHOLD
) -> Float[Tensor, "*n N N N"]:
    """Opacity of distance-function shapes: values under the threshold become 0, the others stay.

    Args:
        volumes: exp(-8 d) in [0, 1], d the unsigned distance to the surface in cube edges.
        threshold: the smallest value that is kept; 0.9 keeps d up to 0.013.

    Returns:
        Opacity; the gradient passes where the value is kept.
    """
    return torch.where(volumes < threshold, torch.zeros_like(volumes), volumes)


# A pixel shows the object if at least this fraction of it is covered; positions below would be noise.
VISIBLE_SILHOUETTE = 0.1
GEOMETRY_CHANNELS = 8


class SurfaceSketch(NamedTuple):
    """A framed sketch with the surface point that every pixel shows.

    Attributes:
        silhouette: (n, 1, R, R) as in `FramedSketch`, like depth and normalized_depth.
        depth: (n, 1, R, R).
        normalized_depth: (n, 1, R, R).
        position: (n, 3, R, R) the point in the object frame, in object units (half the edge of the cube of voxels),
            about [-1, 1]; 0 where silhouette < 0.1.
    """

    silhouette: Float[Tensor, "n 1 R R"]
    depth: Float[Tensor, "n 1 R R"]
    normalized_depth: Float[Tensor, "n 1 R R"]
    position: Float[Tensor, "n 3 R R"]


def locate_surface(
    framed: FramedSketch,
    rows: Float[Tensor, "n R"],
    columns: Float[Tensor, "n R"],
    rotations: Float[Tensor, "n 3 3"],
    *,
    camera: Camera,
    image_size: int,
    far: float = Camera().far,
) -> SurfaceSketch:
    """Computes the surface point that every pixel of a frame shows.

    The depth of a pixel is a mean over object and background; the point lies at the mean over the object alone,
    (far - depth) / silhouette nearer than the background. Differentiable with respect to silhouette, depth and
    rotations.

    Args:
        framed: the sketch; its depths are in the range of a camera at the distance `far` - 1.
        rows: for every row of the frame the pixel index in the sketch before framing, see `frame_positions`.
        columns: likewise.
        rotations: camera frame to object frame.
        camera: the camera of the sketch.
        image_size: rows and columns of the sketch before framing.
        far: depth of the background.
    """
    visible = framed.silhouette >= VISIBLE_SILHOUETTE
    share = torch.where(visible, framed.silhouette, 1.0)
    forward = (far - (far - framed.depth) / share).squeeze(1) - (far - 1.0)
    depth = forward + camera.distance
    up = _slopes(rows, camera, image_size).unsqueeze(2) * depth
    left = _slopes(columns, camera, image_size).unsqueeze(1) * depth
    # Sums of products, as a matrix product would lose precision under TF32 and autocast.
    in_camera = torch.stack([forward, left, up], dim=1)
    position = (rotations.to(in_camera)[:, :, :, None, None] * in_camera.unsqueeze(1)).sum(2)
    return SurfaceSketch(*framed, torch.where(visible, position, 0.0))


def geometry_maps(sketch: SurfaceSketch) -> Float[Tensor, "n 8 R R"]:
    """Input maps of the painter: silhouette, normalised depth in [-1, 1], normal (3) and position (3), 0 outside."""
    position = sketch.position
    normals = surface_normals(position, sketch.silhouette >= VISIBLE_SILHOUETTE)
    return torch.cat(
        [2.0 * sketch.silhouette - 1.0, sketch.normalized_depth, normals, position.clamp(-1.0, 1.0)], dim=1
    )


def surface_normals(position: Float[Tensor, "n 3 R R"], visible: Bool[Tensor, "n 1 R R"]) -> Float[Tensor, "n 3 R R"]:
    """Unit normals of a position map, towards the camera; 0 where unknown.

    The slope along an axis is taken to the visible neighbour that is nearer in space: across the edge of a part the
    farther one lies on another part.
    """
    down, right = (_nearer_slope(position, visible, axis) for axis in (-2, -1))
    normals = torch.linalg.cross(down, right, dim=1)
    length = torch.linalg.vector_norm(normals.detach(), dim=1, keepdim=True)
    unit: Tensor = torch.where(length > 1e-12, normals, 0.0) / length.clamp_min(1e-12)
    return unit


def _nearer_slope(position: Tensor, visible: Tensor, axis: int) -> Float[Tensor, "n 3 R R"]:
    """Change of position to the next pixel or from the previous one; 0 if neither is visible."""
    step = position.diff(dim=axis)
    both = visible.narrow(axis, 1, visible.shape[axis] - 1) & visible.narrow(axis, 0, visible.shape[axis] - 1)
    step = torch.where(both, step, 0.0)
    before, after = ((1, 0), (0, 1)) if axis == -1 else ((0, 0, 1, 0), (0, 0, 0, 1))
    previous, following = functional.pad(step, before), functional.pad(step, after)
    from_previous, to_following = functional.pad(both, before), functional.pad(both, after)
    nearer = previous.detach().square().sum(1, keepdim=True) < following.detach().square().sum(1, keepdim=True)
    return torch.where(from_previous & (nearer | ~to_following), previous, following)


def _slopes(positions: Float[Tensor, "n R"], camera: Camera, image_size: int) -> Float[Tensor, "n R"]:
    """Slope of the ray through a fractional pixel index against the optical axis; positive upwards and leftwards."""
    return camera.half_width * (1.0 - 2.0 * positions / (image_size - 1))
