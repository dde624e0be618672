"""Near-duplicate photos: perceptual hashes of prepared pictures, and a search that keeps the best of each group.

The hash has 117 characters. 440 bits hold the signs of the lowest frequencies of the brightness (a DCT hash), the
lowest frequency first; six hexadecimal digits hold the mean colour of the object, so that the same chair in another
colour is another photo. It is computed from the prepared picture (the object, framed, on white), so a copy with more
margin has the same hash. Resized and recompressed copies differ in few bits. The bits that flip in a copy are those
of weak frequencies, while in another photo any bit flips: more bits separate the two better.

Two hashes that differ in few bits agree in some run of their low frequencies. The hashes are sorted sixteen times,
each time from another bit on, and compared with their neighbours only, so the time is proportional to their number.
The result does not depend on the order in which photos were prepared.

An annotated photo has been checked by a person: it is a duplicate only of the identical file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

from vondata.images.settings import ImageSettings
from vondata.pipeline.run import Review

Bits = npt.NDArray[np.uint64]

GRID = 64  # pixels of the picture that is transformed
FREQUENCIES = 21  # per axis; all but the mean are used
BITS = FREQUENCIES**2 - 1
BYTES = BITS // 8
WORDS = -(-BITS // 64)
# Relative to the upper quartile: a symmetric view has no odd frequencies, and noise must not decide on their bits.
MIN_WAVE = 0.1
# From the lowest frequency on: the first n^2 - 1 are those below n on both axes.
_ORDER = sorted(range(1, FREQUENCIES**2), key=lambda place: (max(divmod(place, FREQUENCIES)), place))
_FORM = re.compile(rf"[0-9a-f]{{{2 * BYTES}}}-[0-9a-f]{{6}}")


def perceptual_hash(picture: npt.NDArray[np.uint8]) -> str:
    """The hash of a prepared picture (size, size, 4), RGB composed on white and alpha."""
    grey = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (GRID, GRID), interpolation=cv2.INTER_AREA)
    waves = dctn(small, norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()[_ORDER]
    positive = waves > MIN_WAVE * np.quantile(np.abs(waves), 0.75)
    weight = picture[..., 3:].astype(np.float64)
    colour = (picture[..., :3] * weight).sum(axis=(0, 1)) / max(weight.sum(), 1.0)
    return f"{np.packbits(positive).tobytes().hex()}-{np.rint(colour).astype(np.uint8).tobytes().hex()}"


def is_perceptual_hash(text: str | None) -> bool:
    """Whether a text is a hash of this version."""
    return text is not None and _FORM.fullmatch(text) is not None


def parse_hashes(hashes: Sequence[str]) -> tuple[Bits, npt.NDArray[np.int16]]:
    """Hashes (n,) as (n, 7) words that hold their bits in order, byte by byte, and (n, 3) mean colours in 0..255.

    Raises:
        ValueError: a text is not a hash.
    """
    if wrong := [each for each in hashes if not is_perceptual_hash(each)]:
        raise ValueError(f"{wrong[0]!r} is not a perceptual hash")
    content = np.frombuffer(bytes.fromhex("".join(hashes).replace("-", "")), np.uint8).reshape(-1, BYTES + 3)
    bits = np.zeros((len(hashes), 8 * WORDS), dtype=np.uint8)
    bits[:, :BYTES] = content[:, :BYTES]
    return bits.view(np.uint64), content[:, BYTES:].astype(np.int16)


def differing_bits(first: Bits, second: Bits) -> npt.NDArray[np.int64]:
    """(n,) Hamming distances of hashes (n, words)."""
    return np.asarray(np.bitwise_count(first ^ second).sum(axis=-1, dtype=np.int64))


Row = Mapping[str, Any]
Indices = npt.NDArray[np.int64]

REASON = "duplicate_photo"
MAX_BITS = 87  # of 440: 97 of 100 copies stay below, photos from viewpoints more than a few degrees apart above
MAX_COLOUR = 20  # of 255, in any channel of the mean colour
ORDERS = 16
NEIGHBOURS = 32  # in each order
SORTED = 120  # bits of the lowest frequencies by which hashes are sorted: in copies one in ten of them differs
_MAX_OF_FIRST = 36  # of the first 128 bits, which are compared before all others
_AT_ONCE = 1 << 16  # pairs compared
_SPREAD = 37  # coprime to 120: separates neighbouring frequencies, which are correlated


@dataclass(frozen=True, slots=True)
class _Photo:
    """The fields that decide which of two near-duplicates is kept.

    Attributes:
        rank: sort key, the better photo first: an annotated viewpoint, then more pixels of the object, then the id.
        id: of the photo.
        sha256: of its file.
        phash: see `perceptual_hash`.
    """

    rank: tuple[bool, int, str]
    id: str
    sha256: str | None
    phash: str

    def duplicates(self, better: _Photo) -> bool:
        """Whether this photo is dropped for a better one with nearly the same hash."""
        is_annotated = not self.rank[0]
        return not is_annotated or (self.sha256 == better.sha256 and self.phash == better.phash)


def review_of(settings: ImageSettings) -> Review:
    """The review of a class's photos; if duplicates are kept it finds none, which restores those rejected earlier."""
    return Review(REASON, (lambda rows: {}) if settings.keep_duplicates else find_near_duplicates)


