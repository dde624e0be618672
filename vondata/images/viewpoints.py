"""The viewpoint of an annotated camera, in Pix3D's conventions.

camera = rot_mat @ model + trans_mat; the camera sits at its origin, looks along +z, +y is up and +x is to the LEFT in
the image. The model has y up and its front faces -z. The camera stands at -rot_mat^T trans_mat of the model's frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.errors import VonError
from vondata.frames import shapenet_to_object, viewpoint_of_direction

Floats = npt.NDArray[np.float64]

ROTATION_TOLERANCE = 1e-3  # entries of rot_mat^T rot_mat against the identity
POSITION_TOLERANCE = 1e-2  # of cam_position, against the distance of the camera
UP = np.array([0.0, 1.0, 0.0])
FORWARD = np.array([0.0, 0.0, 1.0])


class ViewpointError(VonError, ValueError):
    """An annotated camera that makes no sense; the message says why."""


@dataclass(frozen=True)
class Viewpoint:
    """Where a camera stands and how it is held; all in radians.

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
        ViewpointError: `rot_mat` is no rotation, the object is behind the camera, or `cam_position` is not the place
            that the other two put the camera at.
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
            f"cam_position {_words(position)} contradicts rot_mat and trans_mat, by which it is {_words(stands)}"
        )
    azimuth, elevation = viewpoint_of_direction(shapenet_to_object(stands))
    return Viewpoint(float(azimuth), float(elevation), _roll(rotation, translation / distance, stands))


def _roll(rotation: Floats, towards: Floats, position: Floats) -> float:
    """The roll left when the camera has been turned the shortest way to look at the model's origin.

    The turn takes out where the object lies in the picture: a level camera that looks past it is not rolled.

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
    """(3, 3) the rotation by the smallest angle that takes one unit vector to another, not opposite, one."""
    axis = np.cross(start, end)
    skew = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    return np.asarray(np.eye(3) + skew + skew @ skew / (1.0 + start @ end))


def _words(vector: Floats) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in vector) + ")"
