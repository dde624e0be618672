import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from vondata.classes import load_class
from vondata.demo.collection import OCCLUDER, make_object, render_mesh
from vondata.demo.photos import annotation, hidden_share, take_room_photo, take_white_photo, write_white_photo
from vondata.demo.primitives import box
from vondata.frames import shapenet_to_object, viewpoint_of_direction
from vondata.images.pix3d_camera import CameraPose, camera_of, viewpoint_of_pix3d
from vondata.render.caster import Caster
from vondata.render.mesh import Material


@pytest.fixture(scope="module")
def entries(demo):
    """The folder in Pix3D's layout and what its pix3d.json lists."""
    folder = demo / "pix3d"
    return folder, json.loads((folder / "pix3d.json").read_text())


def read_vertices(path):
    lines = [line.split() for line in path.read_text().splitlines()]
    vertices = np.array([line[1:] for line in lines if line[:1] == ["v"]], dtype=float)
    used = {int(corner.split("/")[0]) - 1 for line in lines if line[:1] == ["f"] for corner in line[1:]}
    return vertices[sorted(used)]


def projected(folder, entry):
    """Pixels and depths of the model's vertices by the annotation alone, written out."""
    rotation, translation = np.array(entry["rot_mat"]), np.array(entry["trans_mat"])
    points = read_vertices(folder / entry["model"]) @ rotation.T + translation
    width, height = entry["img_size"]
    focal_px = entry["focal_length"] / 32 * width
    columns = width / 2 - focal_px * points[:, 0] / points[:, 2]
    rows = height / 2 - focal_px * points[:, 1] / points[:, 2]
    return np.stack([columns, rows], axis=1), points[:, 2]


def test_vertices_project_into_mask_and_box(entries):
    folder, found = entries
    assert len(found) == 14
    for entry in found:
        pixels, depths = projected(folder, entry)
        mask = cv2.imread(str(folder / entry["mask"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (entry["img_size"][1], entry["img_size"][0])
        assert set(np.unique(mask)) == {0, 255}
        rows, columns = np.nonzero(mask)
        assert entry["bbox"] == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert (depths > 0).all()
        if entry["occluded"] or entry["slightly_occluded"] or entry["truncated"]:
            continue
        left, top, right, bottom = entry["bbox"]
        np.testing.assert_allclose(pixels.min(axis=0), [left, top], atol=1.1)
        np.testing.assert_allclose(pixels.max(axis=0), [right + 1, bottom + 1], atol=1.1)
        inside = cv2.dilate(mask, np.ones((3, 3), np.uint8))[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]
        assert (inside == 255).mean() > 0.99


def test_the_three_accounts_of_the_camera_agree(entries):
    for entry in entries[1]:
        rotation, translation = np.array(entry["rot_mat"]), np.array(entry["trans_mat"])
        np.testing.assert_allclose(entry["cam_position"], -rotation.T @ translation, atol=1e-12)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        seen = viewpoint_of_pix3d(rotation, translation, np.array(entry["cam_position"]))
        assert seen.roll == pytest.approx(entry["inplane_rotation"], abs=1e-9)


def test_photos_and_masks_show_the_object(entries):
    folder, found = entries
    for entry in found:
        photo = cv2.imread(str(folder / entry["img"]))
        mask = cv2.imread(str(folder / entry["mask"]), cv2.IMREAD_GRAYSCALE)
        assert photo.shape[:2] == mask.shape
        assert 0.01 < (mask > 0).mean() < 0.8


def test_viewpoints_follow_the_prior():
    item = make_object("chair", 1, 0)
    caster, about = Caster(render_mesh(item)), load_class("chair")
    positions = [
        take_room_photo(item, caster, about, np.random.default_rng(seed)).camera.position for seed in range(12)
    ]
    azimuth, elevation = viewpoint_of_direction(shapenet_to_object(np.array(positions)))
    assert (np.degrees(azimuth) >= -130).all()
    assert (np.degrees(azimuth) <= 120).all()
    assert (np.degrees(elevation) >= 0).all()
    assert (np.degrees(elevation) <= 38).all()
    assert np.ptp(np.degrees(azimuth)) > 90


def test_truncated_and_hidden_photos_say_so():
    item = make_object("chair", 1, 0)
    caster, about = Caster(render_mesh(item)), load_class("chair")
    photos = [take_room_photo(item, caster, about, np.random.default_rng(seed)) for seed in range(40)]
    said = [annotation(photo, "x", "chair", "m") for photo in photos]
    assert 1 <= sum(entry["truncated"] for entry in said) <= 8
    assert 1 <= sum(entry["occluded"] or entry["slightly_occluded"] for entry in said) <= 10
    assert not any(entry["occluded"] and entry["slightly_occluded"] for entry in said)
    assert 1 <= sum(abs(entry["inplane_rotation"]) > 1e-6 for entry in said) <= 16
    for photo, entry in zip(photos, said, strict=True):
        pixels, _ = photo.camera.project(caster.vertices)
        outside = (pixels.min() < 0) or (pixels.max(axis=0) > [photo.camera.width, photo.camera.height]).any()
        if photo.hidden == 0.0:
            assert entry["truncated"] == outside


def test_hidden_shares_are_measured(make_scene):
    alone = make_scene(box((0.4, 0.4, 0.4)).of("matt"), normalise=False)
    camera = camera_of(CameraPose(0.0, 0.0, 3.0, (0.0, 0.0), 0.0, 40.0, (160, 160)))
    half = alone.with_part(box((0.4, 0.01, 0.8), (0.2, 0.21, 0.0)).of(OCCLUDER), Material((1.0, 0.0, 0.0)))
    assert hidden_share(Caster(render_mesh(half)), Caster(render_mesh(alone)), camera) == pytest.approx(0.5, abs=0.02)
    assert hidden_share(Caster(render_mesh(alone)), Caster(render_mesh(alone)), camera) == 0.0


def test_white_photos_are_whole_and_some_have_alpha(tmp_path):
    item = make_object("car", 1, 0)
    caster, about = Caster(render_mesh(item)), load_class("car")
    endings = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        picture = take_white_photo(caster, about, rng)
        rim = np.concatenate([picture.image[[0, -1]].reshape(-1, 3), picture.image[:, [0, -1]].reshape(-1, 3)])
        assert (rim == 255).all()
        path = write_white_photo(picture, tmp_path / f"{seed}", rng)
        endings.add(path.suffix)
        photo = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if path.suffix == ".png":
            np.testing.assert_array_equal(photo[..., 3], (255 * picture.coverage + 0.5).astype(np.uint8))
            alpha = photo[..., 3:] / 255
            flat = photo[..., :3] * alpha + 255 * (1 - alpha)
        else:
            flat = photo
        assert np.abs(flat - picture.image[..., ::-1].astype(float)).mean() < 4
    assert endings == {".jpg", ".png"}


def test_the_flags_follow_the_hidden_share():
    item = make_object("chair", 0, 0)
    photo = take_room_photo(item, Caster(render_mesh(item)), load_class("chair"), np.random.default_rng(1))
    flags = [
        tuple(annotation(changed, "x", "chair", "m")[name] for name in ("slightly_occluded", "occluded"))
        for changed in (replace(photo, hidden=share) for share in (0.0, 0.1, 0.4))
    ]
    assert flags == [(False, False), (True, False), (False, True)]
