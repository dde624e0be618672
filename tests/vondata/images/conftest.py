"""Synthetic photos with ground truth: an object of known coverage on any background."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from vondata.types import Item

OVERSAMPLING = 8


def _polygon(canvas, *corners):
    """Fills a polygon given in fractions of the canvas."""
    points = np.array(corners) * canvas.shape[1::-1]
    cv2.fillPoly(canvas, [points.round().astype(np.int32)], 255)


def _chair(height: int, width: int) -> np.ndarray:
    """(h, w) coverage 0..1 of a chair with a slatted back, seen straight on: seat, four thin legs, three holes."""
    canvas = np.zeros((height * OVERSAMPLING, width * OVERSAMPLING), dtype=np.uint8)
    _polygon(canvas, (0.33, 0.14), (0.67, 0.14), (0.67, 0.52), (0.33, 0.52))
    for left in (0.38, 0.475, 0.57):
        points = np.array([(left, 0.2), (left + 0.055, 0.2), (left + 0.055, 0.46), (left, 0.46)])
        cv2.fillPoly(canvas, [(points * canvas.shape[1::-1]).round().astype(np.int32)], 0)
    _polygon(canvas, (0.3, 0.5), (0.7, 0.5), (0.75, 0.62), (0.25, 0.62))
    for left in (0.26, 0.36, 0.62, 0.72):
        _polygon(canvas, (left, 0.6), (left + 0.022, 0.6), (left + 0.022, 0.86), (left, 0.86))
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0


@pytest.fixture(scope="session")
def chair() -> np.ndarray:
    """(240, 320) coverage of a chair, 0..1."""
    return _chair(240, 320)


@pytest.fixture(scope="session")
def chair_of() -> Callable[[int, int], np.ndarray]:
    return _chair


@pytest.fixture(scope="session")
def paint() -> Callable[..., np.ndarray]:
    """Puts an object of a colour, with a little shading, on a background; (h, w, 3) uint8."""

    def painted(coverage, colour=(150, 60, 40), background=(255, 255, 255), noise=0.0, seed=0):
        height, width = coverage.shape
        rng = np.random.default_rng(seed)
        shading = 1.0 - 0.15 * np.linspace(0, 1, height)[:, None, None] + rng.normal(0, 0.01, (height, width, 1))
        behind = np.broadcast_to(np.asarray(background, dtype=float), (height, width, 3))
        behind = behind + rng.normal(0.0, noise, (height, width, 3)) if noise else behind
        photo = coverage[..., None] * shading * np.asarray(colour) + (1 - coverage[..., None]) * behind
        return np.clip(photo + 0.5, 0, 255).astype(np.uint8)

    return painted


@pytest.fixture(scope="session")
def iou() -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda mask, truth: float((mask & truth).sum() / (mask | truth).sum())


@pytest.fixture
def photo_item(tmp_path) -> Callable[..., Item]:
    """Writes a photo, given as array or PIL image, and returns its item."""

    def written(photo, name="photo.png", **options) -> Item:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = photo if isinstance(photo, Image.Image) else Image.fromarray(photo)
        image.save(path, **options)
        return Item("photo", "chair", str(path), (str(path),))

    return written
