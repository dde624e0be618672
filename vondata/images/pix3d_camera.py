"""Pinhole cameras in Pix3D's conventions, and viewpoints of annotated ones.

camera = rotation @ model + translation; the camera sits at its origin and looks along +z, +y is up and +x is to the
LEFT in the image. The model frame is Pix3D's and ShapeNet's: y up, front -z. The camera stands at -rotation^T
translation of the model's frame. The sensor is 32 mm wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.errors import VonError
from vondata.frames import camera_direction, object_to_shapenet, shapenet_to_object, viewpoint_of_direction

Floats = npt.NDArray[np.float64]

ROTATION_TOLERANCE = 1e-3  # entries of rot_mat^T rot_mat against the identity
POSITION_TOLERANCE = 1e-2  # of cam_position, against the distance of the camera
UP = np.array([0.0, 1.0, 0.0])
FORWARD = np.array([0.0, 0.0, 1.0])


class ViewpointError(VonError, ValueError):
    """An invalid annotated camera; the message says why."""


@dataclass(frozen=True)
class Viewpoint:
    """Azimuth, elevation and roll of a camera, in radians.

    Attributes:
        azimuth: 0 sees the object's front; see `vondata.frames.camera_direction`.
        elevation: positive from above.
        roll: in-plane rotation of the camera, clockwise positive: the object appears turned counterclockwise.
    """

    azimuth: float
    elevation: float
    roll: float


def viewpoint_of_pix3d(rotation: Floats, translation: Floats, position: Floats) -> Viewpoint:
    """The viewpoint that an annotation describes.

    Args:
        rotation: (3, 3) `rot_mat`.
        translation: (3,) `trans_mat`.
        position: (3,) `cam_position`.

    Raises:
        ViewpointError: `rot_mat` is not a rotation, the object is behind the camera, or `cam_position` contradicts
            the position given by the other two.
    """
    error = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
    if not error <= ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise ViewpointError("rot_mat is not a rotation")
    if translation[2] <= 0:
        raise ViewpointError("trans_mat puts the object behind the camera")
    stands = -rotation.T @ translation
    distance = float(np.linalg.norm(translation))
    if not np.linalg.norm(stands - position) <= POSITION_TOLERANCE * distance:
        raise ViewpointError(
            f"cam_position {_format_vector(position)} contradicts rot_mat and trans_mat, "
            f"by which it is {_format_vector(stands)}"
        )
    azimuth, elevation = viewpoint_of_direction(shapenet_to_object(stands))
    return Viewpoint(float(azimuth), float(elevation), _roll(rotation, translation / distance, stands))


def _roll(rotation: Floats, towards: Floats, position: Floats) -> float:
    """The remaining roll after turning the camera by the shortest rotation to look at the model's origin.

    This removes the effect of the object's position in the picture: a level camera that looks past it is not rolled.

    Args:
        rotation: (3, 3) from model to camera.
        towards: (3,) unit vector to the origin, in the camera's frame.
        position: (3,) the camera, in the model's frame.
    """
    turned = shortest_rotation(towards, FORWARD) @ rotation
    level = look_at(position)
    left, up = level @ turned[0], level @ turned[1]
    return math.atan2(left[1] - up[0], left[0] + up[1])


def look_at(position: Floats) -> Floats:
    """(3, 3) rotation of a level camera that looks at the origin: rows are its left, up and forward directions.

    Straight above and below, where no direction is level, the camera is held as at azimuth 0.
    """
    forward = -position / np.linalg.norm(position)
    left = np.cross(UP, forward)
    length = float(np.linalg.norm(left))
    left = np.array([1.0, 0.0, 0.0]) if length < 1e-9 else left / length
    return np.stack([left, np.cross(forward, left), forward])


def shortest_rotation(start: Floats, end: Floats) -> Floats:
    """(3, 3) the rotation by the smallest angle from one unit vector to another, which must not be opposite."""
    axis = np.cross(start, end)
    skew = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    return np.asarray(np.eye(3) + skew + skew @ skew / (1.0 + start @ end))


def _format_vector(vector: Floats) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in vector) + ")"


Singles = npt.NDArray[np.float32]

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
        """Pix3D's in-plane rotation in radians: the roll that remains when the camera is turned to the origin."""
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
    """Viewpoint, distance, image shift, roll and focal length of a camera.

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
