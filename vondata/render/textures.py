"""Materials drawn from a generator, and what a renderer knows of a surface: wood, cloth, leather, paint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, assert_never

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]
Surface = Literal["wood", "cloth", "stripes", "checks", "leather", "lacquer", "plastic", "metal"]

TEXTURE_SIZE = 128

WOODS: dict[str, Colour] = {
    "beech": (0.80, 0.60, 0.40),
    "oak": (0.68, 0.47, 0.27),
    "cherry": (0.60, 0.30, 0.16),
    "walnut": (0.40, 0.25, 0.15),
    "mahogany": (0.42, 0.17, 0.10),
    "ebony": (0.26, 0.20, 0.17),
}
DYES: dict[str, Colour] = {
    "crimson": (0.68, 0.12, 0.14),
    "terracotta": (0.74, 0.36, 0.22),
    "mustard": (0.82, 0.63, 0.20),
    "olive": (0.42, 0.46, 0.20),
    "forest": (0.13, 0.37, 0.23),
    "teal": (0.10, 0.47, 0.50),
    "sky": (0.38, 0.60, 0.80),
    "navy": (0.13, 0.20, 0.44),
    "plum": (0.42, 0.18, 0.40),
    "sand": (0.76, 0.68, 0.54),
    "stone": (0.52, 0.51, 0.50),
    "charcoal": (0.25, 0.25, 0.27),
}
LACQUERS: dict[str, Colour] = {
    "ivory": (0.86, 0.83, 0.75),
    "red": (0.76, 0.10, 0.10),
    "yellow": (0.90, 0.70, 0.10),
    "green": (0.20, 0.50, 0.26),
    "blue": (0.12, 0.32, 0.66),
    "silver": (0.66, 0.68, 0.70),
    "graphite": (0.33, 0.34, 0.37),
    "black": (0.20, 0.20, 0.21),
    "orange": (0.88, 0.40, 0.10),
    "burgundy": (0.40, 0.07, 0.12),
}


Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Finish:
    """What a part is made of, before any texture is drawn.

    Attributes:
        surface: the kind of surface.
        colour: its base colour, sRGB in [0, 1].
    """

    surface: Surface
    colour: Colour


@dataclass(frozen=True, eq=False)
class Material:
    """What the renderer and the MTL file need of a part's surface.

    Attributes:
        colour: mean colour, sRGB in [0, 1].
        texture: (h, w, 3) tileable sRGB image, or None for a plain surface; the grain runs along its height.
        tile_m: metres covered by one tile.
        gloss: strength of highlight and reflection, 0 (felt) to 1 (chrome).
    """

    colour: Colour
    texture: Pixels | None = None
    tile_m: float = 0.5
    gloss: float = 0.1


def make_material(finish: Finish, rng: np.random.Generator) -> Material:
    """Draws the texture of a finish."""
    tile_m, gloss = 0.5, 0.0
    match finish.surface:
        case "wood":
            brightness, tile_m, gloss = _grain(rng), 0.6, 0.18
        case "cloth":
            brightness = _weave(rng)
        case "stripes":
            brightness = _weave(rng) + _stripes(rng)[None, :]
        case "checks":
            bands = _stripes(rng)
            brightness = _weave(rng) + bands[None, :] + bands[:, None]
        case "leather":
            brightness, gloss = _creases(rng), 0.35
        case "lacquer":
            brightness, gloss = 0.02 * _noise(rng, 6.0, 6.0), 0.4
        case "plastic":
            return Material(finish.colour, gloss=0.3)
        case "metal":
            return Material(finish.colour, gloss=0.9)
        case _:
            assert_never(finish.surface)
    return Material(finish.colour, _tinted(finish.colour, brightness), tile_m, gloss)


def linear_colour(encoded: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Linear light of sRGB values in [0, 1]; a square is near enough to sRGB's curve, and quick to undo."""
    return np.asarray(encoded * encoded)


def one_of(rng: np.random.Generator, choices: tuple[Choice, ...]) -> Choice:
    """One of the choices; repeated ones are likelier."""
    return choices[int(rng.integers(len(choices)))]


def quantile_choice(shares: Mapping[Choice, float], quantile: float) -> Choice:
    """The choice whose share, stacked in order, covers a quantile in [0, 1); shares sum to 1."""
    edges = np.cumsum(list(shares.values()))
    return list(shares)[min(int(np.searchsorted(edges, quantile, side="right")), len(edges) - 1)]


def pick(rng: np.random.Generator, palette: dict[str, Colour], names: Sequence[str] | None = None) -> Colour:
    """One colour of a palette, a little lighter or darker than its name says."""
    chosen = palette[str(rng.choice(list(names or palette)))]
    shade = rng.uniform(0.88, 1.1)
    red, green, blue = (float(np.clip(channel * shade, 0.0, 1.0)) for channel in chosen)
    return red, green, blue


def _noise(rng: np.random.Generator, along: float, across: float) -> npt.NDArray[np.float64]:
    """(TEXTURE_SIZE, TEXTURE_SIZE) tileable noise of unit deviation, smooth over the given pixels."""
    noise = ndimage.gaussian_filter(rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE)), (along, across), mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std())


def _grain(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Year rings bent by slow noise, and fine pores along the grain."""
    rings = np.arange(TEXTURE_SIZE) / TEXTURE_SIZE * int(rng.integers(5, 10))
    bent = np.sin(2.0 * np.pi * (rings[None, :] + 0.35 * _noise(rng, 30.0, 12.0)))
    return 0.10 * bent + 0.05 * _noise(rng, 12.0, 0.8) + 0.05 * _noise(rng, 24.0, 6.0)


def _weave(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    threads = np.sin(2.0 * np.pi * np.arange(TEXTURE_SIZE) * 32 / TEXTURE_SIZE)
    return 0.05 * threads[None, :] * threads[:, None] + 0.05 * _noise(rng, 1.0, 1.0) + 0.02 * _noise(rng, 8.0, 8.0)


def _stripes(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    repeats = int(rng.integers(4, 8))
    phase = np.arange(TEXTURE_SIZE) / TEXTURE_SIZE * repeats % 1.0
    return np.where(phase < rng.uniform(0.3, 0.6), 0.22, -0.18)


def _creases(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return -0.06 * np.abs(_noise(rng, 2.0, 2.0)) + 0.05 * _noise(rng, 14.0, 14.0)


def _tinted(colour: Colour, brightness: npt.NDArray[np.float64]) -> Pixels:
    """A colour made lighter and darker by relative brightness around 0."""
    pixels = np.asarray(colour) * (1.0 + brightness[..., None])
    return (255.0 * np.clip(pixels, 0.0, 1.0) + 0.5).astype(np.uint8)
