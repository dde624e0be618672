"""Shading of a ray-cast object: soft key light with shadows, ambient light, reflections, on white or in a room."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vondata.images.pix3d_camera import PinholeCamera
from vondata.render.caster import Caster, Hits
from vondata.render.mesh import (
    LACQUERS,
    TEXTURE_SIZE,
    WOODS,
    Finish,
    Flags,
    Floats,
    Material,
    Singles,
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
        offset: distance of the plane from the origin along the normal (negative if the origin is in the room).
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
        """Intersects rays from one point inside with the room.

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
    """A random room: a floor, a wall behind the object and sometimes one beside it, at an angle to the camera.

    Args:
        rng: source of colours, distances and angles.
        floor: height of the floor, model frame.
        camera: (3,) its position; the wall is opposite, and the room contains it.
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
            Finish("leather", pick(rng, LACQUERS, ["ivory", "silver"])),  # resembles concrete
        ),
    )
    return replace(make_material(finish, rng), tile_m=FLOOR_TILE)


def _distance(plane: Plane, origin: Floats, directions: Singles) -> Singles:
    approach = np.minimum(directions @ plane.normal.astype(np.float32), -1e-6)
    return np.asarray(np.float32(plane.offset - origin @ plane.normal) / approach)


def _albedo(plane: Plane, points: Singles) -> Singles:
    """Linear colour of points on a plane; textures are upright on walls and along an axis on floors."""
    material = plane.material
    assert material.texture is not None
    along = np.array([0.0, 1.0, 0.0]) if abs(plane.normal[1]) < 0.5 else np.array([0.0, 0.0, 1.0])
    axes = np.stack([np.cross(along, plane.normal), along], axis=1) * (TEXTURE_SIZE / material.tile_m)
    texel = np.floor(points @ axes.astype(np.float32)).astype(np.int64) % TEXTURE_SIZE
    return linear_colour(material.texture.astype(np.float32) / 255.0)[texel[:, 1], texel[:, 0]]


# Shadow rays per background point; points of the object have one per sample of the pixel.
BACKGROUND_SHADOW_RAYS = 4
FLOOR_SHADOW_RAYS = 12
SHADOW_BLUR = 0.006  # of the image's width
SHADOW_REACH = 4.0  # radii of the object within which its shadow is computed


@dataclass(frozen=True, eq=False)
class Light:
    """The light of a photo.

    Attributes:
        towards: (3,) unit vector of the model frame to the centre of the key light.
        width: angular radius of the key light, radians; 0 gives hard shadows.
        key: strength of the key light.
        fill: strength of the ambient light.
        tint: (3,) colour of the key light.
    """

    towards: Singles
    width: float
    key: float
    fill: float
    tint: Singles


@dataclass(frozen=True, eq=False)
class RenderedPhoto:
    """A rendered photo.

    Attributes:
        image: (h, w, 3) sRGB; white or the room behind the object.
        cut_out: (h, w, 3) sRGB of the object alone, with its unmixed colour at the anti-aliased edge.
        coverage: (h, w) coverage of each pixel by the object, in [0, 1].
    """

    image: npt.NDArray[np.uint8]
    cut_out: npt.NDArray[np.uint8]
    coverage: Singles


def render(
    caster: Caster, camera: PinholeCamera, light: Light, room: Room | None, rng: np.random.Generator, samples: int = 2
) -> RenderedPhoto:
    """Renders a photo.

    Args:
        caster: the object.
        camera: the camera.
        light: the light.
        room: the background; None for white.
        rng: jitters the soft shadows.
        samples: rays along each side of a pixel that may show the object.
    """
    image = np.ones((camera.height, camera.width, 3), dtype=np.float32)
    if room is not None:
        image = _background(caster, camera, light, room, rng)
    rows, columns = window_of(caster, camera)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    directions = camera.directions(pixel_centres(rows, columns, samples)).reshape(-1, 3)
    hits = caster.cast(camera.position, directions)
    radiance = np.zeros((len(directions), 5), dtype=np.float32)
    radiance[hits.rays, :3] = np.clip(_radiance(caster, camera, light, hits, rng), 0.0, 1.0)
    radiance[hits.rays, 3] = 1.0
    radiance[hits.rays, 4] = ~hits.occluder
    averaged = _averaged(radiance.reshape(shape[0] * samples, shape[1] * samples, 5), samples)
    colour, anything, shown = averaged[..., :3], averaged[..., 3:4], averaged[..., 4]
    image[rows, columns] = image[rows, columns] * (1.0 - anything) + colour
    cut_out = np.ones_like(image)
    cut_out[rows, columns] = np.where(anything > 0.0, colour / np.maximum(anything, 1e-6), 1.0)
    coverage = np.zeros(image.shape[:2], dtype=np.float32)
    coverage[rows, columns] = shown
    return RenderedPhoto(_encoded(image), _encoded(cut_out), coverage)


def window_of(caster: Caster, camera: PinholeCamera) -> tuple[slice, slice]:
    """Rows and columns of the picture around all faces of the caster."""
    corners, _ = camera.project(caster.everything)
    limit = np.array([camera.width, camera.height])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, limit - 1)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, low + 1, limit)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def pixel_centres(rows: slice, columns: slice, samples: int) -> Singles:
    """(h * samples, w * samples, 2) the sample positions of a window as (column, row)."""
    across = columns.start + (np.arange((columns.stop - columns.start) * samples) + 0.5) / samples
    down = rows.start + (np.arange((rows.stop - rows.start) * samples) + 0.5) / samples
    return np.stack(np.meshgrid(across.astype(np.float32), down.astype(np.float32)), axis=-1)


def floor_shadow(
    caster: Caster, camera: PinholeCamera, light: Light, floor: float, rng: np.random.Generator
) -> Singles:
    """(h, w) darkening of the floor by the object, in [0, 1], by shadow of the key light and ambient occlusion.

    Args:
        caster: the object.
        camera: the camera; from below the floor is invisible.
        light: the light.
        floor: height of the floor, model frame.
        rng: jitters the soft shadow.
    """
    dark = np.zeros(camera.height * camera.width, dtype=np.float32)
    directions = camera.directions(pixel_centres(slice(0, camera.height), slice(0, camera.width), 1)).reshape(-1, 3)
    origin = camera.position.astype(np.float32)
    down = directions[:, 1] < -1e-3
    reach = np.where(down, (floor - origin[1]) / np.where(down, directions[:, 1], -1.0), -1.0)
    points = np.asarray(origin + reach[:, None] * directions, dtype=np.float32)
    near = np.flatnonzero((reach > 0.0) & (np.linalg.norm(points, axis=1) < SHADOW_REACH * caster.radius))
    if len(near):
        upright = np.tile(np.array([0.0, 1.0, 0.0], dtype=np.float32), (len(near), 1))
        lit = _diffuse(caster, points[near], upright, light, rng, FLOOR_SHADOW_RAYS).mean(axis=1)
        full = light.fill + light.key * max(float(light.towards[1]), 0.0) * float(light.tint.mean())
        away = np.linalg.norm(points[near], axis=1) / (SHADOW_REACH * caster.radius)
        fade = np.clip(2.0 * (1.0 - away), 0.0, 1.0)  # no visible border at the end of the computed region
        dark[near] = np.clip(1.0 - lit / max(full, 1e-6), 0.0, 1.0) * fade
    # A slight blur removes the noise of the few shadow rays.
    return np.asarray(ndimage.gaussian_filter(dark.reshape(camera.height, camera.width), SHADOW_BLUR * camera.width))


def _background(caster: Caster, camera: PinholeCamera, light: Light, room: Room, rng: np.random.Generator) -> Singles:
    """(h, w, 3) the room without the object, but with its shadow."""
    centres = pixel_centres(slice(0, camera.height), slice(0, camera.width), 1)
    points, normals, albedo = room.hit(camera.position, camera.directions(centres).reshape(-1, 3))
    sight = np.linalg.norm(points - camera.position.astype(np.float32), axis=1)
    shade = _diffuse(caster, points, normals, light, rng, BACKGROUND_SHADOW_RAYS)
    fading = 1.0 - 0.08 * np.clip(sight - 2.0, 0.0, 3.0)
    return np.asarray((albedo * shade * fading[:, None]).reshape(camera.height, camera.width, 3))


def _radiance(caster: Caster, camera: PinholeCamera, light: Light, hits: Hits, rng: np.random.Generator) -> Singles:
    """(n, 3) radiance of the hit points."""
    viewer = camera.position.astype(np.float32) - hits.points
    viewer /= np.linalg.norm(viewer, axis=1, keepdims=True)
    facing = np.einsum("ij,ij->i", hits.normals, viewer)
    gloss = hits.gloss
    # Schlick's approximation: reflection increases with (1 - n . v)^5 towards grazing angles.
    grazing = (1.0 - np.clip(facing, 0.0, 1.0)) ** 5
    strength = gloss * (0.04 + 0.5 * gloss**2 + 0.5 * grazing)
    reflected = 2.0 * facing[:, None] * hits.normals - viewer
    matt = hits.albedo * _diffuse(caster, hits.points, hits.normals, light, rng, 1)
    mirrored = (strength * _surroundings(reflected, light))[:, None]
    return np.asarray(matt * (1.0 - 0.5 * gloss[:, None] ** 2) + mirrored)


def _diffuse(
    caster: Caster, points: Singles, normals: Singles, light: Light, rng: np.random.Generator, rays: int
) -> Singles:
    """(n, 3) irradiance of points, with `rays` shadow rays per point."""
    facing = np.clip(normals @ light.towards, 0.0, 1.0)
    asked = np.flatnonzero((facing > 0.0) & _may_be_shadowed(caster, points, light))
    visible = np.ones(len(points), dtype=np.float32)
    if light.width == 0.0:
        rays = 1
    start, upright = np.repeat(points[asked], rays, axis=0), np.repeat(normals[asked], rays, axis=0)
    lit = caster.lit(start, upright, _light_directions(light, len(start), rng))
    visible[asked] = lit.reshape(-1, rays).mean(axis=1)
    ambient = light.fill * (0.75 + 0.25 * normals[:, 1]) * caster.openness(points, normals)
    return np.asarray(ambient[:, None] + (light.key * facing * visible)[:, None] * light.tint)


def _may_be_shadowed(caster: Caster, points: Singles, light: Light) -> Flags:
    """Whether the line to the light passes through the bounding sphere of the mesh."""
    along = np.maximum(-points @ light.towards, 0.0)
    nearest = points + along[:, None] * light.towards
    reach = caster.radius + np.tan(light.width) * along
    return np.asarray(np.einsum("ij,ij->i", nearest, nearest) < reach**2)


def _light_directions(light: Light, count: int, rng: np.random.Generator) -> Singles:
    """(count, 3) unit vectors to points of the key light, stratified over its quarters in groups of four."""
    radius = np.tan(light.width) * np.sqrt(rng.random(count, dtype=np.float32))
    angle = np.float32(np.pi / 2) * (np.arange(count) % 4 + rng.random(count, dtype=np.float32))
    side = np.cross(light.towards, [0.0, 0.0, 1.0] if abs(light.towards[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    plane = np.stack([side, np.cross(light.towards, side)]).astype(np.float32)
    directions = light.towards + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) @ plane
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True), dtype=np.float32)


def _surroundings(directions: Singles, light: Light) -> Singles:
    """(n,) environment for reflections: a bright sky over a dark ground, and the key light."""
    sky = 0.18 + 0.82 / (1.0 + np.exp(-8.0 * (directions[:, 1] - 0.05)))
    lamp = 2.5 * np.clip(directions @ light.towards, 0.0, 1.0) ** 60
    return np.asarray(light.fill * sky + light.key * lamp, dtype=np.float32)


def _averaged(fine: Singles, samples: int) -> Singles:
    """Means over blocks of samples x samples; summing slices is much faster than a reduction."""
    total = np.zeros((fine.shape[0] // samples, fine.shape[1] // samples, fine.shape[2]), dtype=np.float32)
    for row in range(samples):
        for column in range(samples):
            total += fine[row::samples, column::samples]
    return np.asarray(total / samples**2, dtype=np.float32)


def _encoded(linear: Singles) -> npt.NDArray[np.uint8]:
    """Linear light to 8-bit sRGB, with a square root as the inverse of `linear_colour`."""
    return (255.0 * np.sqrt(np.clip(linear, 0.0, 1.0)) + 0.5).astype(np.uint8)
