"""View consistency: how much the colour of a surface point differs between two viewpoints some degrees apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from vonmodel.evaluation.image_metrics import Progress
from vonmodel.evaluation.samples import Generator, VonGenerator
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.inference.sampling import generate_volumes, sample_codes, sample_viewpoints
from vonmodel.model import VonModel, view_opacity
from vonmodel.projection import SurfaceSketch, frame_positions

ANGLES_DEG = (15.0, 30.0)
MAX_OBJECTS = 64
SOLID = 0.9
"""A pixel counts if at least this fraction of it is covered: less would mix in the background."""
TOLERANCE_VOXELS = 2.0
"""A point is visible in the other view if the surface seen there is at most this far from it."""


class FramedView(NamedTuple):
    """An image with the surface it shows and the positions of its pixels in the view before framing.

    Attributes:
        image: (n, 3, R, R) colours in [-1, 1].
        sketch: the surface, with the object-space position of every pixel.
        rows: (n, R) fractional pixel index of every row of the frame in the view before framing.
        columns: (n, R) likewise.
        rotations: (n, 3, 3) camera frame to object frame.
        size: pixels along an edge of the view before framing.
    """

    image: Float[Tensor, "n 3 R R"]
    sketch: SurfaceSketch
    rows: Float[Tensor, "n R"]
    columns: Float[Tensor, "n R"]
    rotations: Float[Tensor, "n 3 3"]
    size: int


@dataclass(frozen=True)
class ViewDifference:
    """Colour differences of the same objects between two viewpoints.

    Attributes:
        difference: (n,) mean absolute difference of colours, each in [0, 1], over the points of the first view that
            are visible in the second; NaN where there is none.
        seen: (n,) fraction of the first view's points that are visible in the second.
    """

    difference: Float[Tensor, " n"]
    seen: Float[Tensor, " n"]


@torch.inference_mode()
def paint_view(
    model: VonModel,
    volumes: Float[Tensor, "n 1 r r r"],
    codes: Float[Tensor, "n code"],
    angles: Float[Tensor, "n 2"],
) -> FramedView:
    """The images of volumes from viewpoints (azimuth and elevation in radians), with the maps that a warp needs."""
    config, camera = model.config, model.camera
    rotations = viewpoint_rotation(angles[:, 0], angles[:, 1])
    size = config.image_size * config.rays_per_pixel
    seen = view_opacity(config, model.opacity(volumes), rotations, camera=camera, image_size=size)
    sketch = model.frame(seen, rotations, camera=camera, depth_range="item")
    positions = frame_positions(seen.silhouette, exact=config.exact_framing)
    rows, columns = (each.reshape(len(each), config.image_size, -1).mean(-1) for each in positions)
    return FramedView(model.paint(sketch, codes), sketch, rows, columns, rotations, size)


def view_difference(first: FramedView, second: FramedView, camera: Camera, tolerance: float) -> ViewDifference:
    """Compares the colours of surface points that both views show.

    Every solid pixel of the first view is projected into the second one by its object-space position. It counts if
    the second view is solid there and shows the same surface: within `tolerance`, so that hidden points do not count.

    Args:
        first: a view of the objects.
        second: another view of the same objects.
        camera: the camera of both.
        tolerance: distance in object units.
    """
    points = first.sketch.position.flatten(2)
    rows, columns = _pixels_of(points, second, camera)
    grid = torch.stack([columns, rows], dim=-1).unsqueeze(1)
    covered = _sample(second.sketch.silhouette, grid, "bilinear")
    surface = _sample(second.sketch.position, grid, "nearest")
    distance = torch.linalg.vector_norm(surface - points, dim=1)
    solid = first.sketch.silhouette.flatten(1) >= SOLID
    shared: Bool[Tensor, "n p"] = solid & (covered.squeeze(1) >= SOLID) & (distance <= tolerance)
    difference = (first.image.flatten(2) - _sample(second.image, grid, "bilinear")).abs().mean(1) / 2.0
    counted = shared.sum(1)
    total = torch.where(shared, difference, 0.0).sum(1)
    mean = torch.where(counted > 0, total / counted.clamp_min(1), torch.nan)
    return ViewDifference(mean, counted / solid.sum(1).clamp_min(1))


def _pixels_of(
    points: Float[Tensor, "n 3 p"], view: FramedView, camera: Camera
) -> tuple[Float[Tensor, "n p"], Float[Tensor, "n p"]]:
    """Row and column of object-space points in a view's frame; -1 and 1 are the centres of the border pixels."""
    forward, left, up = (view.rotations.to(points).mT @ points).unbind(1)
    depth = forward + camera.distance
    found = []
    for slope, positions in ((up / depth, view.rows), (left / depth, view.columns)):
        index = (1.0 - slope / camera.half_width) / 2.0 * (view.size - 1)
        step = (positions[:, -1:] - positions[:, :1]) / (positions.shape[1] - 1)
        found.append(2.0 * (index - positions[:, :1]) / step / (positions.shape[1] - 1) - 1.0)
    return found[0], found[1]


