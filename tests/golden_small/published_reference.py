"""The published networks reimplemented in plain numpy float64: an oracle that shares no code with the package.

Works on state dicts with the published names and follows the description of the architecture line by line.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def forward(name: str, weights: Weights, *inputs: Array) -> list[Array]:
    """The output of the published network of this name in evaluation mode."""
    exact = {key: value.astype(np.float64) for key, value in weights.items()}
    given = [each.astype(np.float64) for each in inputs]
    match name:
        case "net_G_3D":
            return [shape_generator(exact, *given)]
        case "net_D_3D":
            return [shape_critic(exact, *given)]
        case "net_G_AB":
            return [texture_generator(exact, *given)]
        case "net_G_BA":
            return [sketch_encoder(exact, *given)]
        case "net_E":
            return texture_encoder(exact, *given)
        case "net_D_A" | "net_D_B":
            return patch_critic(exact, *given)
    raise ValueError(name)


def shape_generator(weights: Weights, codes: Array) -> Array:
    x = codes.reshape(*codes.shape[:2], 1, 1, 1)
    for i in range(count(weights, "block_{}.0.weight")):
        x = transposed_convolution(x, weights[f"block_{i}.0.weight"], *((1, 0) if i == 0 else (2, 1)))
        mean, variance, gain, offset = (
            weights[f"block_{i}.1.{part}"].reshape(-1, 1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = np.maximum((x - mean) / np.sqrt(variance + 1e-5) * gain + offset, 0.0)
    (last,) = (value for key, value in weights.items() if key.startswith("toRGB"))
    return 1.0 / (1.0 + np.exp(-transposed_convolution(x, last, 2, 1) / 2.0))


def shape_critic(weights: Weights, volumes: Array) -> Array:
    (first,) = (value for key, value in weights.items() if key.startswith("fromRGB"))
    x = leaky(convolution(pad(volumes, 1), first, 2))
    for i in range(4):
        if f"block_{i}.0.weight" in weights:
            x = leaky(convolution(pad(x, 1), weights[f"block_{i}.0.weight"], 2))
    return convolution(x, weights["block_4.weight"], 1).reshape(-1)


def texture_generator(weights: Weights, depth: Array, code: Array) -> Array:
    x = with_code(content(weights, depth), code)
    x = residual_blocks(weights, "dec.resnet_block.model", x)
    x = upsampled(weights, "dec.block_0.1", x)
    x = upsampled(weights, "dec.block_1.1", with_code(x, code))
    return np.tanh(reflected(weights, "dec.block_2.conv", with_code(x, code)))


def sketch_encoder(weights: Weights, image: Array) -> Array:
    x = residual_blocks(weights, "dec.model.0.model", content(weights, image))
    x = upsampled(weights, "dec.model.4", upsampled(weights, "dec.model.2", x))
    return np.tanh(reflected(weights, "dec.model.5.conv", x))


def texture_encoder(weights: Weights, image: Array) -> list[Array]:
    x = image
    for i in range(count(weights, "enc_style.model.{}.conv.weight")):
        x = np.maximum(reflected(weights, f"enc_style.model.{i}.conv", x, stride=min(i + 1, 2)), 0.0)
    x = x.mean(axis=(2, 3))
    return [x @ weights[f"enc_style.{head}.weight"].T + weights[f"enc_style.{head}.bias"] for head in HEADS]


HEADS = ("fc_mean", "fc_var")


def patch_critic(weights: Weights, image: Array) -> list[Array]:
    return [patch_scale(weights, "model_0", image), patch_scale(weights, "model_1", averaged(image))]


def patch_scale(weights: Weights, prefix: str, x: Array) -> Array:
    indices = sorted(int(key.split(".")[1]) for key in weights if key.startswith(prefix) and key.endswith("weight"))
    for i in indices:
        # The last two convolutions have stride 1; the first and the last have no normalisation.
        stride = 1 if i in indices[-2:] else 2
        bias = weights[f"{prefix}.{i}.bias"].reshape(-1, 1, 1)
        x = convolution(pad(x, 1), weights[f"{prefix}.{i}.weight"], stride) + bias
        if i not in (indices[0], indices[-1]):
            x = instance_norm(x)
        if i != indices[-1]:
            x = leaky(x)
    return x


def content(weights: Weights, image: Array) -> Array:
    x = np.maximum(instance_norm(reflected(weights, "enc_content.model.0.conv", image)), 0.0)
    for i in (1, 2):
        x = np.maximum(instance_norm(reflected(weights, f"enc_content.model.{i}.conv", x, stride=2)), 0.0)
    return residual_blocks(weights, "enc_content.model.3.model", x)


def residual_blocks(weights: Weights, prefix: str, x: Array) -> Array:
    for i in range(count(weights, prefix + ".{}.model.0.conv.weight")):
        inner = np.maximum(instance_norm(reflected(weights, f"{prefix}.{i}.model.0.conv", x)), 0.0)
        x = x + instance_norm(reflected(weights, f"{prefix}.{i}.model.1.conv", inner))
    return x


def upsampled(weights: Weights, prefix: str, x: Array) -> Array:
    x = reflected(weights, f"{prefix}.conv", x.repeat(2, axis=2).repeat(2, axis=3))
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    deviation = x.std(axis=(1, 2, 3), ddof=1, keepdims=True)
    gain, offset = (weights[f"{prefix}.norm.{part}"].reshape(-1, 1, 1) for part in ("gamma", "beta"))
    return np.maximum((x - mean) / (deviation + 1e-5) * gain + offset, 0.0)


def reflected(weights: Weights, prefix: str, x: Array, stride: int = 1) -> Array:
    kernel = weights[f"{prefix}.weight"]
    padded = pad(x, (kernel.shape[-1] - 1) // 2, mode="reflect")
    return convolution(padded, kernel, stride) + weights[f"{prefix}.bias"].reshape(-1, 1, 1)


def convolution(x: Array, kernel: Array, stride: int) -> Array:
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=axes)
    windows = windows[(slice(None), slice(None), *[slice(None, None, stride)] * len(axes))]
    summed = (1, *range(x.ndim, 2 * x.ndim - 2))
    product = np.tensordot(windows, kernel, axes=(summed, (1, *range(2, x.ndim))))
    return np.moveaxis(product, -1, 1)


def transposed_convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Zeros between the voxels, then a convolution with the kernel turned round."""
    spread = np.zeros((*x.shape[:2], *((side - 1) * stride + 1 for side in x.shape[2:])))
    spread[(slice(None), slice(None), *[slice(None, None, stride)] * 3)] = x
    turned = np.flip(kernel, axis=(2, 3, 4)).swapaxes(0, 1)
    return convolution(pad(spread, kernel.shape[-1] - 1 - padding), turned, 1)


def averaged(x: Array) -> Array:
    """3x3 means at every second pixel; pixels outside do not count."""
    ones = pad(np.ones_like(x[:, :1]), 1)
    summed = [convolution(pad(x[:, [c]], 1), np.ones((1, 1, 3, 3)), 2) for c in range(x.shape[1])]
    return np.concatenate(summed, axis=1) / convolution(ones, np.ones((1, 1, 3, 3)), 2)


def instance_norm(x: Array) -> Array:
    mean, variance = x.mean(axis=(2, 3), keepdims=True), x.var(axis=(2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5)


def with_code(x: Array, code: Array) -> Array:
    return np.concatenate([x, np.broadcast_to(code[:, :, None, None], (*code.shape, *x.shape[2:]))], axis=1)


def pad(x: Array, width: int, mode: str = "constant") -> Array:
    return np.pad(x, [(0, 0), (0, 0), *[(width, width)] * (x.ndim - 2)], mode=mode)


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.2 * x)


def count(weights: Weights, pattern: str) -> int:
    return next(i for i in range(100) if pattern.format(i) not in weights)
