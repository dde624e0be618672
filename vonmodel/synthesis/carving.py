"""After the code is found: what the photo's silhouette says beyond the shapes that codes make.

The volume is changed as little as the silhouette asks for, along the rays that see it, and on the mirrored side alike
for classes whose left and right look alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vonmodel.geometry import viewpoint_rotation
from vonmodel.model import VonModel
from vonmodel.projection import project

from .fitting import Target, framed_channels, framed_errors, frames_of, silhouette_loss

RATE = 0.15
CHANGE_COSTS = 0.02
"""Of the mean squared change, in logits, against a silhouette that is wrong all over."""
CERTAIN = 0.02
"""Volumes are kept this far from 0 and 1, where their logits would not move."""


def carve(
    model: VonModel,
    volume: Float[Tensor, "1 r r r"],
    angles: Float[Tensor, " 2"],
    target: Target,
    *,
    steps: int,
    mirrored: bool,
    step: Callable[[int, int], None],
) -> Float[Tensor, "1 r r r"]:
    """Changes a volume until its silhouette fits the mask better; the volume itself where nothing fits better.

    Args:
        model: whose representation the volume is in.
        volume: values in [0, 1].
        angles: azimuth and elevation in radians.
        target: its mask is what to fit; depth is left as it is.
        steps: steps of Adam.
        mirrored: whether left and right change alike.
        step: told after every step; may raise to stop.
    """
    config = model.config
    start = torch.logit(volume[None].clamp(CERTAIN, 1.0 - CERTAIN))
    unchanged, change = torch.sigmoid(start), torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=RATE)
    rotation = viewpoint_rotation(angles[:1], angles[1:])
    best, most = volume, -1.0
    for index in range(steps + 1):
        with torch.enable_grad():
            both = (change + change.flip(2)) / 2.0 if mirrored else change
            # Added to the volume itself, which therefore stays as it was where nothing changes.
            changed = (volume + torch.sigmoid(start + both) - unchanged).clamp(0.0, 1.0)
            seen = project(model.opacity(changed), rotation, image_size=config.image_size, resampled=config.resampled)
            silhouette, _ = framed_channels(seen, frames_of(seen))
            loss = silhouette_loss(silhouette, target.mask).sum() + CHANGE_COSTS * both.square().mean()
        overlap = framed_errors(seen, target)[0].item()
        if overlap > most:
            best, most = changed[0].detach().clone(), overlap
        if index < steps:
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            step(index + 1, steps)
    return best
