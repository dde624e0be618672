"""What a plain background looks like behind the object: a smooth surface of colour fitted to the photo's border."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

BORDER = 0.02  # of the longest side: the strip that is taken for background
PLAIN_SHARE = 0.85  # of the strip that a plain background has to explain
PLAIN_NOISE = 6.0  # of 255: a plain background's grain
PLAIN_MISFIT = 2.0  # of 255: what a plain background's surface misses besides grain
GRAIN_PX = 11  # grain averages out over a square of this side
NEARLY = 30.0  # of 255: within this of the border's median colour a pixel may start the fit
CHROMA_WEIGHT = 0.5  # JPEG stores colour at half the resolution: it bleeds, and says less of where an edge is


@dataclass(frozen=True, eq=False)
class Contrast:
    """How far each pixel is from the background, in steps of 255.

    Attributes:
        luma: (h, w) of brightness alone, which JPEG keeps sharp.
        chroma: (h, w) of colour, at the weight that it has in the total.
        total: (h, w) of brightness and colour.
    """

    luma: Floats
    chroma: Floats
    total: Floats


@dataclass(frozen=True, eq=False)
class Background:
    """A fitted background.

    Attributes:
        colour: (h, w, 3) Y, Cr, Cb in 0..255.
        noise: its grain, as the standard deviation of the contrast.
        share: of the border strip that it explains, 0..1.
        misfit: what nine tenths of the strip stay under when grain is averaged out: folds, textures, a horizon.
    """

    colour: Floats
    noise: float
    share: float
    misfit: float

    @property
    def is_plain(self) -> bool:
        """Whether the border is explained well enough to read the object from its contrast."""
        return self.share >= PLAIN_SHARE and self.noise <= PLAIN_NOISE and self.misfit <= PLAIN_MISFIT

    def contrast(self, photo: Floats) -> Contrast:
        """The contrast of a photo (h, w, 3) in Y, Cr, Cb."""
        difference = photo - self.colour
        luma = np.abs(difference[..., 0])
        chroma = CHROMA_WEIGHT * np.hypot(difference[..., 1], difference[..., 2])
        return Contrast(luma, chroma, np.hypot(luma, chroma))


def luma_chroma(rgb: npt.NDArray[np.uint8]) -> Floats:
    """(h, w, 3) Y, Cr, Cb in 0..255 of an RGB photo."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2YCrCb) * 255.0, dtype=np.float32)


def border_strip(height: int, width: int, fraction: float = BORDER) -> Bools:
    """(height, width) the strip along the border, this fraction of the longest side wide, two pixels at least."""
    thickness = max(2, round(fraction * max(height, width)))
    strip = np.ones((height, width), dtype=bool)
    strip[thickness:-thickness, thickness:-thickness] = False
    return strip


def fit_background(photo: Floats) -> Background:
    """Fits a quadratic surface per channel to the border strip, leaving out what does not belong to it.

    Args:
        photo: (h, w, 3) Y, Cr, Cb in 0..255.
    """
    height, width = photo.shape[:2]
    strip = border_strip(height, width)
    terms, values = _terms(height, width), photo[strip].astype(np.float64)
    at = terms[strip]
    fits = np.asarray((np.abs(values - np.median(values, axis=0)) < NEARLY).all(axis=1))
    if fits.mean() < 0.5:
        fits = np.ones_like(fits)
    for _ in range(4):
        surface = np.linalg.lstsq(at[fits], values[fits], rcond=None)[0]
        missed = np.abs(values - at @ surface)
        grain = 1.4826 * np.median(missed[fits], axis=0)
        fits = np.asarray((missed < 3.0 * grain + 2.0).all(axis=1))
        if not fits.any():
            return Background(np.zeros_like(photo), np.inf, 0.0, np.inf)
    noise = float(np.hypot(grain[0], CHROMA_WEIGHT * np.hypot(grain[1], grain[2])))
    colour = (terms @ surface).astype(np.float32)
    smooth = cv2.blur(photo - colour, (GRAIN_PX, GRAIN_PX))[strip]
    misfit = float(np.quantile(np.linalg.norm(smooth, axis=1), 0.9))
    return Background(colour, noise, float(fits.mean()), misfit)


def _terms(height: int, width: int) -> npt.NDArray[np.float64]:
    """(h, w, 6) the terms of a quadratic surface, with both coordinates from -1 to 1."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)