def find_near_duplicates(rows: Iterable[Row]) -> dict[str, tuple[str, str]]:
    """The photos that duplicate a better one: reason and detail by id.

    Args:
        rows: of a class's images; those that are prepared, or were rejected as duplicates, are compared.
    """
    photos = sorted((_photo(row) for row in rows if takes_part(row)), key=lambda photo: photo.rank)
    words, colours = parse_hashes([photo.phash for photo in photos])
    keeper = _keepers(photos, _near_pairs(words, colours))
    found = {}
    for index in np.flatnonzero(keeper != np.arange(len(photos))):
        photo, kept = photos[index], photos[keeper[index]]
        found[photo.id] = REASON, _describe(photo, kept, words[[index]], words[[keeper[index]]])
    return found


def takes_part(row: Row) -> bool:
    """Whether a row has a picture that is compared."""
    return is_perceptual_hash(row["phash"]) and (row["status"] == "prepared" or row["reason"] == REASON)


def _photo(row: Row) -> _Photo:
    pixels = (row["box_width_px"] or 0) * (row["box_height_px"] or 0)
    return _Photo(
        (row["viewpoint_origin"] != "annotated", -pixels, row["id"]), row["id"], row["sha256"], row["phash"]
    )


def _describe(photo: _Photo, kept: _Photo, own: Bits, other: Bits) -> str:
    (bits,) = differing_bits(own, other)
    if photo.sha256 == kept.sha256 and bits == 0:
        return f"the same file as {kept.id}, which is kept"
    return f"looks like {kept.id}, which is kept; {bits} of {BITS} bits differ"


def _keepers(photos: Sequence[_Photo], pairs: Iterator[tuple[Indices, Indices]]) -> Indices:
    """(photos,) the photo kept for each: itself, or the best near-duplicate that is kept."""
    better: dict[int, set[int]] = {}
    for first, second in pairs:
        for low, high in zip(first.tolist(), second.tolist(), strict=True):
            if photos[high].duplicates(photos[low]):
                better.setdefault(high, set()).add(low)
    keeper = np.arange(len(photos))
    for index in sorted(better):
        kept = [each for each in better[index] if keeper[each] == each]
        if kept:
            keeper[index] = min(kept)
    return keeper


def _near_pairs(words: Bits, colours: npt.NDArray[np.int16]) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of photos with nearly the same hash, the better (lower) one first; a pair may come more than once."""
    first = np.ascontiguousarray(words[:, :2])
    for number in range(ORDERS):
        order = _order(words, number * SORTED // ORDERS)
        for step in range(1, min(NEIGHBOURS, len(words) - 1) + 1):
            for start in range(0, len(order) - step, _AT_ONCE):
                left = order[start : start + _AT_ONCE][: len(order) - step - start]
                right = order[start + step : start + step + _AT_ONCE]
                close = differing_bits(first[left], first[right]) <= _MAX_OF_FIRST
                left, right = left[close], right[close]
                close = np.abs(colours[left] - colours[right]).max(axis=1, initial=0) <= MAX_COLOUR
                left, right = left[close], right[close]
                close = differing_bits(words[left], words[right]) <= MAX_BITS
                yield np.minimum(left, right)[close], np.maximum(left, right)[close]


def _order(words: Bits, shift: int) -> Indices:
    """(n,) indices that sort the hashes by their low frequencies, beginning with another one for every shift."""
    places = (_SPREAD * (np.arange(SORTED) + shift)) % SORTED
    low = np.unpackbits(words.view(np.uint8)[:, : SORTED // 8], axis=1)
    turned = np.zeros((len(words), 16), dtype=np.uint8)
    turned[:, : SORTED // 8] = np.packbits(low[:, places], axis=1)
    keys = turned.view(">u8")
    return np.lexsort((keys[:, 1], keys[:, 0]))
