"""What stands around an object in a photo: a white sheet, or a room of floor and walls."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vondata.render.mesh import Floats, Singles
from vondata.render.textures import (
    LACQUERS,
    TEXTURE_SIZE,
    WOODS,
    Finish,
    Material,
    linear_colour,
    make_material,
    one_of,
    pick,
)

FLOOR_TILE = 0.3  # model units
WALLS = {
    "white": (0.86, 0.86, 0.84),
    "cream": (0.88, 0.82, 0.70),
    "sage": (0.66, 0.74, 0.64),
    "sky": (0.66, 0.75, 0.82),
    "rose": (0.82, 0.68, 0.66),
    "grey": (0.60, 0.61, 0.63),
    "sun": (0.88, 0.80, 0.52),
    "lilac": (0.72, 0.68, 0.80),
}


@dataclass(frozen=True, eq=False)
class Plane:
    """A floor or a wall: points p with normal . p = offset, seen from the side the normal points to.

    Attributes:
        normal: (3,) unit vector of the model frame, into the room.
        offset: distance of the plane from the origin along the normal (negative: the origin is in the room).
        material: its surface.
    """

    normal: Floats
    offset: float
    material: Material


@dataclass(frozen=True, eq=False)
class Room:
    """The planes around an object; the room is convex."""

    planes: tuple[Plane, ...]

    def hit(self, origin: Floats, directions: Singles) -> tuple[Singles, Singles, Singles]:
        """Where rays from one point inside meet the room.

        Returns:
            points (n, 3), normals (n, 3) and linear albedo (n, 3).
        """
        distances = np.stack([_distance(plane, origin, directions) for plane in self.planes])
        nearest = distances.argmin(axis=0)
        points = origin.astype(np.float32) + np.minimum(distances.min(axis=0), 100.0)[:, None] * directions
        normals = np.stack([plane.normal for plane in self.planes]).astype(np.float32)[nearest]
        albedo = np.zeros_like(points)
        for number, plane in enumerate(self.planes):
            here = np.flatnonzero(nearest == number)
            albedo[here] = _albedo(plane, points[here])
        return points, normals, albedo


def draw_room(rng: np.random.Generator, floor: float, camera: Floats) -> Room:
    """A floor, a wall behind the object and sometimes one beside it, askew to the camera.

    Args:
        rng: source of colours, distances and angles.
        floor: height of the floor, model frame.
        camera: (3,) its position; the wall stands opposite, and the room is large enough to hold it.
    """
    ground = _floor_material(rng)
    colour = pick(rng, WALLS)
    wall = make_material(Finish("lacquer", colour), rng)
    facing = np.arctan2(camera[0], camera[2]) + rng.uniform(-0.5, 0.5)
    towards = np.array([np.sin(facing), 0.0, np.cos(facing)])
    beside = np.array([towards[2], 0.0, -towards[0]]) * rng.choice([-1.0, 1.0])
    planes = [
        Plane(np.array([0.0, 1.0, 0.0]), floor, ground),
        Plane(towards, -float(rng.uniform(0.65, 1.6)), wall),
    ]
    if rng.random() < 0.4:
        planes.append(Plane(beside, min(-float(rng.uniform(1.0, 2.0)), float(camera @ beside) - 0.3), wall))
    return Room(tuple(planes))


def _floor_material(rng: np.random.Generator) -> Material:
    finish = one_of(
        rng,
        (
            Finish("wood", pick(rng, WOODS, ["beech", "oak", "walnut"])),  # boards
            Finish("cloth", pick(rng, WALLS)),  # carpet
            Finish("leather", pick(rng, LACQUERS, ["ivory", "silver"])),  # its blotches pass for concrete
        ),
    )
    return replace(make_material(finish, rng), tile_m=FLOOR_TILE)


def _distance(plane: Plane, origin: Floats, directions: Singles) -> Singles:
    approach = np.minimum(directions @ plane.normal.astype(np.float32), -1e-6)
    return np.asarray(np.float32(plane.offset - origin @ plane.normal) / approach)


def _albedo(plane: Plane, points: Singles) -> Singles:
    """Linear colour of points on a plane; textures are upright on walls and lie along an axis on floors."""
    material = plane.material
    assert material.texture is not None
    along = np.array([0.0, 1.0, 0.0]) if abs(plane.normal[1]) < 0.5 else np.array([0.0, 0.0, 1.0])
    axes = np.stack([np.cross(along, plane.normal), along], axis=1) * (TEXTURE_SIZE / material.tile_m)
    texel = np.floor(points @ axes.astype(np.float32)).astype(np.int64) % TEXTURE_SIZE
    return linear_colour(material.texture.astype(np.float32) / 255.0)[texel[:, 1], texel[:, 0]]
