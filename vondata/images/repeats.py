"""Photos that show the same picture, found among any number of them, of which the best one stays.

Two looks that differ in few bits agree in a long run of bits. Sorted from ten different bits on, such a pair lies
close together in one order or another: to compare each look with its neighbours in every order takes time in
proportion to their number. What stays does not depend on the order in which photos were prepared.

Who annotated a photo has looked at it: an annotated one is a repeat only where its file is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vondata.images.look import BITS, Bits, differing_bits, read_looks
from vondata.images.settings import ImageSettings
from vondata.review import Review

Row = Mapping[str, Any]
Indices = npt.NDArray[np.int64]

REASON = "duplicate_photo"
MOST_BITS = 9  # of 120: 95 of 100 copies stay below, photos from viewpoints more than a few degrees apart above
MOST_COLOUR = 20  # of 255, in any channel of the mean colour
ORDERS = 10
NEIGHBOURS = 32  # in each order
WORD = BITS // 2
_SPREAD = 37  # has no factor in common with 120: neighbouring frequencies, which go together, come apart


@dataclass(frozen=True, slots=True)
class _Photo:
    """What decides which of two like photos stays.

    Attributes:
        rank: sorts the better photo first: an annotated viewpoint, then more pixels of the object, then the id.
        id: its id.
        sha256: of its file.
        look: see `look_of`.
    """

    rank: tuple[bool, int, str]
    id: str
    sha256: str | None
    look: str

    def repeats(self, better: _Photo) -> bool:
        """Whether this one goes for the sake of one that looks the same."""
        is_annotated = not self.rank[0]
        return not is_annotated or (self.sha256 == better.sha256 and self.look == better.look)


def review_of(settings: ImageSettings) -> Review:
    """The review of a class's photos; where duplicates are kept it finds none, so that earlier ones come back."""
    return Review(REASON, (lambda rows: {}) if settings.keep_duplicates else find_repeats)


def find_repeats(rows: Iterable[Row]) -> dict[str, tuple[str, str]]:
    """The photos that repeat a better one: reason and detail by id.

    Args:
        rows: of a class's images; prepared ones, and those that were found to repeat another one before, take part.
    """
    photos = sorted((_photo(row) for row in rows if takes_part(row)), key=lambda photo: photo.rank)
    words, colours = read_looks([photo.look for photo in photos])
    keeper = _keepers(photos, _alike(words, colours))
    found = {}
    for index in np.flatnonzero(keeper != np.arange(len(photos))):
        photo, kept = photos[index], photos[keeper[index]]
        found[photo.id] = REASON, _words(photo, kept, int(differing_bits(words[index], words[keeper[index]])))
    return found


def takes_part(row: Row) -> bool:
    """Whether a row has a picture that can repeat another one."""
    return bool(row["look"]) and (row["status"] == "prepared" or row["reason"] == REASON)


def _photo(row: Row) -> _Photo:
    pixels = (row["box_width_px"] or 0) * (row["box_height_px"] or 0)
    return _Photo((row["viewpoint_origin"] != "annotated", -pixels, row["id"]), row["id"], row["sha256"], row["look"])


def _words(photo: _Photo, kept: _Photo, bits: int) -> str:
    if photo.sha256 == kept.sha256 and bits == 0:
        return f"the same file as {kept.id}, which is kept"
    return f"looks like {kept.id}, which is kept; {bits} of {BITS} bits differ"


def _keepers(photos: Sequence[_Photo], pairs: Iterator[tuple[Indices, Indices]]) -> Indices:
    """(photos,) the photo that stands for each: itself, or the best one like it that stays."""
    better: dict[int, set[int]] = {}
    for first, second in pairs:
        for low, high in zip(first.tolist(), second.tolist(), strict=True):
            if photos[high].repeats(photos[low]):
                better.setdefault(high, set()).add(low)
    keeper = np.arange(len(photos))
    for index in sorted(better):
        kept = [each for each in better[index] if keeper[each] == each]
        if kept:
            keeper[index] = min(kept)
    return keeper


def _alike(words: Bits, colours: npt.NDArray[np.int16]) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of photos that look alike, the better (lower) one first; a pair may come more than once."""
    for shift in range(0, BITS, BITS // ORDERS):
        turned = _turned(words, shift)
        order = np.lexsort((turned[:, 1], turned[:, 0]))
        for step in range(1, min(NEIGHBOURS, len(words) - 1) + 1):
            left, right = order[:-step], order[step:]
            close = differing_bits(words[left], words[right]) <= MOST_BITS
            left, right = left[close], right[close]
            close = np.abs(colours[left] - colours[right]).max(axis=1, initial=0) <= MOST_COLOUR
            yield np.minimum(left, right)[close], np.maximum(left, right)[close]


def _turned(words: Bits, shift: int) -> Bits:
    """(n, 2) the same bits in another order, beginning with another one."""
    places = (_SPREAD * (np.arange(BITS) + shift)) % BITS
    turned = np.zeros_like(words)
    for target, place in enumerate(places):
        bit = (words[:, place // WORD] >> np.uint64(WORD - 1 - place % WORD)) & np.uint64(1)
        turned[:, target // WORD] |= bit << np.uint64(WORD - 1 - target % WORD)
    return turned
