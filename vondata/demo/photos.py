"""Rendered photos of the demo's objects: room photos in Pix3D's layout, and catalogue photos on white."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vondata.classes import ObjectClass
from vondata.demo.collection import OCCLUDER, DemoObject, render_mesh
from vondata.demo.primitives import box, lathe
from vondata.frames import shapenet_to_object
from vondata.images.pix3d_camera import CameraPose, PinholeCamera, camera_of
from vondata.render.caster import Caster
from vondata.render.mesh import DYES, WOODS, Finish, Floats, PartMesh, make_material, pick
from vondata.render.shading import Light, RenderedPhoto, draw_room, render

ROOM_SIZES = ((224, 168), (168, 224), (192, 192))
WHITE_SIZES = ((192, 192), (216, 162), (162, 216))
MARGIN_PX = 4.0
# Shares of the room photos: cut by the border, with an occluder, with a slightly and with a strongly rolled camera.
TRUNCATED, HIDDEN, TILTED, TOPPLED = 0.07, 0.09, 0.15, 0.02
# Hidden shares of the object above which Pix3D calls it slightly occluded, and occluded.
SLIGHTLY, MUCH = 0.02, 0.15
TOO_MUCH = 0.7
ALPHA_SHARE = 0.125


@dataclass(frozen=True, eq=False)
class RoomPhoto:
    """A photo in a room with the data of its Pix3D annotation.

    Attributes:
        picture: the photo.
        camera: the camera.
        hidden: the share of the object hidden by an occluder.
    """

    picture: RenderedPhoto
    camera: PinholeCamera
    hidden: float

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(h, w) the visible part of the object."""
        return self.picture.coverage >= 0.5


def take_room_photo(item: DemoObject, caster: Caster, about: ObjectClass, rng: np.random.Generator) -> RoomPhoto:
    """Samples viewpoint, framing, room and light, and renders the photo.

    Args:
        item: the object.
        caster: of the object.
        about: its class, from whose prior the viewpoint is sampled.
        rng: source of all random choices.
    """
    truncated, hidden = rng.random() < TRUNCATED, rng.random() < HIDDEN
    pose = _draw_pose(about, rng, ROOM_SIZES, fill=(0.72, 0.92))
    pose = replace(
        pose, roll=_draw_roll(rng), shift=(float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.03, 0.05)))
    )
    if truncated:
        pose = replace(pose, shift=(float(rng.choice([-1, 1]) * rng.uniform(0.32, 0.45)), pose.shift[1]))
        camera = camera_of(pose)
    else:
        camera = _wholly_inside(pose, caster)
    floor = float(caster.vertices[:, 1].min())
    room = draw_room(rng, floor, camera.position)
    light = _draw_light(rng, camera, key=(0.55, 0.75), fill=(0.45, 0.6))
    share, scene = 0.0, caster
    if hidden:
        crowded = Caster(render_mesh(_with_occluder(item, camera, floor, rng)))
        share = hidden_share(crowded, caster, camera)
        # A photo that hides most of the object is unrealistic for a collection.
        scene, share = (crowded, share) if share < TOO_MUCH else (caster, 0.0)
    return RoomPhoto(render(scene, camera, light, room, rng), camera, share)


def take_white_photo(caster: Caster, about: ObjectClass, rng: np.random.Generator) -> RenderedPhoto:
    """Renders a catalogue photo: the object alone on white, evenly lit."""
    camera = _wholly_inside(_draw_pose(about, rng, WHITE_SIZES, fill=(0.8, 1.0)), caster)
    light = _draw_light(rng, camera, key=(0.55, 0.7), fill=(0.5, 0.62))
    return render(caster, camera, light, None, rng)


def annotation(photo: RoomPhoto, name: str, category: str, model: str) -> Mapping[str, Any]:
    """The photo's entry of pix3d.json.

    Args:
        photo: the photo.
        name: file name without suffix.
        category: Pix3D's category.
        model: path of the mesh, relative to the folder of pix3d.json.
    """
    camera, mask = photo.camera, photo.mask
    rows, columns = np.nonzero(mask)
    return {
        "img": f"img/{category}/{name}.jpg",
        "category": category,
        "img_size": [camera.width, camera.height],
        "mask": f"mask/{category}/{name}.png",
        "img_source": "render",
        "model": model,
        "model_source": "procedural",
        "rot_mat": camera.rotation.tolist(),
        "trans_mat": camera.translation.tolist(),
        "focal_length": camera.focal_length_mm,
        "cam_position": camera.position.tolist(),
        "inplane_rotation": camera.inplane_rotation,
        "truncated": bool(
            rows.min() == 0
            or columns.min() == 0
            or rows.max() == camera.height - 1
            or columns.max() == camera.width - 1
        ),
        "occluded": photo.hidden > MUCH,
        "slightly_occluded": SLIGHTLY < photo.hidden <= MUCH,
        "bbox": [int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())],
    }


def write_room_photo(photo: RoomPhoto, entry: Mapping[str, Any], root: Path, rng: np.random.Generator) -> None:
    """Writes the photo, with slight sensor noise, and the mask to the paths of the entry."""
    noisy = photo.picture.image + rng.normal(0.0, 1.5, photo.picture.image.shape)
    _write_jpeg(root / entry["img"], np.clip(noisy + 0.5, 0, 255).astype(np.uint8), rng)
    _write(root / entry["mask"], ".png", np.where(photo.mask, 255, 0).astype(np.uint8))


