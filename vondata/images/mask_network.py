"""A small network that says how likely each part of a plain-background photo is object.

It knows what contrast alone cannot tell: that a white seat belongs between its legs, and that a shadow, a mirror
image in the floor, a swatch or a word does not belong to the object. It sees a copy of 96 pixels, so it judges
regions, and `mask_refinement` finds their edges. Its input is the difference to the fitted background on a
logarithmic scale, which makes one level under white visible.

`scripts/train_mask_network.py` trains it on procedural objects in a good half hour of one processor core. NumPy runs
it, in about 10 ms.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Floats = npt.NDArray[np.float32]

FILE = Path(__file__).with_name("mask_network.safetensors")
INPUT_PX = 96
CHANNELS = 4  # differences of Y, Cr and Cb on a logarithmic scale, and of Y as it is
# Name, input and output channels, stride; all with 3 x 3 weights.
LAYERS = (
    ("half_a", CHANNELS, 16, 2),
    ("half_b", 16, 16, 1),
    ("quarter_a", 16, 32, 2),
    ("quarter_b", 32, 32, 1),
    ("eighth_a", 32, 64, 2),
    ("eighth_b", 64, 64, 1),
    ("sixteenth_a", 64, 96, 2),
    ("sixteenth_b", 96, 96, 1),
    ("sixteenth_c", 96, 96, 1),
    ("eighth_up", 96 + 64, 64, 1),
    ("quarter_up", 64 + 32, 32, 1),
    ("half_up", 32 + 16, 16, 1),
    ("out", 16, 1, 1),
)


def object_likelihood(difference: Floats) -> Floats:
    """(h, w) in 0..1: how likely each pixel is object.

    Args:
        difference: (h, w, 3) of Y, Cr and Cb to the background, of the part of the photo that holds what stands out.
    """
    height, width = difference.shape[:2]
    first = _likelihood(difference)
    second = _likelihood(difference[:, ::-1])[:, ::-1]  # the mirror image is as good a view, and errs elsewhere
    return np.asarray(cv2.resize((first + second) / 2, (width, height), interpolation=cv2.INTER_LINEAR))


def _likelihood(difference: Floats) -> Floats:
    shown, (rows, columns) = network_input(np.ascontiguousarray(difference))
    likely = cv2.resize(_run(shown), (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(likely[:rows, :columns])


def network_input(difference: Floats) -> tuple[Floats, tuple[int, int]]:
    """(INPUT_PX, INPUT_PX, CHANNELS) what the network sees, and the rows and columns of it that show the photo."""
    small, size = placed(difference)
    bent = np.sign(small) * np.log1p(2.0 * np.abs(small)) / np.float32(np.log(511.0))
    return np.dstack([bent, small[..., :1] / np.float32(255)]).astype(np.float32), size


def placed(values: Floats) -> tuple[Floats, tuple[int, int]]:
    """(INPUT_PX, INPUT_PX, ...) values scaled into the upper left, else zero; and the rows and columns used."""
    height, width = values.shape[:2]
    scale = INPUT_PX / max(height, width)
    rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    result = np.zeros((INPUT_PX, INPUT_PX, *values.shape[2:]), dtype=np.float32)
    result[:rows, :columns] = cv2.resize(values, (columns, rows), interpolation=method)
    return result, (rows, columns)


def _run(shown: Floats) -> Floats:
    """(INPUT_PX / 2, INPUT_PX / 2) likelihood of what `network_input` made."""
    stride = {name: stride for name, _, _, stride in LAYERS}

    def step(name: str, x: Floats) -> Floats:
        return np.maximum(_convolved(x, name, stride[name]), np.float32(0))

    def joined(low: Floats, high: Floats) -> Floats:
        return np.concatenate([low.repeat(2, axis=0).repeat(2, axis=1), high], axis=2)

    a = step("half_b", step("half_a", shown))
    b = step("quarter_b", step("quarter_a", a))
    c = step("eighth_b", step("eighth_a", b))
    d = step("sixteenth_c", step("sixteenth_b", step("sixteenth_a", c)))
    c = step("eighth_up", joined(d, c))
    b = step("quarter_up", joined(c, b))
    a = step("half_up", joined(b, a))
    logits = _convolved(a, "out", 1)[..., 0]
    return np.asarray(np.float32(1) / (np.float32(1) + np.exp(-np.clip(logits, -30, 30))))


def _convolved(x: Floats, name: str, stride: int) -> Floats:
    """3 x 3 cross-correlation of (h, w, i) with zero padding: (h / stride, w / stride, o)."""
    weight, bias = _weights()[name]
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    shifted = [
        padded[row : row + height : stride, column : column + width : stride]
        for row in range(3)
        for column in range(3)
    ]
    return np.asarray(np.concatenate(shifted, axis=2) @ weight + bias)


@cache
def _weights() -> dict[str, tuple[Floats, Floats]]:
    """Per layer (9 i, o) weights and (o,) biases."""
    stored = load_file(FILE)
    return {
        name: (
            np.ascontiguousarray(
                stored[f"{name}.weight"].astype(np.float32).transpose(2, 3, 1, 0).reshape(9 * inputs, outputs)
            ),
            stored[f"{name}.bias"].astype(np.float32),
        )
        for name, inputs, outputs, _ in LAYERS
    }
