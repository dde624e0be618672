"""Reconstructing a photo at the desk: what the page hears of it meanwhile, and what it gets in the end."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vonmodel.reconstruction.reconstruct import CancelledError, Phase, Reconstruction, Reconstructor
from vonmodel.studio.carved import keep_carved
from vonmodel.studio.photos import Photo
from vonmodel.studio.tasks import Task
from vonmodel.studio.view_request import spell_code

logger = logging.getLogger(__name__)

# From which to which share of the whole each phase goes, and what it is in words.
PHASES: Mapping[Phase, tuple[float, float, str]] = {
    "search": (0.0, 0.2, "looking for shapes like it"),
    "fit": (0.2, 0.8, "fitting shape and viewpoint"),
    "carve": (0.8, 0.9, "carving the shape"),
    "texture": (0.9, 1.0, "fitting the texture"),
}


def reconstruct(reconstructor: Reconstructor, photo: Photo, task: Task, let_pass: Callable[[], None]) -> None:
    """Reconstructs a photo, telling the task how it goes.

    Args:
        reconstructor: of the model.
        photo: at the model's image size.
        task: told of progress and result; says when to stop.
        let_pass: called between steps.
    """

    def progress(phase: Phase, done: int, total: int) -> None:
        start, end, doing = PHASES[phase]
        task.progress(start + (end - start) * done / max(1, total), doing)
        let_pass()

    task.progress(PHASES["search"][0], PHASES["search"][2])
    try:
        found = reconstructor.reconstruct(photo.cut, progress, task.cancelled)
    except CancelledError:
        task.stopped()
    else:
        task.succeed(_as_link(reconstructor.session.source.run, found))


def _as_link(run: Path, found: Reconstruction) -> dict[str, Any]:
    """The values of a link that shows it, and how well the silhouettes overlap."""
    if found.shape.code is None:
        raise ValueError("a reconstruction is a shape with a code")
    shape, overlap = spell_code(found.shape.code), found.code_overlap
    try:
        shape, overlap = str(keep_carved(run, found.shape, found.shape.code)), found.overlap
    except OSError as error:
        logger.warning("%s cannot keep carved shapes, links hold their codes: %s", run, error)
    return {
        "shape": shape,
        "texture": spell_code(found.texture),
        "azimuth": f"{math.degrees(found.azimuth):.1f}",
        "elevation": f"{math.degrees(found.elevation):.1f}",
        "overlap": overlap,
    }
