"""What a prepared photo looks like, in 36 characters: equal or nearly so for copies, however resized or recompressed.

120 bits say which of the brightness' lowest frequencies are positive (a DCT hash), six more hexadecimal digits are
the object's mean colour, by which the same chair in another colour is another photo. The look is taken from the
prepared picture: the object, framed, on white. A copy with more margin has the same one, two objects in one photo
have not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

Bits = npt.NDArray[np.uint64]

GRID = 32  # pixels of the picture that is transformed
FREQUENCIES = 11  # on either axis; all but the mean count
BITS = FREQUENCIES**2 - 1
# Of the upper quartile: an object seen straight on has no odd frequencies, and noise must not decide on their bits.
LEAST = 0.2
_FORM = re.compile(r"[0-9a-f]{30}-[0-9a-f]{6}")


def look_of(picture: npt.NDArray[np.uint8]) -> str:
    """The look of a prepared picture (size, size, 4), RGB composed on white and alpha."""
    grey = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (GRID, GRID), interpolation=cv2.INTER_AREA)
    waves = dctn(small, norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()[1:]
    positive = waves > LEAST * np.quantile(np.abs(waves), 0.75)
    weight = picture[..., 3:].astype(np.float64)
    colour = (picture[..., :3] * weight).sum(axis=(0, 1)) / max(weight.sum(), 1.0)
    return f"{np.packbits(positive).tobytes().hex()}-{np.rint(colour).astype(np.uint8).tobytes().hex()}"


def read_looks(looks: Sequence[str]) -> tuple[Bits, npt.NDArray[np.int16]]:
    """Looks (n,) as (n, 2) words of 60 bits, and (n, 3) mean colours in 0..255.

    Raises:
        ValueError: a text is no look.
    """
    if wrong := [look for look in looks if not _FORM.fullmatch(look)]:
        raise ValueError(f"{wrong[0]!r} is not what a photo looks like")
    words = np.array([[int(look[:15], 16), int(look[15:30], 16)] for look in looks], dtype=np.uint64)
    colours = np.array([list(bytes.fromhex(look[31:])) for look in looks], dtype=np.int16)
    return words.reshape(-1, 2), colours.reshape(-1, 3)


def differing_bits(first: Bits, second: Bits) -> npt.NDArray[np.int64]:
    """(n,) in how many of the 120 bits looks differ."""
    return np.asarray(np.bitwise_count(first ^ second).sum(axis=-1, dtype=np.int64))
