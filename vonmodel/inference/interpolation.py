"""Paths between shape codes or texture codes."""

import torch
from jaxtyping import Float
from torch import Tensor

PARALLEL = 1e-4  # radians; below it the chord and the arc differ by less than float32 can tell


def interpolate_linear(
    start: Float[Tensor, "*n k"], end: Float[Tensor, "*n k"], fractions: Float[Tensor, " m"]
) -> Float[Tensor, "m *n k"]:
    """Codes on the straight line: (1 - t) start + t end.

    Args:
        start: codes at fraction 0.
        end: codes at fraction 1.
        fractions: places along the path.

    Returns:
        For each fraction the codes there.
    """
    t = fractions.reshape(-1, *[1] * start.dim())
    return (1.0 - t) * start + t * end


def interpolate_spherical(
    start: Float[Tensor, "*n k"], end: Float[Tensor, "*n k"], fractions: Float[Tensor, " m"]
) -> Float[Tensor, "m *n k"]:
    """Codes on the great circle: the direction turns at a constant rate, the length changes linearly.

    With directions u, v an angle a apart, the direction is (sin((1 - t) a) u + sin(t a) v) / sin a. Normal codes of
    many numbers lie close to a sphere; on this path they stay there, while on the straight line they get too short
    half-way. Where start and end are parallel, opposite or zero no great circle is defined, and the path is straight.

    Args:
        start: codes at fraction 0.
        end: codes at fraction 1.
        fractions: places along the path.

    Returns:
        For each fraction the codes there.
    """
    t = fractions.reshape(-1, *[1] * start.dim())
    tiny = torch.finfo(start.dtype).tiny
    start_length, end_length = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    u, v = start / start_length.clamp_min(tiny), end / end_length.clamp_min(tiny)
    angle = 2.0 * torch.atan2((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True))
    defined = (torch.sin(angle) > PARALLEL) & (start_length > 0) & (end_length > 0)
    safe = torch.where(defined, angle, torch.ones_like(angle))
    direction = (torch.sin((1.0 - t) * safe) * u + torch.sin(t * safe) * v) / torch.sin(safe)
    length = (1.0 - t) * start_length + t * end_length
    return torch.where(defined, direction * length, interpolate_linear(start, end, fractions))
