"""OFF: counts, positions and polygons, a line each, and every one that the header announces.

Colours, normals and texture coordinates behind the numbers of a line are passed over. Lines are read one by one, so
memory goes with what is announced and not with what else the file holds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from io import BytesIO
from itertools import islice

import numpy as np

from vondata.errors import VonError
from vondata.shapes.obj import Floats, Polygons

WORDS = (b"OFF", b"COFF", b"NOFF", b"CNOFF", b"STOFF")
_BLOCK = 1 << 16  # lines that are turned into numbers at a time


class OffError(VonError, ValueError):
    """The bytes contradict the format; says how."""


def parse_off(content: bytes) -> Polygons:
    """Reads the positions and faces of an OFF file.

    Raises:
        OffError: fewer positions, faces or corners than announced, or a face with a vertex that does not exist.
        ValueError, OverflowError: a number that is none.
    """
    lines = _lines(content)
    counts = [int(word) for word in next(lines, b"").split()[:2]]
    if len(counts) < 2 or min(counts) < 0:
        raise OffError("the header does not say how many vertices and faces there are")
    vertex_count, face_count = counts
    vertices = _positions(lines, vertex_count)
    corners, starts = array("q"), array("q", [0])
    for line in islice(lines, face_count):
        words = line.split()
        count = int(words[0])
        if not 0 <= count < len(words):
            raise OffError(f"face {len(starts):,} announces {count:,} corners and names {len(words) - 1:,}")
        corners.extend(map(int, words[1 : count + 1]))
        starts.append(len(corners))
    if len(starts) <= face_count:
        raise OffError(f"{face_count:,} faces announced, {len(starts) - 1:,} there")
    numbers = np.array(corners, dtype=np.int64)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < vertex_count:
        wrong = numbers[(numbers < 0) | (numbers >= vertex_count)][0]
        raise OffError(f"a face names vertex {wrong}, and there are {vertex_count:,}")
    return Polygons(vertices, numbers, np.array(starts, dtype=np.int64))


def _lines(content: bytes) -> Iterator[bytes]:
    """What follows the first word, which the counts may do on its line: lines without comments and blanks."""
    file = BytesIO(content if b"\n" in content else content.replace(b"\r", b"\n"))
    file.seek(content.index(b"OFF") + len(b"OFF"))
    for line in file:
        if words := line.partition(b"#")[0].strip():
            yield words


def _positions(lines: Iterator[bytes], count: int) -> Floats:
    blocks = [np.empty((0, 3))]
    for start in range(0, count, _BLOCK):
        wanted = min(count - start, _BLOCK)
        block = list(islice(lines, wanted))
        if len(block) < wanted:
            raise OffError(f"{count:,} vertices announced, {start + len(block):,} there")
        blocks.append(np.loadtxt(block, usecols=(0, 1, 2), comments=None, ndmin=2))
    return np.concatenate(blocks)
