"""Shape networks on voxels: generator, critic, encoder, code regressor, and the normalising flow of the prior."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.networks.blocks import ClassEmbedding, ClassScores, shape_levels, shape_width


class ShapeGenerator(nn.Module):
    """Generates a volume from a code, G_shape in the paper: z_shape -> v.

    Args:
        resolution: voxels on a side; one of `blocks.SHAPE_SIZES`.
        code_size: numbers in a shape code.
        base_channels: channels at the finest grids; eight times as many at 4 voxels on a side.
        classes: number of classes; 0 for a network without class embedding.
        class_size: length of the embedding of a class.
    """

    def __init__(
        self,
        resolution: int,
        code_size: int = 200,
        base_channels: int = 64,
        *,
        classes: int = 0,
        class_size: int = 0,
    ) -> None:
        super().__init__()
        self.embedding = ClassEmbedding(classes, code_size, class_size) if classes else None
        self.resolution, self.code_size, self.base_channels = resolution, code_size, base_channels
        widths = [shape_width(level, base_channels) for level in range(shape_levels(resolution))]
        self.stages = nn.Sequential(
            GrowingStage(code_size + (class_size if classes else 0), widths[0], stride=1, padding=0),
            *(GrowingStage(coarse, fine, stride=2, padding=1) for coarse, fine in pairwise(widths)),
        )
        self.to_volume = nn.ConvTranspose3d(widths[-1], 1, 4, stride=2, padding=1, bias=False)

    def forward(self, codes: Float[Tensor, "n k"]) -> Float[Tensor, "n 1 r r r"]:
        """Generates a batch of shapes.

        Args:
            codes: standard normal codes, with class weights for several classes, see `ClassEmbedding`.

        Returns:
            Occupancy probability, or exp(-8 d) of the distance d to the surface, in [0, 1], indexed [x, y, z].
        """
        codes = codes if self.embedding is None else self.embedding(codes)
        logits = self.to_volume(self.stages(codes[:, :, None, None, None]))
        return torch.sigmoid(logits / 2)


class GrowingStage(nn.Module):
    """Transposed 4x4x4 convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose3d(in_channels, out_channels, 4, stride, padding, bias=False)
        self.norm = nn.BatchNorm3d(out_channels)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Float[Tensor, "n c s s s"]) -> Float[Tensor, "n d t t t"]:
        """Applies the stage."""
        result: Tensor = self.activation(self.norm(self.conv(features)))
        return result


LEAK = 0.2


class HalvingStages(nn.ModuleList):
    """Convolutions of stride 2 with leaky ReLUs, the first layers of every network here with a volume as input.

    Args:
        widths: channels of the volume, then of each stage's output.
        kernel: edge of the convolutions; both 4 and 3 halve a grid.
        bias: whether the convolutions have one.
    """

    def __init__(self, widths: Sequence[int], kernel: int, *, bias: bool) -> None:
        super().__init__(
            nn.Conv3d(fine, coarse, kernel, stride=2, padding=1, bias=bias) for fine, coarse in pairwise(widths)
        )

    def forward(self, volumes: Float[Tensor, "n c r r r"]) -> Float[Tensor, "n d s s s"]:
        """Features at the coarsest grid."""
        features = volumes
        for stage in self:
            features = functional.leaky_relu(stage(features), LEAK, inplace=True)
        return features


LOG_VARIANCES = (-8.0, 4.0)
"""Range of the encoder's log variances, so that their exponential cannot overflow."""


class ShapeCritic(nn.Module):
    """Scores how real a shape looks, D_shape in the paper; the generator's layers in reverse, without normalisation.

    Args:
        resolution: voxels on a side; one of `blocks.SHAPE_SIZES`.
        base_channels: channels at the finest grids; eight times as many at 4 voxels on a side.
        classes: number of classes; 0 for a critic without class conditioning.
    """

    def __init__(self, resolution: int, base_channels: int = 64, *, classes: int = 0) -> None:
        super().__init__()
        self.resolution, self.base_channels = resolution, base_channels
        levels = shape_levels(resolution)
        widths = [1, *(shape_width(level, base_channels) for level in reversed(range(levels)))]
        self.stages = HalvingStages(widths, 4, bias=False)
        self.head = nn.Conv3d(widths[-1], 1, 4, bias=False)
        self.class_scores = ClassScores(nn.Conv3d(widths[-1], classes, 4, bias=False)) if classes else None

    def forward(
        self, volumes: Float[Tensor, "n 1 r r r"], classes: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, " n"]:
        """Scores of a batch of volumes with values in [0, 1]; larger is more real, unbounded.

        Args:
            volumes: the batch.
            classes: their class weights; scored without class conditioning if None.
        """
        features = self.stages(volumes)
        scores: Tensor = self.head(features)
        if self.class_scores is not None and classes is not None:
            scores = scores + self.class_scores(features, classes)
        return scores.flatten()


