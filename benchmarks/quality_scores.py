"""Scores of an arm of `benchmarks.quality`: images with intervals, shapes, view consistency; its contact sheet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vondata.dataset.manifest import Split
from vonmodel.baselines.models import BaselineName
from vonmodel.baselines.training import load_baseline
from vonmodel.checkpoint import chosen_class, load_model
from vonmodel.data.datasets import EmptyDatasetError
from vonmodel.evaluation.consistency import consistency_scores
from vonmodel.evaluation.features import FeatureNetwork, Scale, file_features, inception_features, random_features
from vonmodel.evaluation.image_features import Replica, measure, measure_real
from vonmodel.evaluation.image_metrics import (
    MIN_SAMPLES,
    MIN_SAMPLES_OF_MANIFOLD,
    Features,
    frechet_distance_interval,
    kernel_distance_interval,
    manifold_scores,
)
from vonmodel.evaluation.samples import BaselineGenerator, Generator, RealImages, VonGenerator
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.evaluation.shape_metrics import shape_scores
from vonmodel.run_folder import RunFolder
from vonmodel.training.log import shaded

SHEET_ITEMS = 8
SHEET_SEED = 7
BATCH = 32


@dataclass(frozen=True)
class Scoring:
    """How arms are scored.

    Attributes:
        features: feature networks of the image scores: inception, random or files.
        split: split of the photos and shapes that counts as real, held out from training by default.
        network_size: input size of a feature file.
        network_scale: range of its input.
        shapes: shapes of each side.
        points: on the surface of each shape.
    """

    features: tuple[str, ...]
    split: Split | Literal["all"]
    network_size: int
    network_scale: Scale = "imagenet"
    shapes: int = 64
    points: int = 2048

    def describe(self) -> dict[str, Any]:
        """The settings as recorded with results."""
        return asdict(self) | {"features": [Path(name).name for name in self.features]}


def score_run(
    run: RunFolder, data: Path, baseline: BaselineName | None, scoring: Scoring, class_name: str | None = None
) -> dict[str, Any]:
    """All scores of an arm against a dataset, for one class if the model has several; writes its `sheet.png`."""
    generator = _generator(run, data, baseline, class_name)
    split = None if scoring.split == "all" else scoring.split
    settings = ScoreSettings(split=split, shape_samples=scoring.shapes, points=scoring.points, batch_size=BATCH)
    scores: dict[str, Any] = {"images": {}, "shapes": {}, "consistency": None, "sheet": None}
    for name in scoring.features:
        measured = _image_scores(generator, name, settings, scoring)
        if measured is not None:
            scores["images"][Path(name).name] = measured
    try:
        for line in shape_scores(generator, settings):
            scores["shapes"][line["metric"]] = line
    except EmptyDatasetError as error:  # all shapes may be in another split than the photos
        scores["shapes"]["error"] = str(error)
    scores["consistency"] = next(consistency_scores(generator, settings), None)
    sheet = contact_sheet(generator, settings)
    path = run.path / "sheet.png"
    Image.fromarray(sheet).save(path)
    return scores | {"sheet": str(path)}


def _generator(run: RunFolder, data: Path, baseline: BaselineName | None, class_name: str | None = None) -> Generator:
    if baseline is None:
        config = chosen_class(run.config(), class_name)
        model, _ = load_model(run.path)
        model.choose_class(config.class_name)
        return VonGenerator(model, config, data)
    return BaselineGenerator(baseline, load_baseline(run, baseline)[0], run.config(), data)


def _network(name: str, scoring: Scoring) -> FeatureNetwork:
    match name:
        case "inception":
            return inception_features()
        case "random":
            return random_features()
        case _:
            return file_features(Path(name), input_size=scoring.network_size, scale=scoring.network_scale)


def _image_scores(
    generator: Generator, name: str, settings: ScoreSettings, scoring: Scoring
) -> dict[str, Any] | None:
    """Distances with intervals, recall and nearest photos; None for a generator without images."""
    config = generator.config
    real = RealImages(generator.data, config.class_name, size=config.model.image_size, split=settings.split)
    images = generator.images(len(real), settings.seed)
    if images is None:
        return None
    network = _network(name, scoring)
    drawn = measure([Replica(images, network)], batch_size=BATCH, keep=True).features
    cache = generator.data / config.class_name / "statistics"
    photos = measure_real(real, [network], cache, batch_size=BATCH, keep=True).features
    assert drawn is not None
    assert photos is not None
    scores: dict[str, Any] = {"generated": len(drawn), "real": len(photos), "network": network.name}
    if len(photos) >= MIN_SAMPLES:
        scores["fid"] = asdict(frechet_distance_interval(drawn, photos, seed=settings.seed))
        scores["kid"] = asdict(kernel_distance_interval(drawn, photos, seed=settings.seed))
    if len(photos) >= MIN_SAMPLES_OF_MANIFOLD:
        scores |= asdict(manifold_scores(drawn, photos))
    return scores | {"nearest_photo": nearest_ratio(drawn, photos)}


def nearest_ratio(drawn: Features, photos: Features) -> float:
    """Median distance of a generated image to its nearest photo, relative to that between photos; 0 for copies."""
    across = _distances(drawn, photos).min(axis=1)
    within = _distances(photos, photos)
    np.fill_diagonal(within, np.inf)
    return float(np.median(across) / max(float(np.median(within.min(axis=1))), 1e-12))


def _distances(first: Features, second: Features) -> npt.NDArray[np.float64]:
    a, b = first.astype(np.float64), second.astype(np.float64)
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2.0 * a @ b.T
    return np.asarray(np.sqrt(squares.clip(min=0.0)))


@torch.inference_mode()
def contact_sheet(generator: Generator, settings: ScoreSettings) -> npt.NDArray[np.uint8]:
    """(height, width, 3): a row of photos and one of generated images or shapes at their native size."""
    config = generator.config
    size = config.model.image_size
    real = RealImages(generator.data, config.class_name, size=size, split=settings.split, maximum=SHEET_ITEMS)
    rows = [real.part(0, len(real))]
    images = generator.images(SHEET_ITEMS, SHEET_SEED)
    shapes = generator.shapes(SHEET_ITEMS, SHEET_SEED)
    if images is not None:
        rows.append(images.part(0, SHEET_ITEMS))
    elif shapes is not None:
        pictures = shaded(shapes.part(0, SHEET_ITEMS)).expand(-1, 3, -1, -1)
        rows.append((torch.nn.functional.interpolate(pictures, size=(size, size), mode="area") * 255).byte())
    sheet = np.full((len(rows) * (size + 2), SHEET_ITEMS * (size + 2), 3), 255, np.uint8)
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles.permute(0, 2, 3, 1).cpu().numpy()):
            top, left = row * (size + 2), column * (size + 2)
            sheet[top : top + size, left : left + size] = tile
    return sheet
