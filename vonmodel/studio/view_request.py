"""View requests: parsing of a link's shape, viewpoint and texture.

`shape=7&shape-to=9&shape-mix=0.3&texture=3&azimuth=40&elevation=20` shows the mix of two shapes in a texture. A shape
carved to a photo cannot be generated from a code: its volume is stored in the run, and a link names the file.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.inference.interpolate import interpolate_spherical
from vonmodel.inference.sampling import TYPICAL, Seed, parse_seed
from vonmodel.inference.session import CodeError, ModelSession, Shape
from vonmodel.reports.provenance import code_text
from vonmodel.run_files import UnsafeFileError, read_run_file

FOLDER = "studio"
MAX_STORED_BYTES = 2**30
"""A volume of 512^3 half floats is 256 MB."""
MAX_CODE_NUMBERS = 65_536
_STORED_NAME = re.compile(r"@([0-9a-f]{24})")


class StoredShapeMissingError(VonError, LookupError):
    """A stored shape that is missing from the run, or that belongs to another model."""

    http_status = 404


@dataclass(frozen=True)
class StoredShape:
    """A shape carved to a photo, stored in the run.

    Attributes:
        key: hash of its volume.
    """

    key: str

    def __str__(self) -> str:
        return f"@{self.key}"

    def shape(self, session: ModelSession) -> Shape:
        """Loads the shape, with the code that it was carved from.

        Raises:
            StoredShapeMissingError: the run does not have it, or it belongs to another model.
            CodeError: its code belongs to another model.
        """
        volume, code = self._load(session)
        shape = session.shape_of_volume("a photo's", volume)
        return replace(shape, code=session.code(code, "shape"))

    def code(self, session: ModelSession) -> Float[Tensor, " k"]:
        """The code that it was carved from; errors as `shape`."""
        return session.code(self._load(session)[1], "shape")

    def _load(self, session: ModelSession) -> tuple[Tensor, Tensor]:
        name = f"{self.key}.safetensors"
        try:
            stored = load(read_run_file(session.source.run, FOLDER, name, max_bytes=MAX_STORED_BYTES))
            volume, code = stored["volume"].float(), stored["code"].float()
        except (OSError, UnsafeFileError, SafetensorError, KeyError) as error:
            raise StoredShapeMissingError(
                f"this run does not have the reconstructed shape {self}; reconstruct the photo again"
            ) from error
        if volume.shape != (1, *[volume.shape[-1]] * 3) or volume.shape[-1] < session.config.resolution:
            raise StoredShapeMissingError(f"the reconstructed shape {self} belongs to another model")
        return volume, code


def parse_stored_shape(text: str) -> StoredShape | None:
    """The stored shape that a link names; None if it names none."""
    found = _STORED_NAME.fullmatch(text)
    return StoredShape(found[1]) if found else None


def store_shape(run: Path, shape: Shape, code: Float[Tensor, " k"]) -> StoredShape:
    """Writes a carved shape into its run.

    Raises:
        OSError: the run cannot be written to.
    """
    stored = StoredShape(shape.key.hex()[:24])
    file = run / FOLDER / f"{stored.key}.safetensors"
    file.parent.mkdir(exist_ok=True)
    with atomic_path(file) as temporary:
        save_file({"volume": shape.volume.half().cpu().contiguous(), "code": code.cpu().to(torch.float32)}, temporary)
    return stored


CodeName = Seed | tuple[float, ...]
"""A code by its seed, or its numbers."""
Purpose = Literal["shape", "texture"]
NAMES = (
    *("checkpoint", "azimuth", "elevation", "truncation"),
    *("shape", "shape-to", "shape-mix", "texture", "texture-to", "texture-mix"),
)
_CHECKPOINT = re.compile(r"[a-z]{1,20}-\d{1,12}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
MAX_AZIMUTH_DEG = 360.0
MAX_ELEVATION_DEG = 90.0
MIN_TRUNCATION = 0.1


class ViewRequestError(VonError, ValueError):
    """A view request with an unknown name or a value out of range; the message names it."""

    http_status = 400


@dataclass(frozen=True)
class LatentMix:
    """A code, or a point on the great circle between two codes.

    Attributes:
        start: the code at fraction 0; for shapes also a stored shape, whose code it stands for.
        end: the code at fraction 1; None for a single code.
        fraction: the position, in [0, 1].
        truncation: standard deviation of the codes of seeds, in (0, 1]: smaller is more typical and less varied.
    """

    start: CodeName | StoredShape
    end: CodeName | None = None
    fraction: float = 0.0
    truncation: float = TYPICAL

    def code(self, session: ModelSession, purpose: Purpose) -> Float[Tensor, " k"]:
        """The code.

        Raises:
            SeedError: a seed is out of range.
            CodeError: a code is not one of this model.
            StoredShapeMissingError: the run does not have the stored shape.
        """
        start = self._resolve(session, self.start, purpose)
        if self.end is None or self.fraction == 0.0:
            return start
        end = self._resolve(session, self.end, purpose)
        return end if self.fraction == 1.0 else interpolate_spherical(start, end, torch.tensor([self.fraction]))[0]

    def _resolve(self, session: ModelSession, code: CodeName | StoredShape, purpose: Purpose) -> Tensor:
        if isinstance(code, StoredShape):
            return code.code(session)
        return session.code(code, purpose, self.truncation)


@dataclass(frozen=True)
class ViewRequest:
    """One view of a model.

    Attributes:
        shape: the shape's code.
        texture: the texture's code.
        azimuth_deg: of the camera.
        elevation_deg: of the camera.
        checkpoint: name of the weights; the newest if None.
    """

    shape: LatentMix
    texture: LatentMix
    azimuth_deg: float
    elevation_deg: float
    checkpoint: str | None = None

    @property
    def viewpoint(self) -> tuple[float, float]:
        """Azimuth and elevation in radians."""
        return math.radians(self.azimuth_deg), math.radians(self.elevation_deg)

    def shape_of(self, session: ModelSession) -> Shape:
        """The requested shape; errors as `LatentMix.code`."""
        start = self.shape.start
        if isinstance(start, StoredShape) and (self.shape.end is None or self.shape.fraction == 0.0):
            return start.shape(session)
        return session.shape(self.shape.code(session, "shape"))

    def texture_of(self, session: ModelSession) -> Float[Tensor, " k"]:
        """The requested texture code; errors as `LatentMix.code`."""
        return self.texture.code(session, "texture")


def parse_view_request(arguments: Mapping[str, str]) -> ViewRequest:
    """Parses a link's arguments; defaults are seed 0, seen from the front.

    Raises:
        ViewRequestError: a name is unknown, or a value out of range.
        SeedError: a seed is out of range.
        CodeError: an encoded code is damaged.
    """
    for name in arguments:
        if name not in NAMES:
            near = difflib.get_close_matches(name[:40], NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(NAMES)}"
            raise ViewRequestError(f"the link has the unknown argument {name[:40]!r}; {hint}")
    return ViewRequest(
        shape=_mix(arguments, "shape"),
        texture=_mix(arguments, "texture"),
        azimuth_deg=_number(arguments, "azimuth", -MAX_AZIMUTH_DEG, MAX_AZIMUTH_DEG),
        elevation_deg=_number(arguments, "elevation", -MAX_ELEVATION_DEG, MAX_ELEVATION_DEG),
        checkpoint=parse_checkpoint(arguments.get("checkpoint") or None),
    )


def parse_checkpoint(text: str | None) -> str | None:
    """Checks the form of a checkpoint's name and returns it; None stands for the newest.

    Raises:
        ViewRequestError: it cannot be the name of a checkpoint.
    """
    if text is not None and not _CHECKPOINT.fullmatch(text):
        raise ViewRequestError(f"{text[:40]!r} is not the name of a checkpoint, such as joint-00000100")
    return text


def encode_code(code: Float[Tensor, " k"]) -> str:
    """A code as written in a link."""
    return code_text(code.detach().cpu().tolist())


def decode_code(text: str) -> CodeName:
    """The code that a link names: a seed or an encoded code.

    Raises:
        SeedError: it is not a seed, or one out of range.
        CodeError: it begins like an encoded code, but is damaged.
    """
    if not text.startswith("~"):
        return parse_seed(text)
    try:
        if len(text) > 6 * MAX_CODE_NUMBERS:
            raise ValueError("too long")
        numbers = base64.b64decode(text[1:] + "=" * (-(len(text) - 1) % 4), altchars=b"-_", validate=True)
        code = np.frombuffer(numbers, dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise CodeError("the link holds a code that was cut short or changed; copy the whole link") from error
    if not np.isfinite(code).all():
        raise CodeError("the link holds a code with numbers that are not finite")
    return tuple(code.tolist())


def _mix(arguments: Mapping[str, str], name: Purpose) -> LatentMix:
    start, end = arguments.get(name) or "0", arguments.get(f"{name}-to")
    return LatentMix(
        start=(parse_stored_shape(start) if name == "shape" else None) or decode_code(start),
        end=decode_code(end) if end else None,
        fraction=_number(arguments, f"{name}-mix", 0.0, 1.0),
        truncation=_number(arguments, "truncation", MIN_TRUNCATION, 1.0, default=str(TYPICAL)),
    )


def _number(arguments: Mapping[str, str], name: str, low: float, high: float, default: str = "0") -> float:
    text = arguments.get(name) or default
    lowered = text.strip().lower()
    if not _NUMBER.fullmatch(lowered) and lowered not in {"nan", "inf", "-inf", "infinity", "-infinity"}:
        raise ViewRequestError(f"{name}={text[:40]} is not a number")
    value = float(lowered)
    if not low <= value <= high:  # NaN fails as well
        raise ViewRequestError(f"{name}={text[:40]} is out of range: {name} goes from {low:g} to {high:g}")
    return value
