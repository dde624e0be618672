"""Benchmark of near-duplicate detection: recall on altered copies, false positives, and time on many photos.

python -m benchmarks.near_duplicates
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.measure import REALDATA, Table
from vondata.images.near_duplicates import BITS, SORTED, find_near_duplicates
from vondata.images.prepare import ImageSettings, prepare_image
from vondata.matching.bank import circular_offset_deg
from vondata.types import Item, Rejected

COPY_EVERY = 2  # of the photos
COPIES_AMONG = 0.1  # of the hashes in the timing

Change = Callable[[Image.Image], Image.Image]
CHANGES: dict[str, tuple[Change, int]] = {  # the change, and the JPEG quality of the copy
    "half the size, quality 85": (lambda photo: photo.resize((photo.width // 2, photo.height // 2)), 85),
    "a third larger, quality 85": (lambda photo: photo.resize((4 * photo.width // 3, 4 * photo.height // 3)), 85),
    "quality 50": (lambda photo: photo, 50),
    "3 to 5 % cropped on every side": (
        lambda photo: photo.crop(
            (3 * photo.width // 100, photo.height // 20, 97 * photo.width // 100, 19 * photo.height // 20)
        ),
        85,
    ),
    "7 % darker": (lambda photo: ImageEnhance.Brightness(photo).enhance(0.93), 85),
}


def main() -> None:
    """Prints three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realdata", type=Path, default=REALDATA, help="folder of the reference data")
    parser.add_argument("--many", type=int, default=1_000_000, help="perceptual hashes in the timing")
    parser.add_argument("--output", type=Path, help="JSON file for the first table")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    command = f"python -m benchmarks.near_duplicates {' '.join(sys.argv[1:])}".strip()
    copies, others, scale = (
        Table(title, command) for title in ("Copies found", "Other photos taken for copies", "Many photos")
    )
    with TemporaryDirectory() as folder:
        photos = {
            class_name: list(_prepared(sorted((arguments.realdata / "photos" / class_name).iterdir()), Path(folder)))
            for class_name in ("chair", "car")
        }
        _measure_copies([row for rows in photos.values() for row in rows][::COPY_EVERY], Path(folder), copies)
    viewpoints = json.loads((arguments.realdata / "photo_truth" / "viewpoints_chair.json").read_text("utf-8"))
    for class_name, rows in photos.items():
        _measure_others(class_name, rows, viewpoints, others)
    _measure_scale(arguments.many, scale)
    copies.finish(arguments.output)
    others.finish(None)
    scale.finish(None)


def _prepared(paths: list[Path], folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of those photos that are accepted."""
    for path in paths:
        try:
            made = prepare_image(Item(path.stem, "", str(path), (str(path),)), ImageSettings(), folder / "out.png")
        except Rejected:
            continue
        yield {**made, "id": path.stem, "sha256": path.stem, "status": "prepared", "reason": None, "path": path}


def _measure_copies(rows: list[dict[str, Any]], folder: Path, table: Table) -> None:
    for name, (change, quality) in CHANGES.items():
        found = made = 0
        for row in rows:
            path = folder / "copy.jpg"
            path.write_bytes(_changed(row["path"], change, quality))
            for copy in _prepared([path], folder):
                made += 1
                found += len(find_near_duplicates([row, copy]))
        table.add(copy=name, photos=len(rows), prepared=made, found=found / made)


def _changed(path: Path, change: Change, quality: int) -> bytes:
    with Image.open(path) as photo:
        rgba = photo.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    buffer = io.BytesIO()
    change(white).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _measure_others(class_name: str, rows: list[dict[str, Any]], viewpoints: list[Any], table: Table) -> None:
    """Every photo of the collection was rendered once: every pair found is a false positive."""
    where = {Path(each["file"]).stem: (each["azimuth_deg"], each["elevation_deg"]) for each in viewpoints}
    found = find_near_duplicates(rows)
    apart, same_object = [], 0
    for id, (_, detail) in found.items():
        kept = detail.removeprefix("looks like ").partition(",")[0]
        same_object += id.partition("_")[0] == kept.partition("_")[0]
        if id in where:
            (azimuth, elevation), (kept_azimuth, kept_elevation) = where[id], where[kept]
            apart.append(float(np.hypot(circular_offset_deg(azimuth, kept_azimuth), elevation - kept_elevation)))
    table.add(
        **{"class": class_name},
        photos=len(rows),
        pairs=len(rows) * (len(rows) - 1) // 2,
        rejected=len(found),
        **{
            "of the same object": same_object,
            "viewpoints apart, degrees": ", ".join(f"{each:.1f}" for each in apart),
        },
    )


def _measure_scale(count: int, table: Table) -> None:
    """Random hashes, half of them clustered around a few hundred, and copies of some, as different as real ones."""
    rng = random.Random(0)
    centres = [rng.getrandbits(BITS) for _ in range(300)]
    numbers = [
        rng.getrandbits(BITS)
        if index % 2
        else rng.choice(centres) ^ _noise(rng, rng.randrange(100, 180), rng.randrange(15, 40))
        for index in range(round((1 - COPIES_AMONG) * count))
    ]
    copied = [
        each ^ _noise(rng, rng.randrange(60), rng.randrange(17)) for each in rng.sample(numbers, count - len(numbers))
    ]
    same = {"status": "prepared", "reason": None, "viewpoint_origin": "none", "box_width_px": 1, "box_height_px": 1}
    rows = [
        {"id": f"{name}{index:08}", "sha256": "", "phash": f"{number:0{BITS // 4}x}-808080", **same}
        for name, group in (("a", numbers), ("copy", copied))
        for index, number in enumerate(group)
    ]
    started = time.process_time()
    found = find_near_duplicates(rows)
    seconds = time.process_time() - started
    recall = sum(id.startswith("copy") for id in found) / max(1, len(copied))
    table.add(photos=count, copies=len(copied), **{"copies found": recall, "processor time, s": seconds})


def _noise(rng: random.Random, high: int, low: int) -> int:
    """A hash with this many bits of the higher and of the lowest frequencies set."""
    places = rng.sample(range(BITS - SORTED), high) + [BITS - 1 - place for place in rng.sample(range(SORTED), low)]
    return sum(1 << place for place in places)


if __name__ == "__main__":
    main()
