"""What generated shapes are like: how much they overlap training shapes, and each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vonmodel.data.datasets import ShapeDataset
from vonmodel.evaluation.volumes import Volumes

Bits = npt.NDArray[np.uint64]
"""(n, words) solid voxels, one bit each."""

_BATCH = 16


@dataclass(frozen=True)
class ShapeOverlap:
    """Intersection over union of generated shapes.

    Attributes:
        nearest_iou: for each shape, with the training shape it overlaps most.
        nearest: the ids of these training shapes.
        pairwise_iou_max: of the two generated shapes most alike; 0 for a single shape.
        training: how many training shapes there were.
    """

    nearest_iou: tuple[float, ...]
    nearest: tuple[str, ...]
    pairwise_iou_max: float
    training: int

    @property
    def over_half(self) -> int:
        """How many shapes overlap a training shape with IoU over 0.5."""
        return sum(overlap > 0.5 for overlap in self.nearest_iou)


def shape_overlap(
    generated: Volumes, training: ShapeDataset, level: float, progress: Callable[[int, int], None] | None = None
) -> ShapeOverlap:
    """Compares generated shapes with the training shapes and with each other.

    Args:
        generated: the shapes.
        training: in the same resolution and representation.
        level: a voxel is solid where a volume exceeds it.
        progress: told after every training shape.
    """
    starts = range(0, len(generated), _BATCH)
    packed = pack_solids((generated.part(start, min(start + _BATCH, len(generated))) for start in starts), level)

    def told() -> Iterator[tuple[str, Bits]]:
        for index, id in enumerate(training.ids):
            yield id, pack_solids([training[index][None]], level)
            if progress is not None:
                progress(index + 1, len(training))

    return overlap_of(packed, told())


def overlap_of(generated: Bits, training: Iterable[tuple[str, Bits]]) -> ShapeOverlap:
    """The overlaps of packed shapes; the training shapes come one by one, each with its id, and are not kept."""
    best = np.full(len(generated), -1.0)
    nearest = [""] * len(generated)
    count = 0
    for id, shape in training:
        count += 1
        overlap = intersection_over_union(generated, shape)[:, 0]
        for index in np.flatnonzero(overlap > best):
            best[index], nearest[index] = overlap[index], id
    pairs = intersection_over_union(generated, generated)[np.triu_indices(len(generated), k=1)]
    return ShapeOverlap(tuple(best.tolist()), tuple(nearest), float(pairs.max(initial=0.0)), count)


def pack_solids(volumes: Iterable[Tensor], level: float) -> Bits:
    """Packs the solid voxels of batches of volumes (n, 1, N, N, N) into bits."""
    rows = []
    for batch in volumes:
        solid = (batch > level).flatten(1).cpu().numpy()
        packed = np.packbits(solid, axis=1)
        padding = -packed.shape[1] % 8
        rows.append(np.pad(packed, ((0, 0), (0, padding))).view(np.uint64))
    return np.concatenate(rows)


def intersection_over_union(first: Bits, second: Bits) -> npt.NDArray[np.float64]:
    """IoU (n, m) of every packed shape with every other; two empty shapes count as equal."""
    result = np.empty((len(first), len(second)))
    for row, shape in enumerate(first):
        intersection = np.bitwise_count(shape & second).sum(axis=1, dtype=np.int64)
        union = np.bitwise_count(shape | second).sum(axis=1, dtype=np.int64)
        result[row] = np.where(union == 0, 1.0, intersection / np.maximum(union, 1))
    return result