def _sample(maps: Float[Tensor, "n c R R"], grid: Float[Tensor, "n 1 p 2"], mode: str) -> Float[Tensor, "n c p"]:
    """Values of maps at positions of `_pixels_of`; 0 outside."""
    return functional.grid_sample(maps, grid, mode=mode, align_corners=True).squeeze(2)


def consistency_scores(
    generator: Generator, settings: ScoreSettings, progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Measures how consistent the colours of generated objects are between viewpoints.

    Args:
        generator: the generator to score; baselines have no 3D object, and get no score.
        settings: number of objects and seed.
        progress: called after every batch.

    Yields:
        one entry, with the mean and its standard error at each angle.
    """
    if not isinstance(generator, VonGenerator):
        return
    count = min(settings.samples or MAX_OBJECTS, MAX_OBJECTS)
    model, config = generator.model, generator.config.model
    device = next(model.parameters()).device
    shapes = sample_codes(count, config.shape_code_size, seed=settings.seed, purpose="shape")
    textures = sample_codes(count, config.texture_code_size, seed=settings.seed, purpose="texture")
    viewpoints = torch.from_numpy(sample_viewpoints(count, generator.sampler(), seed=settings.seed)).float()
    tolerance = TOLERANCE_VOXELS * 2.0 / (config.resolution - 1)
    found: dict[float, list[ViewDifference]] = {angle: [] for angle in ANGLES_DEG}
    for start in range(0, count, settings.batch_size):
        some = slice(start, start + settings.batch_size)
        volumes = generate_volumes(model, shapes[some])
        codes, angles = textures[some].to(device), viewpoints[some].to(device)
        first = paint_view(model, volumes, codes, angles)
        for angle, differences in found.items():
            turned = angles + torch.tensor([math.radians(angle), 0.0], device=device)
            second = paint_view(model, volumes, codes, turned)
            differences.append(view_difference(first, second, model.camera, tolerance))
        if progress is not None:
            progress("view consistency", min(start + settings.batch_size, count), count)
    yield {"metric": "consistency", "generated": count, "seed": settings.seed, "image_size": config.image_size} | {
        key: value for angle, parts in found.items() for key, value in _summary(angle, parts).items()
    }


def _summary(angle: float, parts: list[ViewDifference]) -> dict[str, float | None]:
    each = torch.cat([part.difference for part in parts]).double().cpu().numpy()
    seen = torch.cat([part.seen for part in parts]).double().mean().item()
    known = each[np.isfinite(each)]
    mean = float(known.mean()) if len(known) else None
    error = float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else None
    name = f"{angle:.0f}"
    return {f"difference_{name}": mean, f"error_{name}": error, f"seen_{name}": seen}
