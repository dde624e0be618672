"""Building blocks of the networks: convolutions, normalisation, residual blocks, content encoder, pyramid, U-Net.

Pyramid and U-Net have residual blocks without normalisation. Both work at half the size of their input, after a
strided convolution, because the largest maps dominate the run time; the U-Net adds fine detail at full size with a
few channels in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vondata.errors import VonError
from vonmodel.distributed import process_count, sum_everywhere
from vonmodel.precision import at_least_single


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
    """Batch norm over the batches of all training processes, which must have equally many items.

    `nn.SyncBatchNorm` is the same for GPUs only. Statistics are taken in float32 at least.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> SharedBatchNorm:
        """A copy of a plain batch norm with its parameters and statistics, under the same names."""
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.load_state_dict(norm.state_dict())
        return shared.to(norm.weight).requires_grad_(norm.weight.requires_grad).train(norm.training)

    def forward(self, input: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n c *grid"]:
        """Normalises a batch; with the running statistics in evaluation mode."""
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
        """Accepts images and volumes."""


def share_batch_norms(network: nn.Module) -> None:
    """Replaces the batch norms of a network by `SharedBatchNorm`."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(network, name, SharedBatchNorm.of(child))
        else:
            share_batch_norms(child)


SHAPE_SIZES = (16, 32, 64, 128, 256)
IMAGE_SIZES = (32, 64, 128, 256, 512)


class UnsupportedSizeError(VonError, ValueError):
    """A resolution or image size for which the networks have no layout."""

    def __init__(self, name: str, size: int, supported: tuple[int, ...]) -> None:
        super().__init__(f"{name} is {size}; the networks exist for {', '.join(map(str, supported))}")


def shape_levels(resolution: int) -> int:
    """The number of halvings of a grid of `resolution` down to 4 voxels on a side.

    Raises:
        UnsupportedSizeError: `resolution` is not one of `SHAPE_SIZES`.
    """
    if resolution not in SHAPE_SIZES:
        raise UnsupportedSizeError("resolution", resolution, SHAPE_SIZES)
    return resolution.bit_length() - 3


def shape_width(level: int, base_channels: int) -> int:
    """Channels of the shape networks where the grid has 4 * 2^level voxels on a side.

    Eight times the base at 4 voxels, half as many at each doubling, never fewer than the base.
    """
    return base_channels * max(1, 8 >> level)


def image_levels(image_size: int) -> int:
    """The binary logarithm of an image size the networks support.

    Raises:
        UnsupportedSizeError: `image_size` is not one of `IMAGE_SIZES`.
    """
    if image_size not in IMAGE_SIZES:
        raise UnsupportedSizeError("image_size", image_size, IMAGE_SIZES)
    return image_size.bit_length() - 1


Norm = Callable[[int], nn.Module]


class ConvBlock(nn.Module):
    """Reflection padding, convolution, normalisation, activation.

    Args:
        in_channels: channels read, those of a texture code included.
        out_channels: channels written.
        kernel_size: side of the kernel; the padding keeps the size at stride 1 and halves it at stride 2.
        stride: 1 or 2.
        norm: builds the normalisation for a number of channels; None leaves it out.
        activation: None leaves the result linear.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        norm: Norm | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        padding = (kernel_size - 1) // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, padding_mode="reflect")
        self.norm = norm(out_channels) if norm else nn.Identity()
        self.activation = activation or nn.Identity()

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d p q"]:
        """Applies the block."""
        result: Tensor = self.activation(self.norm(self.conv(features)))
        return result


class ResidualBlock(nn.Module):
    """x + f(x), f two 3x3 convolutions with instance norm and a ReLU between them.

    Args:
        channels: channels between the two convolutions.
        code_size: channels of a texture code that the block passes on beside them.
    """

    def __init__(self, channels: int, code_size: int = 0) -> None:
        super().__init__()
        carried = channels + code_size
        self.first = ConvBlock(carried, channels, 3, norm=nn.InstanceNorm2d, activation=nn.ReLU(inplace=True))
        self.second = ConvBlock(channels, carried, 3, norm=nn.InstanceNorm2d)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Applies the block."""
        change: Tensor = self.second(self.first(features))
        return features + change


class UpBlock(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 5x5 convolution, whole-sample normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = ConvBlock(in_channels, out_channels, 5, norm=WholeSampleNorm, activation=nn.ReLU(inplace=True))

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d 2*h 2*w"]:
        """Applies the block."""
        result: Tensor = self.block(functional.interpolate(features, scale_factor=2.0, mode="nearest"))
        return result


class ContentEncoder(nn.Module):
    """An image to features at a quarter of its size: 7x7 convolution, two strided convolutions, residual blocks."""

    def __init__(self, in_channels: int, base_channels: int, residual_blocks: int) -> None:
        super().__init__()
        self.out_channels = 4 * base_channels
        self.stem = _normalised(in_channels, base_channels, 7, 1)
        self.down = nn.Sequential(
            _normalised(base_channels, 2 * base_channels, 4, 2),
            _normalised(2 * base_channels, 4 * base_channels, 4, 2),
        )
        self.residual = nn.Sequential(*(ResidualBlock(self.out_channels) for _ in range(residual_blocks)))

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h//4 w//4"]:
        """Encodes a batch of images."""
        features: Tensor = self.residual(self.down(self.stem(image)))
        return features


def append_code(features: Float[Tensor, "n c h w"], code: Float[Tensor, "n k"]) -> Float[Tensor, "n c+k h w"]:
    """Appends a code to every pixel, as constant channels after those of `features`."""
    height, width = features.shape[-2:]
    spread = code.to(features.dtype)[:, :, None, None].expand(-1, -1, height, width)
    return torch.cat([features, spread], dim=1)


def _normalised(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> ConvBlock:
    activation = nn.ReLU(inplace=True)
    return ConvBlock(
        in_channels, out_channels, kernel_size, stride=stride, norm=nn.InstanceNorm2d, activation=activation
    )


LEAK = 0.2
WIDEST = 4
COARSEST = 4
FINE_CHANNELS = 16


class ClassEmbedding(nn.Module):
    """Class conditioning of a generator: a learned vector for each class, appended to the code.

    A code ends with class weights: one-hot, or a mixture for interpolation between classes. A code without them is of
    the class set by `choose`. The vector is scaled by `blend`, which is 0 while training starts without classes and 1
    in the end.

    Args:
        classes: number of classes.
        code_size: length of a code without the weights.
        size: length of a vector.
    """

    def __init__(self, classes: int, code_size: int, size: int) -> None:
        super().__init__()
        self.code_size = code_size
        self.vectors = nn.Parameter(torch.randn(classes, size))
        self.blend: Tensor
        self.register_buffer("blend", torch.ones(()))
        self.chosen: Tensor
        self.register_buffer("chosen", torch.eye(classes)[0].clone(), persistent=False)

    def choose(self, index: int) -> None:
        """Sets the class of codes without weights."""
        self.chosen.zero_()[index] = 1.0

    def forward(self, codes: Float[Tensor, "n k"]) -> Float[Tensor, "n d"]:
        """The codes with the vectors of their classes in place of the weights."""
        weights = (
            codes[:, self.code_size :] if codes.shape[1] > self.code_size else self.chosen.expand(len(codes), -1)
        )
        vectors = self.blend * (weights.to(self.vectors) @ self.vectors)
        return torch.cat([codes[:, : self.code_size], vectors.to(codes)], dim=1)


class ClassScores(nn.Module):
    """Class conditioning of a critic: a learned direction for each class, times the features, added to the score.

    This is the projection discriminator of Miyato and Koyama (2018). It is scaled by `blend` like `ClassEmbedding`.

    Args:
        head: features to one score, or map of scores, for each class.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.blend: Tensor
        self.register_buffer("blend", torch.ones(()))

    def forward(self, features: Float[Tensor, "n ..."], weights: Float[Tensor, "n c"]) -> Float[Tensor, "n 1 ..."]:
        """The scores of each sample for its class."""
        scores = self.head(features)
        spread = weights.to(scores).reshape(*weights.shape, *[1] * (scores.dim() - 2))
        added: Tensor = self.blend.to(scores) * (scores * spread).sum(dim=1, keepdim=True)
        return added


class Modulation(nn.Module):
    """Scale and offset of every channel from a style: (1 + a) x + b, with a and b linear in the style."""

    def __init__(self, channels: int, style_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(style_size, 2 * channels)

    def forward(self, features: Float[Tensor, "n c h w"], style: Float[Tensor, "n s"]) -> Float[Tensor, "n c h w"]:
        """Modulates each sample by its own style."""
        scale, offset = self.linear(style)[:, :, None, None].chunk(2, dim=1)
        modulated: Tensor = features * (1.0 + scale) + offset
        return modulated


class PlainResidual(nn.Module):
    """x + f(x), f two 3x3 convolutions with leaky ReLUs after the first; a 1x1 shortcut if the channels differ.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        style_size: length of a style that modulates the first convolution's output; 0 for none.
    """

    def __init__(self, in_channels: int, out_channels: int, style_size: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.modulation = Modulation(out_channels, style_size) if style_size else None

    def forward(
        self, features: Float[Tensor, "n c h w"], style: Float[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n d h w"]:
        """Applies the block."""
        change = functional.leaky_relu(self.first(features), LEAK)
        if self.modulation is not None and style is not None:
            change = self.modulation(change, style)
        result: Tensor = self.shortcut(features) + self.second(functional.leaky_relu(change, LEAK))
        return result

    def passing(self) -> dict[str, Tensor]:
        """Weights that make the block the identity on its first input channels, as a start for training."""
        weights = {name: value.clone() for name, value in self.state_dict().items()}
        weights |= {name: torch.zeros_like(weights[name]) for name in ("second.weight", "second.bias")}
        if isinstance(self.shortcut, nn.Conv2d):
            weights["shortcut.weight"] = torch.eye(*self.shortcut.weight.shape[:2])[:, :, None, None]
            weights["shortcut.bias"] = torch.zeros_like(weights["shortcut.bias"])
        return weights


class Pyramid(nn.Module):
    """An image to features of 4x4 pixels: a strided convolution, then a residual block and 2x2 mean at every halving.

    Args:
        in_channels: channels of the image.
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        base_channels: channels at half the size; four times as many in the end.
    """

    def __init__(self, in_channels: int, image_size: int, base_channels: int) -> None:
        super().__init__()
        widths = level_widths(image_size, base_channels)
        self.out_channels = widths[-1]
        self.stem = nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(PlainResidual(a, b) for a, b in pairwise(widths))
        self.last = PlainResidual(widths[-1], widths[-1])

    def forward(self, image: Float[Tensor, "n c r r"]) -> Float[Tensor, "n d 4 4"]:
        """Encodes a batch of images."""
        features = self.stem(image.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            features = functional.avg_pool2d(block(features), 2)
        return functional.leaky_relu(self.last(features), LEAK)


class UNet(nn.Module):
    """A U-Net: maps to maps of the same size, down to 4x4 pixels and up again with skip connections.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        base_channels: channels at half the size; four times as many at the bottleneck.
        style_size: length of the style that modulates the bottleneck and the decoder; 0 for none.
        fine_inputs: number of the first input channels that are used again at full size; all if None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_size: int,
        base_channels: int,
        *,
        style_size: int = 0,
        fine_inputs: int | None = None,
    ) -> None:
        super().__init__()
        self.fine_inputs = in_channels if fine_inputs is None else fine_inputs
        widths = level_widths(image_size, base_channels)
        self.stem = nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=1)
        self.down = nn.ModuleList(PlainResidual(a, b) for a, b in pairwise(widths))
        self.middle = PlainResidual(widths[-1], widths[-1], style_size)
        rising = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(PlainResidual(2 * coarse, fine, style_size) for fine, coarse in rising)
        self.to_fine = nn.Conv2d(widths[0], FINE_CHANNELS, 3, padding=1)
        self.fine = nn.Conv2d(FINE_CHANNELS + self.fine_inputs, FINE_CHANNELS, 3, padding=1)
        self.modulation = Modulation(FINE_CHANNELS, style_size) if style_size else None
        self.head = nn.Conv2d(FINE_CHANNELS, out_channels, 3, padding=1)

    def forward(
        self, maps: Float[Tensor, "n c r r"], style: Float[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n d r r"]:
        """Applies the network; the result is linear."""
        maps = maps.contiguous(memory_format=torch.channels_last)
        features, passed = self.stem(maps), []
        for block in self.down:
            passed.append(block(features))
            features = functional.avg_pool2d(passed[-1], 2)
        features = self.middle(features, style)
        for block, beside in zip(self.up, reversed(passed), strict=True):
            features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([features, beside], dim=1), style)
        fine = twice_as_large(functional.leaky_relu(self.to_fine(features), LEAK))
        fine = functional.leaky_relu(self.fine(torch.cat([fine, maps[:, : self.fine_inputs]], dim=1)), LEAK)
        if self.modulation is not None and style is not None:
            fine = self.modulation(fine, style)
        result: Tensor = self.head(fine)
        return result


def twice_as_large(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
    """Upsampling by 2: nearest neighbours, then a 3x3 mean; smooth, with a deterministic gradient on every device.

    A pixel shuffle instead leaves a pattern with a period of two pixels, which a critic that starts with a strided
    convolution hardly sees.
    """
    large = functional.interpolate(features, scale_factor=2.0, mode="nearest")
    return functional.avg_pool2d(large, 3, stride=1, padding=1, count_include_pad=False)


def level_widths(image_size: int, base_channels: int) -> list[int]:
    """Channels at half of the image's size and after every halving down to 4 pixels."""
    halvings = image_levels(image_size) - 1 - (COARSEST.bit_length() - 1)
    return [base_channels * min(2 ** max(0, level - 1), WIDEST) for level in range(halvings + 1)]


def grown(weights: Mapping[str, Tensor], network: Pyramid | UNet) -> dict[str, Tensor]:
    """Weights of a network for images of half the size, adapted to this one, which has one level more.

    Every level keeps its filters, and so the scale in pixels that it works at. The new level is the coarsest; its
    blocks start as the identity, so that the larger network starts with the smaller one's abilities.

    Args:
        weights: of the network for images of half the size, named as in its `state_dict`.
        network: the larger network, of the same width and for images of 128 pixels or more: smaller ones widen as
            they grow.

    Returns:
        The weights by name, with identity blocks at the new level.
    """
    result = dict(weights)
    if isinstance(network, Pyramid):
        added = [(f"blocks.{len(network.blocks) - 1}", network.blocks[-1])]
    else:
        added = [(f"down.{len(network.down) - 1}", network.down[-1]), ("up.0", network.up[0])]
        for level in reversed(range(1, len(network.up))):
            names = [name for name in result if name.startswith(f"up.{level - 1}.")]
            result |= {name.replace(f"up.{level - 1}.", f"up.{level}.", 1): result.pop(name) for name in names}
    for name, block in added:
        assert isinstance(block, PlainResidual)
        result |= {f"{name}.{key}": value for key, value in block.passing().items()}
    return result
