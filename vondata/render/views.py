"""Rendered views of a mesh: image, mask, depth, normals and positions; class, sphere and turntable cameras."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vondata.classes import ObjectClass
from vondata.errors import VonError
from vondata.frames import shapenet_to_object
from vondata.images.pix3d_camera import SENSOR_WIDTH_MM, CameraPose, PinholeCamera, camera_of
from vondata.render.caster import Caster
from vondata.render.mesh import Floats, Singles
from vondata.render.shading import Light, draw_room, floor_shadow, pixel_centres, render, window_of

CameraSet = Literal["class", "sphere", "turntable"]
Lighting = Literal["studio", "environment", "random"]
Background = Literal["white", "transparent", "room"]
GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))
MARGIN = 1.06
"""Radius of the framed sphere in radii of the object's bounding sphere, which touches the picture's border at 1."""


class RenderSettingsError(VonError, ValueError):
    """Invalid render settings."""

    exit_code = 2


@dataclass(frozen=True)
class RenderSettings:
    """Settings of rendered views.

    Attributes:
        views: number of views.
        size: edge of the picture in pixels.
        cameras: sampled from the viewpoint prior of the class, evenly on a sphere, or on a turntable.
        elevation_deg: of a turntable.
        fov_deg: field of view of the picture's edge.
        distance: of the camera from the object's centre, in diagonals of its box; None fits the object.
        lighting: one large light with shadow, ambient light only, or a random light.
        background: white, transparent, or a random room.
        shadow: whether the object casts a shadow on a floor, on white or transparent background.
        samples: rays along each side of a pixel.
        seed: of all random choices; a view does not depend on the number of views.
    """

    views: int = 24
    size: int = 256
    cameras: CameraSet = "class"
    elevation_deg: float = 20.0
    fov_deg: float = 40.0
    distance: float | None = None
    lighting: Lighting = "studio"
    background: Background = "white"
    shadow: bool = False
    samples: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.views <= 100_000 or not 8 <= self.size <= 4096 or not 1 <= self.samples <= 8:
            raise RenderSettingsError(f"{self.views} views of {self.size} px with {self.samples} samples a side")
        if not 1.0 <= self.fov_deg <= 120.0:
            raise RenderSettingsError(f"a field of view of {self.fov_deg} degrees is not within 1 to 120")
        if self.distance is not None and not 0.5 < self.distance < 1000.0:
            raise RenderSettingsError(f"at a distance of {self.distance} diagonals the camera is inside the object")


@dataclass(frozen=True, eq=False)
class MeshView:
    """One view with an edge of s pixels; the background is 0 in depth, normals and position.

    Attributes:
        image: (s, s, 3) sRGB, or (s, s, 4) with the object's (and its shadow's) alpha on transparent background.
        coverage: (s, s) coverage of each pixel by the object, in [0, 1].
        depth: (s, s) distance of the pixel's centre from the camera's plane, in diagonals of the object's box.
        normals: (s, s, 3) unit vectors of the object frame.
        position: (s, s, 3) of the object frame, in diagonals of the box.
        camera: the camera, in the model frame.
        azimuth_deg: of the viewpoint.
        elevation_deg: of the viewpoint.
    """

    image: npt.NDArray[np.uint8]
    coverage: Singles
    depth: Singles
    normals: Singles
    position: Singles
    camera: PinholeCamera
    azimuth_deg: float
    elevation_deg: float


def viewpoints_of(settings: RenderSettings, about: ObjectClass | None) -> Floats:
    """(n, 2) azimuth and elevation in degrees of the cameras.

    Raises:
        RenderSettingsError: class cameras without a class.
    """
    count = settings.views
    match settings.cameras:
        case "class":
            if about is None:
                raise RenderSettingsError("cameras as photos of the class are taken need a class")
            rngs = (np.random.default_rng((settings.seed, 0, number)) for number in range(count))
            return np.concatenate([about.sample_viewpoints(1, rng) for rng in rngs])
        case "sphere":
            # Fibonacci lattice: equal steps in height, a golden angle apart.
            height = 1.0 - (2.0 * np.arange(count) + 1.0) / count
            azimuth = np.degrees(np.arange(count) * GOLDEN_ANGLE)
            return np.stack([(azimuth + 180.0) % 360.0 - 180.0, np.degrees(np.arcsin(height))], axis=1)
        case "turntable":
            azimuth = np.arange(count) * 360.0 / count
            return np.stack([azimuth, np.full(count, settings.elevation_deg)], axis=1)


def camera_at(azimuth_deg: float, elevation_deg: float, settings: RenderSettings) -> PinholeCamera:
    """The camera of a viewpoint, looking at the object's centre."""
    half = math.radians(settings.fov_deg) / 2.0
    distance = settings.distance or 0.5 * MARGIN / math.sin(half)
    focal_mm = SENSOR_WIDTH_MM / 2.0 / math.tan(half)
    size = (settings.size, settings.size)
    pose = CameraPose(
        math.radians(azimuth_deg), math.radians(elevation_deg), distance, (0.0, 0.0), 0.0, focal_mm, size
    )
    return camera_of(pose)


