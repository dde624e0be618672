"""Where half precision is not enough: statistics, scores and losses are computed in float32 at least."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_single(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values in float32, or unchanged if they are float32 or float64 already."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
