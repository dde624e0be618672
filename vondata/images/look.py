"""What a prepared photo looks like, in 117 characters: equal or nearly so for copies, resized or recompressed.

440 bits say which of the brightness' lowest frequencies are positive (a DCT hash), the lowest first; six more
hexadecimal digits are the object's mean colour, by which the same chair in another colour is another photo. The
look is taken from the prepared picture: the object, framed, on white. A copy with more margin has the same one, two
objects in one photo have not.

So many bits because those that flip in a copy are those of weak waves, and what flips in another photo are all alike:
the share of the bits that differ tells the two apart the better the more there are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

Bits = npt.NDArray[np.uint64]

GRID = 64  # pixels of the picture that is transformed
FREQUENCIES = 21  # on either axis; all but the mean count
BITS = FREQUENCIES**2 - 1
BYTES = BITS // 8
WORDS = -(-BITS // 64)
# Of the upper quartile: an object seen straight on has no odd frequencies, and noise must not decide on their bits.
LEAST = 0.1
# From the lowest frequency on: the first n^2 - 1 are those below n on both axes.
_ORDER = sorted(range(1, FREQUENCIES**2), key=lambda place: (max(divmod(place, FREQUENCIES)), place))
_FORM = re.compile(rf"[0-9a-f]{{{2 * BYTES}}}-[0-9a-f]{{6}}")


def look_of(picture: npt.NDArray[np.uint8]) -> str:
    """The look of a prepared picture (size, size, 4), RGB composed on white and alpha."""
    grey = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (GRID, GRID), interpolation=cv2.INTER_AREA)
    waves = dctn(small, norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()[_ORDER]
    positive = waves > LEAST * np.quantile(np.abs(waves), 0.75)
    weight = picture[..., 3:].astype(np.float64)
    colour = (picture[..., :3] * weight).sum(axis=(0, 1)) / max(weight.sum(), 1.0)
    return f"{np.packbits(positive).tobytes().hex()}-{np.rint(colour).astype(np.uint8).tobytes().hex()}"


def is_look(text: str | None) -> bool:
    """Whether a text is a look, and not one of another version."""
    return text is not None and _FORM.fullmatch(text) is not None


def read_looks(looks: Sequence[str]) -> tuple[Bits, npt.NDArray[np.int16]]:
    """Looks (n,) as (n, 7) words that hold their bits in order, byte by byte, and (n, 3) mean colours in 0..255.

    Raises:
        ValueError: a text is no look.
    """
    if wrong := [look for look in looks if not is_look(look)]:
        raise ValueError(f"{wrong[0]!r} is not what a photo looks like")
    content = np.frombuffer(bytes.fromhex("".join(looks).replace("-", "")), np.uint8).reshape(-1, BYTES + 3)
    bits = np.zeros((len(looks), 8 * WORDS), dtype=np.uint8)
    bits[:, :BYTES] = content[:, :BYTES]
    return bits.view(np.uint64), content[:, BYTES:].astype(np.int16)


def differing_bits(first: Bits, second: Bits) -> npt.NDArray[np.int64]:
    """(n,) in how many bits looks (n, words) differ."""
    return np.asarray(np.bitwise_count(first ^ second).sum(axis=-1, dtype=np.int64))
