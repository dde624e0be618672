"""Normalisation over a whole sample: all channels and pixels together."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..precision import at_least_single


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
