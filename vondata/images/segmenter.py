"""Salient object segmentation with a local ONNX network, for backgrounds on which GrabCut fails.

Any ONNX network like U2-Net or IS-Net is supported: its input is one picture (1, 3, s, s), its first output a map
(1, 1, s, s). A TOML file of the same name beside it (`u2net.toml` for `u2net.onnx`) says how it differs from U2-Net.
ONNX Runtime (the extra `segmenter`) runs it, also in half precision or quantised; nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import cv2
import numpy as np
import numpy.typing as npt

from vondata.errors import VonError

if TYPE_CHECKING:
    import onnxruntime

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Activation = Literal["none", "sigmoid"]

TRIAL_PX = 64  # side of the grey picture that a file is tested with


class Segmenter(Protocol):
    """Estimates the object probability of each pixel."""

    def __call__(self, rgb: Bytes) -> Floats:
        """(h, w) in [0, 1], for a photo (h, w, 3) in sRGB."""


class SegmenterError(VonError, ValueError):
    """A file of weights that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class NetworkSettings:
    """Pre- and postprocessing of a network; the defaults are U2-Net's.

    Attributes:
        sha256: of the weights file.
        size_px: side of the square that the picture is stretched to; if the TOML has none, the network's own.
        mean: subtracted from red, green and blue in [0, 1]; (0.5, 0.5, 0.5) for IS-Net.
        std: divisor after that; (1, 1, 1) for IS-Net.
        activation: of the output: sigmoid for a network that ends in logits.
        stretch: whether the output is normalised so that its minimum is 0 and its maximum 1.
        output: name of the output to use; "" for the first.
    """

    sha256: str
    size_px: int = 320
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    activation: Activation = "none"
    stretch: bool = True
    output: str = ""


def load_network_settings(weights: Path) -> NetworkSettings:
    """Reads the TOML beside a weights file, if there is one, and tests the network.

    Raises:
        SegmenterError: weights or settings are missing or wrong, or ONNX Runtime is not installed.
    """
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise SegmenterError(f"{weights} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    beside = weights.with_suffix(".toml")
    try:
        given = tomllib.loads(beside.read_text("utf-8-sig")) if beside.is_file() else {}
    except (OSError, ValueError) as error:
        raise SegmenterError(f"{beside} is not valid TOML: {error}") from error
    side = _start(weights, content).get_inputs()[0].shape[-1]
    settings = _checked(({"size_px": side} if isinstance(side, int) else {}) | given, digest, beside)
    open_segmenter(weights, settings)(np.full((TRIAL_PX, TRIAL_PX, 3), 128, dtype=np.uint8))
    return settings


def _checked(given: dict[str, Any], sha256: str, place: Path) -> NetworkSettings:
    known = [each.name for each in fields(NetworkSettings) if each.name != "sha256"]
    if unknown := given.keys() - set(known):
        raise SegmenterError(f"{place}: unknown name {min(unknown)!r}; known names: {', '.join(known)}")
    values = dict(given)
    for name in ("mean", "std"):
        if name in given:
            channels = given[name]
            if not isinstance(channels, list) or len(channels) != 3 or not all(_is_number(each) for each in channels):
                raise SegmenterError(f"{place}: {name} must be three numbers, for red, green and blue")
            values[name] = tuple(float(each) for each in channels)
    settings = NetworkSettings(sha256, **values)
    size = settings.size_px
    if not isinstance(size, int) or isinstance(size, bool) or not 16 <= size <= 4096:
        raise SegmenterError(f"{place}: size_px must be a whole number from 16 to 4096")
    if settings.activation not in get_args(Activation):
        raise SegmenterError(f"{place}: activation must be one of {', '.join(get_args(Activation))}")
    if not isinstance(settings.stretch, bool) or not isinstance(settings.output, str):
        raise SegmenterError(f"{place}: stretch must be true or false, and output a name")
    if min(settings.std) <= 0:
        raise SegmenterError(f"{place}: std must be positive")
    return settings


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@lru_cache(maxsize=1)
def open_segmenter(weights: Path, settings: NetworkSettings) -> Segmenter:
    """The network, cached for the next photo of this process.

    Raises:
        SegmenterError: the file is not a network, or not the one that `settings` describe.
    """
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise SegmenterError(f"{weights} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != settings.sha256:
        raise SegmenterError(f"{weights} has changed since the run began")
    return _Network(weights, settings, _start(weights, content))


def _start(weights: Path, content: bytes) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise SegmenterError(
            f"{weights} needs ONNX Runtime: pip install 'visual-object-networks[segmenter]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # photos are distributed over processes
    options.log_severity_level = 4  # errors are raised as well
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _failures() as error:
        raise SegmenterError(f"{weights} is not an ONNX network that can be run: {error}") from error


def _failures() -> tuple[type[Exception], ...]:
    """The exceptions of ONNX Runtime, whose only base is Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    found = [each for each in vars(onnxruntime_pybind11_state).values() if isinstance(each, type)]
    return (*(each for each in found if issubclass(each, Exception)), ValueError, RuntimeError)


@dataclass(frozen=True, eq=False)
class _Network:
    weights: Path
    settings: NetworkSettings
    session: onnxruntime.InferenceSession

    def __call__(self, rgb: Bytes) -> Floats:
        settings = self.settings
        side = (settings.size_px, settings.size_px)
        picture = cv2.resize(rgb, side, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
        picture = (picture - np.array(settings.mean, np.float32)) / np.array(settings.std, np.float32)
        source = self.session.get_inputs()[0]
        kind = np.float16 if source.type == "tensor(float16)" else np.float32
        pictures = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=kind)
        wanted = settings.output or self.session.get_outputs()[0].name
        try:
            answer = np.asarray(self.session.run([wanted], {source.name: pictures})[0], dtype=np.float32)
        except _failures() as error:
            raise SegmenterError(f"{self.weights} fails on a picture of {side[0]} pixels: {error}") from error
        if answer.shape not in ((1, 1, *side), (1, *side)) or not np.isfinite(answer).all():
            raise SegmenterError(
                f"{self.weights} gives {answer.shape} for a picture of {side[0]} pixels; one finite map of that size "
                "is needed"
            )
        answer = answer.reshape(side[::-1])
        if settings.activation == "sigmoid":
            answer = np.float32(1) / (np.float32(1) + np.exp(-np.clip(answer, -60, 60)))
        if settings.stretch and (spread := float(np.ptp(answer))) > 1e-3:
            answer = (answer - answer.min()) / np.float32(spread)
        share = cv2.resize(np.clip(answer, 0.0, 1.0), rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(share, dtype=np.float32)
