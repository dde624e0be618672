"""The same shape in two files: a hash of each prepared shape's distance field, and a search for equal ones.

A model that lies in a collection twice, in two formats or scaled and moved, would fall into two splits. Prepared
shapes are centred and scaled, so such copies have nearly the same distance everywhere, and the same area but for the
digits of their files. The hash holds the distance at 6^3 points, in steps of 1/255 of the cube's edge; two shapes are
the same if no point differs by more than `MAX_STEPS` and their area by no more than `MAX_AREA`. Two versions of one
model usually differ by more. The result does not depend on the order in which shapes were prepared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vondata.dataset.manifest import split_of
from vondata.pipeline.run import Review

Bytes = npt.NDArray[np.uint8]
Row = Mapping[str, Any]

REASON = "duplicate_shape"
POINTS = 6  # along an axis
MAX_STEPS = 2  # of 1/255 of the cube's edge: a voxel at 128^3
MAX_AREA = 0.002  # of the larger area: three digits of the coordinates
_USED = ("id", "status", "reason", "leaked_voxels", "distance_hash", "area", "resolution", "duplicate_of")
_FORM = re.compile(rf"[0-9a-f]{{{2 * POINTS**3}}}")


def distance_hash(distance: npt.NDArray[np.float32]) -> str:
    """The hash of an (N, N, N) distance field in cube edges, two hexadecimal digits a point."""
    at = (np.arange(POINTS) + 0.5) / POINTS * distance.shape[0] - 0.5
    low = np.floor(at).astype(np.int64)
    high, share = np.minimum(low + 1, distance.shape[0] - 1), at - low
    values: npt.NDArray[np.floating[Any]] = distance
    for axis in range(3):
        across = share.reshape([-1 if each == axis else 1 for each in range(3)])
        values = values.take(low, axis) * (1 - across) + values.take(high, axis) * across
    steps = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    return bytes(steps.tobytes()).hex()


def duplicate_review(drop: bool) -> Review:
    """The review of a class's shapes: duplicates share the split of their original, or are dropped.

    Args:
        drop: reject duplicates; otherwise `duplicate_of` and `split` are set, and earlier rejections are taken back.
    """
    return Review(REASON, _rejections if drop else lambda rows: {}, _unmarked if drop else _marked)


def find_same_shapes(rows: Iterable[Row]) -> dict[str, str]:
    """The shapes that are the same as that of a better file: the id of that one by their ids.

    Of equal shapes the one with the fewest voxels behind holes is the original, then that with the lower id.

    Args:
        rows: of a class's shapes; prepared ones take part, and those rejected as duplicates before.
    """
    from scipy.spatial import KDTree

    shapes = sorted((row for row in rows if _takes_part(row)), key=lambda row: (row["leaked_voxels"] or 0, row["id"]))
    if len(shapes) < 2:
        return {}
    hashes = np.frombuffer(bytes.fromhex("".join(row["distance_hash"] for row in shapes)), np.uint8)
    hashes = hashes.reshape(-1, POINTS**3)
    area = np.array([row["area"] for row in shapes])
    size = np.array([row["resolution"] for row in shapes])
    # Means over blocks of points differ by no more than points do, and are few enough to search among.
    blocks = hashes.reshape(-1, 3, 2, 3, 2, 3, 2).mean(axis=(2, 4, 6)).reshape(-1, 27)
    pairs = KDTree(blocks).query_pairs(MAX_STEPS + 1e-6, p=np.inf, output_type="ndarray")
    original: dict[int, int] = {}
    for first, second in sorted(map(tuple, np.sort(pairs, axis=1).tolist()), key=lambda pair: (pair[1], pair[0])):
        is_same = size[first] == size[second] and _are_near(hashes[first], hashes[second], area[[first, second]])
        if is_same and first not in original:
            original.setdefault(second, first)
    return {shapes[second]["id"]: shapes[first]["id"] for second, first in original.items()}


def _rejections(rows: Iterable[Row]) -> dict[str, tuple[str, str]]:
    found = find_same_shapes(rows)
    return {id: (REASON, f"the same shape as {original}, which is kept") for id, original in found.items()}


def _marked(rows: Iterable[Row]) -> dict[str, dict[str, str | None]]:
    """New values for the rows whose mark is not what it should be."""
    known = [{name: row.get(name) for name in _USED} for row in rows]
    return _changes(known, find_same_shapes(known))


def _unmarked(rows: Iterable[Row]) -> dict[str, dict[str, str | None]]:
    return _changes(rows, {})


def _changes(rows: Iterable[Row], found: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    changes = {}
    for row in rows:
        original = found.get(row["id"])
        if row.get("duplicate_of") != original:
            changes[row["id"]] = {"duplicate_of": original, "split": split_of(original or row["id"])}
    return changes


def _takes_part(row: Row) -> bool:
    text, area = row.get("distance_hash"), row.get("area")
    is_hashed = isinstance(text, str) and _FORM.fullmatch(text) is not None
    return is_hashed and area is not None and (row["status"] == "prepared" or row["reason"] == REASON)


def _are_near(first: Bytes, second: Bytes, area: npt.NDArray[np.float64]) -> bool:
    steps = np.abs(first.astype(np.int16) - second.astype(np.int16)).max()
    return bool(steps <= MAX_STEPS and abs(area[0] - area[1]) <= MAX_AREA * area.max())
