"""A synthetic prepared dataset for benchmarks: boxes and photos, in the format and size of real preparation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import binary_erosion, distance_transform_edt

from vondata.dataset.manifest import manifest_path, output_path
from vondata.dataset.shape_file import PreparedShape, save_shape


def write_prepared(data: Path, *, shapes: int, photos: int, resolution: int, image_size: int) -> None:
    """Writes chairs of random boxes and photos of rectangles filled with noise."""
    rng = np.random.default_rng(0)
    same = {"class": "chair", "status": "prepared", "split": "train"}
    ids = [f"shape{index}" for index in range(shapes)]
    for id in ids:
        solid = np.zeros((resolution,) * 3, dtype=bool)
        for _ in range(8):
            low = rng.integers(0, resolution // 2, 3)
            high = low + rng.integers(2, resolution // 2, 3)
            solid[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
        surface = solid & ~binary_erosion(solid)
        distance = (distance_transform_edt(~surface) / (resolution - 1)).astype(np.float32)
        shape = PreparedShape(solid, surface, distance, 1.0, (0.0, 0.0, 0.0), np.eye(3))
        save_shape(output_path(data, "chair", "shapes", id), shape)
    pd.DataFrame({"id": ids, **same}).to_parquet(manifest_path(data, "chair", "shapes"))
    ids = [f"photo{index}" for index in range(photos)]
    for id in ids:
        rgba = np.full((image_size, image_size, 4), 255, dtype=np.uint8)
        top, left = rng.integers(2, image_size // 3, 2)
        inside = slice(top, image_size - top), slice(left, image_size - left)
        rgba[..., 3] = 0
        rgba[(*inside, slice(3))] = rng.integers(0, 255, (*rgba[inside].shape[:2], 3))
        rgba[(*inside, 3)] = 255
        path = output_path(data, "chair", "images", id)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgba).save(path)
    azimuths = np.linspace(-90, 90, photos)
    rows = pd.DataFrame({"id": ids, **same, "azimuth_deg": azimuths, "elevation_deg": 0 * azimuths + 20})
    rows.to_parquet(manifest_path(data, "chair", "images"))
