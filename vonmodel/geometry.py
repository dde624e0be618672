"""Pinhole camera and viewpoint: ray directions, sample depths and the rotation from camera to object frame.

Camera frame: the camera sits at (-distance, 0, 0) and looks along +x; up is +z, the image's right is -y. A depth is
measured along the optical axis (not along the ray); the origin lies at depth `distance`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A pinhole camera on a sphere around the object.

    Attributes:
        distance: from the camera to the origin, in object units (half the edge of the cube of voxels).
        focal_length: from the pinhole to the sensor, same unit as `sensor`.
        sensor: width and height of the square sensor.
        samples_per_voxel: samples along a ray per voxel of an axis.
    """

    distance: float = 2.0
    focal_length: float = 0.05
    sensor: float = 0.0612
    samples_per_voxel: float = 2.5

    def __post_init__(self) -> None:
        if self.distance <= 1.0:
            raise ValueError(f"camera distance {self.distance} must exceed 1, or rays start behind the camera")
        for name in ("focal_length", "sensor", "samples_per_voxel"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"camera {name} {getattr(self, name)} must be positive")

    @classmethod
    def at(cls, distance: float) -> Camera:
        """A camera at another distance, its focal length scaled so that the origin keeps its size in the image."""
        own = cls()
        return cls(distance=distance, focal_length=own.focal_length * distance / own.distance)

    @property
    def near(self) -> float:
        """Depth of a ray's first sample."""
        return self.distance - 1.0

    @property
    def far(self) -> float:
        """Depth of the background, where a ray ends."""
        return self.distance + 1.0

    @property
    def half_width(self) -> float:
        """Half the width of the field of view at depth 1 (tangent of the half angle)."""
        return self.sensor / (2.0 * self.focal_length)

    def samples(self, resolution: int) -> int:
        """Samples along a ray through a volume of `resolution` voxels an axis."""
        return int(self.samples_per_voxel * resolution)

    def sample_depths(self, resolution: int, like: Tensor) -> Float[Tensor, " S"]:
        """Depths at which a ray is sampled: near + 2 k / S, k = 0..S-1, so the last lies one step before `far`."""
        count = self.samples(resolution)
        return self.near + (self.far - self.near) / count * torch.arange(count, dtype=like.dtype, device=like.device)

    def depth_weights(self, resolution: int, like: Tensor) -> Float[Tensor, " S"]:
        """Depth that a ray stopping at sample k reports: evenly from `near` to `far`, both included.

        Slightly more than the sample's own depth, by up to one step at the far end, as in the published code.
        """
        count = self.samples(resolution)
        return torch.linspace(self.near, self.far, count, dtype=like.dtype, device=like.device)

    def ray_directions(self, image_size: int, like: Tensor) -> Float[Tensor, "R R 3"]:
        """Rays through the pixels, row by row from the top left, in the camera frame.

        Their x component is 1, so that a point at depth d on a ray is the camera's position + d * direction.
        """
        edge = self.half_width
        across = torch.linspace(edge, -edge, image_size, dtype=like.dtype, device=like.device)
        up, left = torch.meshgrid(across, across, indexing="ij")
        return torch.stack([torch.ones_like(up), left, up], dim=-1)


def viewpoint_rotation(azimuth: Float[Tensor, " n"], elevation: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """The rotation from the camera's frame to the object's: p_object = rotation @ p_camera.

    rotation = R_z(azimuth) R_x(elevation) R_0, where R_0 puts a camera with both angles zero in front of the object
    (at +y). The camera then stands in direction (-sin az cos el, cos az cos el, sin el). Differentiable.

    Args:
        azimuth: radians; 0 sees the front, positive turns the camera towards -x.
        elevation: radians; positive sees the object from above.
    """
    sin_a, cos_a = torch.sin(azimuth), torch.cos(azimuth)
    sin_e, cos_e = torch.sin(elevation), torch.cos(elevation)
    zero = torch.zeros_like(sin_a)
    # The columns are the camera's axes (forward, left, up) in the object frame.
    forward = torch.stack([sin_a * cos_e, -cos_a * cos_e, -sin_e], dim=-1)
    left = torch.stack([cos_a, sin_a, zero], dim=-1)
    up = torch.stack([sin_a * sin_e, -cos_a * sin_e, cos_e], dim=-1)
    return torch.stack([forward, left, up], dim=-1)


def rotate_points(rotations: Float[Tensor, "n 3 3"], points: Float[Tensor, "*k 3"]) -> Float[Tensor, "n *k 3"]:
    """Applies every rotation to the same points.

    Written as sums of products, not as a matrix product, which would lose precision under TF32 and autocast.
    """
    columns = rotations.mT.reshape(-1, 3, *(1,) * (points.dim() - 1), 3)
    x, y, z = points.unbind(-1)
    return columns[:, 0] * x.unsqueeze(-1) + columns[:, 1] * y.unsqueeze(-1) + columns[:, 2] * z.unsqueeze(-1)
