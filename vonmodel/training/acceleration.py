"""How a model is made ready to train on a device: memory layout, compiled networks, batches shared by processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vonmodel.config import ComputeConfig
from vonmodel.model import VonModel, arrange_channels_last
from vonmodel.networks.normalisation import share_batch_norms
from vonmodel.parallel import process_count
from vonmodel.precision import weights_in


def prepare_model(model: VonModel, compute: ComputeConfig, device: torch.device) -> VonModel:
    """The model on its device, ready for `compute`; names and values of its weights stay."""
    model = model.to(device, weights_in(compute.precision)).eval().requires_grad_(False)
    if compute.channels_last or device.type == "cpu":
        arrange_channels_last(model)
    if process_count() > 1:
        share_batch_norms(model)
    if compute.compile == "always" or (compute.compile == "gpu" and device.type == "cuda"):
        # What was compiled for the networks of an earlier stage counts against the compiler's limit: it would give up
        # on the critics of the joint stage.
        torch.compiler.reset()
        for name, network in model.named_children():
            # The gradient penalty differentiates the shape critic twice, which the compiler does not do.
            if name != "shape_critic":
                network.compile()
    return model


@contextmanager
def tuned_convolutions(compute: ComputeConfig) -> Iterator[None]:
    """Lets cuDNN choose its algorithms by trial, where this is asked for."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = compute.tune_convolutions or before
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
