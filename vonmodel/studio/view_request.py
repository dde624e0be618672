"""What a page asks to see, written in a link: `shape=7&shape-to=9&shape-mix=0.3&texture=3&azimuth=40&elevation=20`.

Shapes carved to a photo have no code: they are kept in the run, and a link names their file.
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
from safetensors.torch import load_file, save_file
from torch import Tensor

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.inference.interpolate import interpolate_spherical
from vonmodel.inference.sampling import Seed, parse_seed
from vonmodel.inference.session import CodeError, ModelSession, Shape

FOLDER = "studio"
_SEED_TEXT = re.compile(r"@([0-9a-f]{24})")


class UnknownCarvedError(VonError, LookupError):
    """A carved shape that the run does not have, or that is of another model."""

    http_status = 404


@dataclass(frozen=True)
class Carved:
    """The name of a carved shape.

    Attributes:
        key: hash of its volume.
    """

    key: str

    def __str__(self) -> str:
        return f"@{self.key}"

    def shape(self, session: ModelSession) -> Shape:
        """The shape itself, with the code that it was carved from.

        Raises:
            UnknownCarvedError: the run does not have it, or it is of another model.
            CodeError: its code is of another model.
        """
        volume, code = self._load(session)
        shape = session.shape_of_volume("a photo's", volume)
        return replace(shape, code=session.code(code, "shape"))

    def code(self, session: ModelSession) -> Float[Tensor, " k"]:
        """The code that it was carved from; errors as `shape`."""
        return session.code(self._load(session)[1], "shape")

    def _load(self, session: ModelSession) -> tuple[Tensor, Tensor]:
        try:
            kept = load_file(_file(session.source.run, self))
            volume, code = kept["volume"].float(), kept["code"].float()
        except (OSError, SafetensorError, KeyError) as error:
            raise UnknownCarvedError(
                f"this run does not have the reconstructed shape {self}; reconstruct the photo again"
            ) from error
        if volume.shape != (1, *[volume.shape[-1]] * 3) or volume.shape[-1] < session.config.resolution:
            raise UnknownCarvedError(f"the reconstructed shape {self} is of another model")
        return volume, code


def read_carved(text: str) -> Carved | None:
    """The carved shape that a link names; None where it names none."""
    found = _SEED_TEXT.fullmatch(text)
    return Carved(found[1]) if found else None


def keep_carved(run: Path, shape: Shape, code: Float[Tensor, " k"]) -> Carved:
    """Writes a carved shape into its run.

    Raises:
        OSError: the run cannot be written to.
    """
    carved = Carved(shape.key.hex()[:24])
    file = _file(run, carved)
    file.parent.mkdir(exist_ok=True)
    with atomic_path(file) as temporary:
        save_file({"volume": shape.volume.half().cpu().contiguous(), "code": code.cpu().to(torch.float32)}, temporary)
    return carved


def _file(run: Path, carved: Carved) -> Path:
    return run / FOLDER / f"{carved.key}.safetensors"


Named = Seed | tuple[float, ...]
"""A code by its seed, or its numbers."""
Purpose = Literal["shape", "texture"]
NAMES = (
    *("checkpoint", "azimuth", "elevation"),
    *("shape", "shape-to", "shape-mix", "texture", "texture-to", "texture-mix"),
)
_CHECKPOINT = re.compile(r"[a-z]{1,20}-\d{1,12}")
LARGEST_AZIMUTH_DEG = 360.0
LARGEST_ELEVATION_DEG = 90.0


class QuestionError(VonError, ValueError):
    """A question that makes no sense; the message says what is wrong with it."""

    http_status = 400


@dataclass(frozen=True)
class Blend:
    """A code, or a place on the way from one code to another.

    Attributes:
        start: the code at 0; for shapes also a carved one, which leaves as the code it was carved from.
        end: the code at 1; None where there is no other.
        fraction: the place, in [0, 1].
    """

    start: Named | Carved
    end: Named | None = None
    fraction: float = 0.0

    def code(self, session: ModelSession, purpose: Purpose) -> Float[Tensor, " k"]:
        """The code there, on the great circle between the two.

        Raises:
            SeedError: a seed is out of range.
            CodeError: a code is not one of this model.
            UnknownCarvedError: the run does not have the carved shape.
        """
        start = self.start.code(session) if isinstance(self.start, Carved) else session.code(self.start, purpose)
        if self.end is None or self.fraction == 0.0:
            return start
        end = session.code(self.end, purpose)
        return end if self.fraction == 1.0 else interpolate_spherical(start, end, torch.tensor([self.fraction]))[0]


@dataclass(frozen=True)
class Question:
    """One view of a model.

    Attributes:
        shape: which shape.
        texture: which texture.
        azimuth_deg: of the camera.
        elevation_deg: of the camera.
        checkpoint: of which weights; the newest where None.
    """

    shape: Blend
    texture: Blend
    azimuth_deg: float
    elevation_deg: float
    checkpoint: str | None = None

    @property
    def viewpoint(self) -> tuple[float, float]:
        """Azimuth and elevation in radians."""
        return math.radians(self.azimuth_deg), math.radians(self.elevation_deg)

    def shape_of(self, session: ModelSession) -> Shape:
        """The shape asked for; errors as `Blend.code`."""
        start = self.shape.start
        if isinstance(start, Carved) and (self.shape.end is None or self.shape.fraction == 0.0):
            return start.shape(session)
        return session.shape(self.shape.code(session, "shape"))

    def texture_of(self, session: ModelSession) -> Float[Tensor, " k"]:
        """The texture code asked for; errors as `Blend.code`."""
        return self.texture.code(session, "texture")


def parse_question(arguments: Mapping[str, str]) -> Question:
    """Reads a link's arguments; what is not given is seed 0, seen from the front.

    Raises:
        QuestionError: a name is unknown, or a value makes no sense.
        SeedError: a seed is out of range.
        CodeError: a code's spelling is damaged.
    """
    for name in arguments:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(NAMES)}"
            raise QuestionError(f"the link asks for {name[:40]!r}, which there is not; {hint}")
    return Question(
        shape=_blend(arguments, "shape"),
        texture=_blend(arguments, "texture"),
        azimuth_deg=_number(arguments, "azimuth", -LARGEST_AZIMUTH_DEG, LARGEST_AZIMUTH_DEG),
        elevation_deg=_number(arguments, "elevation", -LARGEST_ELEVATION_DEG, LARGEST_ELEVATION_DEG),
        checkpoint=read_checkpoint(arguments.get("checkpoint") or None),
    )


def read_checkpoint(text: str | None) -> str | None:
    """The name of a checkpoint, None for the newest; whether there is one of this name is another question.

    Raises:
        QuestionError: it is no such name.
    """
    if text is not None and not _CHECKPOINT.fullmatch(text):
        raise QuestionError(f"{text[:40]!r} is no name of a checkpoint, which are like joint-00000100")
    return text


def spell_code(code: Float[Tensor, " k"]) -> str:
    """A code as it stands in a link."""
    numbers = code.detach().cpu().numpy().astype("<f4").tobytes()
    return "~" + base64.urlsafe_b64encode(numbers).decode("ascii").rstrip("=")


def read_code(text: str) -> Named:
    """The code that a link names.

    Raises:
        SeedError: it is no seed, or one out of range.
        CodeError: it begins like a spelt code, and is none.
    """
    if not text.startswith("~"):
        return parse_seed(text)
    try:
        numbers = base64.b64decode(text[1:] + "=" * (-(len(text) - 1) % 4), altchars=b"-_", validate=True)
        code = np.frombuffer(numbers, dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise CodeError("the link holds a code that was cut short or changed; copy the whole link") from error
    if not np.isfinite(code).all():
        raise CodeError("the link holds a code with numbers that are not finite")
    return tuple(code.tolist())


def _blend(arguments: Mapping[str, str], name: Purpose) -> Blend:
    start, end = arguments.get(name) or "0", arguments.get(f"{name}-to")
    return Blend(
        start=(read_carved(start) if name == "shape" else None) or read_code(start),
        end=read_code(end) if end else None,
        fraction=_number(arguments, f"{name}-mix", 0.0, 1.0),
    )


def _number(arguments: Mapping[str, str], name: str, low: float, high: float) -> float:
    text = arguments.get(name) or "0"
    try:
        value = float(text)
    except ValueError as error:
        raise QuestionError(f"{name}={text[:40]} is no number") from error
    if not low <= value <= high:  # which no NaN is
        raise QuestionError(f"{name}={text[:40]} is out of range: {name} goes from {low:g} to {high:g}")
    return value
