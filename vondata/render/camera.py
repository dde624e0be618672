"""Pinhole cameras in Pix3D's conventions.

camera = rotation @ model + translation; the camera sits at its origin and looks along +z, +y is up and +x is to the
LEFT in the image. The model frame is Pix3D's and ShapeNet's: y up, front -z. The sensor is 32 mm wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vondata.frames import camera_direction, object_to_shapenet
from vondata.images.viewpoints import FORWARD, look_at, shortest_rotation, viewpoint_of_pix3d
from vondata.render.mesh import Floats, Singles

SENSOR_WIDTH_MM = 32.0


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """A pinhole camera.

    Attributes:
        rotation: (3, 3) Pix3D's rot_mat.
        translation: (3,) Pix3D's trans_mat.
        focal_length_mm: on a sensor 32 mm wide.
        width: of the image in pixels.
        height: of the image in pixels.
    """

    rotation: Floats
    translation: Floats
    focal_length_mm: float
    width: int
    height: int

    @property
    def focal_px(self) -> float:
        """The focal length in pixels."""
        return self.focal_length_mm / SENSOR_WIDTH_MM * self.width

    @property
    def position(self) -> Floats:
        """(3,) where the camera is, in the model frame: Pix3D's cam_position."""
        return -self.rotation.T @ self.translation

    @property
    def inplane_rotation(self) -> float:
        """Pix3D's in-plane rotation in radians: the roll left when the camera is turned to look at the origin."""
        return viewpoint_of_pix3d(self.rotation, self.translation, self.position).roll

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Pixel coordinates (..., 2) as (column, row) and depths (...) of points (..., 3) of the model frame.

        Pixel (i, j) covers columns j to j + 1 and rows i to i + 1.
        """
        x, y, z = np.moveaxis(points @ self.rotation.T + self.translation, -1, 0)
        columns = self.width / 2 - self.focal_px * x / z
        rows = self.height / 2 - self.focal_px * y / z
        return np.stack([columns, rows], axis=-1), z

    def directions(self, pixels: Singles) -> Singles:
        """(..., 3) unit vectors of the model frame from the camera through pixel coordinates (..., 2)."""
        across = (self.width / 2 - pixels[..., 0]) / np.float32(self.focal_px)
        upwards = (self.height / 2 - pixels[..., 1]) / np.float32(self.focal_px)
        length = np.sqrt(across**2 + upwards**2 + 1.0)
        rays = np.stack([across / length, upwards / length, 1.0 / length], axis=-1)
        return np.asarray(rays @ self.rotation.astype(np.float32), dtype=np.float32)


@dataclass(frozen=True)
class CameraPose:
    """How a photo is taken.

    Attributes:
        azimuth: of the viewpoint, radians.
        elevation: of the viewpoint, radians.
        distance: from the model's origin, model units (the bounding box's diagonal is 1).
        shift: where the model's origin lies in the image, as fractions of its width to the right and downwards.
        roll: in-plane rotation, clockwise positive, radians.
        focal_length_mm: on a sensor 32 mm wide.
        size: width and height in pixels.
    """

    azimuth: float
    elevation: float
    distance: float
    shift: tuple[float, float]
    roll: float
    focal_length_mm: float
    size: tuple[int, int]


def camera_of(pose: CameraPose) -> PinholeCamera:
    """The camera at a viewpoint; looking past the origin moves the object in the image, never the viewpoint."""
    direction = camera_direction(np.array(pose.azimuth), np.array(pose.elevation))
    position = np.asarray(pose.distance * object_to_shapenet(direction), dtype=np.float64)
    level = look_at(position)
    cos, sin = np.cos(pose.roll), np.sin(pose.roll)
    # A camera rolled clockwise sees the world turned counterclockwise; its x axis points to the left.
    rolled = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ level
    width, height = pose.size
    per_width = SENSOR_WIDTH_MM / pose.focal_length_mm
    wanted = np.array([-pose.shift[0] * per_width, -pose.shift[1] * per_width, 1.0])
    panned = shortest_rotation(FORWARD, wanted / np.linalg.norm(wanted)) @ rolled
    return PinholeCamera(panned, -panned @ position, pose.focal_length_mm, width, height)
