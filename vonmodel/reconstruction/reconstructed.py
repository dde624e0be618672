"""Reading back what a reconstruction found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vondata.dataset.shape_file import atomic_path
from vonmodel.inference.session_part import ModelSession, Shape
from vonmodel.reports.output import RESULT

VOLUME = "volume.safetensors"


class ReconstructionMissingError(Exception):
    """A folder that holds no reconstruction by this model."""


def read_reconstructed_shapes(session: ModelSession, folder: Path) -> list[Shape]:
    """The shapes of a reconstruction.

    Args:
        session: the model it was made with.
        folder: what `von reconstruct` wrote, or its result.json.

    Raises:
        ReconstructionMissingError: there is no reconstruction, it is damaged, or another checkpoint made it.
        CodeError: its codes are of another model.
    """
    home = folder.parent if folder.name == RESULT else folder
    shapes = []
    for each in read_reconstruction(session, folder):
        file = home / str(each["volume"])
        try:
            packed = load_file(file)["volume"].float()
        except (OSError, SafetensorError, KeyError) as error:
            raise ReconstructionMissingError(f"{file} is missing or damaged; reconstruct the photo again") from error
        if packed.shape != (1, *[packed.shape[-1]] * 3) or packed.shape[-1] < session.config.resolution:
            raise ReconstructionMissingError(f"{file} is {tuple(packed.shape)}, of a model of another resolution")
        shape = session.shape_of_volume(str(each["name"]), packed)
        shapes.append(replace(shape, code=session.code(each["shape_code"], "shape")))
    return shapes


def save_volume(file: Path, shape: Shape) -> None:
    """Writes the volume of a shape, which no code makes any more once it is carved."""
    with atomic_path(file) as temporary:
        save_file({"volume": shape.volume.half().cpu().contiguous()}, temporary)


def read_reconstruction(session: ModelSession, folder: Path) -> list[Mapping[str, Any]]:
    """The objects of a reconstruction's result.json; errors as `read_reconstructed_shapes`."""
    file = folder if folder.name == RESULT else folder / RESULT
    try:
        said = json.loads(file.read_text("utf-8"))
        verb, checkpoint, objects = said["verb"], said["checkpoint"], said["objects"]
        complete = all(
            each["volume"] and each["shape_code"] and each["texture_code"] and each["name"] for each in objects
        )
        same = checkpoint["sha256"] == session.source.checkpoint.sha256
    except OSError as error:
        raise ReconstructionMissingError(
            f"{folder} holds no reconstruction; make one with: von reconstruct photo.jpg --output {folder}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ReconstructionMissingError(f"{file} is damaged; reconstruct the photo again") from error
    if verb != "reconstruct" or not complete:
        raise ReconstructionMissingError(f"{file} is no result of von reconstruct")
    if not same:
        raise ReconstructionMissingError(
            f"{file} was made with checkpoint {checkpoint.get('name')}, not with {session.source.checkpoint.name}; "
            "name it with --checkpoint, or reconstruct the photo again"
        )
    return list(objects)
