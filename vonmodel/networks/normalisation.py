"""Normalisation over a whole sample, and over the batch of several processes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.distributed import process_count, sum_everywhere
from vonmodel.seeding import at_least_single


class WholeSampleNorm(nn.Module):
    """y = gamma (x - m) / (s + 1e-5) + beta, with m and s the mean and standard deviation of each sample.

    Unlike `nn.GroupNorm(1, ...)` it divides by the unbiased standard deviation plus epsilon, not by the root of the
    biased variance plus epsilon; gamma and beta are per channel. Statistics are taken in float32 at least, so the
    network may run in half precision.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalises each sample of the batch by itself; the result has the dtype of `features`."""
        precise = at_least_single(features)
        deviation, mean = torch.std_mean(precise, dim=(1, 2, 3), keepdim=True)
        scaled = (precise - mean) / (deviation + self.eps)
        return (scaled * self.gamma[:, None, None] + self.beta[:, None, None]).to(features.dtype)


class SharedBatchNorm(nn.BatchNorm3d):
    """Batch norm whose batch is that of all processes that train together; the same numbers of items in each.

    `nn.SyncBatchNorm` is the same for GPUs only. Statistics are taken in float32 at least.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> SharedBatchNorm:
        """One with the parameters and statistics of a plain one, which keep their names."""
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.load_state_dict(norm.state_dict())
        return shared.to(norm.weight).requires_grad_(norm.weight.requires_grad).train(norm.training)

    def forward(self, input: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c *grid"]:
        """Normalises a batch; by the running statistics in evaluation mode."""
        if not self.training:
            return super().forward(input)
        precise = at_least_single(input)
        axes, count = [0, *range(2, input.dim())], process_count() * input.numel() // input.shape[1]
        mean = sum_everywhere(precise.sum(axes)) / count
        each_channel = (-1, *[1] * (input.dim() - 2))
        centred = precise - mean.view(each_channel)
        variance = sum_everywhere(centred.square().sum(axes)) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(each_channel) + self.bias.view(each_channel)).to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Images and volumes alike."""


def share_batch_norms(network: nn.Module) -> None:
    """Replaces the batch norms of a network by ones over the batch of all processes."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(network, name, SharedBatchNorm.of(child))
        else:
            share_batch_norms(child)
