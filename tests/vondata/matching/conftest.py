"""Chairs made of boxes, whose distance field is known in closed form, and photos of them lit by a lamp."""

from itertools import pairwise

import cv2
import numpy as np
import pandas as pd
import pytest

from vondata.classes import load_class
from vondata.dataset.manifest import manifest_path, output_path
from vondata.dataset.shape_file import PreparedShape, save_shape
from vondata.matching import BankSettings, build_bank, choose_shapes
from vondata.matching.sketching import sketch_volume

RESOLUTION = 64


def box_distance(low, high, resolution=RESOLUTION):
    """(N, N, N) unsigned distance to the surface of a box, in cube edges."""
    axis = np.linspace(-1.0, 1.0, resolution)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    middle, half = (np.array(low) + high) / 2.0, (np.array(high) - low) / 2.0
    outside = np.abs(points - middle) - half
    signed = np.linalg.norm(np.maximum(outside, 0.0), axis=-1) + np.minimum(outside.max(axis=-1), 0.0)
    return (np.abs(signed) / 2.0).astype(np.float32)


def chair_boxes(width=0.8, depth=0.8, back=0.7, arms=False):
    """Corners of the boxes of a chair that faces +y and is as high as its back needs."""
    w, d, leg = width / 2, depth / 2, 0.1
    boxes = [((-w, -d, -0.1), (w, d, 0.0)), ((-w, -d, 0.0), (w, -d + 0.1, back))]
    for x in (-w, w - leg):
        for y in (-d, d - leg):
            boxes.append(((x, y, -0.65), (x + leg, y + leg, -0.1)))
        if arms:
            boxes.append(((x, -d, 0.2), (x + leg, d, 0.3)))
    return boxes


def union_distance(boxes, resolution=RESOLUTION):
    return np.min([box_distance(low, high, resolution) for low, high in boxes], axis=0)


DESIGNS = {
    "low": chair_boxes(back=0.5),
    "narrow": chair_boxes(width=0.6, back=0.75),
    "plain": chair_boxes(),
    "wide": chair_boxes(width=0.95, depth=0.7, back=0.55, arms=True),
}


def photograph(distance_field, azimuth_deg, elevation_deg, camera_distance=3.5, size=128):
    """(size, size, 4) BGRA: the shape on white, with a lamp on the right above the camera."""
    volume = sketch_volume(distance_field)
    sketch = volume.draw(np.radians([azimuth_deg]), np.radians([elevation_deg]), camera_distance, size)[0]
    light = np.clip(0.35 + 0.5 * np.tensordot([0.45, 0.75, 0.4], sketch[1:], 1), 0.0, 1.0)
    inside = sketch[0] > 0.0
    photo = np.full((size, size, 4), 255, dtype=np.uint8)
    photo[..., :3] = np.where(inside[..., None], 255.0 * light[..., None] * [0.5, 0.7, 0.9], 255.0)
    photo[..., 3] = 255 * inside
    return photo


def write_photo(path, photo):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), photo)
    return path


@pytest.fixture(scope="session")
def chairs(tmp_path_factory):
    """A prepared dataset with the shapes of DESIGNS, and a row that was rejected."""
    data = tmp_path_factory.mktemp("chairs")
    for id, boxes in DESIGNS.items():
        distance = union_distance(boxes)
        surface = distance * (RESOLUTION - 1) < 0.87
        shape = PreparedShape(surface, surface, distance, 1.0, (0.0, 0.0, 0.0), np.eye(3))
        save_shape(output_path(data, "chair", "shapes", id), shape)
    rows = [{"id": id, "class": "chair", "status": "prepared", "split": "train"} for id in DESIGNS]
    rows.append({"id": "broken", "class": "chair", "status": "rejected", "split": "train"})
    pd.DataFrame(rows).to_parquet(manifest_path(data, "chair", "shapes"))
    return data


@pytest.fixture(scope="session")
def bank(chairs):
    return build_bank(choose_shapes(chairs, "chair"), load_class("chair"), BankSettings(elevation_step_deg=9.0))


def evenly_spaced(values):
    return len({round(b - a, 9) for a, b in pairwise(values)}) == 1