def write_white_photo(picture: RenderedPhoto, stem: Path, rng: np.random.Generator) -> Path:
    """Writes a catalogue photo as JPEG, sometimes as PNG with an alpha channel.

    Returns:
        The path of the file.
    """
    if rng.random() < ALPHA_SHARE:
        alpha = (255.0 * picture.coverage + 0.5).astype(np.uint8)
        path = stem.with_suffix(".png")
        _write(path, ".png", np.dstack([picture.cut_out[..., ::-1], alpha]))
    else:
        path = stem.with_suffix(".jpg")
        _write_jpeg(path, picture.image, rng)
    return path


def _draw_pose(
    about: ObjectClass, rng: np.random.Generator, sizes: tuple[tuple[int, int], ...], fill: tuple[float, float]
) -> CameraPose:
    azimuth, elevation = np.radians(about.sample_viewpoints(1, rng)[0])
    width, height = sizes[int(rng.integers(len(sizes)))]
    focal_length_mm = float(rng.uniform(30.0, 55.0))
    focal_px = focal_length_mm / 32.0 * width
    distance = focal_px / (rng.uniform(*fill) * min(width, height))
    return CameraPose(
        azimuth=float(azimuth),
        elevation=float(elevation),
        distance=max(float(distance), 1.1),
        shift=(0.0, 0.0),
        roll=0.0,
        focal_length_mm=focal_length_mm,
        size=(width, height),
    )


def _draw_roll(rng: np.random.Generator) -> float:
    kind, side = rng.random(), rng.choice([-1.0, 1.0])
    if kind < TOPPLED:
        return float(side * np.radians(rng.uniform(15.0, 25.0)))
    return float(side * np.radians(rng.uniform(0.5, 4.0))) if kind < TOPPLED + TILTED else 0.0


def _wholly_inside(pose: CameraPose, caster: Caster) -> PinholeCamera:
    """The camera of a pose, moved away from the object until the whole object is in the picture."""
    while True:
        camera = camera_of(pose)
        pixels, _ = camera.project(caster.vertices)
        if pixels.min() >= MARGIN_PX and (pixels.max(axis=0) <= np.array(pose.size) - MARGIN_PX).all():
            return camera
        pose = replace(pose, distance=1.05 * pose.distance)


def _draw_light(
    rng: np.random.Generator, camera: PinholeCamera, key: tuple[float, float], fill: tuple[float, float]
) -> Light:
    """A random light above and to one side of the camera."""
    position = camera.position
    azimuth = np.arctan2(position[0], position[2]) + rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.2)
    elevation = rng.uniform(0.6, 1.1)
    towards = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    warmth = rng.uniform(-0.06, 0.06)
    return Light(
        towards=towards.astype(np.float32),
        width=float(rng.choice([0.0, 0.05, 0.12, 0.25])),
        key=float(rng.uniform(*key)),
        fill=float(rng.uniform(*fill)),
        tint=np.array([1.0 + warmth, 1.0, 1.0 - warmth], dtype=np.float32),
    )


def _with_occluder(item: DemoObject, camera: PinholeCamera, floor: float, rng: np.random.Generator) -> DemoObject:
    """The object with a crate or a pot on the floor between it and the camera."""
    viewer = shapenet_to_object(camera.position)
    towards = viewer * [1.0, 1.0, 0.0] / np.hypot(viewer[0], viewer[1])
    beside = np.array([-towards[1], towards[0], 0.0])
    points = np.concatenate([part.vertices for part in item.parts])
    tall, wide = rng.uniform(0.4, 0.75) * np.ptp(points[:, 2]), rng.uniform(0.16, 0.26)
    reach = (points @ towards).max() + 0.75 * wide
    place = (reach + rng.uniform(0.0, 0.08)) * towards + rng.uniform(-0.2, 0.2) * beside
    if rng.random() < 0.5:
        turn = rng.uniform(0.0, np.pi / 2)
        spin = np.array([[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0], [0.0, 0.0, 1.0]])
        thing: PartMesh = box((wide, wide, tall)).turned(spin).moved(z=tall / 2)
        finish = Finish("wood", pick(rng, WOODS))
    else:
        thing = lathe([(0.38 * wide, 0.0), (0.5 * wide, 0.9 * tall), (0.55 * wide, tall)])
        finish = Finish("leather", pick(rng, DYES))
    there: Floats = np.array([place[0], place[1], floor])
    part = thing.of(OCCLUDER).moved(*there)
    return item.with_part(part, make_material(finish, rng))


def hidden_share(scene: Caster, alone: Caster, camera: PinholeCamera) -> float:
    """The share of the object's silhouette in the picture that is hidden by an occluder.

    Args:
        scene: the object with the occluder.
        alone: the object.
        camera: the camera.
    """
    grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1)
    directions = camera.directions(grid.astype(np.float32) + np.float32(0.5)).reshape(-1, 3)
    whole = len(alone.cast(camera.position, directions).rays)
    visible = int((~scene.cast(camera.position, directions).occluder).sum())
    return 1.0 - visible / whole if whole else 0.0


def _write_jpeg(path: Path, image: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    _write(path, ".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(84, 96))])


def _write(path: Path, ending: str, image: npt.NDArray[np.uint8], options: list[int] | None = None) -> None:
    done, data = cv2.imencode(ending, np.ascontiguousarray(image), options or [])
    assert done
    path.write_bytes(data.tobytes())
