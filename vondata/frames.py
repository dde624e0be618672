"""Coordinate frames: the object frame and all conversions to and from it; no axes are swapped anywhere else.

Object frame: right-handed, z up, the front faces +y. The grid covers the cube [-1, 1]^3 and voxel i of N is at
-1 + 2 i / (N - 1) on its axis; volumes are indexed [x, y, z].
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Axis = Literal["x", "-x", "y", "-y", "z", "-z"]

# ShapeNet and Pix3D models: +x left, +y up, front -z.
SHAPENET_TO_OBJECT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def axis_vector(axis: Axis) -> npt.NDArray[np.float64]:
    """The unit vector of a signed axis name."""
    vector = np.zeros(3)
    vector["xyz".index(axis[-1])] = -1.0 if axis.startswith("-") else 1.0
    return vector


def axes_to_object(up: Axis, front: Axis) -> npt.NDArray[np.float64]:
    """The rotation from a frame with given up and front axes to the object frame.

    Args:
        up: the source axis that points up.
        front: the source axis that the object's front faces.

    Returns:
        (3, 3) rotation R with p_object = R @ p_source.

    Raises:
        ValueError: up and front lie on the same axis, or one is not a signed axis.
    """
    for name, axis in (("up", up), ("front", front)):
        if axis not in get_args(Axis):
            raise ValueError(f"{name} axis {axis!r} is not one of {', '.join(get_args(Axis))}")
    if up[-1] == front[-1]:
        raise ValueError(f"up {up!r} and front {front!r} lie on the same axis")
    y, z = axis_vector(front), axis_vector(up)
    return np.stack([np.cross(y, z), y, z])


def shapenet_to_object(points: Floats) -> Floats:
    """Converts points (..., 3) from ShapeNet's or Pix3D's model frame to the object frame."""
    turned: Floats = points @ SHAPENET_TO_OBJECT.T
    return turned


def object_to_shapenet(points: Floats) -> Floats:
    """Converts points (..., 3) from the object frame to ShapeNet's and Pix3D's model frame (y up, front -z)."""
    turned: Floats = points @ SHAPENET_TO_OBJECT
    return turned


def object_to_gltf(points: Floats) -> Floats:
    """Converts points (..., 3) from the object frame to glTF's frame (y up, front +z)."""
    return points @ axes_to_object(up="y", front="z")


def camera_direction(azimuth: Floats, elevation: Floats) -> Floats:
    """Unit vectors (..., 3) from the object to the camera in the object frame; angles in radians."""
    return np.stack(
        [-np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)],
        axis=-1,
    )


def viewpoint_of_direction(direction: Floats) -> tuple[Floats, Floats]:
    """Azimuth and elevation in radians of camera positions (..., 3) in the object frame, see camera_direction."""
    x, y, z = np.moveaxis(direction, -1, 0)
    return np.arctan2(-x, y), np.arctan2(z, np.hypot(x, y))


def voxel_to_object(index: Floats, resolution: int) -> Floats:
    """Positions on [-1, 1] of voxel indices (any shape, fractions allowed)."""
    return -1.0 + 2.0 * index / (resolution - 1)


def object_to_voxel(position: Floats, resolution: int) -> Floats:
    """Voxel indices, with fractions, of positions on [-1, 1]; inverse of voxel_to_object."""
    return (position + 1.0) * (resolution - 1) / 2.0
