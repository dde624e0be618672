"""Benchmark of framing against a plain implementation that frames one image at a time.

`python -m benchmarks.framing [--device cuda] [--rounds N] [--threads T] [--output results.json]`; `--smoke` runs it
small and once. The plain implementation runs on the host: on a GPU its time includes the copies.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu import waiting_for
from benchmarks.measure import Table, time_paired
from vonmodel.projection import Sketch, frame_sketch
from vonmodel.projection.framing import largest_component, largest_component_by_hooking


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size, rounds = (32, 1) if arguments.smoke else (128, arguments.rounds)
    device = torch.device(arguments.device)
    table = Table("Framing", "python -m benchmarks.framing", keep_in=arguments.output)
    table.notes.append(f"{arguments.threads} threads, on {device}.")
    for items in (4, 16):
        sketch = Sketch(*(part.to(device) for part in _sketches(items, size)))
        contenders: Mapping[str, Callable[[], object]] = {
            "plain, image by image": partial(_plain, sketch),
            "frame_sketch": partial(frame_sketch, sketch, depth_range="item"),
        }
        _add(table, f"{items} sketches of {size} x {size}", contenders, rounds, device)
        masks = sketch.silhouette[:, 0] >= 0.8
        contenders = {
            "OpenCV (used on the CPU)": partial(_component_on_host, masks),
            "hooking (used on the GPU)": partial(largest_component_by_hooking, masks),
        }
        _add(table, f"{items} components of {size} x {size}", contenders, rounds, device)
    table.finish(arguments.output)


def _add(
    table: Table, job: str, contenders: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> None:
    timings = time_paired(contenders, rounds=rounds, settle=waiting_for(device))
    for timing in timings:
        ratio = timings[0].median / timing.median
        table.add(job=job, method=timing.name, ms=1000 * timing.median, spread=1000 * timing.spread, ratio=ratio)


def _component_on_host(masks: Tensor) -> Tensor:
    component: Tensor = largest_component(masks.cpu())
    return component.to(masks.device)


def _sketches(items: int, size: int) -> Sketch:
    """Discs of random sizes and positions, with specks."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.arange(size, dtype=torch.float32)
    centre = size * (0.3 + 0.4 * torch.rand(items, 2, 1, 1, generator=generator))
    radius = size * (0.1 + 0.2 * torch.rand(items, 1, 1, generator=generator))
    inside = (axis[:, None] - centre[:, 0]) ** 2 + (axis - centre[:, 1]) ** 2 < radius**2
    specks = torch.rand(items, size, size, generator=generator) < 0.02
    silhouette = (inside | specks).float().unsqueeze(1)
    return Sketch(silhouette, 3.0 - silhouette * torch.rand(silhouette.shape, generator=generator))


def _plain(sketch: Sketch) -> tuple[Tensor, Tensor]:
    """Component, crop, two pads, resize; one image at a time, as in the published code."""
    size, device = sketch.depth.shape[-1], sketch.depth.device
    sketch = Sketch(*(part.cpu() for part in sketch))
    framed = []
    for silhouette, depth in zip(sketch.silhouette[:, 0], sketch.depth[:, 0], strict=True):
        solid = (silhouette.numpy() >= 0.8).astype(np.uint8)
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(solid, connectivity=4)
        kept = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
        component = torch.from_numpy(labels == kept)
        left, top, width, height, _ = (int(value) for value in statistics[kept])
        side = max(height, width)
        down, across, margin = (side - height) // 2, (side - width) // 2, int(0.03 * side)
        images = []
        for image, outside in ((silhouette, 0.0), (depth, 3.0)):
            cut = torch.where(component, image, outside)[top : top + height, left : left + width]
            square = functional.pad(cut, (across, across, down, down), value=outside)
            wide = functional.pad(square, (margin,) * 4, value=outside)
            images.append(
                functional.interpolate(wide[None, None], (size, size), mode="bilinear", align_corners=True)[0]
            )
        framed.append(torch.stack(images))
    silhouettes, depths = torch.stack(framed).to(device).unbind(1)
    nearest, farthest = depths.amin((1, 2, 3), keepdim=True), depths.amax((1, 2, 3), keepdim=True)
    return silhouettes, 1.0 - 2.0 * (depths - nearest) / (farthest - nearest)


if __name__ == "__main__":
    main()
