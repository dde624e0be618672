"""The pieces of a shape: how much of it hangs together, and the shape without what does not."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

Pieces = Literal["largest", "all"]
PIECES: tuple[Pieces, ...] = get_args(Pieces)
"""What is kept of a generated shape."""
HALO = 2
"""Voxels around a loose piece that go with it: a field rises towards a surface before it reaches the level."""
_TOUCHING = np.ones((3, 3, 3), dtype=bool)

Labels = npt.NDArray[np.int32]


def largest_pieces(volumes: Float[Tensor, "n 1 r r r"], level: float) -> Float[Tensor, "n 1 r r r"]:
    """Volumes without the pieces that hang loose of the largest one of each.

    Pieces hang together where a gap of at most two voxels lies between them: a leg that all but meets its seat is no
    crumb. A loose piece goes with what surrounds it, as far as that is not nearer to the largest piece; a volume in
    one piece is handed through.

    Args:
        volumes: in any representation, 0 where there is nothing.
        level: of the surface.
    """
    kept = []
    for volume in volumes:
        labels, sizes = _labelled(volume[0], level, bridged=True)
        if len(sizes) < 2:
            kept.append(volume)
            continue
        largest = 1 + int(sizes.argmax())
        to_largest = ndimage.distance_transform_edt(labels != largest)
        to_loose = ndimage.distance_transform_edt((labels == 0) | (labels == largest))
        loose = torch.from_numpy((to_loose <= HALO) & (to_loose < to_largest)).to(volume.device)
        kept.append(volume.masked_fill(loose, 0.0))
    return torch.stack(kept) if kept else volumes


def share_in_largest_piece(volume: Float[Tensor, "r r r"], level: float) -> float:
    """Share of the solid that lies in its largest piece, in (0, 1]; 0 for a volume without any solid.

    Here voxels hang together where they share a face, an edge or a corner; no gap is bridged.
    """
    _, sizes = _labelled(volume, level)
    return float(sizes.max() / sizes.sum()) if len(sizes) else 0.0


def _labelled(
    volume: Float[Tensor, "r r r"], level: float, *, bridged: bool = False
) -> tuple[Labels, npt.NDArray[np.int64]]:
    """The piece of every voxel, from 1, and the voxels of each piece."""
    solid = volume.detach().cpu().numpy() > level
    labels, _ = ndimage.label(ndimage.binary_dilation(solid) if bridged else solid, structure=_TOUCHING)
    labels = labels * solid
    return labels, np.bincount(labels.ravel())[1:]
