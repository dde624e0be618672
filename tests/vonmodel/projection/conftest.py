"""An independent projection to compare with: loops over rays and samples, float64, straight from the conventions."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[np.float64]
MarchRays = Callable[..., tuple[Array, Array]]


def _trilinear(volume: Array, point: Array) -> float:
    resolution = len(volume)
    index = (point + 1.0) / 2.0 * (resolution - 1)
    total = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        voxel = np.floor(index).astype(int) + corner
        if (voxel >= 0).all() and (voxel < resolution).all():
            total += volume[tuple(voxel)] * np.prod(1.0 - np.abs(index - voxel))
    return float(total)


def _rotate_onto_grid(volume: Array, rotation: Array) -> Array:
    axis = np.linspace(-1.0, 1.0, len(volume))
    points = itertools.product(axis, repeat=3)
    return np.array([_trilinear(volume, rotation @ np.array(point)) for point in points]).reshape(volume.shape)


def _march_rays(volume: Array, rotation: Array, image_size: int, *, resampled: bool = False) -> tuple[Array, Array]:
    resolution, width, focal_length = len(volume), 0.0612, 0.05
    samples = int(2.5 * resolution)
    if resampled:
        volume, rotation = _rotate_onto_grid(volume, rotation), np.eye(3)
    silhouette, depth = np.zeros((image_size, image_size)), np.zeros((image_size, image_size))
    for row, column in itertools.product(range(image_size), repeat=2):
        z = width / 2 - width * row / (image_size - 1)
        y = width / 2 - width * column / (image_size - 1)
        light = 1.0
        for k in range(samples):
            along = 1.0 + 2.0 * k / samples
            camera_point = np.array([-2.0 + along, y / focal_length * along, z / focal_length * along])
            opacity = min(max(_trilinear(volume, rotation @ camera_point), 1e-4), 1.0 - 1e-4)
            silhouette[row, column] += opacity * light
            depth[row, column] += opacity * light * (1.0 + 2.0 * k / (samples - 1))
            light *= 1.0 - opacity
        depth[row, column] += 3.0 * min(max(light, 1e-4), 1.0 - 1e-4)
    return silhouette, depth


def _rotation(azimuth: float, elevation: float) -> Array:
    """The conventions' product of three turns; angles in degrees."""
    a, e = math.radians(azimuth), math.radians(elevation)
    about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, math.cos(e), -math.sin(e)], [0, math.sin(e), math.cos(e)]])
    return about_z @ about_x @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="session")
def march_rays() -> MarchRays:
    """(volume, rotation, image_size, resampled=False) -> silhouette, depth."""
    return _march_rays


@pytest.fixture(scope="session")
def rotation_of() -> Callable[[float, float], Array]:
    """(azimuth, elevation) in degrees -> (3, 3) rotation."""
    return _rotation
