"""Benchmark of viewpoint matching against ground truth: with the photo's own shape in the bank, and without it.

Prepare first, then measure:

    von prepare shapenet --root ../shared/realdata --data DATA
    von prepare images --photos ../shared/realdata/photos --pix3d ../shared/realdata/pix3d --data DATA
    python -m benchmarks.viewpoints --data DATA
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import REALDATA, Table
from vondata.classes import load_class
from vondata.dataset.manifest import dataset_classes, prepared, read_manifest
from vondata.dataset.shards import OutputFiles
from vondata.frames import shapenet_to_object, viewpoint_of_direction
from vondata.io.files import ReadableFile
from vondata.matching import MatchSettings, ViewBank, build_bank, choose_shapes, match_viewpoints
from vondata.matching.bank import circular_offset_deg, log_prior
from vondata.matching.run import WINDOW_DEG, ViewpointMatch, estimate_viewpoint, score_photos

THROUGHPUT_PHOTOS = 1000


@dataclass(frozen=True)
class Truth:
    """The viewpoint of a photo, and the folder of the shape it shows."""

    azimuth_deg: float
    elevation_deg: float
    shape: str


def main() -> None:
    """Prints accuracy and speed as tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the prepared dataset")
    parser.add_argument("--realdata", type=Path, default=REALDATA, help="the collection it was prepared from")
    parser.add_argument("--shapes", type=int, default=96, help="largest number of shapes per class")
    parser.add_argument("--workers", type=int, default=2, help="threads that render sketches")
    parser.add_argument("--output", type=Path, help="JSON file for the accuracy table")
    arguments = parser.parse_args()
    command = f"python -m benchmarks.viewpoints {' '.join(sys.argv[1:])}"
    accuracy = Table("Viewpoints matched against sketches", command, notes=[_LEGEND])
    speed = Table(f"Time for {THROUGHPUT_PHOTOS} photos", command)
    truths = _truths(arguments.realdata)
    for class_name in dataset_classes(arguments.data, "images"):
        start = time.perf_counter()
        bank = build_bank(
            choose_shapes(arguments.data, class_name, arguments.shapes),
            load_class(class_name),
            workers=arguments.workers,
        )
        drawing_s = time.perf_counter() - start
        files: list[ReadableFile] = []
        for collection, photos in _photos_with_truth(arguments.data, class_name, truths):
            _measure_accuracy(accuracy, f"{collection}/{class_name}", photos, bank)
            files += photos
        speed.add(**{"class": class_name, "shapes": len(bank.shape_ids), "sketches": len(bank.cues)})
        speed.rows[-1] |= {"draw the sketches, s": drawing_s, "match, s": _matching_s(files, bank)}
    accuracy.finish(arguments.output)
    print()
    speed.finish(None)


_LEGEND = (
    "Azimuth and elevation: median errors in degrees; azimuth modulo mirror symmetry, the smaller error of azimuth "
    f"and -azimuth; strict without. `right`: share of azimuths within {WINDOW_DEG} degrees (strict), which is what "
    "the confidence states. `alternative right`: share of wrong photos whose alternative is right. Unseen: sketches "
    "of the shape in the photo are left out."
)


def _truths(realdata: Path) -> dict[tuple[str, str, str], Truth]:
    """The truths by collection, class and file name."""
    found = {}
    for entry in json.loads((realdata / "photo_truth" / "viewpoints_chair.json").read_text("utf-8")):
        path = Path(entry["file"])
        key = ("photos", path.parent.name, path.name)
        found[key] = Truth(entry["azimuth_deg"], entry["elevation_deg"], Path(entry["model"]).parts[2])
    for entry in json.loads((realdata / "pix3d" / "pix3d.json").read_text("utf-8")):
        azimuth, elevation = viewpoint_of_direction(_unit(shapenet_to_object(np.array(entry["cam_position"]))))
        key = ("img", entry["category"], Path(entry["img"]).name)
        found[key] = Truth(float(np.degrees(azimuth)), float(np.degrees(elevation)), Path(entry["model"]).parts[-3])
    return found


