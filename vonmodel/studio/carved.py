"""Shapes carved to a photo, kept in the run: no code makes them, so a link names their file instead."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vondata.dataset.shape_file import atomic_path
from vonmodel.inference.session_part import ModelSession, Shape

FOLDER = "studio"
_SPELT = re.compile(r"@([0-9a-f]{24})")


class UnknownCarvedError(LookupError):
    """A carved shape that the run does not have, or that is of another model."""


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
    found = _SPELT.fullmatch(text)
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