class ShapeEncoder(nn.Module):
    """Encodes a volume: v -> z_shape. Not in the paper; a variational autoencoder with the generator.

    Trained with the generator and part of the model and its checkpoints: as large as the critic, at full resolution,
    with a distribution as output. For models that were trained without it there is `ShapeCodeRegressor`.

    Args:
        resolution: voxels on a side; one of `blocks.SHAPE_SIZES`.
        code_size: numbers in a shape code.
        base_channels: channels at the finest grids; eight times as many at 4 voxels on a side.
    """

    def __init__(self, resolution: int, code_size: int = 200, base_channels: int = 64) -> None:
        super().__init__()
        self.resolution, self.code_size, self.base_channels = resolution, code_size, base_channels
        widths = [1, *(shape_width(level, base_channels) for level in reversed(range(shape_levels(resolution))))]
        self.stages = HalvingStages(widths, 4, bias=True)
        self.head = nn.Conv3d(widths[-1], 2 * code_size, 4)

    def forward(self, volumes: Float[Tensor, "n 1 r r r"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """Encodes a batch of volumes with values in [0, 1].

        Returns:
            Mean and log variance of each element of the code.
        """
        mean, log_variance = self.head(self.stages(volumes)).flatten(1).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCES)


MAX_LOG_SCALE = 2.0
"""Largest log scale of a coupling layer, so that its inverse stays accurate."""


class CodeFlow(nn.Module):
    """A normalising flow, normal codes <-> codes of an encoder: a learned prior for an autoencoder of shapes.

    Affine coupling layers (RealNVP, Dinh et al. 2017): each scales and shifts one half of the code by a function of
    the other half. A generator trained on encoded shapes only does not cover most normal codes; the flow maps every
    normal code to one that the encoder could have given. It starts as a permutation.

    Args:
        code_size: length of a code, even.
        layers: coupling layers; two change every element once.
        width: width of the hidden layers.
    """

    def __init__(self, code_size: int, layers: int, width: int = 128) -> None:
        super().__init__()
        self.code_size = code_size
        self.layers = nn.ModuleList(CouplingLayer(code_size // 2, width) for _ in range(layers))

    def forward(self, codes: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]:
        """Normal codes of encoded ones, and the log determinant of the Jacobian."""
        with torch.autocast(codes.device.type, enabled=False):
            kept, changed = codes.chunk(2, dim=1)
            logarithm = codes.new_zeros(len(codes))
            for index, layer in enumerate(self.layers):
                log_scale, offset = layer(kept)
                kept, changed = changed * log_scale.exp() + offset, kept
                logarithm = logarithm + log_scale.sum(1)
                if index % 2:
                    kept, changed = _shuffled(kept, changed)
            return torch.cat([kept, changed], dim=1), logarithm

    def inverse(self, codes: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Encoded codes of normal ones."""
        with torch.autocast(codes.device.type, enabled=False):
            kept, changed = codes.chunk(2, dim=1)
            for index, layer in reversed(list(enumerate(self.layers))):
                if index % 2:
                    kept, changed = _ordered(kept, changed)
                kept, changed = changed, kept
                log_scale, offset = layer(kept)
                changed = (changed - offset) * (-log_scale).exp()
            return torch.cat([kept, changed], dim=1)


class CouplingLayer(nn.Module):
    """Scale and shift of one half of a code as a function of the other: three linear layers with SiLU."""

    def __init__(self, half: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(half, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.head = nn.Linear(width, 2 * half)

    def forward(self, half: Float[Tensor, "n h"]) -> tuple[Float[Tensor, "n h"], Float[Tensor, "n h"]]:
        """Log scale, within `MAX_LOG_SCALE`, and offset of every element of the other half."""
        log_scale, offset = self.head(self.hidden(half)).chunk(2, dim=1)
        return MAX_LOG_SCALE * torch.tanh(log_scale / MAX_LOG_SCALE), offset


def _shuffled(first: Float[Tensor, "n h"], second: Float[Tensor, "n h"]) -> tuple[Tensor, ...]:
    """Interleaves two halves of a code, so that each new half has elements of both."""
    return torch.stack([first, second], dim=2).flatten(1).chunk(2, dim=1)


def _ordered(first: Float[Tensor, "n h"], second: Float[Tensor, "n h"]) -> tuple[Tensor, ...]:
    """The inverse of `_shuffled`."""
    return torch.cat([first, second], dim=1).reshape(len(first), -1, 2).unbind(2)


ENCODED_RESOLUTION = 32
"""Largest input resolution of `ShapeCodeRegressor`; finer volumes are averaged down to it."""


class ShapeCodeRegressor(nn.Module):
    """Predicts the code of a shape from its volume, for a generator without a `ShapeEncoder`.

    Trained afterwards on samples of the finished generator, within minutes on a CPU: so it is small, works on a
    coarse grid and returns a single code, as the initial value of a fit.

    Args:
        resolution: voxels on a side; one of `blocks.SHAPE_SIZES`.
        code_size: numbers in a shape code.
        base_channels: channels at half the resolution; five times as many in the end.
    """

    def __init__(self, resolution: int, code_size: int = 200, base_channels: int = 12) -> None:
        super().__init__()
        self.resolution, self.code_size = min(resolution, ENCODED_RESOLUTION), code_size
        halvings = shape_levels(self.resolution) + 1
        widths = [1, *(base_channels * factor for factor in (1, 2, 4, 5)[:halvings])]
        self.stages = HalvingStages(widths, 3, bias=True)
        self.head = nn.Linear(widths[-1] * (self.resolution >> halvings) ** 3, code_size)

    def forward(self, volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n k"]:
        """Codes of a batch of volumes with values in [0, 1]."""
        features = self.stages(functional.adaptive_avg_pool3d(volumes, self.resolution))
        codes: Tensor = self.head(features.flatten(1))
        return codes