def _unit(vector: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.asarray(vector / np.linalg.norm(vector))


def _photos_with_truth(
    data: Path, class_name: str, truths: dict[tuple[str, str, str], Truth]
) -> Iterator[tuple[str, dict[ReadableFile, Truth]]]:
    rows = prepared(read_manifest(data, class_name, "images"))
    files = OutputFiles(data, class_name, "images")
    for collection in ("photos", "img"):
        photos: dict[ReadableFile, Truth] = {}
        for id, source in zip(rows["id"], rows["source"], strict=True):
            truth = (
                truths.get((collection, class_name, Path(source).name)) if collection in Path(source).parts else None
            )
            if truth is not None:
                photos[files[id]] = truth
        if photos:
            yield {"photos": "photos", "img": "pix3d"}[collection], photos


def _measure_accuracy(table: Table, name: str, photos: dict[ReadableFile, Truth], bank: ViewBank) -> None:
    settings = MatchSettings()
    prior = log_prior(bank.grid, bank.object_class, settings.prior_weight)
    shapes = np.array(bank.shape_ids)
    all_seen: list[ViewpointMatch] = []
    unseen: list[ViewpointMatch] = []
    for photo, truth in photos.items():
        scores = score_photos([photo], bank, settings.weights)[0]
        all_seen.append(estimate_viewpoint(scores, bank.shape_ids, bank.grid, prior, settings.temperature))
        scores[shapes == truth.shape] = -np.inf
        unseen.append(estimate_viewpoint(scores, bank.shape_ids, bank.grid, prior, settings.temperature))
    _add_rows(table, name, "of the same folder", list(photos.values()), all_seen)
    _add_rows(table, name, "unseen", list(photos.values()), unseen)


def _add_rows(table: Table, name: str, shape: str, truths: list[Truth], readings: list[ViewpointMatch]) -> None:
    confidence = np.array([each.confidence for each in readings])
    azimuth = np.array([each.azimuth_deg for each in readings])
    alternative = np.array([each.alternative_azimuth_deg for each in readings])
    true_azimuth = np.array([each.azimuth_deg for each in truths])
    strict = np.abs(circular_offset_deg(azimuth, true_azimuth))
    mirrored = np.minimum(strict, np.abs(circular_offset_deg(azimuth, -true_azimuth)))
    elevation = np.abs(np.array([r.elevation_deg - t.elevation_deg for r, t in zip(readings, truths, strict=True)]))
    rescued = np.abs(circular_offset_deg(alternative, true_azimuth)) <= WINDOW_DEG
    wrong = strict > WINDOW_DEG
    twin = np.abs(circular_offset_deg(alternative, 180.0 - azimuth)) <= WINDOW_DEG
    halves: dict[str, Any] = {"all": confidence >= 0.0, "more confident half": confidence >= np.median(confidence)}
    for part, chosen in halves.items():
        table.add(
            photos=name,
            **{"shape in the photo": shape, "part": part, "n": int(chosen.sum())},
            azimuth=float(np.median(mirrored[chosen])),
            **{"azimuth strict": float(np.median(strict[chosen]))},
            elevation=float(np.median(elevation[chosen])),
            right=float(np.mean(~wrong[chosen])),
            confidence=float(confidence[chosen].mean()),
            **{"alternative right": float(rescued[chosen & wrong].mean()) if (chosen & wrong).any() else None},
            **{"alternative is 180 - azimuth": float(twin[chosen].mean())},
        )


def _matching_s(files: list[ReadableFile], bank: ViewBank) -> float:
    repeated = (files * (THROUGHPUT_PHOTOS // len(files) + 1))[:THROUGHPUT_PHOTOS]
    start = time.perf_counter()
    match_viewpoints(repeated, bank)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
