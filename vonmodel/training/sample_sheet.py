"""Sample sheets: what the model makes of a fixed set of codes and viewpoints, as one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vonmodel.data.datasets import ViewpointSampler
from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.model import VonModel
from vonmodel.projection import project
from vonmodel.seeding import numpy_generator, torch_generator

TILE_PX = 96
GAP_PX = 4
# Steepness of the surface in the first row.
CONTRAST = 8.0
# From where the first row looks at every shape, in radians.
OVERVIEW = (0.7, 0.35)


@dataclass(frozen=True)
class SheetCodes:
    """The codes and viewpoints of a sheet, the same at every step.

    Attributes:
        shape: (n, code) shape codes.
        texture: (n, code) texture codes.
        viewpoints: (n, 2) azimuth and elevation in radians.
    """

    shape: Float[Tensor, "n shape_code"]
    texture: Float[Tensor, "n texture_code"]
    viewpoints: Float[Tensor, "n 2"]


def sheet_codes(model: VonModel, sampler: ViewpointSampler, *, seed: int, count: int = 8) -> SheetCodes:
    """The codes of a run's sheets."""
    generator = torch_generator(seed, "sheet")
    return SheetCodes(
        shape=torch.randn(count, model.config.shape_code_size, generator=generator),
        texture=torch.randn(count, model.config.texture_code_size, generator=generator),
        viewpoints=torch.from_numpy(sampler(count, numpy_generator(seed, "sheet"))).float(),
    )


@torch.no_grad()
def draw_sheet(model: VonModel, codes: SheetCodes, *, images: bool) -> npt.NDArray[np.uint8]:
    """Draws a sheet: a column for each object; shape, silhouette, depth and image below each other.

    Args:
        model: in evaluation mode.
        codes: what to draw.
        images: whether to draw the row of images; before the texture stage there is nothing to see in it.

    Returns:
        (height, width, 3) colours.
    """
    weight = next(model.parameters())
    volumes = model.generate_shapes(codes.shape.to(weight))
    azimuth, elevation = codes.viewpoints.to(weight).unbind(-1)
    sketch = model.sketch(volumes, viewpoint_rotation(azimuth, elevation), depth_range="item")
    rows = [
        shaded(model.opacity(volumes)),
        1.0 - sketch.silhouette,
        torch.where(sketch.silhouette > 0.5, 0.15 + 0.375 * (sketch.normalized_depth + 1.0), 1.0),
    ]
    if images:
        rows.append((model.paint(sketch, codes.texture.to(weight)) + 1.0) / 2.0)
    return _tiled([_as_tiles(row) for row in rows])


def save_sheet(sheet: npt.NDArray[np.uint8], path: Path) -> None:
    """Writes a sheet as PNG."""
    Image.fromarray(sheet).save(path)


def shaded(opacity: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n 1 tile tile"]:
    """A picture of each volume's surface, lit from above the camera, in [0, 1] on white."""
    count, camera = len(opacity), Camera()
    # What a network leaves half transparent would veil the surface behind it.
    opacity = (0.5 + CONTRAST * (opacity - 0.5)).clamp(0.0, 1.0)
    azimuth, elevation = (torch.full((count,), angle, device=opacity.device) for angle in OVERVIEW)
    seen = project(opacity, viewpoint_rotation(azimuth, elevation), image_size=TILE_PX)
    points = seen.depth.squeeze(1).unsqueeze(-1) * camera.ray_directions(TILE_PX, opacity)
    down = functional.pad(points.diff(dim=1), (0, 0, 0, 0, 0, 1))
    right = functional.pad(points.diff(dim=2), (0, 0, 0, 1))
    normals = functional.normalize(torch.linalg.cross(right, down), dim=-1)
    # Camera frame: looks along +x, up is +z, the image's right is -y.
    light = functional.normalize(torch.tensor([-1.0, 0.5, 0.9]).to(opacity), dim=0)
    brightness = (0.2 + 0.7 * (normals @ light).abs()).unsqueeze(1)
    # Empty space stops a ten-thousandth of the light at every sample; the paper stays white.
    silhouette = ((seen.silhouette - 0.02) / 0.98).clamp(min=0.0)
    return silhouette * brightness + (1.0 - silhouette)


def _as_tiles(row: Float[Tensor, "n c h w"]) -> npt.NDArray[np.uint8]:
    """(n, tile, tile, 3) tiles of a row of pictures in [0, 1]."""
    row = functional.interpolate(row, size=(TILE_PX, TILE_PX), mode="nearest").expand(-1, 3, -1, -1)
    tiles: npt.NDArray[np.uint8] = (row.clamp(0.0, 1.0) * 255.0).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return tiles


def _tiled(rows: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    step = TILE_PX + GAP_PX
    height, width = (count * step + GAP_PX for count in (len(rows), len(rows[0])))
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            top, left = GAP_PX + i * step, GAP_PX + j * step
            sheet[top : top + TILE_PX, left : left + TILE_PX] = tile
    return sheet
