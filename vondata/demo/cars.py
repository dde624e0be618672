"""A car of the demo, from its measures to its parts."""

from __future__ import annotations

import numpy as np

from vondata.demo.car_body import PAINT_HEIGHT_SCALE, PAINT_TILE_M, build_body
from vondata.demo.car_design import Car
from vondata.demo.car_fittings import build_fittings
from vondata.demo.mesh import Mesh
from vondata.demo.textures import TEXTURE_SIZE, Material, Pixels


def build_car(car: Car) -> list[Mesh]:
    """The overlapping parts of a car in metres; object frame, wheels at z = 0."""
    return [*build_body(car), *build_fittings(car)]


def car_materials(car: Car) -> dict[str, Material]:
    """The materials its parts name."""
    return {
        "paint": Material(car.paint, _paint_texture(car), tile_m=PAINT_TILE_M, gloss=0.45),
        "bumper": Material(car.paint, gloss=0.4),
        "glass": Material((0.10, 0.13, 0.16), gloss=0.75),
        "dark": Material((0.09, 0.09, 0.10), gloss=0.1),
        "rubber": Material((0.08, 0.08, 0.08), gloss=0.05),
        "rim": Material((0.72, 0.73, 0.75), gloss=0.6),
        "lamp": Material((0.92, 0.93, 0.90), gloss=0.7),
        "tail_lamp": Material((0.72, 0.06, 0.05), gloss=0.6),
        "plate": Material((0.92, 0.92, 0.88), gloss=0.1),
        "handle": Material((0.35, 0.35, 0.37), gloss=0.6),
    }


def _paint_texture(car: Car) -> Pixels:
    """The paint seen from the side: rows run from tail to nose, columns upwards; seams of doors, bands of colour."""
    place = (np.arange(TEXTURE_SIZE) + 0.5) / TEXTURE_SIZE * PAINT_TILE_M
    y, z = (place - PAINT_TILE_M / 2)[:, None], (place / PAINT_HEIGHT_SCALE)[None, :]
    pixels = np.broadcast_to(np.asarray(car.paint), (TEXTURE_SIZE, TEXTURE_SIZE, 3)).copy()
    sill = car.clearance
    if car.livery == "band":
        low, high = sill + 0.55 * (car.belt - sill), sill + 0.75 * (car.belt - sill)
        pixels[np.broadcast_to((z > low) & (z < high), pixels.shape[:2])] = car.second_paint
    if car.livery == "two_tone":
        pixels[np.broadcast_to(z < sill + 0.42 * (car.belt - sill), pixels.shape[:2])] = car.second_paint
    seam = np.abs(y - np.array(car.doors)[None, :]).min(axis=1, keepdims=True) < 0.6 * PAINT_TILE_M / TEXTURE_SIZE
    between = (y < max(car.doors)) & (y > min(car.doors))
    level = (z > sill + 0.08) & (z < car.belt)
    low_seam = (np.abs(z - sill - 0.08) < 0.5 * PAINT_TILE_M / PAINT_HEIGHT_SCALE / TEXTURE_SIZE) & between
    pixels[(seam & level) | low_seam] *= 0.45
    return (255.0 * pixels + 0.5).astype(np.uint8)
