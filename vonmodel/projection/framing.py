"""Framing of sketches: largest connected component, centred in a square with a margin, depth normalised to [-1, 1].

Everything works on the whole batch on the sketch's device, without host synchronisation. The largest connected
component is a custom operator, which torch.compile supports on any device; operators are registered from their
annotations, so these stay evaluated (no __future__ import).
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from vonmodel.distributed import stacked_everywhere
from vonmodel.geometry import Camera
from vonmodel.projection.sketch import FramedSketch, Sketch

DepthRange = Literal["item", "batch"]

SOLID_SILHOUETTE = 0.8
# The margin on every side, in hundredths of the square's side.
MARGIN_PERCENT = 3
# And at least this in every model: otherwise a critic could tell images from photos by whether the border is touched.
MIN_MARGIN_PX = 1


def frame_sketch(
    sketch: Sketch,
    *,
    depth_range: DepthRange,
    far: float = Camera().far,
    everywhere: bool = False,
    exact: bool = False,
    min_margin_px: int | None = None,
) -> FramedSketch:
    """Cuts the object out of a sketch and scales it to fill the image.

    The largest 4-connected component of silhouette >= 0.8 is kept (of equals the one that starts first, row by row).
    Its tight box is padded to a square, the shorter side by half the difference rounded down on both ends, then by
    3 % of the side, rounded down but at least `min_margin_px`, on every side, and resized bilinearly to the size of
    the sketch; with `exact` nothing is rounded and pixels are areas, as in the framing of photos. Outside the
    component the silhouette is 0 and the depth `far`. A sketch without such a component gives an empty frame:
    silhouette 0, depth `far`, normalised depth -1, and no gradient. A component of a single pixel has no gradient
    either: the following instance norms would turn it into noise.

    Args:
        sketch: silhouette and depth (n, 1, R, R); R at least 2.
        depth_range: whether the nearest point and the background of each item or of the whole batch become 1 and -1.
            Only "item" keeps items independent of each other; "batch" is the published behaviour.
        far: depth of the background.
        everywhere: the batch spans all training processes; all of them must call this.
        exact: centre the object and apply the margin in fractions of a pixel, instead of whole ones (published).
        min_margin_px: smallest margin; models use one pixel. None means that for "item", and 0 for "batch", the
            published framing, also of objects under 34 pixels, whose 3 % round down to 0.

    Returns:
        The framed sketch, differentiable with respect to silhouette and depth inside the component.
    """
    framed, _, _ = frame_with_positions(
        sketch, depth_range=depth_range, far=far, everywhere=everywhere, exact=exact, min_margin_px=min_margin_px
    )
    return framed


def frame_with_positions(
    sketch: Sketch,
    *,
    depth_range: DepthRange,
    far: float = Camera().far,
    everywhere: bool = False,
    exact: bool = False,
    min_margin_px: int | None = None,
) -> tuple[FramedSketch, Float[Tensor, "n R"], Float[Tensor, "n R"]]:
    """`frame_sketch`, and the rows and columns of `frame_positions`; the object is searched for only once."""
    component = _solid_component(sketch.silhouette)
    # Both channels are 0 outside the object, so that the frame can be padded with 0 beyond the image.
    nearness = far - sketch.depth
    channels = torch.where(component, torch.cat([sketch.silhouette, nearness], dim=1), 0.0)
    channels = torch.where(component.sum((-2, -1), keepdim=True) > 1, channels, channels.detach())
    if min_margin_px is None:
        min_margin_px = 0 if depth_range == "batch" else MIN_MARGIN_PX
    rows, columns = _frame_positions(component.squeeze(1), channels.dtype, exact, min_margin_px)
    framed = _resample(_resample(channels, rows, dim=-2), columns, dim=-1)
    silhouette, depth = framed[:, :1], far - framed[:, 1:]
    normalized = normalize_depth(depth, depth_range, everywhere=everywhere)
    return FramedSketch(silhouette, depth, normalized), rows, columns


def reduce_sketch(
    framed: FramedSketch,
    size: int,
    *,
    depth_range: DepthRange,
    far: float = Camera().far,
    everywhere: bool = False,
) -> FramedSketch:
    """Average-pools a framed sketch to a size that divides its own, and normalises the depth again.

    Args:
        framed: a sketch of `frame_sketch`.
        size: pixels along an edge of the result.
        depth_range: as for `frame_sketch`.
        far: as for `frame_sketch`.
        everywhere: as for `frame_sketch`.
    """
    rays = framed.silhouette.shape[-1] // size
    if rays == 1:
        return framed
    silhouette = functional.avg_pool2d(framed.silhouette, rays)
    depth = far - functional.avg_pool2d(far - framed.depth, rays)
    return FramedSketch(silhouette, depth, normalize_depth(depth, depth_range, everywhere=everywhere))


def frame_positions(
    silhouette: Float[Tensor, "n 1 R R"], *, exact: bool = False, min_margin_px: int = MIN_MARGIN_PX
) -> tuple[Float[Tensor, "n R"], Float[Tensor, "n R"]]:
    """The sampling positions of `frame_sketch`: the fractional pixel index in the sketch of every row and column.

    Indices may lie outside the sketch; for a sketch without an object they are those of the sketch itself.
    """
    return _frame_positions(_solid_component(silhouette).squeeze(1), silhouette.dtype, exact, min_margin_px)


def _solid_component(silhouette: Float[Tensor, "n 1 R R"]) -> Bool[Tensor, "n 1 R R"]:
    """The object: the largest component of the solid pixels."""
    component: Tensor = largest_component(silhouette.detach().squeeze(1) >= SOLID_SILHOUETTE)
    return component.unsqueeze(1)


def normalize_depth(
    depth: Float[Tensor, "n 1 R R"], depth_range: DepthRange, *, everywhere: bool = False
) -> Float[Tensor, "n 1 R R"]:
    """Maps the nearest depth to 1 and the farthest to -1, per item or over the batch.

    Constant depth gives -1 and no gradient.
    """
    if depth.numel() == 0:
        return depth
    axes = (-3, -2, -1) if depth_range == "item" else tuple(range(depth.dim()))
    nearest, farthest = depth.amin(axes, keepdim=True), depth.amax(axes, keepdim=True)
    if everywhere and depth_range == "batch":
        nearest, farthest = stacked_everywhere(nearest).amin(0), stacked_everywhere(farthest).amax(0)
    # Selected before and after dividing, as 0 times an infinite gradient of the branch not taken would be NaN.
    varies = farthest > nearest
    extent = torch.where(varies, farthest - nearest, 1.0)
    return torch.where(varies, 2.0 * (farthest - depth) / extent - 1.0, -1.0)


def _frame_positions(
    component: Bool[Tensor, "n R R"], dtype: torch.dtype, exact: bool, min_margin_px: int
) -> tuple[Float[Tensor, "n R"], Float[Tensor, "n R"]]:
    """Fractional pixel indices of the frame's rows and columns; those of the image if it is empty."""
    (top, height), (left, width) = _extent(component.any(-1)), _extent(component.any(-2))
    side = torch.maximum(height, width)
    steps = torch.arange(component.shape[-1], device=component.device, dtype=dtype)
    if exact:
        side = side * (1.0 + 2.0 * MARGIN_PERCENT / 100.0)
        return _centred_positions(top, height, side, steps), _centred_positions(left, width, side, steps)
    margin = (side * MARGIN_PERCENT // 100).clamp(min=min_margin_px)
    return _positions(top, height, side, margin, steps), _positions(left, width, side, margin, steps)


def _extent(occupied: Bool[Tensor, "n R"]) -> tuple[Tensor, Tensor]:
    """First occupied index and the length up to the last; the full length if none is."""
    flags = occupied.int()
    first = flags.argmax(-1)
    return first, occupied.shape[-1] - flags.flip(-1).argmax(-1) - first


def _positions(
    first: Tensor, length: Tensor, side: Tensor, margin: Tensor, steps: Float[Tensor, " R"]
) -> Float[Tensor, "n R"]:
    """Even positions from end to end of [first, first + length) padded to `side` and by the margin."""
    padding = (side - length) // 2 + margin
    last = (length + 2 * padding - 1).unsqueeze(-1)
    return (first - padding).unsqueeze(-1) + steps * last / (len(steps) - 1)


def _centred_positions(
    first: Tensor, length: Tensor, side: Float[Tensor, " n"], steps: Float[Tensor, " R"]
) -> Float[Tensor, "n R"]:
    """Centres of equal pixels, one a step, over `side` around the centre of [first, first + length)."""
    centre = (first + (length - 1) / 2.0).to(steps).unsqueeze(-1)
    return centre + ((steps + 0.5) / len(steps) - 0.5) * side.unsqueeze(-1)


def _resample(images: Tensor, positions: Float[Tensor, "n R"], dim: Literal[-2, -1]) -> Tensor:
    """Linear interpolation along one axis, 0 beyond its ends.

    Uses gather, whose gradient has a deterministic implementation on every device.
    """
    size = images.shape[dim]
    lower = positions.floor().clamp(0, size - 2)
    result = torch.zeros_like(images)
    for neighbour in (lower, lower + 1):
        weight = (1.0 - (positions - neighbour).abs()).clamp(min=0.0)
        index = _along(neighbour.long(), dim).expand_as(images)
        result = result + _along(weight, dim) * images.gather(dim, index)
    return result


def _along(values: Tensor, dim: Literal[-2, -1]) -> Tensor:
    """(n, R) as (n, 1, R, 1) or (n, 1, 1, R)."""
    return values[:, None, :, None] if dim == -2 else values[:, None, None, :]


# --- the largest connected component


@torch.library.custom_op("von::largest_component", mutates_args=(), device_types="cpu")
def largest_component(masks: Tensor) -> Tensor:
    """The pixels of the largest 4-connected component of each mask (n, R, C), bool; none if the mask is empty.

    Of equally large components the one whose first pixel, row by row, comes first.
    """
    kept = [_largest_component_of_image(mask) for mask in masks.numpy()]
    return torch.from_numpy(np.stack(kept)) if kept else torch.empty_like(masks)


@largest_component.register_fake
def _(masks: Tensor) -> Tensor:
    return torch.empty_like(masks)


def _largest_component_of_image(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    import cv2

    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    if not areas.size:
        return np.zeros_like(mask)
    tied = 1 + np.flatnonzero(areas == areas.max())
    first = min(tied, key=lambda label: int((labels == label).argmax())) if len(tied) > 1 else tied[0]
    kept: npt.NDArray[np.bool_] = labels == first
    return kept


@largest_component.register_kernel("cuda")
def largest_component_by_hooking(masks: Tensor) -> Tensor:
    """`largest_component` in tensor operations whose number depends on the size only: no host synchronisation.

    Shiloach and Vishkin's parallel connected components: every pixel points at the root of its tree. In a round each
    root hooks onto its smallest neighbouring root, if smaller than itself; a root that took no part hooks onto any
    neighbour; then all trees are flattened. A round leaves at most half as many trees in a component, which bounds
    the number of rounds.
    """
    n, rows, columns = masks.shape
    if masks.numel() == 0:
        return torch.empty_like(masks)
    parents = _row_runs(masks)
    linked = (masks[:, 1:] & masks[:, :-1]).flatten(1)
    trees = rows * ((columns + 1) // 2)
    while trees > 1:
        parents = _flatten(_hook(parents, linked, columns), depth=trees)
        trees //= 2
    return _largest_tree(parents, masks.flatten(1)).view(n, rows, columns)


def _row_runs(masks: Tensor) -> Tensor:
    """Points every pixel (n, R C) at the first one of its run in its row, a pixel outside the mask at itself."""
    pixels = torch.arange(masks[0].numel(), device=masks.device).view_as(masks[0])
    before = torch.nn.functional.pad(masks[..., :-1], (1, 0))
    starts = torch.where(masks & before, 0, pixels)
    return starts.cummax(-1).values.flatten(1)


def _hook(parents: Tensor, linked: Tensor, columns: int) -> Tensor:
    """Hooks roots onto neighbouring roots, without cycles; `linked` marks pixels connected to the one below."""
    above = parents[:, :-columns]
    below = torch.where(linked, parents[:, columns:], above)
    low, high = torch.minimum(above, below), torch.maximum(above, below)
    hooked = parents.scatter_reduce(1, high, low, "amin")
    # A root that neither hooked nor was hooked onto is smaller than its neighbours, which all hooked elsewhere:
    # hooking onto any of them cannot form a cycle.
    target = hooked.gather(1, high)
    taken = torch.zeros_like(parents).scatter_reduce(1, target, (target != high).long(), "amax")
    onto = hooked.gather(1, low)
    idle = (onto == low) & (taken.gather(1, low) == 0)
    return hooked.scatter_reduce(1, low, torch.where(idle, high, onto), "amax")


def _flatten(parents: Tensor, depth: int) -> Tensor:
    """Points every pixel at its root, at most `depth` steps away."""
    for _ in range((depth - 1).bit_length()):
        parents = parents.gather(1, parents)
    return parents


def _largest_tree(parents: Tensor, masks: Tensor) -> Tensor:
    """The pixels of the largest tree; of equals, the one that starts first."""
    pixels = torch.arange(masks.shape[1], device=masks.device).expand_as(parents)
    sizes = torch.zeros_like(parents).scatter_add(1, parents, masks.long())
    first = pixels.scatter_reduce(1, parents, pixels, "amin")
    best = (sizes * len(pixels[0]) - first).argmax(1, keepdim=True)
    return masks & (parents == best)