def render_views(
    caster: Caster, viewpoints_deg: Floats | Sequence[tuple[float, float]], settings: RenderSettings
) -> Iterator[MeshView]:
    """Renders a mesh from viewpoints (n, 2), one at a time; each view depends only on its number and the seed."""
    for number, (azimuth_deg, elevation_deg) in enumerate(np.asarray(viewpoints_deg, dtype=np.float64).tolist()):
        rng = np.random.default_rng((settings.seed, 1, number))
        camera = camera_at(azimuth_deg, elevation_deg, settings)
        light = _light(settings.lighting, camera, rng)
        floor = float(caster.vertices[:, 1].min())
        room = draw_room(rng, floor, camera.position) if settings.background == "room" else None
        photo = render(caster, camera, light, room, rng, settings.samples)
        shadow = floor_shadow(caster, camera, light, floor, rng) if settings.shadow and room is None else None
        image = _composed(photo.image, photo.cut_out, photo.coverage, shadow, settings.background)
        depth, normals, position = geometry_maps(caster, camera)
        yield MeshView(image, photo.coverage, depth, normals, position, camera, azimuth_deg, elevation_deg)


def geometry_maps(caster: Caster, camera: PinholeCamera) -> tuple[Singles, Singles, Singles]:
    """Depth (h, w), normals (h, w, 3) and positions (h, w, 3) at the centres of the pixels; 0 for background."""
    depth = np.zeros((camera.height, camera.width), dtype=np.float32)
    normals, position = (np.zeros((camera.height, camera.width, 3), dtype=np.float32) for _ in range(2))
    rows, columns = window_of(caster, camera)
    directions = camera.directions(pixel_centres(rows, columns, 1)).reshape(-1, 3)
    hits = caster.cast(camera.position, directions)
    own = ~hits.occluder
    width = columns.stop - columns.start
    row, column = rows.start + hits.rays[own] // width, columns.start + hits.rays[own] % width
    depth[row, column] = (hits.points[own] - camera.position.astype(np.float32)) @ camera.rotation[2].astype(
        np.float32
    )
    normals[row, column] = shapenet_to_object(hits.normals[own])
    position[row, column] = shapenet_to_object(hits.points[own])
    return depth, normals, position


def nerf_matrix(camera: PinholeCamera) -> Floats:
    """(4, 4) camera-to-world matrix of NeRF's transforms.json: the camera looks along -z, +x right, +y up."""
    left, up, forward = camera.rotation
    matrix = np.eye(4)
    matrix[:3, :3] = shapenet_to_object(np.stack([-left, up, -forward])).T
    matrix[:3, 3] = shapenet_to_object(camera.position)
    return matrix


def transforms_json(views: Sequence[MeshView], files: Sequence[dict[str, str]]) -> dict[str, Any]:
    """The content of transforms.json (NeRF's convention, with nerfstudio's fields).

    Args:
        views: of one object, all with the same intrinsics.
        files: `file_path`, `mask_path` and others of each view, relative to the file.
    """
    camera = views[0].camera
    return {
        "camera_model": "OPENCV",
        "camera_angle_x": 2.0 * math.atan(SENSOR_WIDTH_MM / 2.0 / camera.focal_length_mm),
        "fl_x": camera.focal_px,
        "fl_y": camera.focal_px,
        "cx": camera.width / 2,
        "cy": camera.height / 2,
        "w": camera.width,
        "h": camera.height,
        "frames": [
            {
                **named,
                "transform_matrix": nerf_matrix(view.camera).tolist(),
                "azimuth_deg": view.azimuth_deg,
                "elevation_deg": view.elevation_deg,
            }
            for view, named in zip(views, files, strict=True)
        ],
    }


def _light(lighting: Lighting, camera: PinholeCamera, rng: np.random.Generator) -> Light:
    position = camera.position / np.linalg.norm(camera.position)
    side = np.cross([0.0, 1.0, 0.0], position)
    side = side / max(float(np.linalg.norm(side)), 1e-6)
    white = np.ones(3, dtype=np.float32)
    match lighting:
        case "environment":
            return Light(np.array([0.0, 1.0, 0.0], dtype=np.float32), 0.0, 0.0, 1.0, white)
        case "studio":
            towards, width, key, fill = position + 0.9 * side + [0.0, 1.1, 0.0], 0.25, 0.65, 0.5
        case "random":
            turn, rise = rng.uniform(-1.4, 1.4), rng.uniform(0.4, 1.6)
            towards, width = position + turn * side + [0.0, rise, 0.0], rng.uniform(0.05, 0.4)
            key, fill = rng.uniform(0.5, 0.8), rng.uniform(0.35, 0.6)
            white = np.array([1.0, rng.uniform(0.92, 1.0), rng.uniform(0.84, 1.0)], dtype=np.float32)
    return Light((towards / np.linalg.norm(towards)).astype(np.float32), float(width), float(key), float(fill), white)


def _composed(
    image: npt.NDArray[np.uint8],
    cut_out: npt.NDArray[np.uint8],
    coverage: Singles,
    shadow: Singles | None,
    background: Background,
) -> npt.NDArray[np.uint8]:
    """The picture on its background, darkened by the shadow where the object does not cover it."""
    dark = np.zeros_like(coverage) if shadow is None else shadow * (1.0 - coverage)
    if background != "transparent":
        return image if shadow is None else np.asarray(np.rint(image * (1.0 - dark[..., None])), dtype=np.uint8)
    alpha = coverage + dark
    share = np.divide(coverage, alpha, out=np.zeros_like(alpha), where=alpha > 0.0)
    colour = np.where(alpha[..., None] > 0.0, cut_out * share[..., None], 255.0)
    return np.asarray(np.rint(np.dstack([colour, 255.0 * alpha])), dtype=np.uint8)


def pix3d_camera(camera: PinholeCamera) -> dict[str, Any]:
    """The fields of a camera in pix3d.json."""
    return {
        "rot_mat": camera.rotation.tolist(),
        "trans_mat": camera.translation.tolist(),
        "focal_length": camera.focal_length_mm,
        "cam_position": camera.position.tolist(),
        "inplane_rotation": camera.inplane_rotation,
    }
